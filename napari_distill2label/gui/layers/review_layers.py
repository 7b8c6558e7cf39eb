"""A user's corrections as layers of their own above the model's, and the frame around one patch.

A layer of labels has one pixel a patch, to paint in; napari can only fill those. So what is corrected is outlined by
points, which cost what was corrected and not what the slide holds.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.geometry import Mpp, PatchGrid, PatchPoints
from . import layers
from .layers import CORRECTIONS, FRAME, KEY, OUTLINES
from .map_layers import Colours

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

NO_CORRECTION = "not corrected"
# Cyan stands out on the pinks and purples of H&E, and is no class's colour.
FRAME_COLOUR = (0.0, 0.9, 1.0, 1.0)
FRAME_WIDTH = 0.09  # of the patch's side
# A tint, to see while one paints and from afar. The tissue below it can be read, also where a prediction lies between.
TINT = 0.3
# Of the cell's side: an outline of the class's colour on a wider white one, which tells it from a prediction alike.
OUTLINE, RIM, INSET = 0.1, 0.15, 0.025  # width, width, and how far the outline lies within the rim
RIMMED = 2000  # corrections; of more, the rims are left out: they double what is drawn at every move of the view
WHITE = (1.0, 1.0, 1.0, 1.0)
MARKS = {"face_color": "transparent", "opacity": 1.0}
RING, RING_WIDTH = 0.75, 0.2  # round the disc of a predicted point: of the patch's side, and of the ring's


def add_corrections(
    viewer: "ViewerModel", slide_id: str, patches: PatchGrid | PatchPoints, classes: Sequence[str], known: np.ndarray,
    mpp: Mpp | None, colours: Colours,
) -> "Layer":  # fmt: skip
    """A layer to paint in: 0 none, 1 + class index otherwise; `add_outlines` adds the outlines of what is corrected.

    Of points, the outlines alone: they show what keys and buttons set.
    """
    noted = {"role": CORRECTIONS, "slide_id": slide_id, "classes": list(classes), "kind": "human"}
    meta = {"name": f"{slide_id} · corrections (yours)", "metadata": {KEY: noted}, **layers.space(mpp)}
    if isinstance(patches, PatchGrid):
        scale, translate = patches.placement(mpp)
        features = {"index": np.arange(len(classes) + 1), "class": [NO_CORRECTION, *classes]}
        meta |= {"scale": scale, "translate": translate, "features": features}
        layer = _add(viewer, (known + 1).astype(np.uint8), meta, "labels")
        layer.opacity = 1.0
        tint(layer, classes, colours)
        layer.brush_size = 1
        layer.selected_label = min(2, len(classes))
    else:
        meta |= MARKS | {"scale": mpp or (1.0, 1.0)}
        layer = _add(viewer, np.empty((0, 2), np.float32), meta, "points")
        outline(viewer, slide_id, patches, known, classes, colours)
    return layer


def add_outlines(
    viewer: "ViewerModel", corrections: "Layer", patches: PatchGrid, known: np.ndarray, colours: Colours
) -> None:
    """Outlines above a layer of corrections on a grid, which are seen with it."""
    noted = layers.about(corrections)
    slide_id, classes = noted["slide_id"], noted["classes"]
    meta = MARKS | {
        "name": f"{slide_id} · outlines (yours)",
        "symbol": "square",
        "metadata": {KEY: noted | {"role": OUTLINES}},
        "scale": corrections.scale,
        "translate": corrections.translate,
        "units": corrections.units,
        "visible": corrections.visible,
    }
    outlines = _add(viewer, np.empty((0, 2), np.float32), meta, "points")
    viewer.layers.link_layers([corrections, outlines], ("visible", "opacity"))
    outline(viewer, slide_id, patches, known, classes, colours)


def _add(viewer: "ViewerModel", data: np.ndarray, meta: dict[str, Any], kind: str) -> "Layer":
    """A layer on top of the others."""
    return layers.add_at(viewer, (data, meta, kind), len(viewer.layers))


def tint(layer: "Layer", classes: Sequence[str], colours: Colours) -> None:
    """Give the classes their colours in a layer to paint in."""
    layer.colormap = layers.by_label(with_alpha(classes, colours, TINT))


def show(
    viewer: "ViewerModel", slide_id: str, patches: PatchGrid | PatchPoints, known: np.ndarray, classes: Sequence[str],
    colours: Colours,
) -> None:  # fmt: skip
    """Bring the layers of a slide's corrections to what is known."""
    for layer in layers.find(viewer, CORRECTIONS, slide_id):
        if isinstance(patches, PatchGrid):
            np.copyto(layer.data, (known + 1).astype(np.uint8))
            layer.refresh(highlight=False, extent=False)
    outline(viewer, slide_id, patches, known, classes, colours)


def outline(
    viewer: "ViewerModel", slide_id: str, patches: PatchGrid | PatchPoints, known: np.ndarray, classes: Sequence[str],
    colours: Colours,
) -> None:  # fmt: skip
    """Outline what is corrected in the colour of its class: predictions are areas, corrections have an edge."""
    is_grid = isinstance(patches, PatchGrid)
    cells = np.argwhere(known >= 0)
    said = known[known >= 0]
    edges = np.array(with_alpha(classes, colours, 1.0))[said].reshape(-1, 4)
    names = np.array(list(classes), dtype=object)[said]
    for layer in layers.find(viewer, OUTLINES if is_grid else CORRECTIONS, slide_id):
        if is_grid:
            n, rims = len(cells), np.broadcast_to(WHITE, edges.shape)
            # napari lays half of a border outside the point.
            if n > RIMMED:
                _mark(layer, cells, edges, 1 - 2 * INSET - OUTLINE, OUTLINE, names)
                continue
            size, width = np.repeat([1 - RIM, 1 - 2 * INSET - OUTLINE], n), np.repeat([RIM, OUTLINE], n)
            _mark(layer, np.tile(cells, (2, 1)), np.concatenate([rims, edges]), size, width, np.tile(names, 2))
        else:
            size = max(4.0, patches.side * RING)
            _mark(layer, patches.centres[cells[:, 0]], edges, size, size * RING_WIDTH, names)


def _mark(
    layer: "Layer", places: np.ndarray, edges: np.ndarray, size: np.ndarray | float, width: np.ndarray | float,
    names: np.ndarray,
) -> None:  # fmt: skip
    """Other points in a layer of them, drawn once; `size` and `width` of the border in the layer's own pixels."""
    with layer.events.blocker_all():
        layer.data = places.astype(np.float32)
        layer.features = {"class": names}
        if len(places):
            layer.size, layer.border_width, layer.border_color = size, width / size, edges
        layer.selected_data = set()
        layer.editable = False  # napari lifts it with other data
    layer.refresh()


def with_alpha(classes: Sequence[str], colours: Colours, alpha: float) -> list[tuple[float, float, float, float]]:
    """RGBA in 0–1 of the classes, all equally see-through."""
    return [(*rgba[:3], alpha) for rgba in layers.label_colours(classes, colours)]


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
