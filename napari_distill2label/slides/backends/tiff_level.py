"""Tiles and strips of a TIFF, decoded where they are asked for.

Each is read (`pread`), decoded and pasted by one thread of the shared pool. tifffile says where they are and how they
are decoded; JPEG, what nearly all slides are, goes to libjpeg-turbo (imagecodecs) directly, into memory that each
thread keeps: fresh memory for every tile costs a quarter of the time.
"""

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import imagecodecs
import numpy as np
import tifffile

from ..threads import alone, each
from .files import SharedFile
from .protocol import Box, UndecodableError

JPEG = (6, 7, 34892, 33007)
_WHOLE = 16_000_000  # px; untiled levels up to here are decoded once and kept (48 MB)

_CACHE_BYTES = 64_000_000
# Two bytes that no scan of a JPEG holds: libjpeg shows grey from there on and says nothing.
_NO_MARKER = re.compile(rb"\xff[\x02-\xbf\xde\xdf\xf0-\xfd]")
_END = b"\xff\xd9"

_kept = threading.local()


class _Part(NamedTuple):
    """A tile or strip of one colour plane: where it is in the file, and the channels it is shown in."""

    segments: "_Segments"
    index: int
    first_channel: int
    box: Box


class _Segments:
    """All tiles or strips of one page."""

    def __init__(self, page: tifffile.TiffPage) -> None:
        key = page.keyframe
        self.offsets = np.asarray(page.dataoffsets, np.int64)
        self.counts = np.asarray(page.databytecounts, np.int64)
        self.decode = _decoder(page, key)

    def bytes_of(self, file: SharedFile, index: int) -> bytes | None:
        """None for a tile that the scanner left out."""
        offset, count = int(self.offsets[index]), int(self.counts[index])
        return file.at(offset, count) if offset and count else None


Decoder = Callable[[bytes, int], np.ndarray]  # bytes and number of a segment -> (h, w, samples), perhaps padded


def _decoder(page: tifffile.TiffPage, key: tifffile.TiffPage) -> Decoder:
    """Needs no file any more. A JPEG's pixels are good only until the same thread decodes the next."""
    decode = key.decode  # looks into the file when it is made, not when it is called
    if key.compression not in JPEG:
        return lambda data, index: decode(data, index)[0][0]
    if key.compression == 7 and key.is_tiled and key.jpegheader is None and key.bitspersample == 8:
        shape = (key.tilelength, key.tilewidth, key.shaped[-1])
        colours = tifffile.tifffile.jpeg_decode_colorspace(
            key.photometric, key.planarconfig, key.extrasamples, key.is_jfif
        )
        return partial(_decode_jpeg, shape=shape, tables=page.jpegtables, colours=colours)
    options = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}

    def decode_other_jpeg(data: bytes, index: int) -> np.ndarray:
        if key.jpegheader is None:
            _check_jpeg(data)
        return decode(data, index, **options)[0][0]

    return decode_other_jpeg


def _decode_jpeg(
    data: bytes, _: int, shape: tuple[int, int, int], tables: bytes | None, colours: tuple[int | None, int | None]
) -> np.ndarray:
    _check_jpeg(data)
    arrays = _kept.__dict__.setdefault("arrays", {})
    if shape not in arrays:
        arrays.clear()
        arrays[shape] = np.empty(shape if shape[2] > 1 else shape[:2], np.uint8)
    out = imagecodecs.jpeg8_decode(
        data, tables=tables, colorspace=colours[0], outcolorspace=colours[1], out=arrays[shape]
    )
    return out.reshape(shape)


def _check_jpeg(data: bytes) -> None:
    """What libjpeg would pass over: a scan that is cut short or overwritten. A few wrong bytes are not found."""
    if data.rfind(_END, max(0, len(data) - 64)) < 0:
        raise ValueError("JPEG data cut short")
    position = 2
    while data[position : position + 1] == b"\xff":
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4])
        position += 2 + length
        if marker == 0xDA:
            break
    if _NO_MARKER.search(data, position):
        raise ValueError("corrupt JPEG data")


class _Cache:
    """Decoded tiles that were needed in part: the next region needs the rest. The oldest go first."""

    def __init__(self, size: int) -> None:
        self._left, self._lock = size, threading.Lock()
        self._kept: OrderedDict[tuple[object, int], np.ndarray] = OrderedDict()

    def get(self, key: tuple[object, int]) -> np.ndarray | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: tuple[object, int], pixels: np.ndarray) -> None:
        pixels = pixels.copy()
        with self._lock:
            if key not in self._kept and pixels.nbytes <= _CACHE_BYTES // 4:
                self._kept[key] = pixels
                self._left -= pixels.nbytes
            while self._left < 0:
                self._left += self._kept.popitem(last=False)[1].nbytes

    def forget(self, owner: object) -> None:
        with self._lock:
            for key in [key for key in self._kept if key[0] is owner]:
                self._left += self._kept.pop(key).nbytes


_cache = _Cache(_CACHE_BYTES)


class TiffLevel:
    """One resolution: one page of RGB(A) or grey, or three grey pages that are R, G and B.

    Tiles a scanner left out (byte count 0) are white, as the glass around them.
    """

    def __init__(self, pages: Sequence[tifffile.TiffPage], file: SharedFile) -> None:
        key = pages[0].keyframe
        self._file = file
        self._planes, _, height, width, self._samples = key.shaped
        self._segments = [_Segments(page) for page in pages]
        self.shape = (height, width)
        self.tile = (key.tilelength, key.tilewidth) if key.is_tiled else (min(key.rowsperstrip, height), width)
        self._across = math.ceil(width / self.tile[1])
        self._down = math.ceil(height / self.tile[0])
        self._colormap = key.colormap if key.photometric == tifffile.PHOTOMETRIC.PALETTE else None
        self._inverted = key.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        untiled_strip = height * width if math.prod(self.tile) > _WHOLE else _WHOLE
        self._keep = not key.is_tiled and height * width <= untiled_strip
        self._whole: np.ndarray | None = None
        self._lock = threading.Lock()

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """See `PixelLevel.read`."""
        if not self._keep:
            return self._rgb(self._decode(y, x, h, w))
        with self._lock, alone():
            if self._whole is None:
                self._whole = self._rgb(self._decode(0, 0, *self.shape))
        return self._whole[y : y + h, x : x + w]

    def forget(self) -> None:
        """Let go of what is kept of it in memory."""
        for segments in self._segments:
            _cache.forget(segments)

    def _rgb(self, pixels: np.ndarray) -> np.ndarray:
        """(h, w, 3) of all channels the file has."""
        if self._colormap is not None:
            return (self._colormap.T[pixels[..., 0]] >> 8).astype(np.uint8)
        if self._inverted:
            pixels = 255 - pixels
        if pixels.shape[2] == 3:
            return pixels
        return np.repeat(pixels[..., :1], 3, axis=2) if pixels.shape[2] < 3 else np.ascontiguousarray(pixels[..., :3])

    def _decode(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """(h, w, channels) from the tiles the region touches, each decoded once."""
        out = np.empty((h, w, len(self._segments) * self._planes * self._samples), np.uint8)
        damaged: list[tuple[Box, Exception]] = []

        def paste(part: _Part) -> None:
            top, left, height, width = part.box
            y0, y1 = max(top, y), min(top + height, y + h)
            x0, x1 = max(left, x), min(left + width, x + w)
            channels = slice(part.first_channel, part.first_channel + self._samples)
            where = out[y0 - y : y1 - y, x0 - x : x1 - x, channels]
            key = (part.segments, part.index)
            try:
                pixels = _cache.get(key)
                if pixels is None:
                    data = part.segments.bytes_of(self._file, part.index)
                    if data is None:
                        where[...] = 255
                        return
                    pixels = part.segments.decode(data, part.index)
                    if (y1 - y0, x1 - x0) != (height, width):
                        _cache.put(key, pixels)
                where[...] = pixels[y0 - top : y1 - top, x0 - left : x1 - left]
            except Exception as error:  # noqa: BLE001  a codec may raise anything
                damaged.append((part.box, error))

        with self._file.reading():  # of a larger region, perhaps, that is read in parts
            each(paste, self._parts(y, x, h, w))
        if damaged:
            damaged.sort(key=lambda found: found[0])
            boxes = dict.fromkeys(box for box, _ in damaged)  # once each, though it may be of several colour planes
            raise UndecodableError(str(damaged[0][1]), list(boxes)) from damaged[0][1]
        return out

    def _parts(self, y: int, x: int, h: int, w: int) -> list[_Part]:
        th, tw = self.tile
        parts = []
        for row in range(y // th, -(-(y + h) // th)):
            for col in range(x // tw, -(-(x + w) // tw)):
                top, left = row * th, col * tw
                box = (top, left, min(th, self.shape[0] - top), min(tw, self.shape[1] - left))
                for number, segments in enumerate(self._segments):
                    for plane in range(self._planes):
                        index = (plane * self._down + row) * self._across + col
                        parts.append(_Part(segments, index, (number * self._planes + plane) * self._samples, box))
        return parts
