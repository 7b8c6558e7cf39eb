"""Probability of each class, and attention, as an OME-TIFF: one pixel per cell of the grid, float32, a channel each.

Its pixels are as large as a stride, and its position is that of the first cell, so viewers that know OME's physical
sizes lay it over the slide. NaN is "not scored".
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ..core.classes import RGB, colours_of
from ..core.errors import SlideError
from ..core.geometry import PatchGrid
from ..core.text import printable
from ..store.files.atomic import Writing, atomic_path
from ..store.maps.patch_map import PatchMap
from .ome_tiff import provenance_annotation
from .provenance import provenance

TILE = 256  # px
WHITE: RGB = (255, 255, 255)  # of the attention, in viewers that colour channels


def write_probability_maps(
    path: str | Path,
    patch_map: PatchMap,
    threshold: float,
    colours: Mapping[str, RGB] | None = None,
    writing: Writing = atomic_path,
) -> Path:
    """Write channels `prob_<class>`, in the colours of the classes, and `attention`.

    `colours` are those of classes by name, where they are not the palette's. `SlideError` for patches that lie on no
    grid.
    """
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
        "Channel": {
            "Name": [printable(name) for name in names],
            "Color": [_ome_colour(shade) for shade in (*colours_of(patch_map.classes, colours), WHITE)],
        },
        "PhysicalSizeX": width,
        "PhysicalSizeXUnit": unit,
        "PhysicalSizeY": height,
        "PhysicalSizeYUnit": unit,
        "Plane": {
            "PositionX": [left] * n, "PositionXUnit": [unit] * n, "PositionY": [top] * n, "PositionYUnit": [unit] * n,
        },
        "MapAnnotation": provenance_annotation(provenance(patch_map, threshold)),
    }  # fmt: skip
    with writing(path) as temporary:
        tifffile.imwrite(
            temporary, channels, ome=True, metadata=metadata, photometric="minisblack", tile=(TILE, TILE),
            compression="adobe_deflate",
        )  # fmt: skip
    return Path(path)


def _ome_colour(colour: RGB) -> int:
    """Return a colour as OME writes it: 0xRRGGBBAA as a signed number."""
    red, green, blue = colour
    return int.from_bytes(bytes((red, green, blue, 255)), "big", signed=True)
