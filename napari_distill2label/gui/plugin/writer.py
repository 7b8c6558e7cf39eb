"""napari's *Save*: layers of labels. Ours go through the same writers as the panel's Export, others as label images."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ...core.classes import RGB
from ...core.errors import BundleError
from ...core.paths import free_path
from ...exporters.formats import DEFAULT_FORMATS, FORMATS, write
from ...exporters.label_image import WRITERS, LabelImage
from ...slides.scale import UM_PER_UNIT
from ...store.files.outputs import Outputs
from ...store.files.safe_names import safe_names
from ...store.maps import patch_map_view
from ..canvas.layers import LABELS, patch_map_of
from ..canvas.ownership import KEY


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a layer of labels; the suffix says how. Returns the files.

    A layer of ours is written as the panel's Export does, in its colours, with the patches and probabilities behind
    it. Any other is written as the label image that it is (`exporters.label_image`).

    `BundleError` for a layer of ours whose prediction is gone, or that was painted in: a copy of our layer names the
    same prediction, but shows what its owner made of it. `OutputError` for the slide itself. A file of others is kept
    beside it, as `<name>.bak`.
    """
    suffix, noted = _suffix_of(path), _noted(path, meta)
    if noted.get("role") == LABELS:
        return [str(_write_own(Path(path), suffix, data, meta, noted))]
    target = Path(path)
    return [str(WRITERS[suffix](target, label_image_of(data, meta), _guarded(target, []).writing))]


def write_several(path: str, layers: Sequence[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Write several layers of labels as `write_labels` does: `masks.ome.tif` becomes `masks_<layer>.ome.tif`, …"""
    suffix = _suffix_of(path)
    for _, meta, _ in layers:
        _noted(path, meta)  # before any is written
    titles = [str(meta.get("name", "labels")) for _, meta, _ in layers]
    names = safe_names((title,) for title in titles)
    stem = path[: -len(suffix)]
    written = (
        write_labels(f"{stem}_{names[title,]}{suffix}", data, meta)
        for title, (data, meta, _) in zip(titles, layers, strict=True)
    )
    return [file for files in written for file in files]


def _suffix_of(path: str) -> str:
    """Return how the file's name ends. `BundleError` if no format ends so."""
    for suffix in WRITERS:
        if path.lower().endswith(suffix):
            return suffix
    raise BundleError(f"{path}: labels are saved as {', '.join(WRITERS)}")


def _noted(path: str, meta: dict[str, Any]) -> dict[str, Any]:
    """Return what a layer of ours notes of itself; empty of others. `BundleError` for the layer of corrections."""
    noted: dict[str, Any] = meta.get("metadata", {}).get(KEY) or {}
    if noted.get("role") == "corrections":
        raise BundleError(
            f"{path}: your corrections are saved in the step Review of the panel; its step Export lays them over the "
            "labels"
        )
    return noted


def _write_own(path: Path, suffix: str, data: Any, meta: dict[str, Any], noted: dict[str, Any]) -> Path:
    patch_map = patch_map_of(noted)
    shown = patch_map_view.of(patch_map).labels(noted["threshold"], noted["class_index"])
    if not np.array_equal(data, shown):
        raise BundleError(
            f"{path}: the layer {meta.get('name', '')!r} was painted in and no longer shows the prediction: save it "
            "with napari's own writer (.tif)"
        )
    name = next(name for name in (*DEFAULT_FORMATS, "ome-zarr") if FORMATS[name].suffix == suffix)
    outputs = _guarded(path, [found for found in (patch_map.slide.path, patch_map.path) if found])
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name[:40]}.") as folder:
        files = write(patch_map, folder, [name], noted["threshold"], colours=shown_colours(meta, patch_map.classes))
        if noted["class_index"] is not None and FORMATS[name].per_finding:  # the file of the class this layer shows
            files = [files[noted["class_index"] - 1]]
        with outputs.writing(path) as temporary:
            os.replace(files[0], temporary)
    return path


def _guarded(target: Path, read: Sequence[str | Path]) -> Outputs:
    """Return what guards the files that are there; a file of others gets a copy, as `<name>.bak`."""
    outputs = Outputs(read, overwrite=True)
    outputs.check([target])
    if outputs.standing(target, exactly=True) == "foreign":  # napari's dialog has asked; its commands have not
        shutil.copy2(target, free_path(target.parent, target.name, ".bak"))
    return outputs


def label_image_of(data: Any, meta: dict[str, Any]) -> LabelImage:
    """Return what a layer of labels of anybody shows. `SettingsError` unless it is a plane of whole numbers."""
    data = data[0] if meta.get("multiscale") or isinstance(data, list | tuple) else data
    scale, position = (meta.get(name) for name in ("scale", "translate"))
    units = [_um(unit) for unit in meta.get("units") or ()]
    mpp = None
    if scale is not None and units and all(units):
        mpp = (float(scale[-2] * units[-2]), float(scale[-1] * units[-1]))
        position = None if position is None else np.multiply(position, np.array(units, float))
    elif position is not None and scale is not None:
        position = np.divide(position, scale)  # px
    y, x = (0.0, 0.0) if position is None else (float(value) for value in position[-2:])
    features = meta.get("features")
    names = {} if features is None else _names_of(features)
    used = [*names] or range(1, min(256, int(np.max(data, initial=0)) + 1))
    return LabelImage(np.asarray(data), mpp, names, _colours(meta, used), (y, x), str(meta.get("name", "labels")))


def _um(unit: Any) -> float | None:
    """Return the µm of a unit of length; None for a pixel."""
    try:
        return UM_PER_UNIT.get(str(unit).lower())
    except (TypeError, ValueError):
        return None


def _names_of(features: Any) -> dict[int, str]:
    """Return the names of labels from a layer's features, where these have the columns `index` and `class`."""
    columns = {str(column).lower(): column for column in features}
    if not {"index", "class"} <= columns.keys():
        return {}
    rows = zip(features[columns["index"]], features[columns["class"]], strict=True)
    return {int(value): str(name) for value, name in rows if int(value) > 0}


def _colours(meta: dict[str, Any], values: Sequence[int] | range) -> dict[int, RGB]:
    """8-bit colours of values, as the layer shows them."""
    colormap = meta.get("colormap")
    if colormap is None or not hasattr(colormap, "map"):
        return {}
    return {value: _rgb(colour) for value, colour in zip(values, colormap.map(np.array(values, int)), strict=True)}


def shown_colours(meta: dict[str, Any], classes: Sequence[str]) -> dict[str, RGB]:
    """8-bit colours by class of a layer of labels, whose values are 1 + class index."""
    by_value = getattr(meta.get("colormap"), "color_dict", None) or (meta.get("colormap") or {}).get("color_dict", {})
    return {name: _rgb(by_value[value]) for value, name in enumerate(classes, 1) if value in by_value}


def _rgb(colour: Sequence[float]) -> RGB:
    red, green, blue = (round(255 * float(part)) for part in colour[:3])
    return red, green, blue
