"""The table of slides: finding, sorting, columns, pictures, and nothing asked of rows out of sight."""

import threading

import numpy as np
from qtpy.QtCore import Qt

from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.gui.panels.slides.model import CASE, LABEL, NAME, PATCHES, PREDICTION, STATUS
from napari_distill2label.gui.panels.slides.panel import SlidesPanel
from napari_distill2label.slides.synthetic import write_cohort
from napari_distill2label.store.cohort import Cohort, CohortSlide

from ...conftest import click, open_cohort
from .conftest import LONG, cell, choose


def test_filtering_by_words_and_by_kind(full, qtbot):
    choose(full, 0, 1)
    full.session.set_label(["slide_001", "slide_002"], None)
    qtbot.keyClicks(full.search, "tumour 00")
    wanted = [row.slide_id for row in full.session.cohort if row.label == "tumour"]
    assert full.table.visible_ids() == wanted
    assert f"{len(wanted)} of 8 shown" in full.label_bar.hint.text()
    assert not set(full.selected()) - set(wanted)  # what cannot be seen is not labelled by accident
    full.search.clear()
    full.kind.setCurrentText("without label")
    assert full.table.visible_ids() == ["slide_001", "slide_002"]
    choose(full, 0)
    click(qtbot, full.label_bar.labels.itemAt(0).widget())
    assert full.table.visible_ids() == ["slide_001", "slide_002"]  # it does not vanish under the pointer
    full.kind.setCurrentText("all slides")
    assert len(full.table.visible_ids()) == 8


def test_filtering_by_label_and_split(full):
    session = full.session
    tumour = [row.slide_id for row in session.cohort if row.label == "tumour"]
    session.set_split(tumour[:2], "test")
    full.of_class.setCurrentText("tumour")
    assert full.table.visible_ids() == tumour
    full.of_split.setCurrentText("test")
    assert full.table.visible_ids() == tumour[:2]
    full.of_split.setCurrentText("auto")
    assert full.table.visible_ids() == tumour[2:]
    full.of_class.setCurrentText("any label")
    assert len(full.table.visible_ids()) == 6
    full.show_all()
    assert len(full.table.visible_ids()) == 8
    # A class that is chosen and goes filters nothing out any more.
    session.add_class("stroma")
    full.of_class.setCurrentText("stroma")
    assert full.table.visible_ids() == []
    session.remove_class("stroma")
    assert full.of_class.currentText() == "any label"
    assert len(full.table.visible_ids()) == 8


def test_contradictions_are_counted_and_found(full, qtbot, make_patch_map):
    session = full.session
    session.project.network = "student"
    assert not full.contradicted.isVisibleTo(full)
    for slide_id in ("slide_000", "slide_002"):
        patch_map = make_patch_map((135, 162))
        score = 0.9 if session.cohort[slide_id].label == "normal" else 0.1
        patch_map.finish([1 - score, score])
        session.project.predictions = {**session.predictions, slide_id: {"student": patch_map}}

    assert full.contradicted.text() == "2 predictions contradict their labels."
    assert full.headline().endswith("; 2 contradicted")
    full.search.setText("slide_007")
    click(qtbot, full.show_contradicted)
    assert full.table.visible_ids() == ["slide_000", "slide_002"]
    session.set_label("slide_000", None)
    assert full.contradicted.text() == "1 prediction contradicts its label."


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
    full.table.sortByColumn(LABEL, Qt.SortOrder.DescendingOrder)  # asked again: by the labels of now
    assert full.table.visible_ids()[-2:] == ["slide_003", "slide_000"]


def test_names_are_sorted_as_people_count(full):
    rows = [CohortSlide(f"slide_{number}", full.session.cohort.slides[0].path) for number in (10, 9, 1)]
    open_cohort(full.session, Cohort(tuple(rows), ("normal", "tumour")))
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
    session.project.network = "student"
    for place, score in enumerate((0.2, 0.9, 0.4)):
        patch_map = make_patch_map((135, 162))
        patch_map.finish([1 - score, score])
        session.project.predictions = {**session.predictions, f"slide_00{place}": {"student": patch_map}}

    assert not full.table.isColumnHidden(PREDICTION)
    assert [cell(full, row, PREDICTION) for row in range(4)] == [
        "0.20\nnormal", "0.90\ntumour", "0.40\nnormal", "",
    ]  # fmt: skip
    assert cell(full, 0, STATUS, Qt.ItemDataRole.AccessibleTextRole) == "predicted"
    assert cell(full, 0, STATUS) == ""  # its mark alone, so that both fit
    full.table.show_column(STATUS, True)
    assert cell(full, 0, STATUS) == "predicted"
    assert cell(full, 0, PATCHES) == str(np.prod(patch_map.patches.shape))
    full.table.sortByColumn(PREDICTION, Qt.SortOrder.DescendingOrder)
    assert full.table.visible_ids()[:3] == ["slide_001", "slide_002", "slide_000"]


def test_pictures_are_read_for_rows_in_sight_beside_the_window(full, qtbot, monkeypatch):
    from napari_distill2label.gui.project import previews
    from napari_distill2label.slides import preview

    read, plain = [], preview.open_slide

    def noting(path, *args):
        read.append((path, threading.current_thread()))
        return plain(path, *args)

    monkeypatch.setattr(preview, "open_slide", noting)
    monkeypatch.setattr(previews, "SURVEYED", 0)
    real = full.session.cohort.slides[0].path
    paths = [real.with_name(f"copy_{number}.ome.tif") for number in range(200)]
    for path in paths:
        path.hardlink_to(real)
    rows = [CohortSlide(path.name.removesuffix(".ome.tif"), path) for path in paths]
    open_cohort(full.session, Cohort(tuple(rows), ("normal", "tumour")))
    qtbot.waitUntil(lambda: len(read) >= 3 and not full.session.reader.busy, timeout=LONG)
    assert len({path for path, _ in read}) < 30
    full.table.verticalScrollBar().setValue(full.table.verticalScrollBar().maximum())
    qtbot.waitUntil(lambda: paths[-1] in {path for path, _ in read}, timeout=LONG)
    qtbot.waitUntil(lambda: not full.session.reader.busy, timeout=LONG)
    assert len({path for path, _ in read}) < 60
    assert threading.main_thread() not in {thread for _, thread in read}
    found = full.session.previews.get("copy_199", paths[-1])
    assert (found.shape, found.mpp) == ((135, 162), (0.5, 0.5))
    assert found.picture.shape == (53, 64, 3)


def test_ten_thousand_slides_ask_only_for_rows_in_sight(full, qtbot, monkeypatch):
    rows = tuple(CohortSlide(f"s{n}", f"https://nowhere/{n}.zarr", "normal") for n in range(10_000))
    open_cohort(full.session, Cohort(rows, ("normal", "tumour")))
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


def test_drawn_slides_larger_than_a_screen_have_pictures_too(qtbot, tmp_path):
    from napari_distill2label.slides.preview import SIDE, read_preview

    folder = write_cohort(tmp_path, 2, shape=(972, 729)).parent / "slides"
    found = read_preview(sorted(folder.iterdir())[0])
    assert found.picture.shape[0] == SIDE
    assert found.picture.std() > 5


def test_what_contradicts_a_label_is_marked_and_found(full, qtbot, make_patch_map):
    session, table = full.session, full.table
    session.project.network = "student"
    for slide_id, probability in (("slide_000", 0.9), ("slide_001", 0.9), ("slide_002", 0.1)):
        found = make_patch_map((135, 162), size_px=27)
        found.slide = SlideInfo(slide_id)
        found.finish([1 - probability, probability])
        session.project.predictions = {**session.predictions, slide_id: {"student": found}}
    session.set_label(["slide_000", "slide_002"], "normal")
    session.set_label("slide_001", "tumour")

    assert session.project.contradicted == ["slide_000"]
    roles = Qt.ItemDataRole
    assert cell(full, 0, PREDICTION, roles.AccessibleTextRole) == "0.90 · tumour, contradicts label"
    assert cell(full, 0, PREDICTION, roles.ToolTipRole) == (
        "The model says tumour · P(tumour) 0.90. This contradicts the label, normal: look at the slide again."
    )
    assert not cell(full, 0, PREDICTION, roles.DecorationRole).isNull()
    assert cell(full, 1, PREDICTION, roles.DecorationRole) is None
    assert cell(full, 2, PREDICTION) == "0.10\nnormal"
    assert cell(full, 0, STATUS, roles.AccessibleTextRole) == "contradicts label"
    full.kind.setCurrentText("contradicts label")
    assert table.visible_ids() == ["slide_000"]
    full.kind.setCurrentIndex(0)
    table.sortByColumn(STATUS, Qt.SortOrder.AscendingOrder)
    assert table.visible_ids()[0] == "slide_000"


def test_slides_unlike_the_training_slides_are_marked_and_found(full, make_patch_map):
    session, roles = full.session, Qt.ItemDataRole
    session.project.network = "student"
    for slide_id, unlikeness in (("slide_000", 2.34), ("slide_001", 0.8), ("slide_002", None)):
        found = make_patch_map((135, 162), size_px=27)
        label = session.cohort[slide_id].label
        found.finish([float(label == "normal"), float(label != "normal")], unlikeness=unlikeness)
        session.project.predictions = {**session.predictions, slide_id: {"student": found}}
    texts = [full.model.text(slide_id, STATUS) for slide_id in ("slide_000", "slide_001", "slide_002")]
    assert texts == ["unlike training", "predicted", "predicted"]
    assert "2.3 times the distance" in cell(full, 0, STATUS, roles.ToolTipRole)
    full.search.setText("unlike training")
    assert full.table.visible_ids() == ["slide_000"]
