"""Tab and Shift+Tab leave every control of the panel, and come to every control that can be used."""

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from napari_distill2label.gui.dock import DistillToLabel

from .conftest import LONG

MOST = 400  # stops of the Tab key in the whole window


@pytest.fixture
def panel(make_unpainted_viewer, qtbot, cohort_csv, run_folder):
    """The panel with everything in it: slides, runs, a model, predictions; every step open."""
    viewer = make_unpainted_viewer()
    made = DistillToLabel(viewer)
    viewer.window.add_dock_widget(made, name="Distill to Label")
    with qtbot.waitActive(made.window(), timeout=LONG):
        made.window().activateWindow()
    session = made.session
    session.read_cohort(cohort_csv)
    session.load_model(run_folder)
    session.predict("slide_000")
    session.show("slide_000")
    for step in made.steps.values():
        step.set_open(True)
    made.train.runs_fold.toggle.setChecked(True)
    session.runs.add(run_folder)
    qtbot.waitUntil(lambda: bool(session.runs.found), timeout=LONG)
    made.status.show_problem("something to copy")
    yield made
    session.shutdown()


def stops_of(panel) -> set[QWidget]:
    """What the Tab key must come to: all that is in sight, can be used and takes the keyboard by Tab."""
    return {
        widget
        for widget in panel.findChildren(QWidget)
        if widget.isVisible() and widget.isEnabled() and widget.focusPolicy() & Qt.FocusPolicy.TabFocus
        and widget.focusProxy() is None
    }  # fmt: skip


@pytest.mark.parametrize(
    "modifier",
    [Qt.KeyboardModifier.NoModifier, pytest.param(Qt.KeyboardModifier.ShiftModifier, marks=pytest.mark.long)],
)
def test_tab_comes_round(panel, qtbot, modifier):
    key = Qt.Key.Key_Tab if modifier == Qt.KeyboardModifier.NoModifier else Qt.Key.Key_Backtab
    start = panel.slides.table
    start.setFocus()
    seen, now = set(), start
    for _ in range(MOST):
        seen.add(now)
        QTest.keyClick(now, key, modifier)
        after = QApplication.focusWidget()
        assert after is not None
        assert after is not now, f"Tab does not leave {type(now).__name__} {now.accessibleName()!r}"
        now = after
        if now is start:
            break
    assert now is start
    missed = stops_of(panel) - seen
    assert not missed, [f"{type(widget).__name__} {widget.accessibleName()!r}" for widget in missed]


def test_arrows_move_inside_the_table(panel, qtbot):
    table = panel.slides.table
    table.setFocus()
    QTest.keyClick(table, Qt.Key.Key_Down)
    assert panel.session.selected == ("slide_001",)
    assert table.hasFocus()
    QTest.keyClick(table, Qt.Key.Key_Tab)
    assert not table.hasFocus()
    assert panel.session.selected == ("slide_001",)
