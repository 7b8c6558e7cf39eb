"""Plain, tiled and pyramidal TIFF, Aperio SVS, NDPI and OME-TIFF through tifffile and imagecodecs.

Segments (tiles or strips) are decoded one by one by tifffile's own page decoder rather than through its zarr store:
the same pixels, several times faster, and an error names the region it came from.
"""

import logging
import math
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile

from ...core.errors import SlideError
from ...core.geometry import Mpp
from ...core.names import LABELS_NAMESPACE
from ..mpp import UM_PER_UNIT
from .protocol import Source, not_brightfield

# What is wrong with a file is said once, in our error, not beforehand by tifffile on the terminal.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_JPEG = (6, 7, 34892, 33007)
_WHOLE = 16_000_000  # px; untiled levels up to here are decoded once and kept (48 MB)


class TiffLevel:
    """One resolution: one page of RGB(A) or grey, or three grey pages that are R, G and B.

    Tiles a scanner left out (byte count 0) are white, as the glass around them.
    """

    def __init__(self, pages: Sequence[tifffile.TiffPage], lock: threading.RLock) -> None:
        self._pages, self._lock = pages, lock
        key = pages[0].keyframe
        self._planes, _, height, width, self._samples = key.shaped
        self.shape = (height, width)
        self.tile = (key.tilelength, key.tilewidth) if key.is_tiled else (min(key.rowsperstrip, height), width)
        self._across = math.ceil(width / self.tile[1])
        self._down = math.ceil(height / self.tile[0])
        self._colormap = key.colormap if key.photometric == tifffile.PHOTOMETRIC.PALETTE else None
        self._inverted = key.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        untiled_strip = height * width if math.prod(self.tile) > _WHOLE else _WHOLE
        self._keep = not key.is_tiled and height * width <= untiled_strip
        self._whole: np.ndarray | None = None

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """See `PixelLevel.read`."""
        if not self._keep:
            return self._decode(y, x, h, w)
        with self._lock:
            if self._whole is None:
                self._whole = self._decode(0, 0, *self.shape)
        return self._whole[y : y + h, x : x + w]

    def _decode(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        channels = [self._plane(page, plane, y, x, h, w) for page in self._pages for plane in range(self._planes)]
        pixels = channels[0] if len(channels) == 1 else np.concatenate(channels, axis=2)
        if self._colormap is not None:
            return (self._colormap.T[pixels[..., 0]] >> 8).astype(np.uint8)
        if self._inverted:
            pixels = 255 - pixels
        return np.repeat(pixels[..., :1], 3, axis=2) if pixels.shape[2] < 3 else pixels[..., :3]

    def _plane(self, page: tifffile.TiffPage, plane: int, y: int, x: int, h: int, w: int) -> np.ndarray:
        """(h, w, samples) of one colour plane of one page, from the segments the region touches."""
        out = np.empty((h, w, self._samples), np.uint8)
        th, tw = self.tile
        rows, cols = range(y // th, -(-(y + h) // th)), range(x // tw, -(-(x + w) // tw))
        first = plane * self._down * self._across
        indices = [first + row * self._across + col for row in rows for col in cols]
        key = page.keyframe
        options = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader} if key.compression in _JPEG else {}
        for index in indices:
            data = self._bytes(page, index)
            segment, (_, _, top, left, _), (_, height, width, _) = key.decode(data, index, **options)
            y0, y1 = max(top, y), min(top + height, y + h)
            x0, x1 = max(left, x), min(left + width, x + w)
            if segment is None:
                out[y0 - y : y1 - y, x0 - x : x1 - x] = 255
                continue
            out[y0 - y : y1 - y, x0 - x : x1 - x] = segment[0, y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    def _bytes(self, page: tifffile.TiffPage, index: int) -> bytes | None:
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if offset == 0 or count == 0:
            return None
        handle = page.parent.filehandle
        with self._lock:
            handle.seek(offset)
            data = handle.read(count)
        if len(data) < count:
            raise EOFError("the file ends here")
        return data


def open_source(path: Path) -> Source:
    """Open the first image of a TIFF with its pyramid; labels, macros and thumbnails are left aside.

    Raises
    ------
    SlideError
        It is not 8-bit grey or RGB, or parts of it lie beyond the end of the file.
    """
    tiff = tifffile.TiffFile(path)
    try:
        if LABELS_NAMESPACE in (tiff.ome_metadata or ""):
            raise SlideError(f"{path}: is a label mask that this program wrote, not a slide")
        series = tiff.series[0]
        lock = threading.RLock()
        levels = []
        for level in series.levels:
            pages = [page for page in level.pages if page is not None]
            _check_pixels(path, tiff, pages, len(level.pages))
            _check_complete(path, pages)
            levels.append(TiffLevel(pages, lock))
        return Source(levels, _mpp(tiff, series), tiff.close)
    except BaseException:
        tiff.close()
        raise


def _check_pixels(path: Path, tiff: tifffile.TiffFile, pages: Sequence[tifffile.TiffPage], expected: int) -> None:
    if len(pages) != expected or not pages:
        raise SlideError(f"{path}: some of its pages are missing or in other files: convert it to one OME-TIFF")
    key = pages[0].keyframe
    planes, depth, _, _, samples = key.shaped
    channels = len(pages) * planes * samples
    photometric = getattr(key.photometric, "name", str(key.photometric)).lower()
    found = f"{channels} channel{'s' * (channels > 1)} of {key.bitspersample} bits, {photometric}"
    grey_or_rgb = key.photometric in (0, 1, 2, 3, 6) or key.compression in _JPEG
    if str(key.dtype) != "uint8" or key.bitspersample != 8 or depth != 1 or not grey_or_rgb:
        raise SlideError(not_brightfield(path, found))
    if len(pages) > 1 or (channels > 1 and key.photometric != 2 and key.compression not in _JPEG):
        # Grey channels side by side: RGB only if there are three and nothing says that they are something else.
        names = _channel_names(tiff)
        if channels != 3 or (names and {name[:1] for name in names} != {"r", "g", "b"}):
            raise SlideError(not_brightfield(path, f"{found}{': ' + ', '.join(names) if names else ''}"))
    elif channels > 4:
        raise SlideError(not_brightfield(path, found))


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


def _channel_names(tiff: tifffile.TiffFile) -> list[str]:
    """Lower-case names of the OME channels; empty where they have none."""
    pixels = _ome_pixels(tiff.ome_metadata) if tiff.is_ome else None
    names = [] if pixels is None else [channel.get("Name", "") for channel in pixels.findall("{*}Channel")]
    return [name.lower() for name in names if name]
