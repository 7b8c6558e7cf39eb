"""Label mask as a PNG with the colours of the classes: its pixel values are the labels, as in the OME-TIFF."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ..core.classes import RGB
from ..core.text import printable
from ..store.files.atomic import Writing, atomic_path
from .mask import Mask
from .png import texts_of

MOST_PX = 2**28  # of a picture in memory; larger slides are reduced
NOT_SCORED: RGB = (255, 255, 255)


def write_mask_png(
    path: str | Path,
    mask: Mask,
    names: Mapping[int, str],
    colours: Mapping[int, RGB],
    about: Mapping[str, object] | None = None,
    writing: Writing = atomic_path,
) -> Path:
    """Write a mask as large as level 0, or reduced by 2, 4, … (nearest neighbour) if it has more than `MOST_PX`.

    The texts of the file: `classes` (JSON: what the values mean), `downsample`, `provenance` (JSON, `about`).
    """
    step = 1
    while mask.shape[0] * mask.shape[1] > MOST_PX * step**2:
        step *= 2
    ys, xs = (np.minimum(np.arange(0, size, step) + step // 2, size - 1) for size in mask.shape)
    picture = Image.fromarray(mask.at(ys, xs), mode="P")
    palette = (colours.get(value, NOT_SCORED) for value in range(max(names) + 1))
    picture.putpalette([part for colour in palette for part in colour])
    classes = {value: printable(name) for value, name in names.items()}
    texts = texts_of(classes=classes, downsample=step, provenance=about)
    with writing(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=texts)
    return Path(path)
