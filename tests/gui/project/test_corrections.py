"""Corrections of a window come into their file soon, all of them, or into one where that can be written."""

import pytest

from napari_distill2label.core.errors import OutputError
from napari_distill2label.gui.project.project import Project
from napari_distill2label.gui.project.recovery import recovery_folder
from napari_distill2label.gui.session import session_of
from napari_distill2label.store import corrections
from napari_distill2label.store.project_file import read_project_file

from ..conftest import LONG


@pytest.fixture
def window(reviewed, make_unpainted_viewer, monkeypatch, tmp_path):
    """The session of a window with a predicted slide that is in no table."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    session, _, _ = reviewed(make_unpainted_viewer())
    yield session
    session.shutdown()


def rows(path):
    return path.read_text().splitlines()[1:]


@pytest.fixture
def corrected_during_a_write(window, hold, qtbot, tmp_path):
    """The file that a first correction has just been written to, while a second one was made."""
    window.write_cohort(tmp_path / "cohort.csv")
    held = hold(corrections, "write")
    window.correct("tumour", (2, 3))
    qtbot.waitUntil(held.begun.is_set, timeout=LONG)
    window.correct("tumour", (2, 4))
    held.go.set()
    qtbot.waitUntil(held.ended.is_set)
    return tmp_path / "cohort_corrections.csv"


def test_a_correction_made_during_a_write_is_written_too(window, corrected_during_a_write, qtbot):
    qtbot.waitUntil(lambda: not window.reader.busy and not window.corrections.unsaved, timeout=LONG)
    assert len(rows(corrected_during_a_write)) == 2


def test_closing_waits_for_a_write_and_writes_what_came_after(window, corrected_during_a_write, qtbot):
    qtbot.wait(50)
    window.shutdown()
    assert len(rows(corrected_during_a_write)) == 2


def test_without_a_table_they_are_written_as_soon(window, qtbot, tmp_path):
    window.correct("tumour", (2, 3))
    assert window.corrections.unsaved
    qtbot.waitUntil(lambda: not window.corrections.unsaved, timeout=LONG)
    assert window.corrections.path == tmp_path / "corrections.csv"
    assert len(rows(tmp_path / "corrections.csv")) == 1


def test_beside_slides_that_cannot_be_written_to_they_come_back(
    window, qtbot, tmp_path, monkeypatch, make_napari_viewer
):
    (tmp_path / "a file").write_text("")  # as good as read-only, for root too
    monkeypatch.setattr(Project, "work_folder", tmp_path / "a file")
    window.correct("tumour", (2, 3))
    qtbot.waitUntil(lambda: not window.corrections.unsaved, timeout=LONG)
    kept = window.corrections.path
    assert kept.parent == recovery_folder()
    assert len(rows(kept)) == 1
    assert f"Your corrections are in {kept} instead" in window.notices[-1]
    window.correct("tumour", (2, 4))
    window.shutdown()
    assert len(rows(kept)) == 2
    assert read_project_file(window.autosave.path).corrections == kept.name

    again = session_of(make_napari_viewer())
    again.autosave.look_for_unsaved()
    qtbot.waitUntil(lambda: again.autosave.offer is not None, timeout=LONG)
    again.autosave.restore()
    qtbot.waitUntil(lambda: again.corrections.path == kept, timeout=LONG)
    assert again.corrections.slides == {"slide": 2}
    again.shutdown()


def test_what_an_earlier_window_left_for_recovery_stays(window, monkeypatch, tmp_path):
    (tmp_path / "a file").write_text("")
    monkeypatch.setattr(Project, "work_folder", tmp_path / "a file")
    window.correct("tumour", (2, 3))
    first = window.corrections.save()
    window.corrections.path = None  # as another window of the same slides has it
    second = window.corrections.save()
    assert first != second
    assert first.parent == second.parent == recovery_folder()


def test_where_none_may_be_written_beside_the_slides_they_go_elsewhere(window, monkeypatch, tmp_path, qtbot):
    """A slide may be a folder, and nothing is written into one."""
    write = corrections.write

    def refuse(path, *args):
        if path.parent == tmp_path:
            raise OutputError("the results would be written onto what is read here.", [path], "input")
        return write(path, *args)

    monkeypatch.setattr(corrections, "write", refuse)
    window.correct("tumour", (2, 3))
    qtbot.waitUntil(lambda: not window.corrections.unsaved, timeout=LONG)
    assert window.corrections.path.parent == recovery_folder()
