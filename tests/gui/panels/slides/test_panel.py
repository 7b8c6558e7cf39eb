"""The panel of slides in a real window: clicks on real buttons, real files."""

import threading

import pytest
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox, QFileDialog, QLineEdit, QMessageBox

from napari_distill2label.gui.canvas import layers
from napari_distill2label.gui.panels.slides.model import NAME, STATUS
from napari_distill2label.gui.widgets import controls
from napari_distill2label.gui.widgets.controls import guard_wheel
from napari_distill2label.store.cohort import Cohort

from ...conftest import click
from .conftest import LONG, cell, choose


def drop(panel, *paths):
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    buttons, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    entering = QDragEnterEvent(QPoint(9, 9), Qt.DropAction.CopyAction, data, buttons, keys)
    QApplication.sendEvent(panel, entering)
    assert entering.isAccepted()
    QApplication.sendEvent(panel, QDropEvent(QPointF(9, 9), Qt.DropAction.CopyAction, data, buttons, keys))


def test_from_an_empty_panel_to_a_saved_table(panel, viewer, qtbot, cohort_csv, tmp_path):
    session = panel.session
    assert "No slides yet" in panel.empty.text()
    assert panel.empty.isVisibleTo(panel)
    assert not panel.save.isEnabled()
    assert panel.headline() == "no slides yet"
    panel.ask_folder = lambda *args: str(cohort_csv.parent / "slides")
    click(qtbot, panel.add_folder)
    qtbot.waitUntil(lambda: session.shown == "slide_000", timeout=LONG)
    assert layers.find(viewer, layers.SLIDE, "slide_000")
    assert not panel.empty.isVisibleTo(panel)
    assert panel.model.rowCount() == 8
    for label, rows in ((0, (0, 2)), (1, (1, 3))):
        choose(panel, *rows)
        click(qtbot, panel.label_bar.labels.itemAt(label).widget())
    assert panel.label_bar.counts.text().startswith("8 slides: 2 normal, 2 tumour, 4 without label")
    assert panel.headline() == "8 slides, 2 normal, 2 tumour, 4 without label"
    assert "Not saved in a table yet" in panel.save_status.state.text()
    places = []
    panel.ask_save = lambda title, place, *more: places.append(place) or str(tmp_path / "cohort.csv")
    said = []
    panel.success.connect(said.append)
    click(qtbot, panel.save)
    assert not panel.save_status.state.isVisibleTo(panel)
    assert said[-1].endswith(f"in {tmp_path / 'cohort.csv'}")  # and where to
    assert places == [str(cohort_csv.parent / "slides" / "cohort.csv")]
    labels = [row.label for row in Cohort.read(tmp_path / "cohort.csv")]
    assert labels == ["normal", "tumour", "normal", "tumour", None, None, None, None]


def test_files_folders_and_tables_can_be_dropped(panel, qtbot, cohort_csv, tmp_path):
    slides = cohort_csv.parent / "slides"
    drop(panel, slides / "slide_003.ome.tif", slides / "slide_001.ome.tif", tmp_path / "gone.png")
    qtbot.waitUntil(lambda: panel.model.rowCount() == 2, timeout=LONG)
    qtbot.waitUntil(lambda: panel.session.shown == "slide_003", timeout=LONG)
    assert any("gone.png: no such file" in text for text in panel.session.notices)
    drop(panel, slides)
    qtbot.waitUntil(lambda: panel.model.rowCount() == 8, timeout=LONG)
    assert panel.session.notices[-1] == "2 of 8 files were on the list already: passed over"
    assert panel.selected() == ["slide_003"]
    panel.session.undo()
    assert panel.model.rowCount() == 2
    asked = []
    answers = [QMessageBox.StandardButton.Cancel, QMessageBox.StandardButton.Discard]
    panel.ask_unsaved = lambda name: asked.append(name) or answers[len(asked) - 1]
    drop(panel, cohort_csv)
    qtbot.waitUntil(lambda: asked == ["cohort.csv"], timeout=LONG)
    assert panel.model.rowCount() == 2
    drop(panel, cohort_csv)
    qtbot.waitUntil(lambda: panel.session.project.cohort_path == cohort_csv, timeout=LONG)
    assert len(panel.session.cohort.labelled) == 8
    panel.session.undo()  # the slides that were there before are back
    assert panel.model.rowCount() == 2
    assert panel.session.project.cohort_path is None


def test_folders_are_walked_beside_the_window(panel, qtbot, cohort_csv, monkeypatch):
    from napari_distill2label.gui.panels.slides import panel as slides_panel

    walked, plain = [], slides_panel.find_slides

    def noting(paths):
        walked.append(threading.current_thread())
        return plain(paths)

    monkeypatch.setattr(slides_panel, "find_slides", noting)
    drop(panel, cohort_csv.parent / "slides")
    qtbot.waitUntil(lambda: panel.model.rowCount() == 8, timeout=LONG)
    assert walked
    assert threading.main_thread() not in walked


def test_a_dialog_begins_where_the_last_one_ended(full, monkeypatch, tmp_path):
    begun = []

    def answer(parent, title, folder, *pattern):
        begun.append(folder)
        return chosen, ""

    monkeypatch.setattr(controls, "_ended", "")
    for name in ("getOpenFileName", "getSaveFileName"):
        monkeypatch.setattr(QFileDialog, name, answer)
    chosen = ""
    full.ask_file("x", "*")
    full.ask_file("x", "*")  # the first was called off
    assert begun == [str(tmp_path / "a cohort")] * 2
    chosen = str(tmp_path / "elsewhere" / "x.csv")
    full.ask_file("x", "*")
    full.ask_save("x", "y.csv", "*")
    assert begun[-1] == str(tmp_path / "elsewhere" / "y.csv")
    full.tissue.ask_load()
    assert begun[-1] == str(tmp_path / "elsewhere")
    monkeypatch.setattr(controls, "_ended", "")  # another day
    assert controls.begin_at("") == str(tmp_path / "elsewhere")
    assert controls.begin_at("/beside the cohort") == "/beside the cohort"


def test_the_row_and_the_slide_follow_each_other(full, viewer, qtbot):
    at = full.table.visualRect(full.model.index(2, NAME)).center()
    qtbot.mouseClick(full.table.viewport(), Qt.MouseButton.LeftButton, pos=at)
    qtbot.waitUntil(lambda: full.session.shown == "slide_002", timeout=LONG)
    assert {layers.tags_of(layer)["slide_id"] for layer in viewer.layers} == {"slide_002"}
    qtbot.keyClick(full.table, Qt.Key.Key_Down)
    qtbot.waitUntil(lambda: full.session.shown == "slide_003", timeout=LONG)
    full.session.show("slide_005")
    qtbot.waitUntil(lambda: full.selected() == ["slide_005"], timeout=LONG)
    assert full.session.selected == ("slide_005",)


def test_the_selection_is_the_sessions(full, qtbot):
    choose(full, 1, 2)
    assert full.session.selected == ("slide_001", "slide_002")
    full.session.select(["slide_004", "slide_006"])
    assert full.selected() == ["slide_004", "slide_006"]
    qtbot.waitUntil(lambda: full.session.shown in full.session.selected, timeout=LONG)
    assert full.label_bar.hint.text() == "2 selected: label as"


def test_a_damaged_slide_is_marked_and_the_others_go_on(full, qtbot, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    full.add_paths([tmp_path / "bad.png"])
    qtbot.waitUntil(lambda: full.model.rowCount() == 9, timeout=LONG)
    qtbot.waitUntil(lambda: cell(full, 8, STATUS) == "failed", timeout=LONG)
    assert "bad.png" in cell(full, 8, STATUS, Qt.ItemDataRole.ToolTipRole)
    full.kind.setCurrentText("with a problem")
    assert full.table.visible_ids() == ["bad"]


def test_every_control_has_a_tooltip_and_a_name(full):
    full.session.add_class("stroma")
    guard_wheel(full)
    for kind in (QAbstractButton, QComboBox, QFileDialog, QLineEdit, QMessageBox):
        for control in full.findChildren(kind):
            if control.objectName().startswith("qt_") or "Corner" in control.metaObject().className():
                continue
            name = control.accessibleName() or (control.text() if isinstance(control, QAbstractButton) else "")
            assert name, control
            assert control.toolTip() or "Collapsible" in type(control.parent()).__name__, name


def test_the_tab_key_goes_from_top_to_bottom(full):
    full.classes_fold.toggle.setChecked(True)
    full.session.add_class("stroma")  # what is made later takes its place
    found, widget = [], full.add
    while (widget := widget.nextInFocusChain()) is not full.add:
        if full.isAncestorOf(widget) and widget.accessibleName():
            found.append(widget.accessibleName())
    ways = [
        ["slides", *(f"label selected slides: {name}" for name in ("normal", "tumour", "stroma", "no label")), "µm/px"],
        ["colour of class normal", "remove class normal", "name of class tumour", "name of class stroma"],
        ["Classes and colours", "colour of class normal", "Add class", "Tissue mask"],
    ]
    for way in ways:
        places = [found.index(name) for name in way]
        assert places == sorted(places), way


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_it_fits_and_follows_the_theme(full, viewer, qtbot, theme):
    viewer.theme = theme
    for name in ("classes_fold", "tissue_fold"):
        getattr(full, name).toggle.setChecked(True)
    qtbot.wait(1)
    assert full.minimumSizeHint().width() <= 336  # of 360: the dock has a scroll bar and margins
    colour = full.label_bar.labels.itemAt(0).widget().icon().pixmap(16).toImage().pixelColor(8, 8).getRgb()[:3]
    assert colour == full.session.colours[0]
    full.session.set_colour("normal", (0, 0, 255))
    colour = full.label_bar.labels.itemAt(0).widget().icon().pixmap(16).toImage().pixelColor(8, 8).getRgb()[:3]
    assert colour == (0, 0, 255)


def test_a_closed_panel_is_called_no_more(full, viewer, qtbot):
    session = full.session
    full.disconnect_session()
    viewer.window.remove_dock_widget(full)
    full.deleteLater()
    qtbot.wait(10)
    session.set_label("slide_000", None)
    session.tissue.changed.emit()
    session.previews.changed.emit("slide_000")


def test_a_table_that_is_dropped_with_slides_is_not_left_out_in_silence(full, qtbot, cohort_csv, tmp_path):
    from PIL import Image

    Image.new("RGB", (90, 90), "pink").save(tmp_path / "new.png")
    (tmp_path / "labels.csv").write_text("slide_id,label\nnew,tumour\n")
    told = []
    full.session.project.message.connect(told.append)
    full.add_paths([tmp_path / "new.png", tmp_path / "labels.csv"])
    qtbot.waitUntil(lambda: any("labels.csv was not opened" in str(line) for line in told), timeout=LONG)
    assert full.session.cohort["new"].label is None
