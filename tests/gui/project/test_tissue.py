"""Masks of a window: those of these slides, the last stroke, and in a file before anything reads it."""

import errno
import shutil
import threading

import numpy as np
import pytest

from napari_distill2label.core.errors import CohortError
from napari_distill2label.exporters import regions
from napari_distill2label.gui.session import session_of
from napari_distill2label.slides import tissue as rule
from napari_distill2label.slides.regions import mask_from_geojson
from napari_distill2label.slides.tissue_mask import TissueMask

from ..conftest import LONG

SHAPE = (135, 162)


@pytest.fixture
def cohorts(cohort_csv, tmp_path):
    """Two tables with slides of the same names."""
    places = [shutil.copytree(cohort_csv.parent, tmp_path / name) for name in ("one", "two")]
    return [place / "cohort.csv" for place in places]


@pytest.fixture
def window(cohorts, make_unpainted_viewer):
    """The session of a window with the slides of the first of them."""
    session = session_of(make_unpainted_viewer())
    session.read_cohort(cohorts[0])
    yield session
    session.shutdown()


def painted(rows):
    """A mask of the first rows."""
    blank = TissueMask.blank(SHAPE)
    return blank.with_mask(np.arange(len(blank.mask))[:, None] < np.full(blank.mask.shape[1], rows))


def kept(path):
    return int(mask_from_geojson(path, SHAPE).mask[:, 0].sum())


@pytest.mark.parametrize("error", [None, CohortError("no tissue today")])
def test_what_was_looked_for_in_other_slides_is_not_taken(window, cohorts, hold, qtbot, monkeypatch, error):
    if error is not None:
        monkeypatch.setattr(rule, "segment_tissue", lambda *args: (_ for _ in ()).throw(error))
    held = hold(rule, "segment_tissue")
    window.tissue.find("slide_000")
    qtbot.waitUntil(held.begun.is_set, timeout=LONG)
    window.read_cohort(cohorts[1])
    assert not window.tissue.looking
    found = []
    window.tissue.found.connect(lambda slide_id, mask: found.append(slide_id))
    held.go.set()
    qtbot.waitUntil(held.ended.is_set)
    qtbot.wait(200)
    assert (found, window.tissue.files, window.tissue.masked) == ([], {}, set())
    assert "no tissue today" not in " ".join(window.notices)


def test_the_last_stroke_stays(window, hold, qtbot):
    held = hold(regions, "write_regions")
    window.tissue.paint("slide_000", painted(20))
    qtbot.waitUntil(held.begun.is_set, timeout=LONG)
    window.tissue.paint("slide_000", painted(40))
    qtbot.wait(700)  # its turn would have come
    held.go.set()
    qtbot.waitUntil(held.ended.is_set)
    qtbot.waitUntil(lambda: not window.reader.busy and not window.tissue._unsaved, timeout=LONG)
    assert kept(window.tissue.files["slide_000"]) == 40


def test_a_training_waits_for_a_stroke_that_is_being_written(window, hold, qtbot):
    held = hold(regions, "write_regions")
    window.tissue.paint("slide_000", painted(20))
    window.tissue.use = True
    qtbot.waitUntil(held.begun.is_set, timeout=LONG)
    threading.Timer(0.3, held.go.set).start()
    assert kept(window.tissue.in_use().source["slide_000"]) == 20


def test_what_could_not_be_written_is_in_no_file_and_not_lost(window, monkeypatch, qtbot):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(regions, "write_regions", full)
        window.tissue.paint("slide_000", painted(20))
        qtbot.waitUntil(lambda: bool(window.notices) and "the disk is full" in window.notices[-1], timeout=LONG)
        assert window.tissue.files == {}
        window.tissue.use = True
        with pytest.raises(OSError, match="No space"):
            window.tissue.in_use()
    assert list(window.tissue.in_use().source) == ["slide_000"]
    assert kept(window.tissue.files["slide_000"]) == 20


def test_a_mask_in_no_file_yet_is_shown_as_it_is(window):
    found = []
    window.tissue.found.connect(lambda slide_id, mask: found.append(mask))
    window.tissue.paint("slide_000", mask := painted(20))
    window.tissue.read("slide_000", SHAPE)
    assert found == [mask]


def test_a_stroke_before_other_slides_come_is_kept_beside_its_own(window, cohorts):
    window.tissue.paint("slide_000", painted(20))
    window.read_cohort(cohorts[1])
    assert kept(cohorts[0].with_name("cohort.tissue") / "slide_000.geojson") == 20
    assert not cohorts[1].with_name("cohort.tissue").exists()


def test_a_mask_that_cannot_be_written_does_not_stop_the_closing(window, monkeypatch):
    def denied(*args):
        raise PermissionError(errno.EACCES, "Permission denied", "cohort.tissue")

    window.set_label("slide_000", None)
    with monkeypatch.context() as patch:
        patch.setattr(regions, "write_regions", denied)
        window.tissue.paint("slide_000", painted(20))
        window.shutdown()
    assert not window.autosave.pending
    assert "The tissue masks are not saved. cohort.tissue: Permission denied" in window.notices
