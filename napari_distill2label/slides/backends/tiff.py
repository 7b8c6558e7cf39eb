"""Plain, tiled and pyramidal TIFF, Aperio SVS, NDPI, QPTIFF and OME-TIFF: read by tifffile, decoded by `tiff_level`.

The file is closed as soon as the positions of its tiles are known. OpenSlide reads files with rules that tifffile does
not know: Philips' padded levels, Leica's and Ventana's shifted areas.
"""

import logging
import math
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile

from ...core.errors import SlideError
from ...core.geometry import Mpp
from ...core.notices import Notice, NoticeCode
from ...core.paths import LABELS_NAMESPACE
from ..scale import UM_PER_UNIT, parse_number
from .files import SharedFile
from .protocol import Source, WrongBackendError, dark_background, not_brightfield, reason_of
from .tiff_colour import Colours, NotRgbError, colours_of
from .tiff_level import Page, TiffLevel, check_layout
from .tiff_series import beside, check_pages, main_series
from .xml import check_xml

# Our error reports what is wrong with a file; tifffile must not print it to the terminal before.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_ORIENTATION, _ICC, _NDPI_FILTER = 274, 34675, 65434  # tags
_APERIO_YCBCR = 33003  # JPEG 2000 with subsampled colour, which imagecodecs does not read
_ELSEWHERE = {"philips": "Philips", "scn": "Leica SCN", "bif": "Ventana"}
_SPREAD = "some of its pages are missing or in other files: convert it to one OME-TIFF"
_CHANNEL_AXES = "CIQ"  # channels, and pages of unknown meaning
_COLOURS = {"-16776961": "red", "16711935": "green", "65535": "blue"}  # OME's R, G, B, A in a signed whole number
_COUNTS = ("SizeC", "SizeZ", "SizeT", "PlaneCount", "NumPlanes")  # of OME-XML
_MOST_PLANES = 100_000
_MOST_BESIDE = 100_000_000  # bytes of pixels of an associated image


def open_source(path: Path) -> Source:
    """Open the slide of a TIFF with its pyramid, and its associated images.

    Raises
    ------
    SlideError
        It is not 8-bit grey or colour, has no slide, has an impossible header, or parts of it lie beyond the end of the
        file.
    WrongBackendError
        Another backend reads it better.
    """
    file = SharedFile(path)
    with tifffile.TiffFile(path) as tiff:
        check_pages(path, tiff)
        _check_description(path, tiff.pages.first.description)
        if LABELS_NAMESPACE in (tiff.ome_metadata or ""):
            raise SlideError(f"{path}: is a label mask that this program wrote, not a slide")
        kind = next((name for flag, name in _ELSEWHERE.items() if getattr(tiff, f"is_{flag}")), None)
        if kind is not None:
            raise WrongBackendError(kind)
        chosen, which = main_series(path, tiff)
        series = tiff.series[chosen]
        if series.keyframe.compression == _APERIO_YCBCR:
            raise WrongBackendError("Aperio JPEG 2000 in Y, Cb, Cr")
        levels, colours = _levels(path, file, tiff, series)

        def forget() -> None:
            for level in levels:
                level.forget()

        notices = [which, colours.notice, _turned(series)]
        return Source(
            levels,
            _mpp(tiff, chosen),
            close=forget,
            reading=file.reading,
            associated={name: partial(_associated, path, index) for index, name in _associated_series(tiff, chosen)},
            notices=tuple(filter(None, notices)),
            icc=series.keyframe.tags.valueof(_ICC),
            probe=file.probe,
            other_than_brightfield=colours.other or (_fluorescence(series, levels) if tiff.is_ndpi else ""),
        )


def _check_description(path: Path, description: str) -> None:
    """Raise `SlideError` for XML that would take too long to read, or whose pixels are in other files."""
    if "<" not in description[:100]:
        return
    check_xml(description)
    if not description[-10:].strip().endswith("OME>"):
        return
    ome = ElementTree.fromstring(description)
    if ome.find("{*}BinaryOnly") is not None:
        raise SlideError(f"{path}: {_SPREAD}")
    for element in ome.iter():
        counts = [int(element.get(name, 1)) for name in _COUNTS if element.get(name, "1").isdecimal()]
        if math.prod(counts) > _MOST_PLANES:
            raise SlideError(f"{path}: claims to hold {math.prod(counts)} planes: damaged, or not a slide")


def _levels(
    path: Path, file: SharedFile, tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> tuple[list[TiffLevel], Colours]:
    """Return all levels of an image, finest first, and the meaning of its channels."""
    levels: list[TiffLevel] = []
    for level in series.levels:
        pages = _pages(path, tiff, level)
        try:
            colours = colours_of(level.keyframe, len(pages), _channel_names(tiff, pages, series))
        except NotRgbError as error:
            raise SlideError(not_brightfield(path, str(error))) from None
        check_layout(path, pages)
        levels.append(TiffLevel(pages, file, colours.to_rgb, levels[-1] if levels else None))
        if len(levels) == 1:
            of_level_0 = colours
    return levels, of_level_0


def _pages(path: Path, tiff: tifffile.TiffFile, level: tifffile.TiffPageSeries) -> list[Page]:
    """Return the pages of a level: one, or grey ones that may be channels. `SlideError` for stacks and other files."""
    pages = [page for page in level.pages if page is not None]
    if not pages or len(pages) != len(level.pages) or any(page.parent is not tiff for page in pages):
        raise SlideError(f"{path}: {_SPREAD}")
    stack = {axis: size for axis, size in zip(level.axes, level.shape, strict=True) if axis not in "YXS" and size > 1}
    planar = len(pages) == 1 and math.prod(stack.values()) == level.keyframe.shaped[0]  # its own planes
    unordered = stack.keys() <= set(_CHANNEL_AXES) and len(pages) == math.prod(stack.values())
    if stack and not (planar or unordered):
        axes = ", ".join(f"{axis} {size}" for axis, size in stack.items())
        raise SlideError(not_brightfield(path, f"a stack along axes other than y and x: {axes}"))
    return pages


def _turned(series: tifffile.TiffPageSeries) -> Notice | None:
    turned = int(series.keyframe.tags.valueof(_ORIENTATION, 1))
    return None if turned == 1 else Notice(NoticeCode.AS_STORED, {"orientation": turned, "by": "TIFF"})


def _associated_series(tiff: tifffile.TiffFile, chosen: int) -> Iterator[tuple[int, str]]:
    """Return numbers and names of the associated images; 8-bit grey or RGB only."""
    for index, series in enumerate(tiff.series):
        plain = series.dtype == np.uint8 and (series.ndim == 2 or (series.ndim == 3 and series.shape[2] in (3, 4)))
        small = plain and math.prod(series.shape) <= _MOST_BESIDE
        name = beside(series)
        if index != chosen and name and small:
            yield index, name


def _associated(path: Path, index: int) -> np.ndarray:
    """Read an image as (h, w, 3) uint8. `SlideError` if it cannot be read."""
    try:
        with tifffile.TiffFile(path) as tiff:
            pixels = tiff.series[index].asarray()
    except Exception as error:  # a decoder may raise anything
        raise SlideError(f"{path}: this image beside the slide cannot be read: {reason_of(error)}") from error
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels[..., :3]


def _fluorescence(series: tifffile.TiffPageSeries, levels: Sequence[TiffLevel]) -> str:
    """Describe a fluorescence image of Hamamatsu: its filter, or its dark background; "" for a brightfield image."""
    filter_name = str(series.keyframe.tags.valueof(_NDPI_FILTER, "")).strip("\0 ")
    return f"fluorescence, filter {filter_name}" if filter_name else dark_background(levels)


def _mpp(tiff: tifffile.TiffFile, chosen: int) -> Mpp | None:
    """Return (y, x) µm per pixel from Aperio's description, OME-XML, ImageJ or the resolution tags, in this order."""
    page = tiff.series[chosen].keyframe
    if tiff.is_svs and (found := re.search(r"\bMPP\s*=\s*([^|\r\n]*)", page.description)):
        return parse_number(found[1]), parse_number(found[1])
    if tiff.is_ome:
        return _ome_mpp(_ome_pixels(tiff, chosen))
    if tiff.is_imagej:
        unit = str((tiff.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ").lower()
    else:
        unit = {2: "inch", 3: "cm", 4: "mm", 5: "µm"}.get(int(page.resolutionunit), "")
    try:
        x, y = page.resolution
    except (ZeroDivisionError, TypeError, ValueError):  # 0 / 0, or no pair of numbers
        return None
    # One pixel per inch means "unknown".
    if (
        unit not in UM_PER_UNIT
        or not (0 < x < math.inf and 0 < y < math.inf)
        or (x == y == 1 and unit in ("inch", "cm"))
    ):
        return None
    return UM_PER_UNIT[unit] / y, UM_PER_UNIT[unit] / x


def _ome_pixels(tiff: tifffile.TiffFile, index: int) -> ElementTree.Element | None:
    """Return the <Pixels> of an image in OME-XML; None if it cannot be identified."""
    if tiff.ome_metadata is None:
        return None
    found = ElementTree.fromstring(tiff.ome_metadata).findall("{*}Image/{*}Pixels")
    return found[index] if len(found) == len(tiff.series) else (found[0] if found and index == 0 else None)


def _ome_mpp(pixels: ElementTree.Element | None) -> Mpp | None:
    """Return PhysicalSizeY and X. Their default unit is µm."""
    if pixels is None:
        return None
    sizes = []
    for axis in "YX":
        unit = UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if unit is None or pixels.get(f"PhysicalSize{axis}") is None:
            return None
        sizes.append(parse_number(pixels.get(f"PhysicalSize{axis}")) * unit)
    y, x = sizes
    return y, x


def _channel_names(tiff: tifffile.TiffFile, pages: Sequence[Page], series: tifffile.TiffPageSeries) -> list[str]:
    """Return lower-case names of the channels from OME-XML or PerkinElmer's descriptions; empty if there are none.

    A channel of OME-XML without a name that is shown in pure red, green or blue has the name of that colour.
    """
    if tiff.is_qpi:
        found = (re.search(r"<(?:Biomarker|Name)>([^<]+)<", str(page.aspage().description)) for page in pages)
        return [name[1].strip().lower() for name in found if name]
    pixels = _ome_pixels(tiff, tiff.series.index(series)) if tiff.is_ome else None
    channels = [] if pixels is None else pixels.findall("{*}Channel")
    names = [channel.get("Name") or _COLOURS.get(channel.get("Color", ""), "") for channel in channels]
    return [name.lower() for name in names if name]
