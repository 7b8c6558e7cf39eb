"""napari's *Save*: our layers of patch labels through the same writers as the panel's Export."""

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
from ...exporters.formats import FORMATS, write
from ...store.files.outputs import Outputs
from ...store.maps import patch_map_view
from ..canvas.layers import LABELS, patch_map_of
from ..canvas.ownership import KEY


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write what a layer of labels shows, in its colours; the suffix says how. Returns the files.

    `BundleError` for a layer without patches behind it, whose prediction is gone, or that was painted in: a copy of
    our layer names the same prediction, but shows what its owner made of it. `OutputError` for the slide itself. A file
    of others is kept beside it, as `<name>.bak`.
    """
    noted = meta.get("metadata", {}).get(KEY) or {}
    if noted.get("role") == "corrections":
        raise BundleError(
            f"{path}: your corrections are saved in the step Review of the panel; its step Export lays them over the "
            "labels"
        )
    if noted.get("role") != LABELS:
        raise BundleError(
            f"{path}: the layer {meta.get('name', '')!r} holds no patch labels of 'Distill to Label': save it with "
            "napari's own writer"
        )
    patch_map = patch_map_of(noted)
    shown = patch_map_view.of(patch_map).labels(noted["threshold"], noted["class_index"])
    if not np.array_equal(data, shown):
        raise BundleError(
            f"{path}: the layer {meta.get('name', '')!r} was painted in and no longer shows the prediction: save it "
            "with napari's own writer (.tif)"
        )
    name = next((name for name, known in FORMATS.items() if path.lower().endswith(known.suffix)), None)
    if name is None:
        raise BundleError(f"{path}: patch labels are saved as {', '.join(known.suffix for known in FORMATS.values())}")
    target = Path(path)
    outputs = Outputs([found for found in (patch_map.slide.path, patch_map.path) if found], overwrite=True)
    outputs.check([target])
    if outputs.standing(target, exactly=True) == "foreign":  # napari's dialog has asked; its commands have not
        shutil.copy2(target, free_path(target.parent, target.name, ".bak"))
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name[:40]}.") as folder:
        files = write(patch_map, folder, [name], noted["threshold"], colours=shown_colours(meta, patch_map.classes))
        if noted["class_index"] is not None and len(files) > 1:  # one file per class: the one this layer shows
            files = [files[noted["class_index"] - 1]]
        with outputs.writing(target) as temporary:
            os.replace(files[0], temporary)
    return [str(target)]


def shown_colours(meta: dict[str, Any], classes: Sequence[str]) -> dict[str, RGB]:
    """8-bit colours by class of a layer of labels, whose values are 1 + class index."""
    by_value = getattr(meta.get("colormap"), "color_dict", None) or (meta.get("colormap") or {}).get("color_dict", {})
    return {name: _rgb(by_value[value]) for value, name in enumerate(classes, 1) if value in by_value}


def _rgb(colour: Sequence[float]) -> RGB:
    red, green, blue = (round(255 * float(part)) for part in colour[:3])
    return red, green, blue
