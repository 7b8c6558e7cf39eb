"""Label mask as a PNG with the colours of the classes: its pixel values are the labels, as in the OME-TIFF."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ..core.classes import RGB
from ..core.errors import SettingsError
from ..core.geometry import Mpp
from ..core.text import printable
from ..store.files.atomic import Writing, atomic_path
from .mask import LabelPixels
from .png import texts_of

MOST_PX = 2**28  # of a picture in memory; larger slides are reduced
NOT_SCORED: RGB = (255, 255, 255)


def write_mask_png(
    path: str | Path,
    mask: LabelPixels,
    names: Mapping[int, str],
    colours: Mapping[int, RGB],
    about: Mapping[str, object] | None = None,
    writing: Writing = atomic_path,
    mpp: Mpp | None = None,
) -> Path:
    """Write a mask as large as level 0, or reduced by 2, 4, … (nearest neighbour) if it has more than `MOST_PX`.

    The texts of the file: `classes` (JSON: what the values mean), `mpp` ((y, x) µm per pixel of the picture),
    `downsample`, `provenance` (JSON, `about`). Values above 255 have no colours. `SettingsError` above 65,535.
    """
    if mask.dtype.itemsize > 2:
        raise SettingsError(f"{path}: a PNG holds values below 65,536, and there are larger ones")
    step = reduction_of_png(mask.shape)
    ys, xs = (np.minimum(np.arange(0, size, step) + step // 2, size - 1) for size in mask.shape)
    if mask.dtype == np.uint8:
        picture = Image.fromarray(mask.at(ys, xs), mode="P")
        palette = (colours.get(value, NOT_SCORED) for value in range(max(names, default=0) + 1))
        picture.putpalette([part for colour in palette for part in colour])
    else:
        picture = Image.fromarray(mask.at(ys, xs))
    classes = {value: printable(name) for value, name in names.items()}
    scale = None if mpp is None else [step * mpp[0], step * mpp[1]]
    texts = texts_of(classes=classes, mpp=scale, downsample=step, provenance=about)
    with writing(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=texts)
    return Path(path)


def reduction_of_png(shape: tuple[int, int]) -> int:
    """Return by how much a mask of a slide is reduced, along each axis."""
    step = 1
    while shape[0] * shape[1] > MOST_PX * step**2:
        step *= 2
    return step
