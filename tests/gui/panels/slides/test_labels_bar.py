"""What is done to the selected slides: labels, µm/px, split, away with them."""

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QLineEdit

from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.gui.canvas import layers
from napari_distill2label.gui.panels.slides import labels_bar
from napari_distill2label.gui.panels.slides.model import CASE, LABEL, MPP, PATCHES, SPLIT, STATUS
from napari_distill2label.gui.widgets.shortcuts import Actions

from ...conftest import click
from .conftest import LONG, cell, choose, editor


def test_the_combo_box_in_the_table_labels_all_selected_slides(full, qtbot):
    panel = full
    index = panel.model.index(3, LABEL)
    choose(panel, 2, 3, 4)
    panel.table.edit(index)
    box = panel.table.viewport().findChildren(QComboBox)[0]
    assert [box.itemText(place) for place in range(box.count())] == ["–", "normal", "tumour"]
    qtbot.waitUntil(lambda: box.view().isVisible(), timeout=LONG)
    qtbot.keyClick(box.view(), Qt.Key.Key_Home)
    qtbot.keyClick(box.view(), Qt.Key.Key_Return)
    assert [cell(panel, row, LABEL) for row in (2, 3, 4)] == ["–", "–", "–"]
    assert panel.selected() == ["slide_002", "slide_003", "slide_004"]
    assert panel.session.project.history.undo_text == "label 3 slides nothing"


def test_case_and_scale_are_edited_in_the_table(full, qtbot):
    panel = full
    line = editor(qtbot, panel, 1, CASE, QLineEdit)
    line.clear()
    qtbot.keyClicks(line, "patient 7")
    panel.model.redraw()  # as when a picture comes
    qtbot.keyClick(line, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: panel.session.cohort["slide_001"].case_id == "patient 7", timeout=LONG)
    assert panel.model.change(["slide_001"], MPP, 0.25)
    assert cell(panel, 1, MPP) == "0.25 (entered)"
    heard = []
    panel.problem.connect(heard.append)
    assert not panel.model.change(["slide_001"], MPP, 100)
    assert "not between" in heard[0]
    panel.label_bar.set_split("valid")
    assert cell(panel, panel.table.visible_ids().index(panel.selected()[0]), SPLIT) == "valid"
    assert "1 valid, 7 auto (train, since others are set)" in panel.label_bar.counts.text()


def test_removed_slides_come_back_with_their_predictions(full, viewer, qtbot, make_patch_map):
    session = full.session
    patch_map = make_patch_map((135, 162))
    patch_map.slide = SlideInfo("slide_000")
    session.project.predictions = {**session.predictions, "slide_000": {"student": patch_map}}
    choose(full, 0, 1)
    full.label_bar.remove_slides()
    assert full.model.rowCount() == 6
    assert not layers.find(viewer, slide_id="slide_000")
    assert "slide_000" not in session.predictions
    full.session.undo()
    assert session.predictions["slide_000"]["student"] is patch_map
    assert [row.slide_id for row in session.cohort][:2] == ["slide_000", "slide_001"]


def test_buttons_say_why_they_are_disabled(full):
    full.table.clearSelection()
    for widget in (
        full.label_bar.scale,
        full.label_bar.split,
        full.label_bar.remove,
        full.label_bar.labels.itemAt(0).widget(),
    ):
        assert not widget.isEnabled()
        assert widget.toolTip() == "Select slides in the table first"
    choose(full, 1)
    assert full.label_bar.remove.isEnabled()
    assert "Del" in full.label_bar.remove.toolTip()


def test_a_scale_taken_back_moves_the_shown_slide_back(full, viewer, qtbot):
    def scale():
        return layers.find(viewer, layers.SLIDE)[0].scale[0]

    choose(full, 0)
    full.label_bar.ask_mpp = lambda ids: 0.25
    click(qtbot, full.label_bar.scale)
    qtbot.waitUntil(lambda: scale() == 0.25, timeout=LONG)
    full.session.undo()
    qtbot.waitUntil(lambda: scale() == 0.5, timeout=LONG)


def test_a_missing_scale_is_seen_and_mended(full, qtbot, tmp_path):
    from PIL import Image

    for number in range(2):
        Image.new("RGB", (90, 90), "pink").save(tmp_path / f"plain_{number}.png")
    full.add_paths([tmp_path / "plain_0.png", tmp_path / "plain_1.png"])
    qtbot.waitUntil(lambda: full.missing.text().startswith("2 slides have no pixel size"), timeout=LONG)
    assert cell(full, 8, STATUS) == "no µm/px"
    assert cell(full, 8, MPP) == "not in file"
    full.label_bar.ask_mpp = lambda ids: 0.5
    click(qtbot, full.select)
    assert full.selected() == ["plain_0", "plain_1"]
    click(qtbot, full.label_bar.scale)
    assert not full.missing.isVisibleTo(full)
    assert cell(full, 8, MPP) == "0.5 (entered)"
    assert cell(full, 8, PATCHES) == "≤ 9"
    full.session.configure(patches=PatchSettings(size_px=45).model_dump(include={"size_px"}))
    assert cell(full, 8, PATCHES) == "≤ 4"


def test_several_findings_at_once(full, qtbot):
    full.session.add_class("stroma")
    full.editor.multi_label.setChecked(True)
    assert full.session.settings.architecture.multi_label
    choose(full, 0, 1)
    full.session.set_label(full.session.selected, None)
    for place in (1, 2):
        click(qtbot, full.label_bar.labels.itemAt(place).widget())
    assert cell(full, 0, LABEL) == cell(full, 1, LABEL) == "tumour;stroma"
    click(qtbot, full.label_bar.labels.itemAt(1).widget())
    assert cell(full, 0, LABEL) == "stroma"


def test_the_share_of_a_finding_is_estimated_and_kept(full, qtbot):
    panel, session = full, full.session
    tumour = next(row for row in session.cohort if row.label == "tumour").slide_id
    normal = next(row for row in session.cohort if row.label == "normal").slide_id
    place = panel.table.visible_ids().index
    choose(panel, place(tumour))
    panel.label_bar.ask_share = lambda slide_ids: 30.0
    click(qtbot, panel.label_bar.share)
    assert session.cohort[tumour].share == 0.3
    assert cell(panel, place(tumour), LABEL).split() in (["tumour,", "30", "%"], ["tumour", "30", "%"])
    assert panel.model.text(tumour, LABEL) == "tumour"  # what is edited and filtered
    choose(panel, place(normal))
    heard = []
    panel.problem.connect(heard.append)
    click(qtbot, panel.label_bar.share)
    assert session.cohort[normal].share is None
    assert "is labelled 'normal' has no share" in heard[0]
    choose(panel, place(tumour))
    panel.label_bar.ask_share = lambda slide_ids: -1.0
    click(qtbot, panel.label_bar.share)
    assert session.cohort[tumour].share is None
    session.undo()
    assert session.cohort[tumour].share == 0.3


def test_a_digit_does_what_the_button_of_its_class_does(full):
    full.session.add_class("necrosis")
    full.session.configure(architecture={"multi_label": True})
    choose(full, 0)
    actions = Actions(full.session, {"slides": full}, lambda: None)
    for digits, label in ((2, "tumour"), (3, "tumour;necrosis"), (2, "necrosis"), (0, None)):
        actions.label(digits)
        assert full.session.cohort[full.selected()[0]].label == label


def test_the_dialogs_begin_with_what_is_known(full, monkeypatch):
    asked = []

    def as_offered(*given):
        asked.append(given[3])
        return given[3], True

    monkeypatch.setattr(labels_bar.QInputDialog, "getDouble", as_offered)
    slide_id = next(row.slide_id for row in full.session.cohort if row.label == "tumour")
    choose(full, full.table.visible_ids().index(slide_id))
    full.label_bar.set_mpp()  # as the file has it
    full.label_bar.set_share()  # not known
    assert asked == [0.5, -1.0]
    assert full.session.cohort[slide_id].share is None
    full.session.set_share([slide_id], 0.2)
    full.session.set_mpp([slide_id], 0.25)
    full.label_bar.set_mpp()
    full.label_bar.set_share()
    assert asked[2:] == [0.25, 20.0]
    monkeypatch.setattr(labels_bar.QInputDialog, "getDouble", lambda *given: (0.0, True))
    full.label_bar.set_mpp()
    assert full.session.cohort[slide_id].mpp is None
