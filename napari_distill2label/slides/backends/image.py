"""BMP, PNG, JPEG and JPEG 2000 through Pillow: small images, decoded whole when they are opened.

They never state a trustworthy µm/px: the 72 or 96 dpi in PNG's pHYs and JPEG's JFIF header are screen defaults.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import BmpImagePlugin, Image, ImageFile, Jpeg2KImagePlugin, JpegImagePlugin, PngImagePlugin

from ...core.errors import SlideError
from .colour import from_cmyk, on_white
from .protocol import ArrayLevel, Source, not_brightfield

# By how a file begins. Pillow's own choice among some forty formats would run other programs for some of them.
_READERS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": Jpeg2KImagePlugin.Jpeg2KImageFile,
    b"\xff\x4f\xff\x51": Jpeg2KImagePlugin.Jpeg2KImageFile,  # a bare codestream
}
_CODESTREAM = b"\xff\x4f\xff\x51"  # SOC and SIZ, how JPEG 2000's codestream begins
_MODES = ("RGB", "RGBA", "RGBX", "L", "LA", "P", "PA", "1", "YCbCr", "CMYK")  # they become RGB without loss of meaning
_MOST_PX = 100_000_000  # decoded at 7 bytes each
_MOST_TILE_PX = 25_000_000  # of JPEG 2000, which takes 12 bytes for each of a tile besides
_ROWS = 256  # converted at once
_ORIENTATION = 0x0112  # EXIF


def open_source(path: Path) -> Source:
    """Decode an image. Grey is repeated, palettes are looked up, what is transparent lies on white, inks are colours.

    It is shown as stored: EXIF's orientation is told and not applied, as in QuPath, so that positions agree.

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
        image.load()  # a truncated file is an error here, not half a grey picture later
        pixels, notice = _on_white(image) if _has_alpha(image) else (_opaque(image), "")
        notices = (notice, _inks(image), _turned(image))
        icc = image.info.get("icc_profile") if image.mode != "CMYK" else None
    return Source([ArrayLevel(pixels)], notices=tuple(filter(None, notices)), icc=icc)


def _check(path: Path, image: ImageFile.ImageFile) -> None:
    """`SlideError` for what is not 8-bit grey or colour, or takes too much memory; nothing has been decoded yet."""
    width, height = image.size
    depths, tile_px = [8], 0
    if image.format == "JPEG2000":
        depths, tile_px, size = _codestream(path)
        if size != image.size:
            raise ValueError(f"its header says {width} × {height} px and its pixels {size[0]} × {size[1]}")
    if width * height > _MOST_PX or tile_px > _MOST_TILE_PX:
        raise SlideError(
            f"{path}: {width} × {height} px, too large to decode at once ({_MOST_PX / 1e6:.0f} million px are read"
            f"{f', {_MOST_TILE_PX / 1e6:.0f} of a tile' if tile_px else ''}): convert it to a tiled, pyramidal OME-TIFF"
        )
    # Pillow reads 16-bit colours as 8-bit without a word; only the raw mode of its decoder tells.
    deep = any(";16" in str(tile[3]) for tile in image.tile) or any(depth != 8 for depth in depths)
    if image.mode not in _MODES or deep:
        bits = f", {max(depths) if max(depths) != 8 else 16} bits" if deep else ""
        raise SlideError(not_brightfield(path, f"mode {image.mode}{bits}"))
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise SlideError(not_brightfield(path, f"an animation of {frames} pictures"))


def _codestream(path: Path) -> tuple[list[int], int, tuple[int, int]]:
    """(bits of each channel, pixels of a tile, (width, height)) by the marker SIZ of JPEG 2000."""
    with path.open("rb") as file:
        data = file.read(1_000_000)
    start = data.find(_CODESTREAM)
    siz = data[start + len(_CODESTREAM) :]
    if start < 0 or len(siz) < 38:
        raise ValueError("no JPEG 2000 codestream in it")
    # Lsiz, Rsiz (2 bytes each); X, Y, XO, YO, XT, YT, XTO, YTO (4 each); number of channels (2); 3 bytes of each
    right, bottom, left, top, tile_width, tile_height = (int.from_bytes(siz[4 + 4 * i : 8 + 4 * i]) for i in range(6))
    channels = int.from_bytes(siz[36:38])
    depths = [(value & 0x7F) + 1 if value < 0x80 else -1 for value in siz[38 : 38 + 3 * channels : 3]]
    size = (right - left, bottom - top)
    return depths, min(tile_width, size[0]) * min(tile_height, size[1]), size


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _opaque(image: Image.Image) -> np.ndarray:
    """(h, w, 3) uint8."""
    if image.mode == "CMYK":
        return _converted(image, lambda part: from_cmyk(np.asarray(part)))
    return np.array(image) if image.mode == "RGB" else _converted(image, lambda part: np.asarray(part.convert("RGB")))


def _on_white(image: Image.Image) -> tuple[np.ndarray, str]:
    """(h, w, 3) uint8 and a notice; an image that would be invisible is taken to be opaque."""
    if image.mode in ("RGBA", "LA", "PA") and image.getchannel("A").getextrema() == (0, 0):
        pixels = _converted(image, lambda part: np.asarray(part.convert("RGBA"))[..., :3])
        return pixels, "says that it is transparent everywhere: shown as if it were opaque"

    def lay(part: Image.Image) -> np.ndarray:
        rgba = np.asarray(part.convert("RGBA"))
        return on_white(rgba[..., :3], rgba[..., 3:])

    return _converted(image, lay), ""


def _converted(image: Image.Image, convert: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """(h, w, 3) uint8, converted in strips: the memory of one image, not of several."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _ROWS):
        bottom = min(top + _ROWS, height)
        pixels[top:bottom] = convert(image.crop((0, top, width, bottom)))
    return pixels


def _inks(image: Image.Image) -> str:
    if image.mode != "CMYK":
        return ""
    return "stored as inks (CMYK): turned into R, G, B by the plain formula, no press's profile"


def _turned(image: Image.Image) -> str:
    turned = 1
    with suppress(Exception):  # metadata that cannot be read are no reason not to show the picture
        turned = image.getexif().get(_ORIENTATION, 1)
    return f"is to be turned or mirrored (orientation {turned} of EXIF) and shown as stored" if turned != 1 else ""
