"""One table: bound, shown, and no key of it taken from napari."""

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QAction, QKeySequence

from napari_distill2label.gui.canvas import layers
from napari_distill2label.gui.dock import DistillToLabel
from napari_distill2label.gui.widgets.help_popup import help_text, native, shown_keys
from napari_distill2label.gui.widgets.shortcuts import (
    PANEL,
    PANEL_AND_CANVAS,
    SHORTCUTS,
    TABLE,
    WINDOW,
    Actions,
    resolve,
)

from ..conftest import LONG, open_cohort

KEYS = {key: row for row in SHORTCUTS for key in row.keys}
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "shortcuts.md"


def portable(key) -> str:
    return QKeySequence(str(key)).toString(QKeySequence.SequenceFormat.PortableText)


@pytest.fixture
def shown(make_unpainted_viewer, qtbot):
    """A panel in a window that has the keyboard."""
    viewer = make_unpainted_viewer()
    panel = DistillToLabel(viewer)
    viewer.window.add_dock_widget(panel, name="Distill to Label")
    with qtbot.waitActive(panel.window(), timeout=LONG):
        panel.window().activateWindow()
    yield panel
    panel.session.shutdown()


def napari_keys(viewer) -> dict[str, str]:
    """Every key that napari's window, menus, viewer and layers use."""
    from napari._app_model import get_app_model
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Points, Shapes
    from napari.utils.shortcuts import default_shortcuts

    taken = {portable(key): action for action, keys in default_shortcuts.items() for key in keys}
    for kind in (Labels, Image, Points, Shapes, ViewerModel):
        taken |= {portable(key): kind.__name__ for key in kind.class_keymap}
    taken |= {portable(key): "the viewer" for key in viewer.keymap}
    taken |= {portable(rule.keybinding): rule.command_id for rule in get_app_model().keybindings}
    window = viewer.window._qt_window
    for action in window.findChildren(QAction):
        taken |= {key.toString(QKeySequence.SequenceFormat.PortableText): action.text() for key in action.shortcuts()}
    for menu in window.menuBar().actions():
        if "&" in menu.text():
            taken[f"Alt+{menu.text().split('&')[1][0].upper()}"] = menu.text()
    return taken


def test_none_clashes_with_napari(make_napari_viewer):
    taken = napari_keys(make_napari_viewer())
    assert {"Ctrl+Shift+Z", "Alt+F", "Shift+V", "Ctrl+0", "1", "Ctrl+S", "Ctrl+O"} & set(taken)  # it does look
    clashes = {key: taken[portable(key)] for key in KEYS if portable(key) in taken}
    # napari has undo of painting and tools of layers, on the canvas; ours are for the panel, its table, our own layers.
    allowed = {WINDOW: set(), PANEL: {"Ctrl+S"}, PANEL_AND_CANVAS: {"Ctrl+Z", "Ctrl+Shift+Z"}}
    for scope, keys in allowed.items():
        assert {key for key in clashes if KEYS[key].scope == scope} <= keys


def test_each_key_is_there_once_and_is_no_plain_letter():
    keys = [portable(key) for row in SHORTCUTS for key in row.keys]
    assert all(keys)
    assert len(set(keys)) == len(keys)
    for key in keys:
        assert key.startswith(("Alt+", "Ctrl+", "F")) or KEYS[key].scope == TABLE, key
    for row in SHORTCUTS:
        assert row.scope in (WINDOW, PANEL, PANEL_AND_CANVAS, TABLE)
        assert len(row.arguments) in (0, len(row.keys))


def test_every_action_exists(shown):
    for row in SHORTCUTS:
        if "overlays" in row.action and not hasattr(shown.session, "overlays"):
            continue
        if row.group == "Corrections" and not hasattr(shown.session, "review"):
            continue
        assert callable(resolve(shown.actions_of_keys, row.action)), row
    assert resolve(shown.actions_of_keys, "session.nothing.at_all") is None


def test_keys_in_a_real_window(shown, qtbot, cohort_csv):
    session = shown.session
    alt, ctrl = Qt.KeyboardModifier.AltModifier, Qt.KeyboardModifier.ControlModifier
    session.read_cohort(cohort_csv)
    session.show("slide_000")
    qtbot.waitUntil(lambda: session.shown == "slide_000", timeout=LONG)
    table = shown.slides.table
    table.setFocus()
    before = session.cohort
    qtbot.keyClick(table, Qt.Key.Key_2, alt)
    assert session.cohort["slide_000"].label == "tumour"
    qtbot.keyClick(table, Qt.Key.Key_0, alt)
    assert session.cohort["slide_000"].label is None
    qtbot.keyClick(table, Qt.Key.Key_7, alt)  # there are two classes
    assert "there is no class 7" in shown.status.text.text()
    qtbot.keyClick(table, Qt.Key.Key_Right, alt)
    qtbot.waitUntil(lambda: session.shown == "slide_001", timeout=LONG)
    qtbot.keyClick(table, Qt.Key.Key_Left, alt)
    qtbot.waitUntil(lambda: session.shown == "slide_000", timeout=LONG)
    qtbot.keyClick(table, Qt.Key.Key_PageDown, alt)
    assert session.threshold == pytest.approx(0.49)
    session.project.history.push("put the slides back", lambda: open_cohort(session, before), lambda: None)
    done = []
    session.project.history.push("a test", lambda: done.append("undone"), lambda: done.append("again"))
    qtbot.keyClick(table, Qt.Key.Key_Z, ctrl)
    qtbot.keyClick(table, Qt.Key.Key_Z, ctrl | Qt.KeyboardModifier.ShiftModifier)
    assert done == ["undone", "again"]
    qtbot.keyClick(table, Qt.Key.Key_F1)
    assert shown.help_popup.isVisible()
    shown.help_popup.reject()


def test_digits_label_and_delete_removes_while_the_table_has_the_keyboard(shown, qtbot, cohort_csv):
    session, table = shown.session, shown.slides.table
    session.read_cohort(cohort_csv)
    session.show("slide_000")
    table.setFocus()
    qtbot.keyClick(table, Qt.Key.Key_2)
    assert session.cohort["slide_000"].label == "tumour"
    qtbot.keyClick(table, Qt.Key.Key_Down)
    assert session.selected == ("slide_001",)
    qtbot.keyClick(table, Qt.Key.Key_1, Qt.KeyboardModifier.KeypadModifier)
    assert session.cohort["slide_001"].label == "normal"
    qtbot.keyClick(table, Qt.Key.Key_Backspace)
    assert session.cohort["slide_001"].label is None
    qtbot.keyClick(table, Qt.Key.Key_Up)
    qtbot.keyClick(table, Qt.Key.Key_0)
    assert session.cohort["slide_000"].label is None
    qtbot.keyClick(table, Qt.Key.Key_Delete)
    assert "slide_000" not in [row.slide_id for row in session.cohort]
    before = session.cohort
    shown.slides.search.setFocus()
    qtbot.keyClick(shown.slides.search, Qt.Key.Key_2)  # it is typed there
    qtbot.keyClick(shown.slides.search, Qt.Key.Key_Delete)
    assert shown.slides.search.text() == "2"
    assert session.cohort is before


def test_ctrl_s_saves_the_table_while_the_panel_has_the_keyboard(shown, qtbot, cohort_csv, tmp_path):
    session, panel, ctrl = shown.session, shown.slides, Qt.KeyboardModifier.ControlModifier
    table = tmp_path / "mine.csv"
    table.write_text(f"age,slide,wsi,diagnosis\n61,a,{cohort_csv.parent / 'slides' / 'slide_000.ome.tif'},normal\n")
    session.read_cohort(table)
    session.set_label("a", "tumour")
    window = session.viewer.window._qt_window
    action = QAction("as in napari's menu", window)  # which is built when it is opened
    action.setShortcut("Ctrl+S")
    window.addAction(action)
    napari_saves = []
    action.triggered.connect(lambda: napari_saves.append(1))
    for widget in (panel.table, panel.search, panel.save):
        session.set_label("a", None)
        session.set_label("a", "tumour")
        widget.setFocus()
        qtbot.keyClick(widget, Qt.Key.Key_S, ctrl)
        assert not session.project.unsaved, widget
    assert table.read_text().splitlines()[0] == "age,slide,wsi,diagnosis"
    assert table.read_text().splitlines()[1].startswith("61,a,")
    assert napari_saves == []
    canvas = session.viewer.window._qt_viewer.canvas.native
    session.set_label("a", None)
    canvas.setFocus()
    qtbot.keyClick(canvas, Qt.Key.Key_S, ctrl)
    assert session.project.unsaved  # there the key is napari's


def test_two_widgets_do_it_once(shown, qtbot, cohort_csv):
    viewer = shown.session.viewer
    other = DistillToLabel(viewer)
    viewer.window.add_dock_widget(other, name="Distill to Label (2)")
    before = shown.session.threshold
    qtbot.keyClick(shown, Qt.Key.Key_PageUp, Qt.KeyboardModifier.AltModifier)
    assert shown.session.threshold == pytest.approx(before + 0.01)


def test_ctrl_z_on_the_canvas(shown, qtbot, reviewed):
    session, viewer, _ = reviewed(shown.session.viewer)
    qtbot.waitUntil(lambda: bool(layers.find(viewer, layers.OUTLINES)) and not session.display.busy, timeout=LONG)
    canvas, ctrl = viewer.window._qt_viewer.canvas.native, Qt.KeyboardModifier.ControlModifier

    def press(key=Qt.Key.Key_Z, modifiers=ctrl):
        canvas.setFocus()
        qtbot.keyClick(canvas, key, modifiers)

    for layer in layers.find(viewer):  # whichever of them is selected
        session.correct("tumour", (2, 3))
        viewer.layers.selection.active = layer
        press()
        assert session.corrections.correction_at("slide", (2, 3)) is None
        assert session.canvas.corrections.framed == ("slide", (2, 3))
        press(modifiers=ctrl | Qt.KeyboardModifier.ShiftModifier)
        assert session.corrections.correction_at("slide", (2, 3)) == "tumour"
        press()
    # A stroke is one step.
    (corrections,) = layers.find(viewer, layers.CORRECTIONS)
    viewer.layers.selection.active = corrections
    corrections.paint((4, 4), 2)
    assert session.corrections.correction_at("slide", (4, 4)) == "tumour"
    press()
    assert session.corrections.correction_at("slide", (4, 4)) is None
    assert corrections.data[4, 4] == 0
    # In a layer of the user's own it is napari's.
    session.correct("tumour", (2, 3))
    own = viewer.add_labels(np.zeros((9, 9), int))
    own.paint((4, 4), 1)
    viewer.layers.selection.active = own
    press()
    assert not own.data.any()
    assert session.corrections.correction_at("slide", (2, 3)) == "tumour"


def test_ctrl_digit_corrects_and_goes_on(shown, qtbot, reviewed):
    session, viewer, _ = reviewed(shown.session.viewer)
    qtbot.waitUntil(lambda: bool(layers.find(viewer, layers.OUTLINES)) and not session.display.busy, timeout=LONG)
    canvas, ctrl = viewer.window._qt_viewer.canvas.native, Qt.KeyboardModifier.ControlModifier
    canvas.setFocus()
    qtbot.keyClick(canvas, Qt.Key.Key_2, ctrl)
    assert "no patch chosen" in shown.status.text.text().lower()
    qtbot.keyClick(canvas, Qt.Key.Key_N, Qt.KeyboardModifier.AltModifier)
    visited = [session.canvas.corrections.framed[1]]
    for key in (Qt.Key.Key_2, Qt.Key.Key_1, Qt.Key.Key_2):
        qtbot.keyClick(canvas, key, ctrl)
        visited.append(session.canvas.corrections.framed[1])
    assert len(set(visited)) == 4
    said = [session.corrections.correction_at("slide", cell) for cell in visited]
    assert said == ["tumour", "normal", "tumour", None]
    qtbot.keyClick(canvas, Qt.Key.Key_D, ctrl)  # to drop a correction stays
    assert session.canvas.corrections.framed[1] == visited[-1]
    shown.review.onward.setChecked(False)
    qtbot.keyClick(canvas, Qt.Key.Key_2, ctrl)
    assert session.canvas.corrections.framed[1] == visited[-1]
    assert session.corrections.correction_at("slide", visited[-1]) == "tumour"


def test_the_threshold_stays_a_probability(shown):
    actions = shown.actions_of_keys
    shown.session.set_threshold(1.0)
    actions.threshold_by(0.01)
    assert shown.session.threshold == 1.0
    shown.session.set_threshold(0.0)
    actions.threshold_by(-0.01)
    assert shown.session.threshold == 0.0


def test_what_is_not_there_is_said(shown, qtbot, monkeypatch):
    monkeypatch.setattr(Actions, "show_by", property(lambda self: self.nothing), raising=False)
    qtbot.keyClick(shown, Qt.Key.Key_Right, Qt.KeyboardModifier.AltModifier)
    assert "not available here" in shown.status.text.text()


def test_the_help_shows_them_all():
    text = help_text(("normal", "tumour", "a <b>"))
    for row in SHORTCUTS:
        assert native(row.keys[0]) in text
    assert "1 normal, 2 tumour, 3 a &lt;b&gt;" in text


def test_the_page_shows_them_all():
    text = PAGE.read_text("utf-8")
    for row in SHORTCUTS:
        keys = " … ".join(f"{{kbd}}`{key}`" for key in dict.fromkeys((row.keys[0], row.keys[-1])))
        assert f"| {keys} | {row.description} | {row.scope} |" in text, shown_keys(row)
