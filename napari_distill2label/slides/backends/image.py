"""BMP, PNG, JPEG and JPEG 2000 through Pillow: small images, decoded whole when they are opened.

They never state a trustworthy µm/px: the 72 or 96 dpi in PNG's pHYs and JPEG's JFIF header are screen defaults.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import BmpImagePlugin, Image, ImageFile, Jpeg2KImagePlugin, JpegImagePlugin, PngImagePlugin

from ...core.errors import SlideError
from ...core.notices import Notice, NoticeCode
from .colour import from_cmyk, on_white
from .headers import JPEG_2000, Codestream, codestream
from .protocol import ArrayLevel, Source, not_brightfield

# First bytes of a file. Pillow alone would choose among some forty formats and run other programs for some of them.
_READERS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": Jpeg2KImagePlugin.Jpeg2KImageFile,
    JPEG_2000: Jpeg2KImagePlugin.Jpeg2KImageFile,  # a bare codestream
}
_MODES = ("RGB", "RGBA", "RGBX", "L", "LA", "P", "PA", "1", "YCbCr", "CMYK")  # they become RGB without loss of meaning
_MOST_PX = 100_000_000  # px; decoding needs 7 bytes per pixel
_MOST_TILE_PX = 25_000_000  # px of a tile of JPEG 2000, which needs 12 more bytes per pixel
_MOST_TILES = 10_000  # of JPEG 2000
_ROWS = 256  # rows that are converted at once
_ORIENTATION = 0x0112  # EXIF


def open_source(path: Path) -> Source:
    """Decode an image as RGB: grey, palettes, transparency (on white) and inks are converted.

    The image is shown as it is stored. As in QuPath, EXIF's orientation is reported but not applied, so that positions
    agree.

    Raises
    ------
    SlideError
        The image is not 8-bit grey or colour, or too large to be decoded at once. Anything Pillow raises means that the
        file is damaged.
    """
    with path.open("rb") as file:
        head = file.read(12)
    reader = next((each for begin, each in _READERS.items() if head.startswith(begin)), None)
    if reader is None:
        raise ValueError("it begins like no BMP, PNG, JPEG or JPEG 2000")
    with reader(path) as image:
        _check(path, image)
        image.load()  # a truncated file raises here; later it would be a half grey picture
        pixels, notice = _on_white(image) if _has_alpha(image) else (_opaque(image), None)
        notices = (notice, _inks(image), _turned(image))
        icc = image.info.get("icc_profile") if image.mode != "CMYK" else None
    return Source([ArrayLevel(pixels)], notices=tuple(filter(None, notices)), icc=icc)


def _check(path: Path, image: ImageFile.ImageFile) -> None:
    """`SlideError` for an image that is not 8-bit grey or colour, or too large. Nothing is decoded yet."""
    width, height = image.size
    depths: tuple[int, ...] = (8,)
    tile_px = 0
    if image.format == "JPEG2000":
        siz = _siz(path, image.size)
        depths, tile_px = siz.depths, min(siz.tile_width, width) * min(siz.tile_height, height)
    if width * height > _MOST_PX or tile_px > _MOST_TILE_PX:
        raise SlideError(
            f"{path}: {width} × {height} px, too large to decode at once ({_MOST_PX / 1e6:.0f} million px are read"
            f"{f', {_MOST_TILE_PX / 1e6:.0f} of a tile' if tile_px else ''}): convert it to a tiled, pyramidal OME-TIFF"
        )
    # Pillow silently reads 16-bit colours as 8-bit; only the raw mode of its decoder shows it.
    deep = any(";16" in str(tile[3]) for tile in image.tile) or any(depth != 8 for depth in depths)
    if image.mode not in _MODES or deep:
        bits = f", {max(depths) if max(depths) != 8 else 16} bits" if deep else ""
        raise SlideError(not_brightfield(path, f"mode {image.mode}{bits}"))
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise SlideError(not_brightfield(path, f"an animation of {frames} pictures"))


def _siz(path: Path, size: tuple[int, int]) -> Codestream:
    """Return the codestream header of JPEG 2000; `ValueError` if the file's header contradicts it."""
    with path.open("rb") as file:
        found = codestream(file.read(1_000_000))
    if found is None or (found.width, found.height) != size or not min(found.tile_width, found.tile_height):
        raise ValueError("its pixels are not those that its header speaks of")
    if size[0] * size[1] > _MOST_TILES * found.tile_width * found.tile_height:
        raise ValueError(f"it is cut into more than {_MOST_TILES} tiles")
    return found


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _opaque(image: Image.Image) -> np.ndarray:
    """(h, w, 3) uint8."""
    if image.mode == "CMYK":
        return _converted(image, lambda part: from_cmyk(np.asarray(part)))
    return np.array(image) if image.mode == "RGB" else _converted(image, lambda part: np.asarray(part.convert("RGB")))


def _on_white(image: Image.Image) -> tuple[np.ndarray, Notice | None]:
    """Return (h, w, 3) uint8 and a notice; an image that would be invisible is treated as opaque."""
    if image.mode in ("RGBA", "LA", "PA") and image.getchannel("A").getextrema() == (0, 0):
        pixels = _converted(image, lambda part: np.asarray(part.convert("RGBA"))[..., :3])
        return pixels, Notice(NoticeCode.TRANSPARENT)

    def lay(part: Image.Image) -> np.ndarray:
        rgba = np.asarray(part.convert("RGBA"))
        return on_white(rgba[..., :3], rgba[..., 3:])

    return _converted(image, lay), None


def _converted(image: Image.Image, convert: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """Convert to (h, w, 3) uint8 in strips, which needs the memory of one image only."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _ROWS):
        bottom = min(top + _ROWS, height)
        pixels[top:bottom] = convert(image.crop((0, top, width, bottom)))
    return pixels


def _inks(image: Image.Image) -> Notice | None:
    return Notice(NoticeCode.CMYK) if image.mode == "CMYK" else None


def _turned(image: Image.Image) -> Notice | None:
    turned = 1
    with suppress(Exception):  # the picture is shown even if its metadata cannot be read
        turned = image.getexif().get(_ORIENTATION, 1)
    return None if turned == 1 else Notice(NoticeCode.AS_STORED, {"orientation": int(turned), "by": "EXIF"})
