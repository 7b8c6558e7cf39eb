"""The Predict panel in a real viewer: predicting by clicks, the slider, the layers, the pointer."""

import numpy as np
import pytest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QComboBox,
    QSlider,
)

from napari_distill2label.gui.canvas import layers
from napari_distill2label.gui.canvas.layers import ATTENTION, CORRECTIONS, LABELS, OUTLINES, PROBABILITY
from napari_distill2label.gui.panels.predict.panel import ALL, NO_POINTER, SELECTED, THIS

from ...conftest import LONG, click

POSITIVE = np.linspace(0, 1, 48).reshape(6, 8)


@pytest.fixture
def predicted(panel, reviewed, viewer, qtbot):
    """The panel, with a prediction over a slide."""
    reviewed(viewer, POSITIVE)
    overlays = panel.session.display
    qtbot.waitUntil(lambda: bool(layers.find(viewer, CORRECTIONS)) and not overlays.busy, timeout=LONG)
    return panel


def test_without_a_model_it_says_what_to_do(panel):
    assert "train one in step 2, or load one" in panel.model.text()
    assert not panel.predict.isEnabled()
    assert panel.reason.text().startswith("Train first")
    assert panel.headline() == "no model yet"
    for control in (*panel.show_buttons.values(), panel.negatives, panel.opacity, panel.blink):
        assert not control.isEnabled()
        assert "predict it first" in control.toolTip()
    assert "Train a model" in panel.network.toolTip()


def test_predicting_by_clicks(panel, viewer, qtbot, run_folder):
    session = panel.session
    panel.ask_folder = lambda *args: str(run_folder)
    click(qtbot, panel.load)
    qtbot.waitUntil(lambda: session.shown == "slide_000" and not session.jobs.busy, timeout=LONG)
    assert [panel.network.itemText(index) for index in range(panel.network.count())] == ["student", "teacher"]
    assert "also uses neighbouring patches" in panel.about_network.text()
    panel.slides.setCurrentText(SELECTED)
    session.project.selected = ()
    panel.refresh_button()
    assert not panel.predict.isEnabled()
    assert "Select slides in the table" in panel.reason.text()
    session.project.selected = ("slide_002", "slide_003")
    panel.refresh_button()
    click(qtbot, panel.predict)
    qtbot.waitUntil(lambda: not session.jobs.busy, timeout=LONG)
    assert set(session.predictions) == {"slide_002", "slide_003"}
    panel.slides.setCurrentText(THIS)
    click(qtbot, panel.predict)
    qtbot.waitUntil(
        lambda: not session.jobs.busy and bool(layers.find(viewer, LABELS)) and not session.display.busy, timeout=LONG
    )
    assert "slide_000" in session.predictions
    assert panel.result.text().startswith("The slide as a whole: probability of tumour 0.")
    assert panel.headline() == "3 of 8 slides predicted"
    # A slide that was predicted before shows it as soon as it is read.
    session.show("slide_002")
    qtbot.waitUntil(lambda: bool(layers.find(viewer, LABELS, "slide_002")), timeout=LONG)
    assert "patches" in panel.legend.text()
    panel.slides.setCurrentText(ALL)
    assert panel.chosen() is None
    panel.network.textActivated.emit("teacher")
    assert session.network == "teacher"
    assert panel.legend.isHidden()  # the teacher has said nothing of it yet


def test_the_slider_recolours(predicted, viewer):
    (labels,) = layers.find(viewer, LABELS)
    predicted.slider.setValue(0)
    assert predicted.number.value() == 0
    assert (labels.data == 2).all()
    assert "48 patches" in predicted.legend.text()
    assert "100%" in predicted.legend.text()
    predicted.number.setValue(1.0)
    assert predicted.slider.value() == 100
    assert (labels.data == 2).sum() == 1
    predicted.session.set_colour("tumour", (1, 2, 3))
    assert "rgb(1, 2, 3)" in predicted.legend.text()


def test_negative_patches_are_coloured_by_a_box(predicted, viewer, qtbot):
    (labels,) = layers.find(viewer, LABELS)
    assert "□" in predicted.legend.text()
    assert "not coloured" in predicted.legend.text()
    click(qtbot, predicted.negatives)
    assert labels.colormap.color_dict[1][3] == pytest.approx(layers.NEGATIVE_ALPHA)
    assert "□" not in predicted.legend.text()
    assert "not coloured" not in predicted.legend.text()
    click(qtbot, predicted.negatives)
    assert labels.colormap.color_dict[1][3] == 0
    assert "not coloured" in predicted.legend.text()
    assert "Exported files are the same" in predicted.negatives.toolTip()


def test_layers_by_buttons(predicted, viewer, qtbot):
    def seen():
        return {layers.tags_of(layer)["role"] for layer in layers.find(viewer) if layer.visible}

    assert predicted.show_buttons[LABELS].isChecked()
    click(qtbot, predicted.show_buttons[ATTENTION])
    click(qtbot, predicted.show_buttons[LABELS])
    assert seen() == {"slide", ATTENTION, CORRECTIONS, OUTLINES}
    click(qtbot, predicted.blink)
    assert seen() == {"slide"}
    assert predicted.blink.text() == "Show overlays"
    click(qtbot, predicted.blink)
    assert seen() == {"slide", ATTENTION, CORRECTIONS, OUTLINES}
    predicted.opacity.setValue(35)
    (attention,) = layers.find(viewer, ATTENTION)
    assert attention.opacity == 0.35
    (probability,) = layers.find(viewer, PROBABILITY)
    probability.visible = True  # by napari's own list
    assert predicted.show_buttons[PROBABILITY].isChecked()


def test_the_pointer(predicted, viewer, qtbot):
    canvas = viewer.window._qt_viewer.canvas.native
    with qtbot.waitExposed(viewer.window._qt_window):
        viewer.window._qt_window.show()
    viewer.reset_view()
    assert predicted.pointer.text() == NO_POINTER
    y, x = (np.array((50.0, 70.0)) - viewer.scene.camera.center[-2:]) * viewer.scene.camera.zoom
    there = canvas.rect().center() + type(canvas.rect().center())(round(x), round(y))
    qtbot.mouseMove(canvas, there)
    qtbot.waitUntil(lambda: predicted.session.display.hovered == ("slide", (2, 3)))
    assert predicted.pointer.text().startswith("normal · probability of tumour 0.40")
    viewer.update_status_from_cursor()  # napari does so in a thread, which tests go without
    assert "probability of tumour 0.40" in str(viewer.status)
    click(qtbot, predicted.tooltip)
    assert viewer.tooltip.visible


def test_names_tooltips_and_width(predicted):
    predicted.gallery_fold.toggle.setChecked(True)
    for kind in (QAbstractButton, QAbstractSpinBox, QComboBox, QSlider):
        for control in predicted.findChildren(kind):
            if control.objectName().startswith("qt_") or not control.isVisibleTo(predicted):
                continue
            assert control.accessibleName() or control.text(), control
            assert control.toolTip(), control.accessibleName()
    assert predicted.minimumSizeHint().width() <= 340  # a dock of 360 px, its scroll bar beside it
