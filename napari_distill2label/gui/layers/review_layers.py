"""A user's corrections as a layer of their own above the model's, and the frame around one patch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...core.geometry import Mpp, PatchGrid, PatchPoints
from . import layers
from .layers import CORRECTIONS, FRAME, KEY
from .map_layers import Colours

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

NO_CORRECTION = "not corrected"
# Cyan stands out on the pinks and purples of H&E, and is no class's colour.
FRAME_COLOUR = (0.0, 0.9, 1.0, 1.0)
FRAME_WIDTH = 0.09  # of the patch's side


def add_corrections(
    viewer: "ViewerModel", slide_id: str, patches: PatchGrid | PatchPoints, classes: Sequence[str], known: np.ndarray,
    mpp: Mpp | None, colours: Colours,
) -> "Layer":  # fmt: skip
    """A layer to paint in: 0 none, 1 + class index otherwise. Of points, one that shows what keys and buttons set."""
    noted = {"role": CORRECTIONS, "slide_id": slide_id, "classes": list(classes), "kind": "human"}
    meta = {"name": f"{slide_id} · corrections (yours)", "metadata": {KEY: noted}, **layers.space(mpp)}
    if isinstance(patches, PatchGrid):
        scale, translate = patches.placement(mpp)
        meta |= {
            "scale": scale,
            "translate": translate,
            "opacity": 1.0,
            "colormap": layers.by_label(opaque(classes, colours)),
            "features": {"index": np.arange(len(classes) + 1), "class": [NO_CORRECTION, *classes]},
        }
        layer = layers.add_at(viewer, ((known + 1).astype(np.uint8), meta, "labels"), len(viewer.layers))
        layer.brush_size = 1
        layer.selected_label = min(2, len(classes))
    else:
        size = max(4.0, patches.side * 0.7)
        meta |= {"scale": mpp or (1.0, 1.0), "size": size, "border_width": 0.12, "opacity": 1.0}
        layer = layers.add_at(viewer, (np.empty((0, 2), np.float32), meta, "points"), len(viewer.layers))
        layer.editable = False
        show_points(layer, patches, known, classes, colours)
    return layer


def opaque(classes: Sequence[str], colours: Colours) -> list[tuple[float, float, float, float]]:
    """Corrections are solid where predictions let the tissue through: so the two are told apart."""
    return [(*rgba[:3], 1.0) for rgba in layers.label_colours(classes, colours)]


def show_points(
    layer: "Layer", patches: PatchPoints, known: np.ndarray, classes: Sequence[str], colours: Colours
) -> None:
    """Corrected points as discs with a rim; the others are not there."""
    corrected = np.flatnonzero(known >= 0)
    names = np.array(list(classes), dtype=object)
    layer.data = patches.centres[corrected].astype(np.float32)
    layer.features = {"class": names[known[corrected]]}
    if len(corrected):
        layer.face_color = np.array(opaque(classes, colours))[known[corrected]]
        layer.border_color = np.array([FRAME_COLOUR] * len(corrected))
    layer.selected_data = set()


def frame(viewer: "ViewerModel", slide_id: str, corner: tuple[float, float], side: float, mpp: Mpp | None) -> None:
    """Draw a frame around one patch, in place of the one before."""
    top, left = np.asarray(corner, float) - 0.5  # a patch begins where its first pixel does
    box = np.array([(top, left), (top, left + side), (top + side, left + side), (top + side, left)])
    there = layers.find(viewer, FRAME)
    if there and layers.about(there[0])["slide_id"] == slide_id:
        there[0].data = [box]
        return
    layers.remove(viewer, there)
    meta = {
        "name": f"{slide_id} · this patch",
        "scale": mpp or (1.0, 1.0),
        "shape_type": "polygon",
        "face_color": "transparent",
        "edge_color": np.array([FRAME_COLOUR]),
        "edge_width": max(1.0, side * FRAME_WIDTH),
        "metadata": {KEY: {"role": FRAME, "slide_id": slide_id}},
        **layers.space(mpp),
    }
    with layers.selection_kept(viewer):
        layer = layers.add(viewer, ([box], meta, "shapes"))
        layer.editable = False
