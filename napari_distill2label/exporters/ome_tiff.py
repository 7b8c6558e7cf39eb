"""Label mask at level 0: tiled, deflate-compressed OME-TIFF with a pyramid and the physical size of a pixel.

Values are the labels': 0 not scored, 1 + class index otherwise; names and colours are in an OME MapAnnotation.
Tiles are computed as they are written, so memory does not grow with the slide.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ..core.geometry import Mpp
from ..core.paths import LABELS_NAMESPACE
from ..core.text import printable
from ..store.files.atomic import Writing, atomic_path
from .mask import Mask

TILE = 512  # px
SMALLEST_LEVEL = 1024  # px: below this on the longer side, a pyramid ends
# Offsets of a classic TIFF have 32 bits. Deflate can only help, and a pyramid adds a third.
BIGTIFF_FROM = 3 * 2**30


def write_mask(
    path: str | Path,
    mask: Mask,
    names: Mapping[int, str],
    mpp: Mpp | None = None,
    title: str = "labels",
    writing: Writing = atomic_path,
) -> Path:
    """Write a `Mask` as OME-TIFF.

    Parameters
    ----------
    names
        What the values mean, as in {0: "not scored", 1: "normal", 2: "metastasis"}.
    mpp
        (y, x) µm per pixel of level 0; None: unknown, and not claimed in the file.
    title
        The image's name in the file.
    """
    levels = _levels(mask.shape)
    safe = {value: printable(name) for value, name in names.items()}  # XML has no control characters
    metadata: dict[str, Any] = {
        "axes": "YX",
        "Name": printable(title),
        "Description": f"Patch labels of napari-distill2label, for research use only. Values: {_describe(safe)}",
        "MapAnnotation": {
            "Namespace": LABELS_NAMESPACE,
            **{str(value): name for value, name in safe.items()},
            "classes": json.dumps({str(value): name for value, name in names.items()}, ensure_ascii=safe != names),
        },
    }
    options: dict[str, Any] = {
        "dtype": np.uint8,
        "tile": (TILE, TILE),
        "compression": "adobe_deflate",
        "photometric": "minisblack",
        "resolutionunit": "CENTIMETER" if mpp is not None else None,
        "maxworkers": 2,
    }
    if mpp is not None:
        metadata |= {"PhysicalSizeY": float(mpp[0]), "PhysicalSizeYUnit": "µm"}
        metadata |= {"PhysicalSizeX": float(mpp[1]), "PhysicalSizeXUnit": "µm"}
    height, width = mask.shape
    with (
        writing(path) as temporary,
        tifffile.TiffWriter(temporary, bigtiff=height * width > BIGTIFF_FROM, ome=True) as tiff,
    ):
        for level, step in enumerate(levels):
            extra: dict[str, Any] = {"subfiletype": 1}
            if level == 0:
                extra = {"metadata": metadata, "subifds": len(levels) - 1}
            shape = (-(-height // step), -(-width // step))
            tiff.write(_tiles(mask, shape, step), shape=shape, resolution=_resolution(mpp, step), **extra, **options)
    return Path(path)


def _levels(shape: tuple[int, int]) -> list[int]:
    """Down-sampling of each level: 1, 2, 4, … until the longer side is below `SMALLEST_LEVEL`."""
    levels = [1]
    while max(shape) / levels[-1] >= SMALLEST_LEVEL:
        levels.append(2 * levels[-1])
    return levels


def _tiles(mask: Mask, shape: tuple[int, int], step: int) -> Iterator[np.ndarray]:
    """Tiles of one level in the order TIFF wants. Nearest neighbour: labels cannot be averaged."""
    for top in range(0, shape[0], TILE):
        ys = (np.arange(top, top + TILE)) * step + step // 2
        for left in range(0, shape[1], TILE):
            # Tiles are full-sized, and what lies outside the slide is 0 by itself.
            yield mask.at(
                _clip_to_slide(ys, shape[0], step, mask.shape[0]),
                _clip_to_slide(np.arange(left, left + TILE) * step + step // 2, shape[1], step, mask.shape[1]),
            )


def _clip_to_slide(pixels: np.ndarray, count: int, step: int, size: int) -> np.ndarray:
    """The last pixel of a level may be centred just past the slide when `step` does not divide it: pull it in."""
    last = (pixels >= size) & (pixels < count * step)
    return np.where(last, size - 1, pixels)


def _resolution(mpp: Mpp | None, step: int) -> tuple[float, float] | None:
    """TIFF's own (x, y) resolution in pixels per centimetre, for readers that know no OME."""
    return None if mpp is None else (1e4 / (mpp[1] * step), 1e4 / (mpp[0] * step))


def _describe(names: Mapping[int, str]) -> str:
    return ", ".join(f"{value} {name}" for value, name in names.items())
