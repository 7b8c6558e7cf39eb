"""Plain, tiled and pyramidal TIFF, Aperio SVS, NDPI, QPTIFF and OME-TIFF: read by tifffile, decoded by `tiff_level`.

The file is closed again once it is known where its tiles are. Files with rules of their own that tifffile does not
know (Philips' padded levels, Leica's and Ventana's shifted areas) are left to OpenSlide.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile

from ...core.errors import SlideError
from ...core.geometry import Mpp
from ...core.names import LABELS_NAMESPACE
from ..mpp import UM_PER_UNIT
from .files import SharedFile
from .protocol import NotHereError, Source, dark_background, not_brightfield
from .tiff_level import JPEG, TiffLevel

# What is wrong with a file is said once, in our error, not beforehand by tifffile on the terminal.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_ICC, _NDPI_FILTER = 34675, 65434  # tags
_APERIO_YCBCR = 33003  # with fewer colour than brightness pixels, which imagecodecs does not read
_ASSOCIATED = ("label", "macro", "thumbnail", "overview", "map")
_ELSEWHERE = {"philips": "Philips", "scn": "Leica SCN", "bif": "Ventana"}


def open_source(path: Path) -> Source:
    """Open the first image of a TIFF with its pyramid, and note what else is in it.

    Raises
    ------
    SlideError
        It is not 8-bit grey or RGB, or parts of it lie beyond the end of the file.
    NotHereError
        Another backend reads it better.
    """
    file = SharedFile(path)
    with tifffile.TiffFile(path) as tiff:
        if LABELS_NAMESPACE in (tiff.ome_metadata or ""):
            raise SlideError(f"{path}: is a label mask that this program wrote, not a slide")
        kind = next((name for flag, name in _ELSEWHERE.items() if getattr(tiff, f"is_{flag}")), None)
        if kind is not None:
            raise NotHereError(kind)
        series = tiff.series[0]
        if series.keyframe.compression == _APERIO_YCBCR:
            raise NotHereError("Aperio JPEG 2000 in Y, Cb, Cr")
        levels, other = [], ""
        for level in series.levels:
            pages = [page for page in level.pages if page is not None]
            other = _check_pixels(path, tiff, pages, len(level.pages)) or other
            _check_complete(path, pages)
            levels.append(TiffLevel(pages, file))
        return Source(
            levels,
            _mpp(tiff, series),
            close=lambda: [level.forget() for level in levels],
            reading=file.reading,
            associated={name: partial(_associated, path, index) for name, index in _associated_series(tiff)},
            icc=series.keyframe.tags.valueof(_ICC),
            probe=file.probe,
            other_than_brightfield=other or (_fluorescence(series, levels) if tiff.is_ndpi else ""),
        )


def _associated_series(tiff: tifffile.TiffFile) -> Iterator[tuple[str, int]]:
    """Names and numbers of the images that are not the slide itself; 8-bit grey or RGB only."""
    for index, series in enumerate(tiff.series[1:], 1):
        name = series.name.lower()
        small = series.dtype == np.uint8 and (series.ndim == 2 or (series.ndim == 3 and series.shape[2] in (3, 4)))
        if name in _ASSOCIATED and small:
            yield name, index


def _associated(path: Path, index: int) -> np.ndarray:
    """(h, w, 3) uint8. `SlideError` if it cannot be read."""
    try:
        with tifffile.TiffFile(path) as tiff:
            pixels = tiff.series[index].asarray()
    except Exception as error:  # a decoder may raise anything
        raise SlideError(f"{path}: this image beside the slide cannot be read: {error}") from error
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels[..., :3]


def _fluorescence(series: tifffile.TiffPageSeries, levels: Sequence[TiffLevel]) -> str:
    """What Hamamatsu's fluorescence images are: a filter is named, or they are dark where there is nothing."""
    filter_name = str(series.keyframe.tags.valueof(_NDPI_FILTER, "")).strip("\0 ")
    return f"fluorescence, filter {filter_name}" if filter_name else dark_background(levels)


def _check_pixels(path: Path, tiff: tifffile.TiffFile, pages: Sequence[tifffile.TiffPage], expected: int) -> str:
    """What 8-bit RGB or three channels are other than brightfield, else ""; `SlideError` if they are not that."""
    if len(pages) != expected or not pages:
        raise SlideError(f"{path}: some of its pages are missing or in other files: convert it to one OME-TIFF")
    key = pages[0].keyframe
    planes, depth, _, _, samples = key.shaped
    channels = len(pages) * planes * samples
    photometric = getattr(key.photometric, "name", str(key.photometric)).lower()
    found = f"{channels} channel{'s' * (channels > 1)} of {key.bitspersample} bits, {photometric}"
    grey_or_rgb = key.photometric in (0, 1, 2, 3, 6) or key.compression in JPEG
    if str(key.dtype) != "uint8" or key.bitspersample != 8 or depth != 1 or not grey_or_rgb:
        raise SlideError(not_brightfield(path, found))
    if len(pages) > 1 or (channels > 1 and key.photometric != 2 and key.compression not in JPEG):
        # Grey channels side by side: RGB only if there are three and nothing says that they are something else.
        names = _channel_names(tiff, pages)
        what = f"{found}{': ' + ', '.join(names) if names else ''}"
        if channels != 3:
            raise SlideError(not_brightfield(path, what))
        return what if names and {name[:1] for name in names} != {"r", "g", "b"} else ""
    if channels > 4:
        raise SlideError(not_brightfield(path, found))
    return ""


def _check_complete(path: Path, pages: Sequence[tifffile.TiffPage]) -> None:
    """A file cut short in copying is said at once, not after an hour of work."""
    for page in pages:
        ends = np.asarray(page.dataoffsets, np.int64) + np.asarray(page.databytecounts, np.int64)
        missing = int((ends > page.parent.filehandle.size).sum())
        if missing:
            raise SlideError(f"{path}: truncated, {missing} of its {len(ends)} tiles are missing: copy the file again")


def _mpp(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Mpp | None:
    """(y, x) µm per pixel as stated by Aperio's description, OME-XML, ImageJ or the resolution tags, in this order."""
    page = series.levels[0].pages[0].keyframe
    if tiff.is_svs and (found := re.search(r"\bMPP\s*=\s*([\d.]+)", page.description)):
        return float(found[1]), float(found[1])
    if tiff.is_ome:
        return _ome_mpp(tiff.ome_metadata)
    if tiff.is_imagej:
        unit = str((tiff.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ").lower()
    else:
        unit = {2: "inch", 3: "cm", 4: "mm", 5: "µm"}.get(int(page.resolutionunit), "")
    x, y = page.resolution
    # One pixel per inch is how "unknown" is written.
    if unit not in UM_PER_UNIT or not (x > 0 and y > 0) or (x == y == 1 and unit in ("inch", "cm")):
        return None
    return UM_PER_UNIT[unit] / y, UM_PER_UNIT[unit] / x


def _ome_pixels(xml: str | None) -> ElementTree.Element | None:
    return ElementTree.fromstring(xml).find(".//{*}Pixels") if xml else None


def _ome_mpp(xml: str | None) -> Mpp | None:
    """PhysicalSizeY and X of the first image; their default unit is µm."""
    pixels = _ome_pixels(xml)
    if pixels is None:
        return None
    sizes = []
    for axis in "YX":
        unit = UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if unit is None or pixels.get(f"PhysicalSize{axis}") is None:
            return None
        sizes.append(float(pixels.get(f"PhysicalSize{axis}")) * unit)
    return tuple(sizes)


def _channel_names(tiff: tifffile.TiffFile, pages: Sequence[tifffile.TiffPage]) -> list[str]:
    """Lower-case names of the channels, as OME-XML or PerkinElmer's descriptions have them; empty where they do not."""
    if tiff.is_qpi:
        found = (re.search(r"<(?:Biomarker|Name)>([^<]+)<", str(page.aspage().description)) for page in pages)
        return [name[1].strip().lower() for name in found if name]
    pixels = _ome_pixels(tiff.ome_metadata) if tiff.is_ome else None
    names = [] if pixels is None else [channel.get("Name", "") for channel in pixels.findall("{*}Channel")]
    return [name.lower() for name in names if name]
