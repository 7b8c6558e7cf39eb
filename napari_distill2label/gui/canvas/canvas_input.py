"""Clicks and keys on the canvas: a click chooses a patch, Ctrl+Z takes the last edit back.

napari's own ways are left alone: a drag pans, a tool of the active layer keeps its clicks, and a user's own layer of
labels keeps its Ctrl+Z, as do our layers of tissue, whose strokes napari remembers.
"""

import weakref
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..project.project import Project
from .ownership import tags_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

STILL = 4  # px of the screen; a pointer that is moved further while the button is down drags
LEFT = 1
OWN_UNDO = ("tissue",)  # roles of layers in which napari's undo is the one that is meant


def listen(viewer: "ViewerModel", choose_at: Callable[[Any], object]) -> None:
    """Call a method with the place of the world that is clicked. Its owner may go: the viewer does not keep it."""
    found = weakref.WeakMethod(choose_at)

    def pressed(viewer: "ViewerModel", event: Any) -> Generator[None, None, None]:
        choose = found()
        if choose is None or event.button != LEFT or event.modifiers or not _pans(viewer):
            return
        yield from _click(choose, event)

    viewer.mouse_drag_callbacks.append(pressed)


def bind_undo(project: Project, layer: "Layer") -> None:
    """While a layer of ours is selected, Ctrl+Z on the canvas is that of the panel."""
    if not tags_of(layer) or tags_of(layer)["role"] in OWN_UNDO:
        return
    found = weakref.ref(project)

    def undo(layer: "Layer") -> None:
        if (alive := found()) is not None:
            alive.undo()

    def redo(layer: "Layer") -> None:
        if (alive := found()) is not None:
            alive.redo()

    layer.bind_key("Control-Z", undo, overwrite=True)
    layer.bind_key("Control-Shift-Z", redo, overwrite=True)


def _pans(viewer: "ViewerModel") -> bool:
    """Would a drag move the view? Else the click belongs to a tool of the active layer."""
    return str(getattr(viewer.layers.selection.active, "mode", "pan_zoom")) == "pan_zoom"


def _click(choose: Callable[[Any], object], event: Any) -> Generator[None, None, None]:
    """From the press to the release of the button."""
    start, away = np.array(event.pos, float), 0.0
    yield
    while event.type == "mouse_move":
        away = max(away, float(np.abs(np.array(event.pos, float) - start).max()))
        yield
    if away <= STILL:
        choose(event.position)
