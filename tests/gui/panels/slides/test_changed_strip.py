"""Another program, or another window, changes the table: in a real window, by clicks."""

from dataclasses import replace

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_distill2label.gui.panels.slides.panel import SlidesPanel
from napari_distill2label.gui.session import session_of
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.project_file import read_project_file

from ...conftest import click
from .conftest import LONG


def set_elsewhere(table, **labels):
    cohort = Cohort.read(table).with_classes(["normal", "tumour"])
    rows = [replace(row, label=labels.get(row.slide_id, row.label)) for row in cohort]
    cohort.with_slides(rows).write(table)


def answer(button, seen):
    """Click a button of the question that is asked next."""

    def press():
        box = QApplication.activeModalWidget()
        if not isinstance(box, QMessageBox):
            QTimer.singleShot(50, press)
            return
        seen.append(f"{box.text()} {box.informativeText()}")
        next(each for each in box.buttons() if each.text().replace("&", "") == button).click()

    QTimer.singleShot(50, press)


def test_it_is_said_and_reloaded_by_a_click(full, qtbot):
    session, table = full.session, full.session.project.cohort_path
    assert not full.changed_strip.isVisibleTo(full)
    set_elsewhere(table, slide_003=None)
    qtbot.waitUntil(lambda: full.changed_strip.isVisibleTo(full), timeout=LONG)
    assert "Another program has changed cohort.csv: slide_003 differs." in full.changed_strip.text.text()
    click(qtbot, full.changed_strip.reload)
    assert session.cohort["slide_003"].label is None
    assert not session.project.unsaved
    assert not full.changed_strip.isVisibleTo(full)


def test_what_both_have_changed_is_asked_about_line_by_line(full, qtbot):
    session, table, seen = full.session, full.session.project.cohort_path, []
    session.set_label("slide_000", None)
    session.set_label("slide_001", None)
    label = "normal" if Cohort.read(table)["slide_001"].label == "tumour" else "tumour"
    set_elsewhere(table, slide_001=label)
    qtbot.waitUntil(lambda: full.changed_strip.isVisibleTo(full), timeout=LONG)
    answer("Cancel", seen)
    click(qtbot, full.changed_strip.reload)
    assert f"'slide_001', label: here nothing, in the table {label}" in seen[0]
    assert full.changed_strip.isVisibleTo(full)
    assert session.cohort["slide_001"].label is None
    answer("The table's", seen)
    click(qtbot, full.changed_strip.reload)
    assert session.cohort["slide_001"].label == label
    assert session.cohort["slide_000"].label is None
    assert session.project.unsaved


def test_mine_is_kept_and_saving_asks(full, qtbot, monkeypatch):
    session, table = full.session, full.session.project.cohort_path
    session.set_label("slide_000", None)
    set_elsewhere(table, slide_001=None)
    qtbot.waitUntil(lambda: full.changed_strip.isVisibleTo(full), timeout=LONG)
    click(qtbot, full.changed_strip.keep)
    assert not full.changed_strip.isVisibleTo(full)
    asked = []
    monkeypatch.setattr(full, "ask_overwrite", lambda text: asked.append(text) or False)
    assert not full.save_cohort()
    assert "another program has changed this table" in asked[0]


def test_a_second_window_says_so_before_it_writes_over_what_the_first_keeps(full, make_napari_viewer, qtbot):
    first, table = full.session, full.session.project.cohort_path
    second = SlidesPanel(session_of(other := make_napari_viewer()))
    other.window.add_dock_widget(second)
    second.open_path(str(table))
    qtbot.waitUntil(lambda: second.session.autosave._order._known != {}, timeout=LONG)  # it has looked for kept things
    first.set_label("slide_000", None)
    qtbot.waitUntil(lambda: first.autosave.saved_at is not None and not first.autosave.pending, timeout=LONG)
    second.session.set_label("slide_001", None)
    qtbot.waitUntil(lambda: bool(second.session.autosave.reason), timeout=LONG)
    assert "Another window keeps its work on this table in cohort.d2l.json" in second.save_status.state.text()
    assert not second.session.autosave.safe  # closing it asks
    kept = read_project_file(first.autosave.path).cohort(table.parent)
    assert kept["slide_000"].label is None
    assert kept["slide_001"].label is not None
    second.save_cohort()  # as it says
    assert not second.session.project.unsaved
    assert second.session.autosave.safe
    qtbot.waitUntil(lambda: full.changed_strip.isVisibleTo(full), timeout=LONG)  # and the first is told
    click(qtbot, full.changed_strip.reload)
    assert first.cohort["slide_001"].label is None
    assert first.cohort["slide_000"].label is None
    second.disconnect_session()
    second.session.shutdown()
