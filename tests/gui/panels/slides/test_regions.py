"""Regions in a real window: buttons that draw, and what they say of what is drawn."""

import numpy as np

from napari_distill2label.gui.panels.slides.model import LABEL

from ...conftest import LONG, click
from .conftest import choose


def test_a_box_says_what_its_button_said(full, viewer, qtbot):
    panel, session = full, full.session
    assert LABEL
    choose(panel, 0)
    qtbot.waitUntil(lambda: session.shown is not None, timeout=LONG)
    editor = panel.regions
    click(qtbot, panel.regions_fold.toggle)
    assert editor.state.text().startswith("No regions yet")
    click(qtbot, editor.buttons["somewhere here"])
    layer = session.canvas.regions.layer
    assert str(layer.mode) == "add_rectangle"
    assert editor.buttons["somewhere here"].isChecked()
    assert viewer.layers.selection.active is layer
    layer.add_rectangles(np.array([[10, 10], [10, 40], [30, 40], [30, 10]]))
    assert [own.label for own in session.regions.by_slide[session.shown]] == ["somewhere here"]
    assert editor.state.text().startswith("1 region in 1 slide, saved in ")
    click(qtbot, editor.buttons["somewhere here"])
    assert str(layer.mode) == "pan_zoom"
    editor.polygon.setChecked(True)
    click(qtbot, editor.buttons["all of this"])
    assert str(layer.mode) == "add_polygon"
