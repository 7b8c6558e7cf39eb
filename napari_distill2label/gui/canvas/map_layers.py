"""What a model says of a slide's patches, as napari layers that lie to the pixel on the slide.

Four per slide and model: labels (one pixel a patch, or a point a patch; read-only), and beneath them probability,
attention and contribution. All are filled in place, so a slider or a growing map makes no new layer.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.classes import RGB
from ...core.geometry import Mpp, PatchGrid, PatchPoints
from ...store.maps import patch_map_view
from ..project.project import network_of
from . import layers, ownership
from .layers import (
    ATTENTION,
    CONTRIBUTION,
    LABELS,
    NEGATIVE_ALPHA,
    NOT_SCORED,
    OPACITY,
    POINTS,
    PROBABILITY,
    RGBA,
    LayerData,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from ...store.maps.patch_map import PatchMap
    from ...store.maps.patch_map_view import PatchMapView

Colours = Mapping[str, RGB]
Key = tuple[str, int | None]  # role and class index: which of a map's layers
COLORMAPS = {PROBABILITY: "magma", ATTENTION: "viridis", CONTRIBUTION: "coolwarm"}
POINT_OPACITY = 0.8


@dataclass(frozen=True)
class LayerStyle:
    """How labels are coloured.

    Attributes
    ----------
    colours
        By name of the class; the palette's where there is none.
    negatives
        Are negative patches coloured, too? A slide is mostly negative, and its tissue is to be seen as it is stained.
    """

    colours: Colours = field(default_factory=dict)
    negatives: bool = False

    def of(self, classes: Sequence[str]) -> list[RGBA]:
        """Colours of labels 1, 2, … (class 0, class 1, …)."""
        return layers.label_colours(classes, self.colours, NEGATIVE_ALPHA if self.negatives else 0.0)


PLAIN = LayerStyle()


def map_layers(patch_map: "PatchMap", mpp: Mpp | None, threshold: float, style: LayerStyle = PLAIN) -> list[LayerData]:
    """A patch map as layers, from the bottom up; only the labels are visible: they are the answer.

    `mpp` is that of the slide's layer: patches are kept in its pixels, so they lie on it whatever µm/px it is given.
    """
    return [_made(patch_map, key, mpp, threshold, style) for key in _keys(patch_map)]


def _keys(patch_map: "PatchMap") -> list[Key]:
    """Role and class index of the layers of a map, from the bottom up."""
    values: list[Key] = [(role, None) for role in COLORMAPS]
    if not isinstance(patch_map.patches, PatchGrid):
        return [*values, (POINTS, None)]
    findings = range(1, len(patch_map.classes)) if patch_map.multi_label else [None]
    return [*values, *((LABELS, index) for index in findings)]


def key_of(layer: "Layer") -> Key:
    """Which of a map's layers one is."""
    noted = ownership.tags_of(layer)
    return noted["role"], noted["class_index"]


def _made(
    patch_map: "PatchMap", key: Key, mpp: Mpp | None, threshold: float, style: LayerStyle
) -> LayerData:  # fmt: skip
    role, index = key
    shown, patches = patch_map_view.of(patch_map), patch_map.patches
    if role not in (LABELS, POINTS):
        return _values(patch_map, shown, role, mpp)
    if isinstance(patches, PatchGrid):
        return _labels(patch_map, patches, shown, index, mpp, threshold, style)
    return _points(patch_map, patches, shown, mpp, threshold, style)


def _named(patch_map: "PatchMap", what: str) -> str:
    return f"{patch_map.slide_id} · {what} ({network_of(patch_map)})"


def _labels(
    patch_map: "PatchMap", patches: PatchGrid, shown: "PatchMapView", index: int | None, mpp: Mpp | None,
    threshold: float, style: LayerStyle,
) -> LayerData:  # fmt: skip
    scale, translate = patches.placement(mpp)
    names = [NOT_SCORED, *patch_map.classes]
    if index is not None:
        names[1] = f"no {patch_map.classes[index]}"
    meta = {
        "name": _named(patch_map, "labels" if index is None else patch_map.classes[index]),
        "scale": scale,
        "translate": translate,
        "opacity": OPACITY,
        "colormap": layers.by_label(style.of(patch_map.classes)),
        "features": {"index": np.arange(len(names)), "class": names},
        "metadata": layers.make_tags(patch_map, LABELS, threshold, index),
        **layers.units(mpp),
    }
    return shown.labels(threshold, index), meta, "labels"


def _array(shown: "PatchMapView", role: str) -> np.ndarray:
    return {PROBABILITY: shown.positive, ATTENTION: shown.attention, CONTRIBUTION: shown.finding_contribution}[role]


def _limits(shown: "PatchMapView", role: str) -> tuple[float, float]:
    if role == CONTRIBUTION:
        return -shown.finding_contribution_top, shown.finding_contribution_top
    return 0.0, 1.0 if role == PROBABILITY else shown.attention_top


def _values(patch_map: "PatchMap", shown: "PatchMapView", role: str, mpp: Mpp | None) -> LayerData:
    """Probability, attention or contribution: an image with one pixel a patch, or points."""
    meta = {
        "name": _named(patch_map, role),
        "opacity": OPACITY,
        "visible": False,
        "metadata": layers.make_tags(patch_map, role),
        **layers.units(mpp),
    }
    if not isinstance(patch_map.patches, PatchGrid):
        return _at_centres(
            patch_map.patches, mpp, meta | {"face_color": _mapped(shown, role), "opacity": POINT_OPACITY}
        )
    scale, translate = patch_map.patches.placement(mpp)
    meta |= {"scale": scale, "translate": translate, "contrast_limits": _limits(shown, role)}
    meta |= {"colormap": COLORMAPS[role], "interpolation2d": "nearest"}
    return _array(shown, role).copy(), meta, "image"


def _points(
    patch_map: "PatchMap",
    patches: PatchPoints,
    shown: "PatchMapView",
    mpp: Mpp | None,
    threshold: float,
    style: LayerStyle,
) -> LayerData:
    meta = {
        "name": _named(patch_map, "labels"),
        "face_color": _label_faces(shown, threshold, style),
        "features": _features(shown, threshold),
        "opacity": POINT_OPACITY,
        "metadata": layers.make_tags(patch_map, POINTS, threshold),
        **layers.units(mpp),
    }
    return _at_centres(patches, mpp, meta)


def _at_centres(patches: PatchPoints, mpp: Mpp | None, meta: dict[str, Any]) -> LayerData:
    size = max(3.0, patches.side / 2)  # a full box per cell would hide its neighbours
    placed = {"scale": mpp or (1.0, 1.0), "size": size, "border_width": 0.0}
    return patches.centres.astype(np.float32), meta | placed, "points"


def _mapped(shown: "PatchMapView", role: str) -> np.ndarray:
    """(n, 4) colours of points by a value; see-through where there is none."""
    from napari.utils.colormaps import ensure_colormap

    low, high = _limits(shown, role)
    values = (_array(shown, role) - low) / (high - low)
    faces: np.ndarray = ensure_colormap(COLORMAPS[role]).map(np.clip(np.nan_to_num(values), 0, 1))
    faces[~shown.scored, 3] = 0
    return faces


def _label_faces(shown: "PatchMapView", threshold: float, style: LayerStyle) -> np.ndarray:
    """(n, 4) colours of points by their label; of several classes present at once, the likeliest gives the colour."""
    opaque = [(*rgba[:3], float(rgba[3] > 0)) for rgba in style.of(shown.classes)]
    faces: np.ndarray = np.array([(0, 0, 0, 0), *opaque])[shown.labels(threshold)]
    return faces


def _class_names(shown: "PatchMapView", threshold: float) -> np.ndarray:
    names: np.ndarray = np.array([NOT_SCORED, *shown.classes], dtype=object)[shown.labels(threshold)]
    return names


def _features(shown: "PatchMapView", threshold: float) -> dict[str, Any]:
    features = {"class": _class_names(shown, threshold)}
    features |= {f"prob_{name}": shown.probability[:, index] for index, name in enumerate(shown.classes)}
    return features | {"attention": shown.attention, "contribution": shown.finding_contribution}


# ---- in place -------------------------------------------------------------------------------------------------------


def update_labels(layer: "Layer", shown: "PatchMapView", threshold: float, style: LayerStyle = PLAIN) -> None:
    """Show a layer of labels at a threshold: what the slider does, as often as it moves."""
    noted = ownership.tags_of(layer)
    if noted["role"] == LABELS:
        shown.labels(threshold, noted["class_index"], out=layer.data)
        layer.refresh(thumbnail=False, highlight=False, extent=False)  # neither place nor size changes
    else:
        layer.features["class"] = _class_names(shown, threshold)
        layer.face_color = _label_faces(shown, threshold, style)
    ownership.note(layer, threshold=threshold)


def update_threshold(viewer: "ViewerModel", threshold: float, style: LayerStyle = PLAIN) -> None:
    """Show every layer of labels at another threshold; nothing is computed again but the comparison."""
    for layer in ownership.find(viewer):
        noted = ownership.tags_of(layer)
        if noted["role"] in (LABELS, POINTS):
            update_labels(layer, patch_map_view.of(layers.patch_map_of(noted)), threshold, style)


def recolour(viewer: "ViewerModel", style: LayerStyle) -> None:
    """Give the classes other colours, wherever a model's labels are shown."""
    for layer in ownership.find(viewer):
        noted = ownership.tags_of(layer)
        if noted["role"] in (LABELS, POINTS):
            shown = patch_map_view.of(layers.patch_map_of(noted))
            if noted["role"] == LABELS:
                layer.colormap = layers.by_label(style.of(shown.classes))
            else:
                layer.face_color = _label_faces(shown, noted["threshold"], style)


def update_values(viewer: "ViewerModel", patch_map: "PatchMap", threshold: float, style: LayerStyle = PLAIN) -> None:
    """Show what a map holds by now in the layers that are there: it is filled block by block."""
    shown = patch_map_view.of(patch_map)
    for layer in ownership.find(viewer, slide_id=patch_map.slide_id, model=network_of(patch_map)):
        noted = ownership.tags_of(layer)
        made = layers.make_tags(patch_map, noted["role"], noted["threshold"], noted["class_index"])
        ownership.note(layer, **made[ownership.KEY])
        if noted["role"] in (LABELS, POINTS):
            if noted["role"] == POINTS:
                layer.features = _features(shown, threshold)
            update_labels(layer, shown, threshold, style)
            if shown.is_complete:  # once, not at every move of the slider
                layer.refresh(highlight=False, extent=False)
            continue
        if isinstance(patch_map.patches, PatchGrid):
            np.copyto(layer.data, _array(shown, noted["role"]))
            layer.contrast_limits = _limits(shown, noted["role"])
            layer.refresh(highlight=False, extent=False)
        else:
            layer.face_color = _mapped(shown, noted["role"])


def add_map(
    viewer: "ViewerModel", patch_map: "PatchMap", mpp: Mpp | None, threshold: float, style: LayerStyle = PLAIN
) -> list["Layer"]:
    """Show a patch map in place of an earlier one by the same model; selection and camera stay. Its layers."""
    replace_or_clear(viewer, patch_map, mpp, threshold, style)
    while add_next(viewer, patch_map, mpp, threshold, style) is not None:
        pass
    return _there(viewer, patch_map)


def replace_or_clear(
    viewer: "ViewerModel", patch_map: "PatchMap", mpp: Mpp | None, threshold: float, style: LayerStyle = PLAIN
) -> None:
    """Fill the layers that are there again, so that nothing flickers; take them away if they do not fit the map."""
    there = _there(viewer, patch_map)
    if all(_fits(layer, patch_map, mpp) for layer in there):
        update_values(viewer, patch_map, threshold, style)
        return
    with layers.selection_kept(viewer):
        layers.remove(viewer, there)


def add_next(
    viewer: "ViewerModel", patch_map: "PatchMap", mpp: Mpp | None, threshold: float, style: LayerStyle = PLAIN,
    without: Collection[Key] = (),
) -> "Layer | None":  # fmt: skip
    """Add one layer of a map that is not there yet, the labels first; None when all are, but for those in `without`.

    napari takes 50 to 100 ms for a layer: the window is to answer between two of them.
    """
    keys, there = _keys(patch_map), {key_of(layer): layer for layer in _there(viewer, patch_map)}
    missing = [key for key in keys if key not in there and key not in without]
    if not missing:
        return None
    key = next((key for key in missing if key[0] in (LABELS, POINTS)), missing[0])
    higher = [there[above] for above in keys[keys.index(key) + 1 :] if above in there]
    higher += [layer for layer in viewer.layers if ownership.tags_of(layer).get("role") in _ABOVE]
    index = min((viewer.layers.index(layer) for layer in higher), default=len(viewer.layers))
    return layers.add_at(viewer, _made(patch_map, key, mpp, threshold, style), index)


_ABOVE = (layers.CORRECTIONS, layers.OUTLINES, layers.FRAME)


def _there(viewer: "ViewerModel", patch_map: "PatchMap") -> list["Layer"]:
    return ownership.find(viewer, slide_id=patch_map.slide_id, model=network_of(patch_map))


def _fits(layer: "Layer", patch_map: "PatchMap", mpp: Mpp | None) -> bool:
    """Is this one of the layers the map has, with its place and its classes?"""
    patches = patch_map.patches
    if key_of(layer) not in _keys(patch_map) or ownership.tags_of(layer)["classes"] != list(patch_map.classes):
        return False
    if not isinstance(patches, PatchGrid):
        return np.array_equal(layer.data, patches.centres) and np.allclose(layer.scale, mpp or (1.0, 1.0))
    place = np.ravel(patches.placement(mpp))
    return layer.data.shape == patches.shape and np.allclose(place, [*layer.scale, *layer.translate])
