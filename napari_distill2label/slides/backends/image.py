"""BMP, PNG and JPEG through Pillow: small images, decoded whole when they are opened.

They never state a trustworthy µm/px: the 72 or 96 dpi in PNG's pHYs and JPEG's JFIF header are screen defaults.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from ...core.errors import SlideError
from .protocol import ArrayLevel, Source, not_brightfield

_AS_RGB = ("RGB", "RGBA", "RGBX", "L", "LA", "P", "PA", "1", "YCbCr")  # modes that become RGB without loss of meaning


def open_source(path: Path) -> Source:
    """Decode an image. Grey is repeated, alpha dropped, palettes looked up; EXIF rotation is not applied.

    Raises
    ------
    SlideError
        The image is not 8-bit grey or RGB. Anything Pillow raises means that the file is damaged.
    """
    try:
        with Image.open(path) as image:
            # Pillow reads 16-bit RGB PNG as 8-bit without a word; only the raw mode of its decoder tells.
            raw = " ".join(str(tile[3]) for tile in image.tile)
            if image.mode not in _AS_RGB or ";16" in raw:
                raise SlideError(not_brightfield(path, f"mode {image.mode}{', 16 bits' if ';16' in raw else ''}"))
            image.load()  # a truncated file is an error here, not half a grey picture later
            pixels = np.asarray(image.convert("RGB"))
    except Image.DecompressionBombError:
        raise SlideError(f"{path}: too large to decode at once: convert it to a tiled, pyramidal OME-TIFF") from None
    return Source([ArrayLevel(pixels)])
