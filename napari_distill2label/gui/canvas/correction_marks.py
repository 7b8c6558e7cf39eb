"""A user's corrections as layers of their own above the model's, and the frame around one patch.

A layer of labels has one pixel a patch, to paint in; napari can only fill those. So what is corrected is outlined by
lines, which cost what was corrected and not what the slide holds. On patches at points it is a ring round each.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.geometry import Mpp, PatchGrid, PatchPoints
from . import layers, ownership
from .layers import CORRECTIONS, FRAME, OUTLINES
from .map_layers import Colours
from .ownership import KEY

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

NO_CORRECTION = "not corrected"
# Cyan stands out on the pinks and purples of H&E, and is no class's colour.
FRAME_COLOUR = (0.0, 0.9, 1.0, 1.0)
FRAME_WIDTH = 0.09  # of the patch's side
# A tint, to see while one paints and from afar. The tissue below it can be read, also where a prediction lies between.
TINT = 0.3
# Of the cell's side: a line of the class's colour within a white one, which tells it from a prediction alike. All lines
# of a layer have one width, so the coloured one covers half of the white one.
LINE, WITHIN = 0.1, 0.05  # width, and how far the coloured line lies within the white one
RIMMED = 2000  # corrections; of more, the white lines are left out: they double what is drawn at every move of the view
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
    meta = {"name": f"{slide_id} · corrections (yours)", "metadata": {KEY: noted}, **layers.units(mpp)}
    if isinstance(patches, PatchGrid):
        scale, translate = patches.placement(mpp)
        features = {"index": np.arange(len(classes) + 1), "class": [NO_CORRECTION, *classes]}
        meta |= {"scale": scale, "translate": translate, "features": features, "opacity": 1.0}
        meta["colormap"] = layers.by_label(with_alpha(classes, colours, TINT))
        layer = _add(viewer, (known + 1).astype(np.uint8), meta, "labels")
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
    noted = ownership.tags_of(corrections)
    slide_id, classes = noted["slide_id"], noted["classes"]
    meta = {
        "name": f"{slide_id} · outlines (yours)",
        "vector_style": "line",
        "edge_width": LINE,
        "opacity": 1.0,
        "blending": "translucent_no_depth",  # the coloured lines cover the white ones
        "metadata": {KEY: noted | {"role": OUTLINES}},
        "scale": corrections.scale,
        "translate": corrections.translate,
        "units": corrections.units,
        "visible": corrections.visible,
    }
    outlines = _add(viewer, np.empty((0, 2, 2), np.float32), meta, "vectors")
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
    for layer in ownership.find(viewer, CORRECTIONS, slide_id):
        if isinstance(patches, PatchGrid):
            np.copyto(layer.data, (known + 1).astype(np.uint8))
            layer.refresh(highlight=False, extent=False)
    outline(viewer, slide_id, patches, known, classes, colours)


def outline(
    viewer: "ViewerModel", slide_id: str, patches: PatchGrid | PatchPoints, known: np.ndarray, classes: Sequence[str],
    colours: Colours,
) -> None:  # fmt: skip
    """Outline what is corrected in the colour of its class: predictions are areas, corrections have an edge."""
    cells = np.argwhere(known >= 0)
    said = known[known >= 0]
    edges = np.array(with_alpha(classes, colours, 1.0))[said].reshape(-1, 4)
    if isinstance(patches, PatchGrid):
        for layer in ownership.find(viewer, OUTLINES, slide_id):
            _draw_lines(layer, patches, cells, edges)
        return
    names = np.array(list(classes), dtype=object)[said]
    for layer in ownership.find(viewer, CORRECTIONS, slide_id):
        _draw_rings(layer, patches.centres[cells[:, 0]], edges, max(4.0, patches.side * RING), names)


def _draw_lines(layer: "Layer", patches: PatchGrid, cells: np.ndarray, edges: np.ndarray) -> None:
    """Other cells (n, 2) in a layer of outlines, drawn once; `edges` (n, 4) are their colours."""
    lines, colours = _sides(patches, cells, WITHIN), edges
    if len(cells) <= RIMMED:
        lines = np.concatenate([_sides(patches, cells, 0.0), lines])
        colours = np.concatenate([np.broadcast_to(WHITE, edges.shape), edges])
    with layer.events.blocker_all():
        layer.data = lines
        if len(lines):
            layer.edge_color = np.repeat(colours, 4, axis=0)
        layer.editable = False  # napari lifts it with other data
    # Also if it is hidden: napari would draw its thumbnail from the former lines, of which there were more.
    layer.refresh(force=True)


def _sides(patches: PatchGrid, cells: np.ndarray, within: float) -> np.ndarray:
    """(4 n, 2, 2) the sides of cells as vectors (start, direction) in cells, so far within, and within the slide."""
    scale, translate = (np.array(each) for each in patches.placement(None))
    first, last = ((np.array(edge) - 0.5 - translate) / scale for edge in ((0, 0), patches.slide_shape))
    low, high = np.maximum(cells - 0.5, first), np.minimum(cells + 0.5, last)
    middle, inset = (low + high) / 2, within + LINE / 2
    low, high = np.minimum(low + inset, middle), np.maximum(high - inset, middle)
    (top, left), (bottom, right) = low.T, high.T
    half = LINE / 2  # a line ends where its corner does
    along, across, none = right - left + LINE, bottom - top + LINE, np.zeros(len(cells))
    sides = [
        ((top, left - half), (none, along)),
        ((bottom, left - half), (none, along)),
        ((top - half, left), (across, none)),
        ((top - half, right), (across, none)),
    ]
    return np.moveaxis(np.array(sides, np.float32), 3, 0).reshape(-1, 2, 2)


def _draw_rings(layer: "Layer", places: np.ndarray, edges: np.ndarray, size: float, names: np.ndarray) -> None:
    """Other points in a layer of rings, drawn once; `size` in the slide's pixels."""
    with layer.events.blocker_all():
        layer.data = places.astype(np.float32)
        layer.features = {"class": names}
        if len(places):
            layer.size, layer.border_width, layer.border_color = size, RING_WIDTH, edges
        layer.selected_data = set()
        layer.editable = False  # napari lifts it with other data
    layer.refresh()


def with_alpha(classes: Sequence[str], colours: Colours, alpha: float) -> list[tuple[float, float, float, float]]:
    """RGBA in 0–1 of the classes, all equally see-through."""
    return [(*rgba[:3], alpha) for rgba in layers.label_colours(classes, colours)]


def frame(viewer: "ViewerModel", slide_id: str, corner: tuple[float, float], side: float, mpp: Mpp | None) -> None:
    """Draw a frame around one patch, in place of the one before."""
    slide = ownership.find(viewer, ownership.SLIDE, slide_id)
    shape = slide[0].level_shapes[0][:2] if slide else (np.inf, np.inf)
    # A patch begins where its first pixel does; of one at the border, what lies on the slide is framed.
    top, left = np.maximum(corner, 0) - 0.5
    bottom, right = np.minimum(np.add(corner, side), shape) - 0.5
    box = np.array([(top, left), (top, right), (bottom, right), (bottom, left)])
    there = ownership.find(viewer, FRAME)
    if there and ownership.tags_of(there[0])["slide_id"] == slide_id:
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
        **layers.units(mpp),
    }
    with layers.selection_kept(viewer):
        layer = layers.add(viewer, ([box], meta, "shapes"))
        layer.editable = False
