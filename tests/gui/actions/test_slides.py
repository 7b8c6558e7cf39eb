"""The list of slides and its classes, without a window."""

import pytest
from napari.components import ViewerModel

from napari_distill2label.core.errors import CohortError
from napari_distill2label.gui import get_session
from napari_distill2label.slides.discovery import find_slides
from napari_distill2label.store.cohort import Cohort


@pytest.fixture
def slides(cohort_csv):
    made = get_session(ViewerModel())  # which nobody keeps: the list of slides needs none
    made.read_cohort(cohort_csv)
    return made


def labels(slides):
    return [row.label for row in slides.cohort]


def test_every_edit_can_be_taken_back_and_done_again(slides, cohort_csv, tmp_path):
    extra = tmp_path / "extra.png"
    extra.write_bytes(b"x")
    ids = [row.slide_id for row in slides.cohort]
    edits = (
        lambda: slides.set_label(ids[:2], "tumour"),
        lambda: slides.set_label(ids[0], None),
        lambda: slides.set_mpp(ids[1:3], 0.3),
        lambda: slides.set_case(ids[:2], "one patient"),
        lambda: slides.set_split(ids[3], "test"),
        lambda: slides.toggle_label(ids[0], "tumour"),
        lambda: slides.add_slides(extra),
        lambda: slides.remove_slides(ids[4:6]),
        lambda: slides.add_class("stroma"),
        lambda: slides.rename_class("tumour", "cancer"),
        lambda: slides.move_class("stroma", 1),
        lambda: slides.set_colour("cancer", (1, 2, 3)),
        lambda: slides.remove_class("stroma"),
    )
    states = [(slides.cohort, slides.colours)]
    for edit in edits:
        edit()
        states.append((slides.cohort, slides.colours))
        assert states[-1] != states[-2]
    for before in reversed(states[:-1]):
        assert slides.undo() is not None
        assert (slides.cohort, slides.colours) == before
    assert slides.undo() is None
    for after in states[1:]:
        slides.redo()
        assert (slides.cohort, slides.colours) == after
    assert slides.redo() is None


def test_an_edit_that_changes_nothing_is_none(slides):
    slides.set_label("slide_000", slides.cohort["slide_000"].label)
    slides.set_colour("tumour", slides.colours[1])
    slides.undo()  # the colour, which is now chosen and was the palette's
    assert slides.project.history.undo_text is None


def test_what_is_undone_says_what_it_was(slides):
    slides.set_label(["slide_000", "slide_001"], "tumour")
    slides.set_label("slide_002", None)
    assert slides.undo() == "label slide_002 nothing"
    assert slides.project.history.undo_text == "label 2 slides tumour"
    assert slides.project.history.redo_text == "label slide_002 nothing"


def test_labels_and_colours_follow_a_renamed_class(slides):
    slides.set_colour("tumour", (9, 8, 7))
    slides.set_label("slide_000", "normal;tumour")
    before = labels(slides)
    slides.rename_class("tumour", "cancer")
    assert slides.classes == ("normal", "cancer")
    assert slides.colours[1] == (9, 8, 7)
    assert labels(slides) == [label.replace("tumour", "cancer") for label in before]


def test_the_order_of_classes_says_which_is_negative_and_colours_stay(slides):
    former = dict(zip(slides.classes, slides.colours, strict=True))
    slides.move_class("tumour", 0)
    assert slides.classes == ("tumour", "normal")
    assert dict(zip(slides.classes, slides.colours, strict=True)) == former


def test_a_class_that_is_removed_takes_its_label_along_but_not_the_others(slides):
    slides.add_class("stroma")
    slides.set_label("slide_000", "tumour;stroma")
    slides.set_label("slide_001", "stroma")
    slides.remove_class("stroma")
    assert slides.cohort["slide_000"].label == "tumour"
    assert slides.cohort["slide_001"].label is None
    with pytest.raises(CohortError, match="two classes are the fewest"):
        slides.remove_class("tumour")


@pytest.mark.parametrize(
    ("name", "says"), [("normal", "already"), ("  ", "needs a name"), ("a;b", "no comma"), ("a,b", "no comma")]
)
def test_names_of_classes_that_cannot_be(slides, name, says):
    with pytest.raises(CohortError, match=says):
        slides.add_class(name)
    with pytest.raises(CohortError, match=says):
        slides.rename_class("tumour", name)
    assert slides.classes == ("normal", "tumour")


def test_findings_are_added_and_taken_off_and_the_negative_class_stands_alone(slides):
    slides.add_class("stroma")
    slides.set_label(["slide_000", "slide_001"], "tumour")
    slides.toggle_label("slide_000", "stroma")
    assert slides.cohort["slide_000"].label == "tumour;stroma"
    slides.toggle_label(["slide_000", "slide_001"], "stroma")  # one has it: now both
    assert slides.cohort["slide_001"].label == "tumour;stroma"
    slides.toggle_label(["slide_000", "slide_001"], "stroma")
    assert slides.cohort["slide_000"].label == slides.cohort["slide_001"].label == "tumour"
    slides.toggle_label("slide_000", "normal")
    assert slides.cohort["slide_000"].label == "normal"
    slides.toggle_label("slide_000", "stroma")
    assert slides.cohort["slide_000"].label == "stroma"


def test_splits_and_cases(slides, tmp_path):
    slides.set_split(["slide_000", "slide_001"], "valid")
    slides.set_case(["slide_000", "slide_001"], "patient 7")
    with pytest.raises(CohortError, match="unknown split"):
        slides.set_split("slide_000", "validation")
    with pytest.raises(CohortError, match="no slide 'x'"):
        slides.set_case("x", "")
    slides.set_case("slide_001", " ")
    kept = Cohort.read(slides.write_cohort(tmp_path / "cohort.csv"))
    assert (kept["slide_000"].split, kept["slide_000"].case_id) == ("valid", "patient 7")
    assert kept["slide_001"].case_id == "slide_001"


def test_the_selection_holds_slides_that_are_listed(slides):
    heard = []
    slides.project.events.selected.connect(lambda: heard.append(slides.selected))
    slides.select(["slide_003", "nobody", "slide_001", "slide_003"])
    assert slides.selected == ("slide_003", "slide_001")
    slides.remove_slides(["slide_003"])
    assert slides.selected == ("slide_001",)
    slides.select([])
    assert len(heard) == 3


def test_saved_or_not(slides, tmp_path):
    assert not slides.project.unsaved
    slides.set_label("slide_000", None)
    assert slides.project.unsaved
    slides.undo()
    assert not slides.project.unsaved
    slides.set_label("slide_000", None)
    slides.write_cohort(tmp_path / "cohort.csv")
    assert not slides.project.unsaved
    slides.undo()
    assert slides.project.unsaved


def test_opening_another_cohort_is_undone_as_a_whole(slides, cohort_csv):
    slides.set_label("slide_000", None)
    slides.select(["slide_000"])
    slides.set_colour("tumour", (1, 1, 1))
    slides.read_cohort(cohort_csv)
    assert slides.selected == ()
    assert slides.colours[1] != (1, 1, 1)
    assert slides.undo() == "open cohort.csv"
    assert slides.cohort["slide_000"].label is None
    assert slides.colours[1] == (1, 1, 1)
    assert slides.undo() is None


# ---- what was dropped ---------------------------------------------------------------------------------------------


def test_folders_are_walked_and_files_counted_once(tmp_path):
    for name in (
        "b/slide_10.png",
        "b/slide_9.png",
        "b/notes.txt",
        "b/.hidden.png",
        "a.ome.zarr/0/c",
        "a.ome.zarr/x.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = find_slides([tmp_path, tmp_path / "b" / "slide_9.png"])
    assert [path.name for path in found.slides] == ["a.ome.zarr", "slide_9.png", "slide_10.png"]
    assert not found.refused


def test_a_folder_of_dicom_files_is_one_slide(data_dir):
    folder = data_dir / "slides" / "CMU-1-Small-Region_dicom"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    assert find_slides([folder]).slides == (folder,)
    assert find_slides([folder.parent]).slides.count(folder) == 1


def test_what_is_no_slide_is_refused_with_a_reason(tmp_path):
    (tmp_path / "notes.docx").write_text("x")
    (tmp_path / "cohort.csv").write_text("x")
    (tmp_path / "empty").mkdir()
    found = find_slides([tmp_path / name for name in ("notes.docx", "cohort.csv", "empty", "gone.svs")])
    assert found.tables == (tmp_path / "cohort.csv",)
    assert [line.rpartition(": ")[2][:7] for line in found.refused] == ["not one", "holds n", "no such"]


def test_duplicates_are_told_once(slides, cohort_csv):
    folder = cohort_csv.parent / "slides"
    assert slides.add_slides([folder, folder]) == []
    assert slides.notices == ["8 of 8 files were on the list already: passed over"]
