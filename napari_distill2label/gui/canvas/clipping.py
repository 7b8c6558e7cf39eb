"""Cells at the border of a slide reach beyond it; what is drawn of them, and of their frame, ends where the slide does.

napari's own `experimental_clipping_planes` do nothing for two-dimensional images and labels. So the filter of vispy
that is behind them is attached to what draws a layer. That part of napari is private: where it is not found, the cells
are drawn whole.
"""

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from . import placement
from .ownership import SLIDE, find, tags_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

# What clips a layer that was clipped, and the part of vispy that it is attached to.
_clippers: "WeakKeyDictionary[Layer, tuple[weakref.ref[Any], Any]]" = WeakKeyDictionary()
QT_VIEWER = "_qt_viewer"  # of a window of napari, which keeps it to itself


def clip(viewer: "ViewerModel", layer: "Layer") -> None:
    """Draw a layer of cells, which is in the viewer, as far as its slide goes. Nothing without a window."""
    slide = find(viewer, SLIDE, tags_of(layer)["slide_id"])
    window = getattr(viewer, "window", None)
    if not slide or window is None:
        return
    (top, left), (bottom, right) = slide_in_cells(layer, slide[0])
    with suppress(AttributeError, KeyError, ImportError):
        from vispy.visuals.filters.clipping_planes import PlanesClipper

        node: Any = getattr(window, QT_VIEWER).canvas.layer_to_visual[layer].node
        of_node, clipper = _clippers.get(layer, (node, None))
        is_new = clipper is None or of_node() is not node
        if is_new:
            clipper = PlanesClipper(coord_system="visual")  # x, y of the layer's own pixels: it moves along
            _clippers[layer] = weakref.ref(node), clipper
        # Each plane: a point on it, and the direction in which things are drawn.
        planes = [[(left, 0, 0), (1, 0, 0)], [(right, 0, 0), (-1, 0, 0)]]
        planes += [[(0, top, 0), (0, 1, 0)], [(0, bottom, 0), (0, -1, 0)]]
        clipper.clipping_planes = np.array(planes, np.float32)
        if is_new:
            node.attach(clipper)


def slide_in_cells(layer: "Layer", slide: "Layer") -> np.ndarray:
    """(2, 2) upper left and lower right corner (y, x) of a slide, in what vispy draws of a layer over it.

    Of an image or labels a pixel begins there at its index, of shapes half a pixel before.
    """
    from napari.layers import Shapes

    scale, translate = placement.home(layer)
    mpp = tags_of(slide)["mpp"] or (1.0, 1.0)
    corners = np.array([(0, 0), slide.level_shapes[0][:2]], float) - 0.5
    cells: np.ndarray = (corners * mpp - translate) / scale + (0.0 if isinstance(layer, Shapes) else 0.5)
    return cells
