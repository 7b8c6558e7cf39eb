"""Slides and patch maps as napari layers. Which layers are ours is known by identity (`ownership`).

The model's layers (`PREDICTED`) are made in `map_layers`, a user's `CORRECTIONS` in `review_layers`: two kinds that
never mix. World coordinates are µm where the slide's µm/px is known, else pixels; all layers of a slide have the same
unit, without which napari shows no scale bar.
"""

import gc
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import numpy as np

from ...core.classes import RGB, colours_of
from ...core.errors import BundleError
from ...core.geometry import Mpp
from ..project.project import network_of
from . import clipping, ownership, placement, spares
from .ownership import KEY, SLIDE, find, tags_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from napari.utils import DirectLabelColormap

    from ...slides.label_mask import LabelMask
    from ...slides.slide import Slide
    from ...store.maps.patch_map import PatchMap

LayerData = tuple[Any, dict[str, Any], str]
RGBA = tuple[float, float, float, float]  # 0–1

LABELS, POINTS = "labels", "points"
PROBABILITY, ATTENTION, CONTRIBUTION = "probability", "attention", "contribution"
PREDICTED = (PROBABILITY, ATTENTION, CONTRIBUTION, LABELS, POINTS)  # a model's; from the bottom up
TISSUE = "tissue"  # the role of a mask to paint in
REGIONS = "regions"  # of parts of a slide of which a user says something
CORRECTIONS, OUTLINES, FRAME = "corrections", "outlines", "frame"  # a user's; and the frame around one patch
NOT_SCORED = "not scored"
SEE_THROUGH: dict[int | None, Any] = {None: "transparent", 0: "transparent"}  # labels without a class
# The negative class recedes, so that the tissue below it can be read; findings stand out.
NEGATIVE_ALPHA, POSITIVE_ALPHA = 0.6, 0.9
OPACITY = 0.6
# Screen px of a patch that one is taken to: smaller or larger ones are brought to `WELL_SEEN`.
SMALLEST_ON_SCREEN, WELL_SEEN, LARGEST_ON_SCREEN = 24, 80, 400

_changing: "WeakSet[ViewerModel]" = WeakSet()  # of which several layers are being changed
# A layer's metadata must survive napari's deep copies, so it names its patch map by a token instead of holding it.
_maps: "WeakValueDictionary[str, PatchMap]" = WeakValueDictionary()
_tokens: "WeakKeyDictionary[PatchMap, str]" = WeakKeyDictionary()


def patch_map_of(noted: dict[str, Any]) -> "PatchMap":
    """The patch map a layer shows. `BundleError` if it is gone."""
    found = _maps.get(noted.get("patch_map", ""))
    if found is None:
        path = noted.get("patch_map_path")
        if not path:
            raise BundleError(f"the prediction behind slide {noted.get('slide_id')!r} is gone: predict again")
        from ...store.maps.patch_map import PatchMap

        found = PatchMap.open(path)
    return found


# ---- making -----------------------------------------------------------------------------------------------------


def units(mpp: Mpp | None) -> dict[str, Any]:
    """Units and axis names of every layer of a slide."""
    return {"units": ("um", "um") if mpp else ("pixel", "pixel"), "axis_labels": ("y", "x")}


def slide_layer(slide: "Slide", slide_id: str, label: str | None = None) -> LayerData:
    """A slide as a multiscale image, lazily read."""
    noted = {"role": SLIDE, "slide_id": slide_id, "path": str(slide.path), "mpp": slide.mpp, "label": label}
    noted["ticket"] = ownership.new_ticket()
    return (
        slide.levels,
        {
            "name": slide_id,
            "multiscale": True,  # a one-level slide too, so that all behave alike
            "rgb": True,
            "scale": slide.mpp or (1.0, 1.0),
            "metadata": {KEY: noted},
            **units(slide.mpp),
        },
        "image",
    )


def mask_layer(mask: "LabelMask", name: str) -> LayerData:
    """A label mask from a file, in the colours it was made with. It is no prediction of this session."""
    from napari.utils import DirectLabelColormap

    values = sorted(value for value in mask.classes if value)
    colours = label_colours([mask.classes[value] for value in values]) if values else []
    given = {value: colour for value, colour in mask.colours.items() if value > 1 or value not in mask.classes}
    # A mask of one of several classes has the values 1 and that class's own.
    by_value = dict(zip(values, colours, strict=True))
    for value, (red, green, blue) in given.items():
        by_value[value] = (red / 255, green / 255, blue / 255, POSITIVE_ALPHA)
    meta = {
        "name": name,
        "scale": mask.mpp or (1.0, 1.0),
        "translate": mask.position,
        "opacity": OPACITY,
        "features": {"index": [0, *values], "class": [NOT_SCORED, *(mask.classes[value] for value in values)]},
        **units(mask.mpp),
    }
    if by_value:
        meta["colormap"] = DirectLabelColormap(color_dict=SEE_THROUGH | by_value)
    return mask.labels, meta, "labels"


def make_tags(
    patch_map: "PatchMap", role: str, threshold: float | None = None, class_index: int | None = None
) -> dict[str, dict[str, Any]]:
    """The metadata of a layer that shows a patch map."""
    token = _tokens.setdefault(patch_map, secrets.token_hex(8))
    _maps[token] = patch_map
    return {
        KEY: {
            "role": role,
            "slide_id": patch_map.slide_id,
            "model": network_of(patch_map),
            "classes": list(patch_map.classes),
            "threshold": threshold,
            "class_index": class_index,
            "patch_map": token,
            "patch_map_path": None if patch_map.path is None else str(patch_map.path),
        }
    }


def label_colours(
    classes: Sequence[str], chosen: Mapping[str, RGB] | None = None, negative: float = NEGATIVE_ALPHA
) -> list[RGBA]:
    """Colours of labels 1, 2, … (class 0, class 1, …), `chosen` by name, else the palette's; `negative` is an alpha."""
    alphas = [negative] + [POSITIVE_ALPHA] * (len(classes) - 1)
    colours = colours_of(classes, chosen)
    return [(r / 255, g / 255, b / 255, alpha) for (r, g, b), alpha in zip(colours, alphas, strict=True)]


def by_label(colours: Sequence[Sequence[float]]) -> "DirectLabelColormap":
    """A colormap of labels 1, 2, …; 0 is see-through."""
    from napari.utils import DirectLabelColormap

    return DirectLabelColormap(color_dict=SEE_THROUGH | dict(enumerate(colours, 1)))


# ---- showing ----------------------------------------------------------------------------------------------------


@contextmanager
def selection_kept(viewer: "ViewerModel") -> Iterator[None]:
    """Adding a layer selects it: give the user's selection back."""
    selected, active = set(viewer.layers.selection), viewer.layers.selection.active
    yield
    remaining = {layer for layer in selected if layer in viewer.layers}
    if remaining:
        viewer.layers.selection = remaining
        viewer.layers.selection.active = active if active in remaining else None


def add(viewer: "ViewerModel", data: LayerData) -> "Layer":
    """Add a layer on top, and select it, as napari does. A spare stays where it is in the list."""
    layer = _created(viewer, data)
    if layer in viewer.layers:
        viewer.layers.selection.active = layer
    else:
        viewer.add_layer(layer)
    _clip(viewer, layer)
    return layer


def _created(viewer: "ViewerModel", data: LayerData) -> "Layer":
    """A layer of ours that lies on its slide: a spare, or a new one, which is not added yet."""
    from napari.layers import Layer

    layer = spares.take(viewer, data)
    if layer is None:
        layer = Layer.create(*data)
        spares.remember(layer, data)
    ownership.claim(layer)
    if tags_of(layer)["role"] == SLIDE:
        placement.lead(viewer, layer)
    else:
        placement.keep(viewer, layer)
    return layer


def adopt(viewer: "ViewerModel", layer: "Layer") -> None:
    """A slide that napari has just opened with our reader becomes ours; a copy of such a layer does not."""
    if ownership.redeem(layer):
        placement.lead(viewer, layer)


def add_at(viewer: "ViewerModel", data: LayerData, index: int) -> "Layer":
    """Add a layer at a place of the list, with the user's selection left alone; of an empty one, it becomes that.

    Layers of a model are read-only: a user's corrections get their own.
    """
    layer, selection = _created(viewer, data), viewer.layers.selection
    selected, active = set(selection), selection.active
    if layer in viewer.layers:
        _bring_to(viewer, layer, index)
    elif selected:
        # napari selects what is added. Put back before anybody is told, it does not draw every panel twice.
        with selection.events.blocker_all():
            viewer.layers.insert(index, layer)
            viewer.layers.selection = selected
            selection.active = active
    else:
        viewer.layers.insert(index, layer)
    if tags_of(layer)["role"] in PREDICTED:
        layer.editable = False
    _clip(viewer, layer)
    return layer


def _bring_to(viewer: "ViewerModel", layer: "Layer", index: int) -> None:
    """Move a spare that is taken to a place of the list, if other layers of ours lie between."""
    listed = list(viewer.layers)  # napari would make a list of layers, with all of its events, of a part of one
    place = listed.index(layer)
    between = listed[place + 1 : index] if place < index else listed[index:place]
    if any(tags_of(other) for other in between):
        viewer.layers.move(place, index)


def _clip(viewer: "ViewerModel", layer: "Layer") -> None:
    """Cells and the frame end where the slide does; points are drawn whole."""
    from napari.layers import Image, Labels, Shapes

    if isinstance(layer, Image | Labels | Shapes) and tags_of(layer)["role"] != SLIDE:
        clipping.clip(viewer, layer)


def add_slide(viewer: "ViewerModel", slide: "Slide", slide_id: str, label: str | None = None) -> "Layer":
    """Show a slide below everything else, and a scale bar where its µm/px is known."""
    # First: napari warns of layers in µm beside some in px.
    remove(viewer, [spare for spare in spares.there(viewer) if _is_in_px(spare) != (slide.mpp is None)])
    layer = add(viewer, slide_layer(slide, slide_id, label))
    if viewer.layers[0] is not layer:
        viewer.layers.move(viewer.layers.index(layer), 0)
    viewer.canvas.overlays.scale_bar.visible = slide.mpp is not None
    return layer


def set_aside(viewer: "ViewerModel", layers: Sequence["Layer"]) -> None:
    """Let go of layers of ours, for the next slide to use; what cannot be used again is taken away.

    They stay in sight until they are used, or `hide_spares`.
    """
    remove(viewer, [layer for layer in layers if not spares.set_aside(layer)])


def hide_spares(viewer: "ViewerModel") -> None:
    """Take what was let go of out of sight."""
    if seen := [spare for spare in spares.there(viewer) if spare.visible]:
        with in_one_go(viewer):
            for spare in seen:
                spare.visible = False


def _is_in_px(layer: "Layer") -> bool:
    return str(layer.units[0]) == "pixel"


def remove(viewer: "ViewerModel", layers: Sequence["Layer"]) -> None:
    """Take layers away."""
    if not layers:
        return
    with in_one_go(viewer):
        for layer in layers:
            if layer in viewer.layers:
                ownership.take_away(layer)
                viewer.layers.remove(layer)


@contextmanager
def in_one_go(viewer: "ViewerModel") -> Iterator[None]:
    """Several changes of layers: napari orders what it draws, and the garbage that it collects, once for all of them.

    With torch loaded, the window stands still for that garbage. What is frozen is not looked through; afterwards all is
    as before, and Python collects in its own time.
    """
    if viewer in _changing:
        yield
        return
    freezes = not _others_freeze()
    _changing.add(viewer)
    if freezes:
        gc.freeze()
    try:
        with viewer.layers.batched_update():
            yield
    finally:
        _changing.discard(viewer)
        if freezes:
            gc.unfreeze()


@cache
def _others_freeze() -> bool:
    """Has somebody else frozen objects, as is done once? Counting them takes longer than to take a layer away."""
    return gc.get_freeze_count() > 0


def is_open(viewer: "ViewerModel | None") -> bool:
    """Can layers be shown? Not in a window that closes: napari takes its parts away before it is destroyed."""
    return viewer is not None and (not hasattr(viewer, "window") or hasattr(viewer.window, "_qt_window"))


def same_file(noted: dict[str, Any], path: Path | str) -> bool:
    """Is this the layer of that file?"""
    return bool(noted.get("path")) and Path(noted["path"]).absolute() == Path(path).absolute()


# ---- where one looks ------------------------------------------------------------------------------------------------


def center_on(viewer: "ViewerModel", slide_id: str, centre: tuple[float, float], side: float) -> None:
    """Centre the camera on a point (y, x) of a slide, in level-0 px; come closer only if `side` px would be tiny."""
    slide = find(viewer, SLIDE, slide_id)
    if not slide:
        return
    world = slide[0].data_to_world(centre)
    camera = viewer.scene.camera
    on_screen = camera.zoom * side * placement.magnification(slide[0])
    if not SMALLEST_ON_SCREEN <= on_screen <= LARGEST_ON_SCREEN:
        camera.zoom *= WELL_SEEN / on_screen
    camera.center = (0.0, *(float(value) for value in world))


def level0_point(viewer: "ViewerModel", slide_id: str, world: Sequence[float]) -> np.ndarray | None:
    """(2,) (y, x) in level-0 px of a point of the world; None where the slide is not shown."""
    slide = find(viewer, SLIDE, slide_id)
    return np.asarray(slide[0].world_to_data(world), float)[-2:] if slide else None
