"""Probability of each class, and attention, as an OME-TIFF: one pixel per cell of the grid, float32, a channel each.

Its pixels are as large as a stride, and its position is that of the first cell, so viewers that know OME's physical
sizes lay it over the slide. NaN is "not scored".
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ..core.errors import SlideError
from ..core.geometry import PatchGrid
from ..core.text import printable
from ..store.files.atomic import Writing, atomic_path
from ..store.maps.patch_map import PatchMap
from .provenance import provenance

TILE = 256  # px
NAMESPACE = "napari-distill2label/provenance"


def write_probability_maps(
    path: str | Path, patch_map: PatchMap, threshold: float, writing: Writing = atomic_path
) -> Path:
    """Write channels `prob_<class>` and `attention`. `SlideError` for patches that lie on no grid."""
    patches = patch_map.patches
    if not isinstance(patches, PatchGrid):
        raise SlideError(
            f"{patch_map.slide_id}: its patches lie on points, and a picture of probabilities needs a grid. The table "
            "of patches has the probabilities, too"
        )
    names = [*(f"prob_{name}" for name in patch_map.classes), "attention"]
    channels = np.concatenate([np.moveaxis(patch_map.probability, -1, 0), patch_map.attention[None]]).astype(np.float32)
    unit = "pixel" if patch_map.slide.mpp is None else "µm"
    (height, width), (top, left) = patches.placement(patch_map.slide.mpp)
    n = len(names)
    metadata: dict[str, Any] = {
        "axes": "CYX",
        "Name": printable(f"{patch_map.slide_id}: probabilities"),
        "Description": "One pixel for each patch; NaN: not scored. For research use only.",
        "Channel": {"Name": [printable(name) for name in names]},
        "PhysicalSizeX": width,
        "PhysicalSizeXUnit": unit,
        "PhysicalSizeY": height,
        "PhysicalSizeYUnit": unit,
        "Plane": {
            "PositionX": [left] * n, "PositionXUnit": [unit] * n, "PositionY": [top] * n, "PositionYUnit": [unit] * n,
        },
        "MapAnnotation": {"Namespace": NAMESPACE, "provenance": json.dumps(provenance(patch_map, threshold))},
    }  # fmt: skip
    with writing(path) as temporary:
        tifffile.imwrite(
            temporary, channels, ome=True, metadata=metadata, photometric="minisblack", tile=(TILE, TILE),
            compression="adobe_deflate",
        )  # fmt: skip
    return Path(path)
