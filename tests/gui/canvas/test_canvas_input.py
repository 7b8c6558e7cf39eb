"""A click on a patch chooses it, whichever layer is active; a drag, a tool and another button do not."""

from types import SimpleNamespace

import numpy as np
import pytest
from napari.utils._proxies import ReadOnlyWrapper
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_distill2label.gui.canvas import layers

from ..conftest import LONG


@pytest.fixture
def click():
    def at(viewer, world, by=0.0, button=1, modifiers=()):
        """Press at a place of the world, move by some px of the screen, release."""

        def event(kind, away):
            return ReadOnlyWrapper(SimpleNamespace(
                type=kind, pos=np.array([100 + away, 100]), position=tuple(world), button=button,
                modifiers=list(modifiers), is_dragging=True, handled=False,
            ))  # fmt: skip

        mouse_press_callbacks(viewer, event("mouse_press", 0))
        for away in (by / 2, by, 0):
            mouse_move_callbacks(viewer, event("mouse_move", away))
        mouse_release_callbacks(viewer, event("mouse_release", 0))

    return at


def test_a_click_chooses_a_patch(reviewed, click):
    session, viewer, _ = reviewed()
    session.center_on((0, 0))
    centre = viewer.scene.camera.center
    for cell, layer in zip(np.ndindex(6, 8), layers.find(viewer), strict=False):
        viewer.layers.selection.active = layer
        (slide,) = layers.find(viewer, layers.SLIDE)
        click(viewer, slide.data_to_world(np.array(cell) * 20 + 7), by=2)
        assert session.canvas.corrections.framed == ("slide", cell)
        top, left = layers.find(viewer, layers.FRAME)[0].data[0].min(0)
        assert (top, left) == (cell[0] * 20 - 0.5, cell[1] * 20 - 0.5)
    assert viewer.scene.camera.center == centre
    session.correct("tumour")
    assert session.corrections.correction_at("slide", cell) == "tumour"


def test_what_is_no_click_on_a_patch(reviewed, click):
    session, viewer, _ = reviewed()
    session.center_on((5, 7))
    click(viewer, (30, 30), by=20)  # a drag, though it comes back
    click(viewer, (30, 30), button=2)
    click(viewer, (30, 30), modifiers=["Shift"])
    click(viewer, (-30, 30))  # beside the slide
    session.paint("tumour")  # the active layer has a tool
    click(viewer, (30, 30))
    assert session.canvas.corrections.framed == ("slide", (5, 7))
    session.canvas.corrections.stop_painting()
    click(viewer, (30, 30))
    assert session.canvas.corrections.framed == ("slide", (1, 1))


def test_a_click_on_a_moved_slide(reviewed, click):
    session, viewer, _ = reviewed()
    (slide,) = layers.find(viewer, layers.SLIDE)
    slide.rotate, slide.translate = 40, (300, -200)
    click(viewer, slide.data_to_world((65, 105)))
    assert session.canvas.corrections.framed == ("slide", (3, 5))


def test_a_real_click(make_napari_viewer, reviewed, qtbot):
    viewer = make_napari_viewer(show=True)
    session, viewer, _ = reviewed(viewer)
    qtbot.waitUntil(lambda: bool(layers.find(viewer, layers.OUTLINES)) and not session.display.busy, timeout=LONG)
    viewer.reset_view()
    canvas = viewer.window._qt_viewer.canvas.native

    def on_screen(point):
        y, x = (np.array(point, float) - viewer.scene.camera.center[-2:]) * viewer.scene.camera.zoom
        return canvas.rect().center() + QPoint(round(x), round(y))

    qtbot.wait(100)
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=on_screen((50, 70)))
    assert session.canvas.corrections.framed == ("slide", (2, 3))
    before = viewer.scene.camera.center
    qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, pos=on_screen((50, 90)))
    none, left = Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton
    for step in (8, 16, 30):  # qtbot moves the mouse without its buttons
        at = QPointF(on_screen((50, 90)) + QPoint(step, step))
        moved = QMouseEvent(QEvent.Type.MouseMove, at, at, none, left, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(canvas, moved)
    qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=on_screen((50, 90)) + QPoint(30, 30))
    assert session.canvas.corrections.framed == ("slide", (2, 3))
    qtbot.waitUntil(lambda: viewer.scene.camera.center != before, timeout=LONG)  # it panned
    session.shutdown()
