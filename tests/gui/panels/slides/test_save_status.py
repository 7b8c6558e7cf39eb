"""Nothing is lost: unsaved changes, closing, and what the next window offers."""

from dataclasses import replace

from qtpy.QtWidgets import QMainWindow, QMessageBox

from napari_distill2label.gui.panels.slides.panel import SlidesPanel
from napari_distill2label.gui.panels.slides.save_status import CloseGuard
from napari_distill2label.gui.session import session_of

from ...conftest import click
from .conftest import LONG, choose


def test_unsaved_changes_are_shown_and_come_back(full, viewer, qtbot):
    choose(full, 0)
    click(qtbot, full.label_bar.labels.itemAt(2).widget())
    assert "Not saved in cohort.csv yet" in full.save_status.state.text()
    qtbot.waitUntil(lambda: "a copy is saved" in full.save_status.state.text(), timeout=LONG)
    full.open_path(str(full.session.project.cohort_path))
    qtbot.waitUntil(lambda: full.session.project.unsaved, timeout=LONG)
    assert full.session.cohort["slide_000"].label is None


def test_closing_asks_only_if_something_would_be_lost(full, viewer, monkeypatch):
    session = full.session
    (guard,) = full.window().findChildren(CloseGuard)
    asked = []
    answers = QMessageBox.StandardButton
    answer = [answers.Cancel]
    monkeypatch.setattr(guard, "ask", lambda window: asked.append(1) or answer[0])
    session.set_label("slide_000", None)
    assert guard.may_close(full.window())  # it is kept beside the table
    assert not asked
    session.autosave._window = False
    session.set_label("slide_001", None)
    assert not guard.may_close(full.window())
    answer[0] = answers.Discard
    assert guard.may_close(full.window())
    answer[0] = answers.Save
    assert guard.may_close(full.window())
    assert len(asked) == 3
    assert not session.project.unsaved
    assert guard.may_close(full.window())
    assert len(asked) == 3


def test_corrections_that_nothing_keeps_are_asked_about(reviewed, make_unpainted_viewer, monkeypatch, tmp_path):
    viewer = make_unpainted_viewer()
    session, _, _ = reviewed(viewer)
    session.write_cohort(tmp_path / "cohort.csv")
    without = replace(session.project.preferences(), autosave=False)
    monkeypatch.setattr(session.project, "preferences", lambda: without)
    monkeypatch.setattr(session.autosave, "_wanted", False)
    window = QMainWindow()
    guard, answers, asked = CloseGuard(window, session), QMessageBox.StandardButton, []
    answer = [answers.Cancel]
    monkeypatch.setattr(QMessageBox, "warning", lambda *args: asked.append(args[2:4]) or answer[0])
    assert guard.may_close(window)
    session.correct("tumour", (2, 3))
    assert not guard.may_close(window)
    assert asked == [
        (
            "Labels or corrections are not saved. Closing the window loses them.",
            answers.Save | answers.Discard | answers.Cancel,
        )
    ]
    answer[0] = answers.Save
    assert guard.may_close(window)
    assert not session.corrections.unsaved
    assert session.corrections.path.is_file()
    assert guard.may_close(window)
    assert len(asked) == 2
    session.shutdown()


def test_what_was_left_unsaved_is_offered_to_the_next_window(make_napari_viewer, qtbot, cohort_csv):
    first = SlidesPanel(session_of(viewer := make_napari_viewer()))
    viewer.window.add_dock_widget(first)
    first.session.add_slides(cohort_csv.parent / "slides")
    first.disconnect_session()
    first.session.shutdown()
    second = SlidesPanel(session_of(other := make_napari_viewer()))
    other.window.add_dock_widget(second)
    qtbot.waitUntil(lambda: second.session.autosave.offer is not None, timeout=LONG)
    assert "8 slides (0 labelled)" in second.save_status.offer.text()
    click(qtbot, second.save_status.restore)
    assert second.model.rowCount() == 8
    assert not second.save_status.restore.isVisibleTo(second)
    second.disconnect_session()
    second.session.shutdown()
