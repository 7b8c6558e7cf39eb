"""Opening and saving the table of slides: labels go to the slides that are there, nothing is lost, nothing replaced."""

import shutil

import pytest
from napari.components import ViewerModel

from napari_distill2label.core.errors import CohortError, OutputError
from napari_distill2label.gui import get_session


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def session(viewer):
    yield (made := get_session(viewer))
    made.shutdown()


@pytest.fixture
def folder(cohort_csv, tmp_path):
    return shutil.copytree(cohort_csv.parent, tmp_path / "cohort")


def labels(session):
    return {row.slide_id: row.label for row in session.cohort}


def test_labels_without_paths_go_to_the_slides_that_are_there(session, folder, tmp_path):
    session.read_cohort(folder / "cohort.csv")
    session.show("slide_000")
    before, paths = session.cohort, [row.path for row in session.cohort]
    table = tmp_path / "labels.csv"
    table.write_text("slide_id,label\nslide_000,tumour\nslide_003,normal\nslide_099,normal\n")
    session.read_cohort(table)
    assert [row.path for row in session.cohort] == paths
    assert labels(session)["slide_000"] == "tumour"
    assert labels(session)["slide_003"] == "normal"
    assert labels(session)["slide_001"] == before["slide_001"].label
    assert session.project.cohort_path == folder / "cohort.csv"
    assert session.shown == "slide_000"
    assert session.notices[-1].startswith("labels.csv: labels for 2 of the 8 slides in the list. Undo takes them back.")
    assert "slide_099" in session.notices[-1]
    assert session.undo() == "labels of labels.csv"
    assert session.cohort == before


def test_the_classes_of_such_a_table_take_the_place_of_names_that_nobody_chose(session, folder, tmp_path):
    session.add_slides(folder / "slides")
    table = tmp_path / "labels.csv"
    table.write_text("slide,diagnosis\nslide_000.ome.tif,negative\nslide_001,cancer\n")
    session.read_cohort(table)
    assert session.classes == ("negative", "cancer")
    assert labels(session)["slide_001"] == "cancer"
    session.undo()
    assert session.classes == ("normal", "tumour")


def test_a_table_of_other_slides_without_paths_leaves_all_as_it_is(session, folder, tmp_path):
    session.read_cohort(folder / "cohort.csv")
    before = session.cohort
    table = tmp_path / "labels.csv"
    table.write_text("slide_id,label\nx1,tumour\nx2,normal\n")
    with pytest.raises(CohortError, match=r"labels\.csv: none of its 2 slides \(x1, x2\) is in the list"):
        session.read_cohort(table)
    assert session.cohort is before


def test_a_table_without_paths_beside_its_own_slides_is_a_cohort(session, folder, tmp_path):
    session.read_cohort(folder / "cohort.csv")
    shutil.copy(folder / "slides" / "slide_000.ome.tif", tmp_path / "mine.ome.tif")
    (tmp_path / "clam.csv").write_text("slide_id,label\nmine,tumour\n")
    session.read_cohort(tmp_path / "clam.csv")
    assert list(labels(session)) == ["mine"]
    (tmp_path / "clam.csv").write_text("slide_id,label\nmine,normal\n")
    session.read_cohort(tmp_path / "clam.csv")  # its own table again: not labels for the slides there are
    assert labels(session) == {"mine": "normal"}
    assert not session.project.unsaved


def test_opening_another_cohort_is_one_edit(session, viewer, folder, tmp_path, make_patch_map):
    session.read_cohort(folder / "cohort.csv")
    session.set_label("slide_002", "tumour")
    session.show("slide_002")
    patch_map = make_patch_map((135, 162), size_px=27)
    predictions = session.project.predictions = {"slide_002": {"student": patch_map}}
    before = session.cohort
    (tmp_path / "other.csv").write_text(f"slide_id,path,label\no,{folder / 'slides' / 'slide_000.ome.tif'},normal\n")
    session.read_cohort(tmp_path / "other.csv")
    assert session.current is None
    assert not viewer.layers
    session.set_label("o", "tumour")
    assert session.undo() == "label o tumour"
    assert session.undo() == "open other.csv"
    assert session.cohort is before
    assert session.predictions is predictions
    assert session.project.unsaved
    assert session.project.cohort_path == folder / "cohort.csv"
    assert session.shown == session.current == "slide_002"
    assert session.redo() == "open other.csv"
    assert list(labels(session)) == ["o"]
    assert session.project.cohort_path == tmp_path / "other.csv"
    assert session.predictions == {}


def test_saving_keeps_the_users_own_columns(session, folder):
    table = folder / "mine.csv"
    table.write_text(
        "site;slide;age;wsi;diagnosis\nA;one;61;slides/slide_000.ome.tif;normal\nB;two;47;slides/slide_001.ome.tif;\n"
    )
    former = table.read_bytes()
    session.read_cohort(table)
    session.set_label("two", "tumour")
    assert session.write_cohort() == table
    assert table.read_text().splitlines() == [
        "site;slide;age;wsi;diagnosis",
        "A;one;61;slides/slide_000.ome.tif;normal",
        "B;two;47;slides/slide_001.ome.tif;tumour",
    ]
    assert (folder / "mine.csv.bak").read_bytes() == former
    assert not session.project.unsaved


def test_a_table_that_somebody_else_has_changed_is_not_replaced_unasked(session, folder):
    table = folder / "cohort.csv"
    session.read_cohort(table)
    session.set_label("slide_000", "tumour")
    theirs = table.read_text().replace("slide_007,", "slide_007,", 1) + "\n"
    table.write_text(theirs)
    with pytest.raises(OutputError, match="another program has changed this table") as caught:
        session.write_cohort()
    assert caught.value.standing == "foreign"
    assert table.read_text() == theirs
    assert session.project.unsaved
    session.write_cohort(overwrite=True)
    assert (folder / "cohort.csv.bak").read_text() == theirs
    session.set_label("slide_000", "normal")
    session.write_cohort()  # ours by now


def test_another_file_of_that_name_is_not_replaced_unasked(session, folder, tmp_path):
    session.read_cohort(folder / "cohort.csv")
    (tmp_path / "theirs.csv").write_text("precious\n")
    with pytest.raises(OutputError, match="there is another file of this name"):
        session.write_cohort(tmp_path / "theirs.csv")
    assert (tmp_path / "theirs.csv").read_text() == "precious\n"
    slide = folder / "slides" / "slide_000.ome.tif"
    pixels = slide.read_bytes()
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="one of the slides"):
            session.write_cohort(slide, overwrite=overwrite)
    assert slide.read_bytes() == pixels
    session.write_cohort(tmp_path / "theirs.csv", overwrite=True)
    assert (tmp_path / "theirs.csv.bak").read_text() == "precious\n"
    assert session.project.cohort_path == tmp_path / "theirs.csv"


def test_a_runs_own_table_is_no_place_for_a_plain_save(session, run_folder):
    session.load_model(run_folder)
    assert session.project.cohort_path == run_folder / "cohort.csv"
    assert session.project.own_table is None


def test_labels_go_to_the_slides_that_are_there_when_they_are_taken(session, folder, tmp_path):
    """Reading a table may take seconds, in which the window is used."""
    session.read_cohort(folder / "cohort.csv")
    table = tmp_path / "labels.csv"
    table.write_text("slide_id,label\nslide_000,tumour\n")
    found = session.slide_actions.look_into(table)
    session.set_label("slide_001", "tumour")
    shutil.copy(folder / "slides" / "slide_000.ome.tif", tmp_path / "late.ome.tif")
    session.add_slides(tmp_path / "late.ome.tif")
    session.slide_actions.take_table(found)
    assert labels(session)["slide_000"] == labels(session)["slide_001"] == "tumour"
    assert "late" in labels(session)
    assert "labels for 1 of the 9 slides" in session.notices[-1]


def test_a_scale_is_undone_though_the_slide_has_gone(session, folder):
    session.read_cohort(folder / "cohort.csv")
    session.show("slide_000")
    session.set_mpp("slide_000", 0.3)
    (folder / "slides" / "slide_000.ome.tif").rename(folder / "elsewhere")
    changed = []
    session.project.events.cohort.connect(lambda: changed.append(session.cohort.slides[0].mpp))
    session.undo()
    assert changed[-1] != 0.3
    assert session.project.history.redo_text is not None
    assert "cannot be shown" in session.canvas.slide_view.canvas_text
