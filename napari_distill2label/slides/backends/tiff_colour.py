"""The meaning of the channels of a TIFF page (photometric interpretation), and their conversion to R, G and B."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import tifffile

from ...core.notices import Notice, NoticeCode
from .colour import from_cmyk, from_ycbcr, on_white

JPEG = (6, 7, 34892, 33007)

_GREY_INVERTED, _GREY, _RGB, _PALETTE, _INKS, _YCBCR = 0, 1, 2, 3, 5, 6
_CHANNELS = {_GREY_INVERTED: 1, _GREY: 1, _RGB: 3, _PALETTE: 1, _INKS: 4, _YCBCR: 3}
_ALPHA = {1: True, 2: False}  # ExtraSamples: whether the colour is already multiplied by the opacity
_CMYK = 1  # InkSet
_INK_SET, _LUMA, _BLACK_WHITE = 332, 529, 532  # tags
_NAMED = ({"r", "red"}, {"g", "green"}, {"b", "blue"})

ToRgb = Callable[[np.ndarray], np.ndarray]  # (h, w, channels) uint8 as decoded -> (h, w, 3) uint8


class NotRgbError(Exception):
    """The pixels cannot be shown as 8-bit RGB; the text describes them."""


class Colours(NamedTuple):
    """Conversion of a level's channels to R, G, B; `other` describes them if it is only a rendering."""

    to_rgb: ToRgb
    notice: Notice | None = None
    other: str = ""


def colours_of(key: tifffile.TiffPage, pages: int, names: Sequence[str] = ()) -> Colours:
    """Return the conversion for a level of `pages` pages like `key`; `names` are its channels' names in lower case.

    Raises
    ------
    NotRgbError
        The channels are not 8-bit grey or colour, or their meaning is unknown.
    """
    planes, depth, _, _, samples = key.shaped
    channels, photometric = pages * planes * samples, int(key.photometric)
    found = f"{channels} channel{'s' * (channels > 1)} of {key.bitspersample} bits, {_name_of(key)}"
    if names:
        found += f": {', '.join(names)}"
    if str(key.dtype) != "uint8" or key.bitspersample != 8 or depth != 1:
        raise NotRgbError(found)
    if pages > 1:
        if planes * samples > 1:
            raise NotRgbError(f"a stack of {pages} pictures, {found}")
        if channels != 3 or photometric not in (_GREY, _RGB):
            raise NotRgbError(found)
        return _three_planes(found, names)
    if key.compression in JPEG and planes == 1 and channels == 3 and photometric != _INKS:
        return Colours(_as_it_is)  # libjpeg has converted it to R, G, B
    wanted = _CHANNELS.get(photometric)
    if wanted is None:
        raise NotRgbError(found)
    if photometric == _GREY and channels == 3:
        return _three_planes(found, names)
    colours = _colours(key, photometric, wanted, found)
    if channels == wanted:
        return colours
    extra = key.extrasamples
    if channels == wanted + 1 and len(extra) == 1 and extra[0] in _ALPHA:
        return colours._replace(
            to_rgb=partial(_without_alpha, to_rgb=colours.to_rgb, n=wanted, premultiplied=_ALPHA[extra[0]])
        )
    if channels == 4 and photometric == _RGB:
        return Colours(_first_three, other=f"{found}, a fourth channel that the file does not explain")
    raise NotRgbError(found)


def _name_of(key: tifffile.TiffPage) -> str:
    return getattr(key.photometric, "name", f"photometric interpretation {key.photometric}").lower()


def _three_planes(found: str, names: Sequence[str]) -> Colours:
    """Return the colours of three grey pictures: R, G, B if they have these names in this order, else a rendering."""
    if len(names) == 3 and all(name in allowed for name, allowed in zip(names, _NAMED, strict=True)):
        return Colours(_as_it_is)
    return Colours(_as_it_is, other=f"{found}{'' if names else ', and nothing says that they are red, green and blue'}")


def _colours(key: tifffile.TiffPage, photometric: int, wanted: int, found: str) -> Colours:
    """Return the conversion of the first `wanted` channels."""
    if photometric in (_GREY, _GREY_INVERTED):
        return Colours(partial(_grey, inverted=photometric == _GREY_INVERTED))
    if photometric == _PALETTE:
        return _palette(key, found)
    if photometric == _INKS:
        if key.tags.valueof(_INK_SET, _CMYK) != _CMYK:
            raise NotRgbError(f"{found}, inks other than cyan, magenta, yellow and black")
        return Colours(from_cmyk, Notice(NoticeCode.CMYK))
    if photometric == _YCBCR:
        if key.is_subsampled or key.compression in tifffile.TIFF.IMAGE_COMPRESSIONS:
            raise NotRgbError(f"{found}, with compression {getattr(key.compression, 'name', key.compression)}")
        red, green, blue = _rationals(key, _LUMA, (0.299, 0.587, 0.114))
        luma = (red, green, blue)
        reference = _rationals(key, _BLACK_WHITE, (0, 255, 128, 255, 128, 255))
        if 0 in luma or any(black == white for black, white in zip(reference[::2], reference[1::2], strict=True)):
            raise NotRgbError(f"{found}, with coefficients that cannot be")
        return Colours(
            partial(from_ycbcr, luma=luma, reference=reference),
            Notice(NoticeCode.YCBCR),
        )
    return Colours(_as_it_is)


def _palette(key: tifffile.TiffPage, found: str) -> Colours:
    table = key.colormap
    if table is None or table.shape != (3, 256):
        raise NotRgbError(f"{found}, without its table of 256 colours")
    if table.max() < 256:  # instead of 65535: several programs write it so
        return Colours(
            partial(_looked_up, table=np.ascontiguousarray(table.T.astype(np.uint8))),
            Notice(NoticeCode.PALETTE_8_BIT),
        )
    return Colours(partial(_looked_up, table=np.ascontiguousarray((table.T >> 8).astype(np.uint8))))


def _rationals(key: tifffile.TiffPage, tag: int, default: tuple[float, ...]) -> tuple[float, ...]:
    """Return the numbers of a tag of fractions, or the standard's default if it is missing or has another length."""
    value = key.tags.valueof(tag)
    if value is None or len(value) != 2 * len(default) or 0 in value[1::2]:
        return default
    numbers = tuple(n / d for n, d in zip(value[::2], value[1::2], strict=True))
    return numbers if all(map(math.isfinite, numbers)) else default


def _as_it_is(pixels: np.ndarray) -> np.ndarray:
    return pixels


def _first_three(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[..., :3])


def _grey(pixels: np.ndarray, inverted: bool) -> np.ndarray:
    return np.repeat(255 - pixels if inverted else pixels, 3, axis=2)


def _looked_up(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    colours: np.ndarray = table[pixels[..., 0]]
    return colours


def _without_alpha(pixels: np.ndarray, to_rgb: ToRgb, n: int, premultiplied: bool) -> np.ndarray:
    """Return a conversion of `n` colour channels and one of opacity to colours on white."""
    return on_white(to_rgb(pixels[..., :n]), pixels[..., n : n + 1], premultiplied)
