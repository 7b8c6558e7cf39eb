"""Slides and patch maps as napari layers. What a layer *is* stands in its metadata, never in its name.

Every layer of ours has `metadata["d2l"]`, a dict with at least `role` (`SLIDE`, `LABELS`, `PROBABILITY`, `POINTS`) and
`slide_id`. World coordinates are µm where the slide's µm/px is known, else pixels; all layers of a slide have the same
unit, without which napari shows no scale bar.
"""

import gc
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from ..core.colours import palette
from ..core.errors import BundleError
from ..core.geometry import Mpp, PatchGrid
from ..core.metrics import positive_score

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from ..export.read import LabelMask
    from ..slides.slide import Slide
    from ..store.patchmap import PatchMap

LayerData = tuple[Any, dict[str, Any], str]

KEY = "d2l"
SLIDE, LABELS, PROBABILITY, POINTS = "slide", "labels", "probability", "points"
NOT_SCORED = "not scored"
# The negative class recedes, so that the tissue below it can be read; findings stand out.
NEGATIVE_ALPHA, POSITIVE_ALPHA = 0.6, 0.9
OPACITY = 0.6

# A layer's metadata must survive napari's deep copies, so it names its patch map by a token instead of holding it.
_maps: "WeakValueDictionary[str, PatchMap]" = WeakValueDictionary()
_tokens: "WeakKeyDictionary[PatchMap, str]" = WeakKeyDictionary()
_probabilities: "WeakKeyDictionary[PatchMap, np.ndarray]" = WeakKeyDictionary()


# ---- finding ----------------------------------------------------------------------------------------------------


def about(layer: "Layer") -> dict[str, Any]:
    """What we noted of a layer; empty for a layer that is not ours."""
    noted = layer.metadata.get(KEY)
    return noted if isinstance(noted, dict) and "role" in noted else {}


def find(viewer: "ViewerModel", role: str | None = None, slide_id: str | None = None, **also: Any) -> list["Layer"]:
    """Our layers, from the bottom up, whose notes are as asked for (`model="student"`, …)."""
    wanted = also | ({"role": role} if role else {}) | ({"slide_id": slide_id} if slide_id is not None else {})
    return [
        layer
        for layer in viewer.layers
        if (noted := about(layer)) and all(noted.get(key) == value for key, value in wanted.items())
    ]


def patch_map_of(noted: dict[str, Any]) -> "PatchMap":
    """The patch map a layer shows. `BundleError` if it is gone."""
    found = _maps.get(noted.get("patch_map", ""))
    if found is None:
        path = noted.get("patch_map_path")
        if not path:
            raise BundleError(f"the prediction behind slide {noted.get('slide_id')!r} is gone: predict again")
        from ..store.patchmap import PatchMap

        found = PatchMap.open(path)
    return found


# ---- making -----------------------------------------------------------------------------------------------------


def space(mpp: Mpp | None) -> dict[str, Any]:
    """Units and axis names of every layer of a slide."""
    return {"units": ("um", "um") if mpp else ("pixel", "pixel"), "axis_labels": ("y", "x")}


def slide_layer(slide: "Slide", slide_id: str, label: str | None = None) -> LayerData:
    """A slide as a multiscale image, lazily read."""
    noted = {"role": SLIDE, "slide_id": slide_id, "path": str(slide.path), "mpp": slide.mpp, "label": label}
    return (
        slide.levels,
        {
            "name": slide_id,
            "multiscale": True,  # a one-level slide too, so that all behave alike
            "rgb": True,
            "scale": slide.mpp or (1.0, 1.0),
            "metadata": {KEY: noted},
            **space(slide.mpp),
        },
        "image",
    )


def mask_layer(mask: "LabelMask", name: str) -> LayerData:
    """A label mask from a file, in the colours it was made with. It is no prediction of this session."""
    from napari.utils import DirectLabelColormap

    values = sorted(value for value in mask.classes if value)
    colours = label_colours([mask.classes[value] for value in values]) if values else []
    # A mask of one of several classes has the values 1 and that class's own.
    by_value = dict(zip(values, colours, strict=True))
    meta = {
        "name": name,
        "scale": mask.mpp or (1.0, 1.0),
        "opacity": OPACITY,
        "features": {"index": [0, *values], "class": [NOT_SCORED, *(mask.classes[value] for value in values)]},
        **space(mask.mpp),
    }
    if by_value:
        meta["colormap"] = DirectLabelColormap(color_dict={None: "transparent", 0: "transparent", **by_value})
    return mask.labels, meta, "labels"


def map_layers(patch_map: "PatchMap", mpp: Mpp | None, threshold: float) -> list[LayerData]:
    """A patch map as layers: probability and labels of a grid (one pixel a cell), or points.

    `mpp` is that of the slide's layer: patches are kept in its pixels, so they lie on it whatever µm/px it is given.
    """
    if isinstance(patch_map.patches, PatchGrid):
        return [_probability(patch_map, mpp), *_labels(patch_map, mpp, threshold)]
    return [_points(patch_map, mpp, threshold)]


def _notes(patch_map: "PatchMap", role: str, threshold: float | None = None, class_index: int | None = None) -> dict:
    token = _tokens.setdefault(patch_map, secrets.token_hex(8))
    _maps[token] = patch_map
    return {
        KEY: {
            "role": role,
            "slide_id": patch_map.slide_id,
            "model": model_role(patch_map),
            "threshold": threshold,
            "class_index": class_index,
            "patch_map": token,
            "patch_map_path": None if patch_map.path is None else str(patch_map.path),
        }
    }


def model_role(patch_map: "PatchMap") -> str:
    """student, teacher or mil."""
    return str(patch_map.model.get("role", "model"))


def _layer_indices(patch_map: "PatchMap") -> list[int | None]:
    """One layer of labels for all classes, or one for each that can be present beside others."""
    return list(range(1, len(patch_map.classes))) if patch_map.several else [None]


def _labels(patch_map: "PatchMap", mpp: Mpp | None, threshold: float) -> list[LayerData]:
    from napari.utils import DirectLabelColormap

    scale, translate = patch_map.patches.placement(mpp)
    layers = []
    for index in _layer_indices(patch_map):
        what = "labels" if index is None else patch_map.classes[index]
        colours = dict(enumerate(label_colours(patch_map.classes), 1))
        names = [NOT_SCORED, *patch_map.classes]
        if index is not None:
            names[1] = f"no {patch_map.classes[index]}"
        meta = {
            "name": f"{patch_map.slide_id} · {what} ({model_role(patch_map)})",
            "scale": scale,
            "translate": translate,
            "opacity": OPACITY,
            "colormap": DirectLabelColormap(color_dict={None: "transparent", 0: "transparent", **colours}),
            # Shown in the status bar where the pointer is.
            "features": {"index": np.arange(len(names)), "class": names},
            "metadata": _notes(patch_map, LABELS, threshold, index),
            **space(mpp),
        }
        layers.append((labels_at(patch_map, threshold, index), meta, "labels"))
    return layers


def _probability(patch_map: "PatchMap", mpp: Mpp | None) -> LayerData:
    scale, translate = patch_map.patches.placement(mpp)
    finding = patch_map.classes[1] if len(patch_map.classes) == 2 else "finding"
    meta = {
        "name": f"{patch_map.slide_id} · p({finding}) ({model_role(patch_map)})",
        "scale": scale,
        "translate": translate,
        "contrast_limits": (0.0, 1.0),
        "colormap": "magma",
        "interpolation2d": "nearest",
        "opacity": OPACITY,
        "visible": False,  # the labels are the answer; this is for a closer look
        "metadata": _notes(patch_map, PROBABILITY),
        **space(mpp),
    }
    return positive_score(_probability_of(patch_map), patch_map.several).astype(np.float32), meta, "image"


def _points(patch_map: "PatchMap", mpp: Mpp | None, threshold: float) -> LayerData:
    patches = patch_map.patches
    colours, features = _points_at(patch_map, threshold)
    meta = {
        "name": f"{patch_map.slide_id} · labels ({model_role(patch_map)})",
        "scale": mpp or (1.0, 1.0),
        "size": max(3.0, patches.side / 2),  # a full box per cell would hide its neighbours
        "border_width": 0.0,
        "face_color": colours,
        "features": features,
        "opacity": 0.8,
        "metadata": _notes(patch_map, POINTS, threshold),
        **space(mpp),
    }
    return patches.centres.astype(np.float32), meta, "points"


# ---- colours and thresholds -------------------------------------------------------------------------------------


def label_colours(classes: Sequence[str]) -> list[tuple[float, float, float, float]]:
    """RGBA in 0–1 of labels 1, 2, … (class 0, class 1, …)."""
    alphas = [NEGATIVE_ALPHA] + [POSITIVE_ALPHA] * (len(classes) - 1)
    return [(*(c / 255 for c in rgb), alpha) for rgb, alpha in zip(palette(len(classes)), alphas, strict=True)]


def _probability_of(patch_map: "PatchMap") -> np.ndarray:
    """(..., C), read once: the threshold is moved over what is in memory."""
    array = _probabilities.get(patch_map)
    if array is None:
        array = patch_map.probability
        if patch_map.is_complete:
            _probabilities[patch_map] = array
    return array


def labels_at(patch_map: "PatchMap", threshold: float, class_index: int | None = None) -> np.ndarray:
    """uint8 labels of `patches.shape` at a threshold."""
    from ..store.labels import labels_of

    return labels_of(_probability_of(patch_map), threshold, class_index)


def _points_at(patch_map: "PatchMap", threshold: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Face colours (n, 4) and features of points at a threshold."""
    probability = _probability_of(patch_map)
    colours = np.array([(0, 0, 0, 0), *((*rgba[:3], 1.0) for rgba in label_colours(patch_map.classes))])
    names = np.array([NOT_SCORED, *patch_map.classes], dtype=object)
    labels = labels_at(patch_map, threshold)  # of several classes present at once, the likeliest gives the colour
    features = {"class": names[labels]}
    features |= {f"prob_{name}": probability[:, index] for index, name in enumerate(patch_map.classes)}
    if patch_map.is_complete:
        features["attention"] = patch_map.attention
    return colours[labels], features


def counts(patch_map: "PatchMap", threshold: float) -> dict[str, int]:
    """Patches per class at a threshold; a patch with several findings counts for each."""
    labels = labels_at(patch_map, threshold)
    found = {name: int((labels == value).sum()) for value, name in enumerate(patch_map.classes, 1)}
    if patch_map.several:
        probability = _probability_of(patch_map)
        found |= {name: int((probability[..., k] >= threshold).sum()) for k, name in enumerate(patch_map.classes) if k}
    return found


def recolour(viewer: "ViewerModel", threshold: float) -> None:
    """Show every layer of labels at another threshold; nothing is computed anew but the comparison."""
    for layer in find(viewer):
        noted = about(layer)
        if noted["role"] == LABELS:
            layer.data[...] = labels_at(patch_map_of(noted), threshold, noted["class_index"])
            layer.refresh()
        elif noted["role"] == POINTS:
            colours, features = _points_at(patch_map_of(noted), threshold)
            layer.features = features
            layer.face_color = colours
        else:
            continue
        noted["threshold"] = threshold


def refill(viewer: "ViewerModel", patch_map: "PatchMap", threshold: float) -> None:
    """Show what has become of a map since its layers were added: it is filled block by block."""
    for layer in find(viewer, slide_id=patch_map.slide_id, model=model_role(patch_map)):
        noted = about(layer)
        if noted["role"] == LABELS:
            layer.data[...] = labels_at(patch_map, threshold, noted["class_index"])
            layer.refresh()
        elif noted["role"] == PROBABILITY:
            layer.data[...] = positive_score(_probability_of(patch_map), patch_map.several)
            layer.refresh()
        elif noted["role"] == POINTS:
            colours, features = _points_at(patch_map, threshold)
            layer.features, layer.face_color = features, colours


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
    """Add a layer. Layers of labels are read-only: they are the model's, a user's corrections get their own."""
    from napari.layers import Layer

    layer = viewer.add_layer(Layer.create(*data))
    if about(layer).get("role") in (LABELS, POINTS):
        layer.editable = False
    return layer


def add_slide(viewer: "ViewerModel", slide: "Slide", slide_id: str, label: str | None = None) -> "Layer":
    """Show a slide below everything else, and a scale bar where its µm/px is known."""
    layer = add(viewer, slide_layer(slide, slide_id, label))
    viewer.layers.move(viewer.layers.index(layer), 0)
    viewer.canvas.overlays.scale_bar.visible = slide.mpp is not None
    return layer


def add_map(viewer: "ViewerModel", patch_map: "PatchMap", mpp: Mpp | None, threshold: float) -> list["Layer"]:
    """Show a patch map in place of an earlier one by the same model; what the user set of that one's look is kept."""
    with selection_kept(viewer):
        former = {
            (about(layer)["role"], about(layer)["class_index"]): (layer.visible, layer.opacity)
            for layer in find(viewer, slide_id=patch_map.slide_id, model=model_role(patch_map))
        }
        remove(viewer, find(viewer, slide_id=patch_map.slide_id, model=model_role(patch_map)))
        layers = [add(viewer, data) for data in map_layers(patch_map, mpp, threshold)]
        for layer in layers:
            key = (about(layer)["role"], about(layer)["class_index"])
            layer.visible, layer.opacity = former.get(key, (layer.visible, layer.opacity))
    return layers


def remove(viewer: "ViewerModel", layers: Sequence["Layer"]) -> None:
    """Take layers away."""
    with _garbage_later():
        for layer in layers:
            if layer in viewer.layers:
                viewer.layers.remove(layer)


@contextmanager
def _garbage_later() -> Iterator[None]:
    """Put off the garbage that napari collects after every layer it takes away: with torch loaded, the window
    stands still for that.

    What is frozen is not looked through; afterwards all is as before, and Python collects in its own time.
    """
    if gc.get_freeze_count():  # somebody else's
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def same_file(noted: dict[str, Any], path: Path) -> bool:
    """Is this the layer of that file?"""
    return bool(noted.get("path")) and Path(noted["path"]).absolute() == Path(path).absolute()
