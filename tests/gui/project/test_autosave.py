"""What is kept beside a cohort, and how it comes back. Real files; a window is only claimed, its event loop is real."""

import json
import shutil

import pytest
from napari.components import ViewerModel

from napari_distill2label.core.errors import CohortError
from napari_distill2label.gui.project.recovery import recovery_folder
from napari_distill2label.gui.session import session_of
from napari_distill2label.store.project_file import VERSION, project_file_of, read_project_file


@pytest.fixture
def folder(cohort_csv, tmp_path):
    """A copy of the cohort: files are written beside it."""
    return shutil.copytree(cohort_csv.parent, tmp_path / "a cohort")


@pytest.fixture
def opened(monkeypatch, tmp_path, qapp):
    """Sessions that keep what is done as one with a window does, and what they left behind."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    viewers = []

    def make(path=None):
        viewers.append(viewer := ViewerModel())
        session = session_of(viewer)
        session.autosave._window = True
        if path is not None:
            session.read_cohort(path)
        return session

    yield make
    for viewer in viewers:
        session_of(viewer).autosave._window = False


def labels(session):
    return {row.slide_id: row.label for row in session.cohort}


def test_all_of_it_comes_back_and_can_be_undone(folder, opened):
    session = opened(folder / "cohort.csv")
    session.add_class("stroma")
    session.set_colour("stroma", (1, 2, 3))
    session.set_label("slide_000", "stroma")
    session.set_split("slide_001", "test")
    session.set_case("slide_001", "patient")
    session.set_mpp("slide_002", 0.3)
    session.remove_slides(["slide_007"])
    session.set_threshold(0.7)
    session.autosave.flush()
    assert not session.autosave.pending
    assert session.autosave.safe

    again = opened(folder / "cohort.csv")
    assert again.cohort == session.cohort
    assert again.classes == ("normal", "tumour", "stroma")
    assert again.colours[2] == (1, 2, 3)
    assert again.threshold == 0.7
    assert again.project.unsaved
    assert "Restored" in again.notices[-1]
    again.undo()
    assert not again.project.unsaved
    assert len(again.cohort) == 8


def test_what_a_training_would_use_comes_back(folder, opened, described):
    session = opened(folder / "cohort.csv")
    session.configure("wsi", "paper", teacher={"epochs": 3}, device="cpu")
    session.encoder, session.feature_folder = (encoder := described()), folder / "features"
    session.feature_folder.mkdir()
    session.autosave.flush()

    again = opened(folder / "cohort.csv")
    assert (again.choices.preset, again.choices.method, again.choices.overrides) == (
        "wsi",
        "paper",
        {"teacher": {"epochs": 3}},
    )
    assert (again.encoder, again.feature_folder) == (encoder, folder / "features")
    assert again.choices.encoder_about is not None
    assert not again.project.unsaved

    assert again.notices == ["Settings restored: kind of images wsi, method paper, 1 setting changed."]
    assert not again.autosave.pending
    kept = json.loads(project_file_of(folder / "cohort.csv").read_text())
    assert kept["slides"] == []
    assert kept["training"]["settings"] == {"teacher": {"epochs": 3}}  # the device is of this computer


@pytest.mark.parametrize(
    "settings", [{"size_um": 224.0}, {"size_px": 27}, {"mpp": None}, {"size_um": 30.0, "mpp": 1.0}]
)
def test_patches_come_back_as_they_were_set(folder, opened, described, settings):
    session = opened(folder / "cohort.csv")
    session.configure("wsi", patches=settings)
    session.encoder = described(patch_px=224, mpp=0.5)
    session.autosave.flush()
    again = opened(folder / "cohort.csv")
    assert again.settings.patches == session.settings.patches


def test_an_encoder_that_can_hold_a_program_is_asked_for_anew(folder, opened, tmp_path):
    session = opened(folder / "cohort.csv")
    session.configure("wsi")
    session.encoder = session.trusted = tmp_path / "encoder.pt"
    session.autosave.flush()
    assert json.loads(project_file_of(folder / "cohort.csv").read_text())["training"]["encoder"] is None
    session.read_cohort(folder / "cohort.csv")
    assert session.encoder == session.trusted  # the same slides again, in the window in which it was trusted
    again = opened(folder / "cohort.csv")
    assert (again.choices.preset, again.encoder, again.trusted) == ("wsi", None, None)

    content = json.loads(project_file_of(folder / "cohort.csv").read_text())
    content["training"]["encoder"] = "encoder.pth"
    project_file_of(folder / "cohort.csv").write_text(json.dumps(content))
    assert opened(folder / "cohort.csv").encoder is None


@pytest.fixture
def later(monkeypatch):
    """Makes what a session asks of its background wait, until the function that is returned is called."""

    def hold(session):
        waiting = []
        monkeypatch.setattr(session.reader, "request", lambda key, work, done, failed: waiting.append((work, done)))

        def let_go():
            for work, done in waiting:
                done(work())
            waiting.clear()

        return let_go

    return hold


def test_settings_made_since_the_slides_were_opened_stay_and_are_kept(folder, opened, later):
    session = opened(folder / "cohort.csv")
    session.configure("breast")
    session.set_threshold(0.7)
    session.autosave.flush()
    again = opened()
    let_go = later(again)
    again.read_cohort(folder / "cohort.csv")
    again.configure(teacher={"epochs": 3})
    let_go()
    assert again.threshold == 0.7
    assert (again.choices.preset, again.choices.overrides) == ("colon", {"teacher": {"epochs": 3}})
    assert again.autosave.pending
    again.autosave.flush()
    assert opened(folder / "cohort.csv").choices.overrides == {"teacher": {"epochs": 3}}


def test_settings_made_before_any_slides_stay(folder, opened):
    session = opened(folder / "cohort.csv")
    session.configure("breast")
    session.autosave.flush()
    again = opened()
    again.configure("wsi")
    again.read_cohort(folder / "cohort.csv")
    assert again.choices.preset == "wsi"
    assert again.notices[-1].startswith("The settings differ from the saved ones (kind of images breast")
    again.autosave.flush()
    assert read_project_file(folder / "cohort.d2l.bak.json").training["preset"] == "breast"
    assert read_project_file(project_file_of(folder / "cohort.csv")).training["preset"] == "wsi"


def test_a_device_is_no_choice_that_stands_against_what_was_kept(folder, opened):
    session = opened(folder / "cohort.csv")
    session.configure("breast")
    session.autosave.flush()
    again = opened()
    again.configure(device="cpu")
    again.read_cohort(folder / "cohort.csv")
    assert (again.choices.preset, again.choices.overrides) == ("breast", {"device": "cpu"})
    assert not again.autosave.pending


@pytest.mark.parametrize("saved", [True, False])
def test_settings_of_slides_that_came_without_a_table_are_theirs(folder, opened, tmp_path, saved):
    session = opened(folder / "cohort.csv")
    session.configure("wsi")
    session.autosave.flush()
    again = opened()
    again.add_slides(session.cohort.slides[0].path)
    again.configure("breast")
    if saved:
        again.write_cohort(tmp_path / "new.csv")
    again.autosave.flush()
    again.read_cohort(folder / "cohort.csv")
    assert again.choices.preset == "wsi"


def test_unsaved_slides_come_back_with_their_settings(folder, opened):
    session = opened()
    session.add_slides(folder / "slides")
    session.configure("breast")
    session.autosave.flush()
    again = opened()
    again.configure("wsi")
    again.autosave.look_for_unsaved()
    again.autosave.restore()
    assert (len(again.cohort), again.choices.preset) == (len(session.cohort), "wsi")
    assert read_project_file(again.autosave.path).training["preset"] == "wsi"
    [spare] = recovery_folder().glob("*.bak.json")
    assert spare.name in again.notices[-1]
    assert read_project_file(spare).training["preset"] == "breast"


def test_a_setting_does_not_put_an_offer_aside(folder, opened):
    session = opened(folder / "cohort.csv")
    session.set_label("slide_000", None)
    session.autosave.flush()
    (folder / "cohort.csv").write_text((folder / "cohort.csv").read_text() + "\n")
    again = opened(folder / "cohort.csv")
    again.configure(teacher={"epochs": 3})
    again.set_threshold(0.7)
    again.autosave.flush()
    assert again.autosave.offer is not None
    again.autosave.restore()
    assert labels(again)["slide_000"] is None


def test_every_cohort_has_its_own_settings_and_features(folder, opened, tmp_path, later, described):
    other = shutil.copytree(folder, tmp_path / "other") / "cohort.csv"
    session = opened(other)
    session.configure("breast", teacher={"epochs": 77})
    session.autosave.flush()

    session = opened(folder / "cohort.csv")
    session.configure("wsi", "paper")
    session.feature_folder = session.choices.own_features = session.choices.own_feature_folder
    session.encoder = described()
    session.autosave.flush()
    third = shutil.copytree(other.parent, tmp_path / "third", ignore=shutil.ignore_patterns("*.json")) / "cohort.csv"

    again = opened(folder / "cohort.csv")
    own = again.feature_folder
    assert own == session.choices.own_feature_folder
    let_go = later(again)
    again.read_cohort(third)
    let_go()
    assert again.choices.preset == "wsi"  # nothing was kept with these
    assert again.feature_folder is None  # of the slides before
    assert not again.autosave.pending
    again.read_cohort(other)
    let_go()
    assert (again.choices.preset, again.choices.overrides) == ("breast", {"teacher": {"epochs": 77}})
    assert again.encoder is None
    again.read_cohort(folder / "cohort.csv")
    let_go()
    assert (again.choices.preset, again.choices.method, again.feature_folder) == ("wsi", "paper", own)


def test_settings_alone_never_stand_against_the_table(folder, opened):
    session = opened(folder / "cohort.csv")
    session.configure("breast")
    session.set_colour("tumour", (1, 2, 3))
    session.autosave.flush()
    table = folder / "cohort.csv"
    table.write_text(table.read_text() + "slide_009,slides/slide_001.ome.tif,normal,,,\n")
    again = opened(table)
    assert again.autosave.offer is None
    assert (again.choices.preset, again.colours[1], len(again.cohort)) == ("breast", (1, 2, 3), len(session.cohort) + 1)
    assert not again.project.unsaved


def test_a_folder_that_is_not_there_now_is_not_forgotten(folder, opened, tmp_path):
    session = opened(folder / "cohort.csv")
    session.feature_folder = tmp_path / "x" / ("long" * 100)
    session.configure("wsi")
    session.autosave.flush()
    again = opened(folder / "cohort.csv")
    again.set_label("slide_000", None)
    again.autosave.flush()
    assert opened(folder / "cohort.csv").feature_folder == session.feature_folder


UNUSABLE = [5, [], {}, {"preset": "x", "method": "paper"}, {"preset": "colon", "method": "paper", "settings": []}]
SETTINGS = [
    {"teacher": {"epochs": -1}},
    {"teacher": 5},
    {"patches": 5},
    {"patches": None},
    {"patches": {"mpp": []}},
    {"x": 1},
]
DEEP = json.loads('{"teacher":' * 400 + "1" + "}" * 400)


@pytest.mark.parametrize(
    "training", UNUSABLE + [{"preset": "colon", "method": "paper", "settings": each} for each in [*SETTINGS, DEEP]]
)
def test_settings_that_cannot_be_used_are_said_and_the_rest_comes_back(folder, opened, training):
    session = opened(folder / "cohort.csv")
    session.configure("breast")
    session.set_label("slide_000", None)
    session.autosave.flush()
    kept = project_file_of(folder / "cohort.csv")
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"training": training}))
    again = opened(folder / "cohort.csv")
    assert labels(again)["slide_000"] is None
    assert (again.choices.preset, again.choices.method, again.choices.overrides) == ("colon", "recommended", {})
    assert again.notices[-1].startswith("Restored")
    assert "cannot be used" in again.notices[-1]
    assert len(again.notices[-1]) < 500
    assert not again.autosave.pending
    again.set_threshold(0.7)
    again.autosave.flush()
    assert json.loads((folder / "cohort.d2l.bak.json").read_text())["training"] == training


@pytest.mark.parametrize("named", ["preset", "method", "device"])
def test_what_is_said_by_name_or_of_this_computer_is_not_taken_from_the_settings(folder, opened, named):
    session = opened(folder / "cohort.csv")
    session.configure("breast")
    session.autosave.flush()
    kept = project_file_of(folder / "cohort.csv")
    content = json.loads(kept.read_text())
    content["training"]["settings"] = {named: "wsi"}
    kept.write_text(json.dumps(content))
    again = opened(folder / "cohort.csv")
    assert (again.choices.preset, again.choices.overrides) == ("breast", {})


def test_an_opened_run_keeps_the_settings_it_was_made_with(opened, run_folder, tmp_path):
    run = shutil.copytree(run_folder, tmp_path / "run")
    session = opened()
    session.load_model(run)
    session.configure("breast")
    session.autosave.flush()
    assert not project_file_of(run / "cohort.csv").exists()


def test_an_edit_is_kept_by_itself_a_moment_later(folder, opened, qtbot):
    session = opened(folder / "cohort.csv")
    session.set_label("slide_000", None)
    assert session.autosave.pending
    qtbot.waitUntil(lambda: not session.autosave.pending, timeout=20_000)
    assert read_project_file(project_file_of(folder / "cohort.csv")).slides[0].label is None


def test_nothing_is_written_until_something_changes(folder, opened):
    session = opened(folder / "cohort.csv")
    session.autosave.flush()
    assert not project_file_of(folder / "cohort.csv").exists()


def test_a_table_that_has_changed_since_is_not_overruled(folder, opened):
    session = opened(folder / "cohort.csv")
    session.set_label("slide_000", None)
    session.autosave.flush()
    text = (folder / "cohort.csv").read_text()
    (folder / "cohort.csv").write_text(text + "slide_009,slides/slide_001.ome.tif,normal,,,\n")

    again = opened(folder / "cohort.csv")
    assert labels(again)["slide_000"] is not None
    assert "has changed since" in again.autosave.offer.text
    again.autosave.restore()
    assert labels(again)["slide_000"] is None
    again.undo()
    assert len(again.cohort) == 9


def test_what_is_dismissed_or_written_over_is_set_aside(folder, opened):
    kept, aside = project_file_of(folder / "cohort.csv"), folder / "cohort.d2l.bak.json"
    session = opened(folder / "cohort.csv")
    session.set_label("slide_000", None)
    session.autosave.flush()
    (folder / "cohort.csv").write_text((folder / "cohort.csv").read_text() + "\n")

    again = opened(folder / "cohort.csv")
    again.autosave.dismiss()
    assert again.autosave.offer is None
    assert not kept.exists()
    assert read_project_file(aside).slides[0].label is None

    aside.replace(kept)
    third = opened(folder / "cohort.csv")
    assert third.autosave.offer is not None
    third.set_label("slide_001", None)  # the user goes on without deciding
    third.autosave.flush()
    assert read_project_file(aside).slides[0].label is None
    assert read_project_file(kept).slides[0].label is not None


@pytest.mark.parametrize(
    "damage",
    [
        "not json",
        json.dumps({"schema_version": VERSION + 1, "saved_at": "2026-11-22T10:00:00Z"}),
        json.dumps({"saved_at": "2026-11-22T10:00:00Z", "threshold": 7}),
        json.dumps({"saved_at": "2026-11-22T10:00:00Z", "colours": {"a": [1, 2, 300]}}),
        json.dumps({"saved_at": "2026-11-22T10:00:00Z", "slides": [{"slide_id": "a", "path": "a", "mpp": -1}]}),
        json.dumps({"saved_at": "2026-11-22T10:00:00Z", "slides": 2 * [{"slide_id": "a", "path": "a.png"}]}),
        "[" * 100_000,
    ],
)
def test_a_file_that_cannot_be_used_is_set_aside_and_said(folder, opened, damage):
    kept = project_file_of(folder / "cohort.csv")
    kept.write_text(damage)
    session = opened(folder / "cohort.csv")
    assert len(session.cohort) == 8
    assert "set aside as cohort.d2l.bak.json" in session.notices[-1]
    assert (folder / "cohort.d2l.bak.json").read_text() == damage
    assert not kept.exists()


def test_reading_says_what_is_wrong(tmp_path):
    path = tmp_path / "x.d2l.json"
    assert read_project_file(path) is None
    path.write_text(json.dumps({"saved_at": "2026-11-22T10:00:00Z", "threshold": 7}))
    with pytest.raises(CohortError, match=r"x\.d2l\.json: cannot be restored: threshold"):
        read_project_file(path)


def test_the_folder_can_be_moved(folder, opened, tmp_path):
    session = opened(folder / "cohort.csv")
    session.set_label("slide_000", None)
    session.autosave.flush()
    moved = shutil.copytree(folder, tmp_path / "elsewhere", copy_function=shutil.copy2)
    shutil.rmtree(folder)
    again = opened(moved / "cohort.csv")
    assert labels(again)["slide_000"] is None
    assert all(row.path.is_file() and row.path.is_relative_to(moved) for row in again.cohort)


def test_slides_in_no_table_are_offered_to_the_next_window(folder, opened):
    session = opened()
    ids = session.add_slides(folder / "slides")
    session.set_label(ids[:3], "tumour")
    session.autosave.flush()
    assert session.autosave.path.parent == recovery_folder()
    assert session.autosave.safe

    again = opened()
    again.autosave.look_for_unsaved()
    assert "8 slides (3 labelled)" in again.autosave.offer.text
    again.autosave.restore()
    assert labels(again) == labels(session)
    assert [path.name for path in recovery_folder().iterdir()] == [again.autosave.path.name]

    again.write_cohort(folder / "mine.csv")  # now they are in one
    assert list(recovery_folder().iterdir()) == []
    third = opened()
    third.autosave.look_for_unsaved()
    assert third.autosave.offer is None


def test_a_damaged_file_of_slides_that_were_left_sets_nothing_of_these_aside(folder, opened, monkeypatch):
    session = opened()
    session.add_slides(folder / "slides")
    session.autosave.flush()
    kept = session.autosave.path
    assert kept.exists()
    failed = []
    monkeypatch.setattr(session.reader, "request", lambda key, work, done, fail: failed.append((key, fail)))
    session.read_cohort(folder / "cohort.csv")
    [of_table] = [fail for key, fail in failed if key == "restore"]
    session.undo()
    assert session.autosave.path == kept
    said = list(session.notices)
    of_table(CohortError("cohort.d2l.json: damaged"))
    assert kept.exists()
    assert session.notices == said


def test_another_table_does_not_lose_the_edits_of_the_one_before(folder, opened):
    (folder / "other.csv").write_text((folder / "cohort.csv").read_text())
    session = opened(folder / "cohort.csv")
    session.set_label("slide_000", None)
    session.read_cohort(folder / "other.csv")
    assert read_project_file(project_file_of(folder / "cohort.csv")).slides[0].label is None
    assert labels(session)["slide_000"] is not None


def test_a_folder_that_cannot_be_written_to_is_said(folder, opened):
    session = opened(folder / "cohort.csv")
    project_file_of(folder / "cohort.csv").mkdir()  # as good as read-only, for root too
    session.set_label("slide_000", None)
    session.autosave.flush()
    assert session.autosave.reason
    assert not session.autosave.safe


def test_a_script_keeps_nothing_by_itself(folder):
    session = session_of(viewer := ViewerModel())
    session.read_cohort(folder / "cohort.csv")
    session.set_label("slide_000", None)
    session.autosave.flush()
    session.shutdown()
    assert viewer is session.viewer
    assert not project_file_of(folder / "cohort.csv").exists()


def test_what_is_kept_of_another_table_is_set_aside_with_it(folder, opened):
    """“Save as…” over a table: its labels that no table has yet are not lost, however often that happens."""
    other = folder / "other.csv"
    shutil.copy(folder / "cohort.csv", other)
    theirs = opened(other)
    theirs.set_label("slide_000", "tumour")
    theirs.autosave.flush()
    kept = project_file_of(other).read_text()
    session = opened(folder / "cohort.csv")
    for aside, label in (("other.d2l.bak.json", "tumour"), ("other_2.d2l.bak.json", "normal")):
        session.write_cohort(folder / "mine.csv", overwrite=True)
        project_file_of(other).write_text(kept)
        session.write_cohort(other, overwrite=True)
        session.set_label("slide_001", label)
        session.autosave.flush()
        assert (folder / aside).read_text() == kept


def test_corrections_of_slides_that_were_left_are_not_taken(folder, opened, monkeypatch):
    session, asked = opened(folder / "cohort.csv"), []
    monkeypatch.setattr(session.reader, "request", lambda key, work, done, failed: asked.append(done))
    session.autosave.load_corrections(folder / "corrections.csv")
    monkeypatch.undo()
    session.autosave.corrections_path = None  # as other slides have it
    taken = []
    monkeypatch.setattr(session.corrections, "take", lambda points, path: taken.append(path))
    asked[0]({})
    assert taken == []
