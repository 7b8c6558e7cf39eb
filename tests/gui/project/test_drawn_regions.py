"""Regions of a project's slides: told once, kept under the slide's name."""

import errno
import shutil
import threading

import numpy as np
import pytest
from napari.components import ViewerModel
from PIL import Image

from napari_distill2label.core.errors import CohortError, OutputError
from napari_distill2label.gui import get_session
from napari_distill2label.gui.project import drawn_regions
from napari_distill2label.gui.project.drawn_regions import DrawnRegion, geojson_of, read_regions

from ..conftest import LONG

BOX = np.array([[0.5, 1.5], [0.5, 9.5], [7.5, 9.5]])


def write_slide(path):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def regions(session, tmp_path):
    session.add_slides(write_slide(tmp_path / "S 1.png"))
    return session.regions


def test_regions_come_back_from_their_file_as_they_were(tmp_path):
    drawn = (DrawnRegion(BOX, "none here"), DrawnRegion(BOX + 3, "b: all of this"))
    (tmp_path / "s.geojson").write_text(geojson_of(drawn), "utf-8")
    found = read_regions(tmp_path, ["s", "other"])
    ((path, again),) = found.values()
    assert path == tmp_path / "s.geojson"
    assert [own.label for own in again] == ["none here", "b: all of this"]
    assert {tuple(point) for point in again[0].outline} == {tuple(point) for point in BOX}
    assert geojson_of(drawn) == geojson_of(drawn)  # ids too


def test_the_same_again_is_no_change(regions):
    heard = []
    regions.changed.connect(heard.append)
    regions.set("S 1", (DrawnRegion(BOX, "none here"),))
    regions.set("S 1", (DrawnRegion(BOX.copy(), "none here"),))
    assert heard == ["S 1"]
    assert regions.count == 1
    assert regions.in_use() == regions.folder
    regions.set("S 1", ())
    assert heard == ["S 1", "S 1"]
    assert regions.in_use() is None


@pytest.fixture
def another_window():
    """Makes the session of another viewer, with slides and no table."""
    viewers = []

    def make(slide):
        viewers.append(ViewerModel())
        made = get_session(viewers[-1])
        made.add_slides(slide)
        return made

    yield make
    for viewer in viewers:
        get_session(viewer).shutdown()


def test_without_a_table_regions_come_back_to_their_slides_and_to_no_others_of_that_name(
    regions, another_window, tmp_path
):
    regions.set("S 1", (DrawnRegion(BOX, "none here"),))
    folder = regions.in_use()
    elsewhere = another_window(write_slide(tmp_path / "elsewhere" / "S 1.png"))
    assert elsewhere.regions.in_use() is None
    elsewhere.regions.set("S 1", (DrawnRegion(BOX, "all of this"),))
    assert elsewhere.regions.in_use() != folder
    again = another_window(tmp_path / "S 1.png")
    assert [own.label for own in again.regions.by_slide["S 1"]] == ["none here"]


def test_regions_that_cannot_be_read_stop_a_training_and_are_not_replaced(regions, another_window, tmp_path):
    regions.set("S 1", (DrawnRegion(BOX, "none here"),))
    file = regions.in_use() / "S 1.geojson"
    file.write_text("{")
    again = another_window(tmp_path / "S 1.png")
    again.regions.set("S 1", (DrawnRegion(BOX, "all of this"),))
    with pytest.raises(CohortError, match=r"S 1\.geojson"):
        again.regions.in_use()
    again.regions.flush()
    assert file.read_text() == "{"


def test_regions_of_an_earlier_time_under_the_name_of_a_new_table_stay(regions, session, tmp_path):
    kept = tmp_path / "mine.regions" / "S 1.geojson"
    kept.parent.mkdir()
    kept.write_text(geojson_of((DrawnRegion(BOX + 1, "all of this"),)))
    before = kept.read_text()
    regions.set("S 1", (DrawnRegion(BOX, "none here"),))
    session.write_cohort(tmp_path / "mine.csv")
    assert regions.folder == kept.parent
    with pytest.raises(OutputError, match="left alone"):
        regions.in_use()
    assert kept.read_text() == before


@pytest.fixture
def window(cohort_csv, tmp_path, make_unpainted_viewer):
    """(session of a window without slides, a table with a region beside it)."""
    table = shutil.copytree(cohort_csv.parent, tmp_path / "a cohort") / "cohort.csv"
    kept = table.with_name("cohort.regions") / "slide_000.geojson"
    kept.parent.mkdir()
    kept.write_text(geojson_of((DrawnRegion(BOX, "none here"),)))
    yield (session := get_session(make_unpainted_viewer())), table
    session.shutdown()


def test_a_training_that_comes_before_they_are_read_does_not_double_them(window, hold, qtbot):
    session, table = window
    held = hold(drawn_regions, "read_regions")
    session.read_cohort(table)
    qtbot.waitUntil(held.begun.is_set, timeout=LONG)
    assert session.regions.in_use() == table.with_name("cohort.regions")
    held.go.set()
    qtbot.waitUntil(held.ended.is_set)
    qtbot.wait(100)
    assert session.regions.count == 1


def test_regions_of_slides_that_were_left_are_not_taken(window, hold, qtbot, tmp_path):
    session, table = window
    held = hold(drawn_regions, "read_regions")
    session.read_cohort(table)
    qtbot.waitUntil(held.begun.is_set, timeout=LONG)
    other = shutil.copy(table, table.with_name("other.csv"))
    session.read_cohort(other)
    held.go.set()
    qtbot.waitUntil(held.ended.is_set)
    qtbot.wait(100)
    assert session.regions.count == 0


def test_a_file_that_is_being_written_is_not_somebody_elses(window, qtbot, monkeypatch):
    session, table = window
    shutil.rmtree(table.with_name("cohort.regions"))
    session.read_cohort(table)
    begun, go = threading.Event(), threading.Event()
    write = drawn_regions.write_text

    def slow(*args):
        write(*args)
        begun.set()
        assert go.wait(LONG / 1000)

    monkeypatch.setattr(drawn_regions, "write_text", slow)
    session.regions.set("slide_000", (DrawnRegion(BOX, "none here"),))
    qtbot.waitUntil(begun.is_set, timeout=LONG)
    session.regions.set("slide_001", (DrawnRegion(BOX, "none here"),))
    threading.Timer(0.2, go.set).start()
    session.regions.flush()
    assert sorted(path.name for path in session.regions.folder.glob("*.geojson")) == [
        "slide_000.geojson",
        "slide_001.geojson",
    ]


def test_a_full_disk_is_said_in_words(regions, monkeypatch, session):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(drawn_regions, "write_text", full)
    regions.set("S 1", (DrawnRegion(BOX, "none here"),))
    assert session.notices[-1].startswith("The regions are not saved. the disk is full")
