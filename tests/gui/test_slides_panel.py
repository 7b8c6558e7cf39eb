"""The panel of slides in a real window: clicks on real buttons, keys in a real table, real files."""

import shutil
import threading

import numpy as np
import pytest
from qtpy.QtCore import QItemSelectionModel, QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QColor, QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox, QLineEdit, QMessageBox

from napari_distill2label.core.settings import GridSettings
from napari_distill2label.gui.layers import layers
from napari_distill2label.gui.session.session import session_of
from napari_distill2label.gui.slide_table.kept_strip import CloseGuard
from napari_distill2label.gui.slide_table.slides_model import (
    CASE,
    LABEL,
    MPP,
    NAME,
    PATCHES,
    PREDICTION,
    SPLIT,
    STATUS,
    SlidesFilter,
)
from napari_distill2label.gui.slide_table.slides_panel import SlidesPanel
from napari_distill2label.gui.widgets.parts import guard_wheel
from napari_distill2label.gui.widgets.window_state import window_state
from napari_distill2label.slides.synthetic import write_cohort
from napari_distill2label.store.cohort import Cohort, CohortSlide

from .conftest import click

LONG = 30_000  # ms; two busy cores


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """No columns remembered, nothing left unsaved by another test."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    window_state().clear()


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer(show=True)


@pytest.fixture
def panel(viewer):
    made = SlidesPanel(session_of(viewer))
    viewer.window.add_dock_widget(made, name="slides")
    yield made
    made.disconnect_session()
    made.session.shutdown()


@pytest.fixture
def full(panel, cohort_csv, tmp_path, qtbot):
    """The panel with a cohort of its own, its first slide shown."""
    folder = shutil.copytree(cohort_csv.parent, tmp_path / "a cohort")
    panel.open_path(str(folder / "cohort.csv"))
    qtbot.waitUntil(lambda: panel.session.shown == "slide_000", timeout=LONG)
    return panel


def choose(panel, *rows):
    """Select rows of the table as Ctrl and the mouse do."""
    flags = QItemSelectionModel.SelectionFlag
    panel.table.clearSelection()
    for row in rows:
        panel.table.selectionModel().select(panel.filter.index(row, NAME), flags.Select | flags.Rows)


def cell(panel, row, column, role=Qt.ItemDataRole.DisplayRole):
    return panel.filter.index(row, column).data(role)


def editor(qtbot, panel, row, column, kind):
    index = panel.filter.index(row, column)
    panel.table.setColumnHidden(column, False)
    panel.table.scrollTo(index)
    at = panel.table.visualRect(index).center()
    qtbot.mouseClick(panel.table.viewport(), Qt.MouseButton.LeftButton, pos=at)
    qtbot.mouseDClick(panel.table.viewport(), Qt.MouseButton.LeftButton, pos=at)
    qtbot.waitUntil(lambda: bool(panel.table.viewport().findChildren(kind)), timeout=LONG)
    return panel.table.viewport().findChildren(kind)[0]


def drop(panel, *paths):
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    buttons, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    entering = QDragEnterEvent(QPoint(9, 9), Qt.DropAction.CopyAction, data, buttons, keys)
    QApplication.sendEvent(panel, entering)
    assert entering.isAccepted()
    QApplication.sendEvent(panel, QDropEvent(QPointF(9, 9), Qt.DropAction.CopyAction, data, buttons, keys))


# ---- slides in and out --------------------------------------------------------------------------------------------


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
        click(qtbot, panel.labels.itemAt(label).widget())
    assert panel.counts.text().startswith("8 slides: 2 normal, 2 tumour, 4 without label")
    assert panel.headline() == "8 slides, 4 labelled"
    assert "not in any table" in panel.kept.state.text()
    panel.ask_save = lambda *args: str(tmp_path / "cohort.csv")
    click(qtbot, panel.save)
    assert not panel.kept.state.isVisibleTo(panel)
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
    drop(panel, cohort_csv)
    qtbot.waitUntil(lambda: panel.session.cohort_path == cohort_csv, timeout=LONG)
    assert len(panel.session.cohort.labelled) == 8


def test_folders_are_walked_beside_the_window(panel, qtbot, cohort_csv, monkeypatch):
    from napari_distill2label.gui.slide_table import slides_panel

    walked, plain = [], slides_panel.gathered

    def noting(paths):
        walked.append(threading.current_thread())
        return plain(paths)

    monkeypatch.setattr(slides_panel, "gathered", noting)
    drop(panel, cohort_csv.parent / "slides")
    qtbot.waitUntil(lambda: panel.model.rowCount() == 8, timeout=LONG)
    assert walked
    assert threading.main_thread() not in walked


# ---- labelling ----------------------------------------------------------------------------------------------------


def test_the_combo_box_in_the_table_labels_all_selected_slides(full, qtbot):
    panel = full
    index = panel.filter.index(3, LABEL)
    choose(panel, 2, 3, 4)
    panel.table.edit(index)
    box = panel.table.viewport().findChildren(QComboBox)[0]
    assert [box.itemText(place) for place in range(box.count())] == ["–", "normal", "tumour"]
    qtbot.waitUntil(lambda: box.view().isVisible(), timeout=LONG)
    qtbot.keyClick(box.view(), Qt.Key.Key_Home)
    qtbot.keyClick(box.view(), Qt.Key.Key_Return)
    assert [cell(panel, row, LABEL) for row in (2, 3, 4)] == ["–", "–", "–"]
    assert panel.selected() == ["slide_002", "slide_003", "slide_004"]
    assert panel.session.undo_stack.undo_text == "label 3 slides nothing"


def test_case_and_scale_are_edited_in_the_table(full, qtbot):
    panel = full
    line = editor(qtbot, panel, 1, CASE, QLineEdit)
    line.clear()
    qtbot.keyClicks(line, "patient 7")
    panel.model.redraw()  # as when a picture comes
    qtbot.keyClick(line, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: panel.session.cohort["slide_001"].case_id == "patient 7", timeout=LONG)
    assert panel.model.change(["slide_001"], MPP, 0.25)
    assert cell(panel, 1, MPP) == "0.25 assumed"
    heard = []
    panel.problem.connect(heard.append)
    assert not panel.model.change(["slide_001"], MPP, 100)
    assert "not between" in heard[0]
    panel.set_split("valid")
    assert cell(panel, panel.table.visible_ids().index(panel.selected()[0]), SPLIT) == "valid"
    assert "1 valid, 7 auto (train, since others are set)" in panel.counts.text()


def test_removed_slides_come_back_with_their_predictions(full, viewer, qtbot, make_patch_map):
    session = full.session
    patch_map = make_patch_map((135, 162))
    patch_map.slide_id = "slide_000"
    session.predictions["slide_000"] = {"student": patch_map}
    choose(full, 0, 1)
    qtbot.keyClick(full.table, Qt.Key.Key_Delete)
    assert full.model.rowCount() == 6
    assert not layers.find(viewer, slide_id="slide_000")
    assert "slide_000" not in session.predictions
    full.session.undo()
    assert session.predictions["slide_000"]["student"] is patch_map
    assert [row.slide_id for row in session.cohort][:2] == ["slide_000", "slide_001"]


def test_buttons_say_why_they_are_disabled(full):
    full.table.clearSelection()
    for widget in (full.scale, full.split, full.remove, full.labels.itemAt(0).widget()):
        assert not widget.isEnabled()
        assert widget.toolTip() == "Select slides in the table first"
    choose(full, 1)
    assert full.remove.isEnabled()
    assert "Del" in full.remove.toolTip()


def test_a_scale_taken_back_moves_the_shown_slide_back(full, viewer, qtbot):
    def scale():
        return layers.find(viewer, layers.SLIDE)[0].scale[0]

    choose(full, 0)
    full.ask_mpp = lambda ids: 0.25
    click(qtbot, full.scale)
    qtbot.waitUntil(lambda: scale() == 0.25, timeout=LONG)
    full.session.undo()
    qtbot.waitUntil(lambda: scale() == 0.5, timeout=LONG)


# ---- the table ----------------------------------------------------------------------------------------------------


def test_the_row_and_the_slide_follow_each_other(full, viewer, qtbot):
    at = full.table.visualRect(full.filter.index(2, NAME)).center()
    qtbot.mouseClick(full.table.viewport(), Qt.MouseButton.LeftButton, pos=at)
    qtbot.waitUntil(lambda: full.session.shown == "slide_002", timeout=LONG)
    assert {layers.about(layer)["slide_id"] for layer in viewer.layers} == {"slide_002"}
    qtbot.keyClick(full.table, Qt.Key.Key_Down)
    qtbot.waitUntil(lambda: full.session.shown == "slide_003", timeout=LONG)
    full.session.show("slide_005")
    qtbot.waitUntil(lambda: full.selected() == ["slide_005"], timeout=LONG)
    assert full.session.selected == ("slide_005",)
    full.next_slide()
    qtbot.waitUntil(lambda: full.session.shown == "slide_006", timeout=LONG)
    full.previous_slide()
    qtbot.waitUntil(lambda: full.session.shown == "slide_005", timeout=LONG)


def test_the_selection_is_the_sessions(full):
    choose(full, 1, 2)
    assert full.session.selected == ("slide_001", "slide_002")
    full.session.select(["slide_004", "slide_006"])
    assert full.selected() == ["slide_004", "slide_006"]
    assert full.hint.text() == "2 selected: label as"


def test_filtering_by_words_and_by_kind(full, qtbot):
    choose(full, 0, 1)
    full.session.set_label(["slide_001", "slide_002"], None)
    qtbot.keyClicks(full.search, "tumour 00")
    wanted = [row.slide_id for row in full.session.cohort if row.label == "tumour"]
    assert full.table.visible_ids() == wanted
    assert f"{len(wanted)} of 8 shown" in full.hint.text()
    assert not set(full.selected()) - set(wanted)  # what cannot be seen is not labelled by accident
    full.search.clear()
    full.kind.setCurrentText("without label")
    assert full.table.visible_ids() == ["slide_001", "slide_002"]
    choose(full, 0)
    click(qtbot, full.labels.itemAt(0).widget())
    assert full.table.visible_ids() == ["slide_001", "slide_002"]  # it does not vanish under the pointer
    full.kind.setCurrentText("all slides")
    assert len(full.table.visible_ids()) == 8


def test_sorting_keeps_the_selection_and_rows_stay_where_they_are(full):
    session = full.session
    session.set_label([row.slide_id for row in session.cohort], "tumour")
    session.set_label(["slide_006", "slide_003"], "normal")
    session.set_label("slide_000", None)
    choose(full, 6)
    full.table.sortByColumn(LABEL, Qt.SortOrder.AscendingOrder)
    assert full.table.visible_ids()[:2] == ["slide_003", "slide_006"]
    assert full.table.visible_ids()[-1] == "slide_000"  # no label: last, either way
    assert full.selected() == ["slide_006"]
    full.table.sortByColumn(LABEL, Qt.SortOrder.DescendingOrder)
    assert full.table.visible_ids()[-1] == "slide_000"
    order = full.table.visible_ids()
    session.set_label("slide_006", "tumour")
    assert full.table.visible_ids() == order


def test_names_are_sorted_as_people_count(full):
    rows = [CohortSlide(f"slide_{number}", full.session.cohort.slides[0].path) for number in (10, 9, 1)]
    full.session._set_cohort(Cohort(tuple(rows), ("normal", "tumour")))
    full.table.sortByColumn(NAME, Qt.SortOrder.AscendingOrder)
    assert full.table.visible_ids() == ["slide_1", "slide_9", "slide_10"]


def test_columns_are_chosen_and_remembered(full, viewer, qtbot):
    actions = {action.text(): action for action in full.table.columns_menu().actions()}
    actions["Case"].trigger()
    actions["Status"].trigger()
    assert not full.table.isColumnHidden(CASE)
    assert full.table.isColumnHidden(STATUS)
    other = SlidesPanel(full.session)
    assert not other.table.isColumnHidden(CASE)
    assert other.table.isColumnHidden(STATUS)
    other.table.usual_columns()
    assert other.table.isColumnHidden(CASE)
    other.disconnect_session()
    other.deleteLater()


def test_the_prediction_is_shown_as_soon_as_there_is_one(full, make_patch_map):
    session = full.session
    assert full.table.isColumnHidden(PREDICTION)
    session.role = "student"
    for place, score in enumerate((0.2, 0.9, 0.4)):
        patch_map = make_patch_map((135, 162))
        patch_map.finish([1 - score, score])
        session.predictions[f"slide_00{place}"] = {"student": patch_map}
    session.slides_changed.emit()
    assert not full.table.isColumnHidden(PREDICTION)
    assert [cell(full, row, PREDICTION) for row in range(4)] == ["tumour 0.20", "tumour 0.90", "tumour 0.40", ""]
    assert cell(full, 0, STATUS, Qt.ItemDataRole.AccessibleTextRole) == "predicted"
    assert cell(full, 0, STATUS) == ""  # its mark alone, so that both fit
    full.table.show_column(STATUS, True)
    assert cell(full, 0, STATUS) == "predicted"
    assert cell(full, 0, PATCHES) == str(np.prod(patch_map.patches.shape))
    full.table.sortByColumn(PREDICTION, Qt.SortOrder.DescendingOrder)
    assert full.table.visible_ids()[:3] == ["slide_001", "slide_002", "slide_000"]


def test_pictures_are_read_for_rows_in_sight_beside_the_window(full, qtbot, monkeypatch):
    from napari_distill2label.gui.session import thumbnails

    read, plain = [], thumbnails.open_slide

    def noting(path, *args):
        read.append((path, threading.current_thread()))
        return plain(path, *args)

    monkeypatch.setattr(thumbnails, "open_slide", noting)
    monkeypatch.setattr(thumbnails, "SURVEYED", 0)
    real = full.session.cohort.slides[0].path
    paths = [real.with_name(f"copy_{number}.ome.tif") for number in range(200)]
    for path in paths:
        path.hardlink_to(real)
    rows = [CohortSlide(path.name.removesuffix(".ome.tif"), path) for path in paths]
    full.session._set_cohort(Cohort(tuple(rows), ("normal", "tumour")))
    qtbot.waitUntil(lambda: len(read) >= 3 and not full.session.background.busy, timeout=LONG)
    assert len({path for path, _ in read}) < 30
    full.table.verticalScrollBar().setValue(full.table.verticalScrollBar().maximum())
    qtbot.waitUntil(lambda: paths[-1] in {path for path, _ in read}, timeout=LONG)
    qtbot.waitUntil(lambda: not full.session.background.busy, timeout=LONG)
    assert len({path for path, _ in read}) < 60
    assert threading.main_thread() not in {thread for _, thread in read}
    found = full.session.thumbnails.get("copy_199", paths[-1])
    assert (found.shape, found.mpp) == ((135, 162), (0.5, 0.5))
    assert found.picture.shape == (53, 64, 3)


def test_a_missing_scale_is_seen_and_mended(full, qtbot, tmp_path):
    from PIL import Image

    for number in range(2):
        Image.new("RGB", (90, 90), "pink").save(tmp_path / f"plain_{number}.png")
    full.add_paths([tmp_path / "plain_0.png", tmp_path / "plain_1.png"])
    qtbot.waitUntil(lambda: full.missing.text().startswith("2 slides say no µm/px"), timeout=LONG)
    assert cell(full, 8, STATUS) == "no µm/px"
    assert cell(full, 8, MPP) == "not in file"
    full.ask_mpp = lambda ids: 0.5
    click(qtbot, full.select)
    assert full.selected() == ["plain_0", "plain_1"]
    click(qtbot, full.scale)
    assert not full.missing.isVisibleTo(full)
    assert cell(full, 8, MPP) == "0.5 assumed"
    assert cell(full, 8, PATCHES) == "≤ 9"
    full.session.configure(grid=GridSettings(patch_px=45).model_dump(include={"patch_px"}))
    assert cell(full, 8, PATCHES) == "≤ 4"


def test_a_damaged_slide_is_marked_and_the_others_go_on(full, qtbot, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    full.add_paths([tmp_path / "bad.png"])
    qtbot.waitUntil(lambda: full.model.rowCount() == 9, timeout=LONG)
    qtbot.waitUntil(lambda: cell(full, 8, STATUS) == "failed", timeout=LONG)
    assert "bad.png" in cell(full, 8, STATUS, Qt.ItemDataRole.ToolTipRole)
    full.kind.setCurrentText(SlidesFilter.KINDS[3])
    assert full.table.visible_ids() == ["bad"]


def test_ten_thousand_slides_ask_only_for_rows_in_sight(full, qtbot, monkeypatch):
    rows = tuple(CohortSlide(f"s{n}", f"https://nowhere/{n}.zarr", "normal") for n in range(10_000))
    full.session._set_cohort(Cohort(rows, ("normal", "tumour")))
    asked = []
    plain = full.model.text
    monkeypatch.setattr(full.model, "text", lambda slide_id, column: asked.append(slide_id) or plain(slide_id, column))
    full.session.set_label("s5000", "tumour")
    full.table.verticalScrollBar().setValue(5000 * 36)
    full.table.viewport().repaint()
    full.table.selectAll()
    full.session.set_label(full.session.selected, None)
    full.table.viewport().repaint()
    assert len(set(asked)) < 100
    assert full.session.undo() == "label 10000 slides nothing"


# ---- classes ------------------------------------------------------------------------------------------------------


def test_classes_are_named_coloured_moved_and_removed_by_clicks(full, qtbot):
    session, classes = full.session, full.editor
    heard = []
    full.problem.connect(heard.append)
    full.classes_fold.toggle.click()
    qtbot.keyClicks(classes.name, "stroma")
    qtbot.keyClick(classes.name, Qt.Key.Key_Return)
    assert session.classes == ("normal", "tumour", "stroma")
    assert full.labels.itemAt(2).widget().text() == "stroma"
    line = classes.rows[1].name
    line.setFocus()
    line.selectAll()
    qtbot.keyClicks(line, "cancer")
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert session.classes == ("normal", "cancer", "stroma")
    assert "tumour" not in {row.label for row in session.cohort}
    line.selectAll()
    qtbot.keyClicks(line, "normal")
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert "already" in heard[-1]
    assert line.text() == "cancer"
    classes.ask_colour = lambda now, title: QColor(1, 2, 3)
    click(qtbot, classes.rows[1].colour)
    assert session.colours[1] == (1, 2, 3)
    click(qtbot, classes.rows[2].up)
    assert session.classes == ("normal", "stroma", "cancer")
    click(qtbot, classes.rows[1].remove)
    assert session.classes == ("normal", "cancer")
    assert session.colours[1] == (1, 2, 3)
    assert not classes.rows[1].remove.isEnabled()
    assert "fewest" in classes.rows[1].remove.toolTip()
    assert not classes.rows[0].up.isEnabled()
    for _ in range(5):
        full.session.undo()
    assert session.classes == ("normal", "tumour")


def test_a_table_that_does_not_say_which_class_is_negative(panel, qtbot, cohort_csv, tmp_path):
    folder = shutil.copytree(cohort_csv.parent, tmp_path / "cohort")
    text = (folder / "cohort.csv").read_text().replace(",normal,", ",b-type,").replace(",tumour,", ",a-type,")
    (folder / "cohort.csv").write_text(text)
    panel.open_path(str(folder / "cohort.csv"))
    qtbot.waitUntil(lambda: panel.model.rowCount() == 8, timeout=LONG)
    assert panel.session.classes == ()
    panel.classes_fold.toggle.setChecked(True)
    assert panel.editor.ask.isVisibleTo(panel.editor)
    panel.editor.negative.setCurrentText("b-type")
    click(qtbot, panel.editor.use)
    assert panel.session.classes == ("b-type", "a-type")
    assert not panel.editor.ask.isVisibleTo(panel.editor)


def test_several_findings_at_once(full, qtbot):
    full.session.add_class("stroma")
    full.editor.several.setChecked(True)
    assert full.session.settings.model.several
    choose(full, 0, 1)
    full.session.set_label(full.session.selected, None)
    for place in (1, 2):
        click(qtbot, full.labels.itemAt(place).widget())
    assert cell(full, 0, LABEL) == cell(full, 1, LABEL) == "tumour;stroma"
    click(qtbot, full.labels.itemAt(1).widget())
    assert cell(full, 0, LABEL) == "stroma"


# ---- tissue, saving, closing --------------------------------------------------------------------------------------


def test_the_tissue_mask_by_clicks(full, viewer, qtbot):
    tissue, box = full.session.tissue, full.tissue
    full.tissue_fold.toggle.setChecked(True)
    assert not box.use.isEnabled()
    assert "no mask yet" in box.use.toolTip()
    click(qtbot, box.show_mask)
    qtbot.waitUntil(lambda: tissue.layer is not None, timeout=LONG)
    assert "1 of 8 slides have a mask" in box.state.text()
    tissue.layer.paint((30, 30), 0)
    tissue.layer.paint((30, 30), 1)
    tissue.layer.paint((60, 60), 0)
    painted = np.array(tissue.layer.data)
    qtbot.waitUntil(lambda: not tissue._painted and not full.session.background.busy, timeout=LONG)
    click(qtbot, box.use)
    assert tissue.in_use() == {"slide_000": tissue.files["slide_000"]}
    click(qtbot, box.show_mask)
    assert tissue.layer is None
    click(qtbot, box.show_mask)
    qtbot.waitUntil(lambda: tissue.layer is not None, timeout=LONG)
    np.testing.assert_array_equal(tissue.layer.data, painted)
    box.confirm = lambda: False
    click(qtbot, box.find)
    np.testing.assert_array_equal(tissue.layer.data, painted)
    click(qtbot, box.find_all)
    qtbot.waitUntil(lambda: len(tissue.files) == 8, timeout=LONG)


def test_unsaved_changes_are_shown_and_come_back(full, viewer, qtbot):
    choose(full, 0)
    click(qtbot, full.labels.itemAt(2).widget())
    assert "not in cohort.csv yet" in full.kept.state.text()
    qtbot.waitUntil(lambda: "kept at" in full.kept.state.text(), timeout=LONG)
    full.open_path(str(full.session.cohort_path))
    qtbot.waitUntil(lambda: full.session.unsaved, timeout=LONG)
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
    assert not session.unsaved
    assert guard.may_close(full.window())
    assert len(asked) == 3


def test_what_was_left_unsaved_is_offered_to_the_next_window(make_napari_viewer, qtbot, cohort_csv):
    first = SlidesPanel(session_of(viewer := make_napari_viewer()))
    viewer.window.add_dock_widget(first)
    first.session.add_slides(cohort_csv.parent / "slides")
    first.disconnect_session()
    first.session.shutdown()
    second = SlidesPanel(session_of(other := make_napari_viewer()))
    other.window.add_dock_widget(second)
    qtbot.waitUntil(lambda: second.session.autosave.offer is not None, timeout=LONG)
    assert "8 slides (0 labelled)" in second.kept.offer.text()
    click(qtbot, second.kept.restore)
    assert second.model.rowCount() == 8
    assert not second.kept.restore.isVisibleTo(second)
    second.disconnect_session()
    second.session.shutdown()


# ---- looks --------------------------------------------------------------------------------------------------------


def test_every_control_has_a_tooltip_and_a_name(full):
    full.session.add_class("stroma")
    guard_wheel(full)
    for kind in (QAbstractButton, QComboBox, QLineEdit):
        for control in full.findChildren(kind):
            if control.objectName().startswith("qt_") or "Corner" in control.metaObject().className():
                continue
            name = control.accessibleName() or (control.text() if isinstance(control, QAbstractButton) else "")
            assert name, control
            assert control.toolTip() or "Fold" in type(control.parent()).__name__, name


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_it_fits_and_follows_the_theme(full, viewer, qtbot, theme):
    viewer.theme = theme
    for name in ("classes_fold", "tissue_fold"):
        getattr(full, name).toggle.setChecked(True)
    qtbot.wait(1)
    assert full.minimumSizeHint().width() <= 336  # of 360: the dock has a scroll bar and margins
    colour = full.labels.itemAt(0).widget().icon().pixmap(16).toImage().pixelColor(8, 8).getRgb()[:3]
    assert colour == full.session.colours[0]
    full.session.set_colour("normal", (0, 0, 255))
    colour = full.labels.itemAt(0).widget().icon().pixmap(16).toImage().pixelColor(8, 8).getRgb()[:3]
    assert colour == (0, 0, 255)


def test_a_closed_panel_is_called_no_more(full, viewer, qtbot):
    session = full.session
    full.disconnect_session()
    viewer.window.remove_dock_widget(full)
    full.deleteLater()
    qtbot.wait(10)
    session.set_label("slide_000", None)
    session.tissue.changed.emit()
    session.thumbnails.changed.emit("slide_000")


def test_drawn_slides_larger_than_a_screen_have_pictures_too(qtbot, tmp_path):
    from napari_distill2label.gui.session.thumbnails import SIDE, glimpse

    folder = write_cohort(tmp_path, 2, shape=(972, 729)).parent / "slides"
    found = glimpse(sorted(folder.iterdir())[0])
    assert found.picture.shape[0] == SIDE
    assert found.picture.std() > 5
