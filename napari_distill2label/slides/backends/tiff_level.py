"""Tiles and strips of a TIFF, decoded on demand.

One thread of the shared pool reads (`pread`), decodes and pastes each of them. tifffile finds and decodes them; JPEG,
the compression of nearly all slides, goes directly to libjpeg-turbo (imagecodecs), into memory that each thread reuses:
new memory for every tile costs a quarter of the time.
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

from ...core.errors import SlideError
from ..threads import for_each, without_pool
from .files import SharedFile
from .finer import in_level, shrunk
from .headers import declared_px
from .protocol import Box, UndecodableError, overlap
from .tiff_colour import JPEG, ToRgb

_WHOLE = 16_000_000  # px; untiled levels up to this size are decoded once and cached (48 MB)

_PLAIN_BYTES = 4_000_000  # bytes that are read at once from a single uncompressed strip
_MOST_BYTES = 300_000_000  # bytes of pixels in one tile or strip
_FEW_PX, _MOST_DENSE = 10**9, 5000  # px of a level; bytes of pixels per byte of a file with more than these

_CACHE_BYTES = 64_000_000
# Two bytes that no scan of a JPEG contains: libjpeg shows grey from there on without an error.
_NO_MARKER = re.compile(rb"\xff[\x02-\xbf\xde\xdf\xf0-\xfd]")
_END = b"\xff\xd9"

_kept = threading.local()

Page = tifffile.TiffPage | tifffile.TiffFrame
Decoded = tuple[np.ndarray | None, tuple[int, ...], tuple[int, ...]]  # pixels, their place and shape in the page


class _Part(NamedTuple):
    """A tile or strip of one colour plane: its position in the file and the channels that show it."""

    segments: "Segments"
    number: int
    first_channel: int
    box: Box


class Segments:
    """All segments of one page: its tiles or strips, or groups of rows of a single uncompressed strip.

    `piece` is their (height, width): `piece_of`.
    """

    def __init__(self, page: Page, piece: tuple[int, int]) -> None:
        key = key_of(page)
        self.offsets = np.asarray(page.dataoffsets, np.int64)
        self.counts = np.asarray(page.databytecounts, np.int64)
        _, _, height, width, samples = key.shaped
        if not key.is_tiled and piece[0] < min(key.rowsperstrip, height):
            dtype = np.dtype(key.dtype).newbyteorder(page.parent.byteorder)
            starts, row = np.arange(0, height, piece[0]), width * samples * dtype.itemsize
            self.offsets = (self.offsets[:, None] + starts * row).ravel()
            lengths = np.minimum(height - starts, piece[0]) * row
            self.counts = (lengths * (self.counts[:, None] > 0)).ravel()
            self.decode: Decoder = lambda data, _: np.frombuffer(data, dtype).reshape(-1, width, samples)
        else:
            self.decode = _decoder(page, key)

    def bytes_of(self, file: SharedFile, index: int) -> bytes | None:
        """Return a segment; None for a tile that the scanner left out."""
        offset, count = int(self.offsets[index]), int(self.counts[index])
        return file.at(offset, count) if offset and count else None


def key_of(page: Page) -> tifffile.TiffPage:
    """Return the page whose tags describe `page`: for a frame another one, else itself."""
    key = page.keyframe
    if key is None:
        raise ValueError("no tags describe one of its pages")
    return key


Decoder = Callable[[bytes, int], np.ndarray]  # bytes and number of a segment -> (h, w, samples), perhaps padded


def _decoder(page: Page, key: tifffile.TiffPage) -> Decoder:
    """Return a decoder that needs no file. A JPEG's pixels are valid until the same thread decodes the next one."""
    decode = key.decode  # reads the file when it is made, not when it is called
    most_px = 4 * math.prod(piece_of(key)) + 10**6  # some writers pad tiles, but never to a hundred times their size
    if key.compression in JPEG:
        return _jpeg_decoder(page, key, decode, most_px)
    if key.compression in tifffile.TIFF.IMAGE_COMPRESSIONS:  # their own headers state the number of pixels

        def decode_picture(data: bytes, index: int) -> np.ndarray:
            _check_declared(data, most_px)
            return _plane(decode(data, index))

        return decode_picture
    return lambda data, index: _plane(decode(data, index))


def _plane(decoded: Decoded) -> np.ndarray:
    """Return the pixels (h, w, samples) of what tifffile has decoded, which has one plane."""
    planes = decoded[0]
    if planes is None:
        raise ValueError("it holds no pixels")
    pixels: np.ndarray = planes[0]
    return pixels


def _jpeg_decoder(page: Page, key: tifffile.TiffPage, decode: Callable[..., Decoded], most_px: int) -> Decoder:
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
            _check_declared(data, most_px)
        return _plane(decode(data, index, **options))

    return decode_other_jpeg


def _check_declared(data: bytes, most_px: int) -> None:
    if declared_px(data) > most_px:
        raise ValueError(f"it claims {declared_px(data)} px")


def _decode_jpeg(
    data: bytes, _: int, shape: tuple[int, int, int], tables: bytes | None, colours: tuple[int | None, int | str | None]
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
    """Find a scan that is cut short or overwritten, which libjpeg ignores. A few wrong bytes are not found."""
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
    """Cache of decoded tiles that were used in part: the next region needs the rest. The oldest are removed first."""

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
    """One resolution: one page of colours or grey, or three grey pages that are R, G and B.

    Tiles that the scanner left out (byte count 0) are filled from the next finer level, because some scanners leave out
    tiles of coarser levels only. Such tiles of level 0 are white, as the glass around them: the file itself marks them
    as empty, which no damage in copying does.

    Parameters
    ----------
    to_rgb
        Conversion of the decoded channels.
    finer
        The next finer level; None for level 0.
    """

    def __init__(
        self, pages: Sequence[Page], file: SharedFile, to_rgb: ToRgb, finer: "TiffLevel | None" = None
    ) -> None:
        key = key_of(pages[0])
        self._file, self._to_rgb, self._finer = file, to_rgb, finer
        self._planes, _, height, width, self._samples = key.shaped
        self.shape = (height, width)
        self.tile = piece_of(key)
        self._segments = [Segments(page, self.tile) for page in pages]
        self._across = math.ceil(width / self.tile[1])
        self._down = math.ceil(height / self.tile[0])
        self._keep = not key.is_tiled and (height * width <= _WHOLE or math.prod(self.tile) > _WHOLE)
        self._whole: np.ndarray | None = None
        self._lock = threading.Lock()

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """See `PixelLevel.read`."""
        whole = self._decoded_once()
        return self._rgb(y, x, h, w) if whole is None else whole[y : y + h, x : x + w]

    def _decoded_once(self) -> np.ndarray | None:
        """Return all pixels of a level that is kept whole. None: it is read in parts, since it is large or damaged."""
        if not self._keep:
            return None
        with self._lock, without_pool():
            if self._keep and self._whole is None:
                try:
                    self._whole = self._rgb(0, 0, *self.shape)
                except UndecodableError:
                    self._keep = False  # what lies in whole strips can be read
            return self._whole

    def forget(self) -> None:
        """Drop the cached pixels."""
        for segments in self._segments:
            _cache.forget(segments)

    def _rgb(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """Return (h, w, 3) from the tiles that the region touches, each decoded once."""
        pixels, left_out, damaged = self._decode(y, x, h, w)
        rgb = self._to_rgb(pixels)
        for box in left_out:
            top, left, bottom, right = overlap(box, (y, x, h, w))
            try:
                rgb[top - y : bottom - y, left - x : right - x] = self._filled((top, left, bottom - top, right - left))
            except UndecodableError as error:
                damaged.append((box, error))
        if damaged:
            damaged.sort(key=lambda found: found[0])
            boxes = dict.fromkeys(box for box, _ in damaged)  # a place may be damaged in several planes
            raise UndecodableError(str(damaged[0][1]), list(boxes)) from damaged[0][1]
        return rgb

    def _decode(self, y: int, x: int, h: int, w: int) -> tuple[np.ndarray, list[Box], list[tuple[Box, Exception]]]:
        """Return (h, w, channels) of the file, the boxes of left-out tiles, and those of damaged ones."""
        out = np.empty((h, w, len(self._segments) * self._planes * self._samples), np.uint8)
        left_out: dict[Box, None] = {}
        damaged: list[tuple[Box, Exception]] = []

        def paste(part: _Part) -> None:
            top, left, bottom, right = overlap(part.box, (y, x, h, w))
            channels = slice(part.first_channel, part.first_channel + self._samples)
            where = out[top - y : bottom - y, left - x : right - x, channels]
            key = (part.segments, part.number)
            try:
                pixels = _cache.get(key)
                if pixels is None:
                    data = part.segments.bytes_of(self._file, part.number)
                    if data is None:
                        where[...] = 0  # a placeholder: `_filled` replaces it
                        left_out[part.box] = None
                        return
                    pixels = part.segments.decode(data, part.number)
                    if (bottom - top, right - left) != part.box[2:]:
                        _cache.put(key, pixels)
                begin_y, begin_x = top - part.box[0], left - part.box[1]
                where[...] = pixels[begin_y : begin_y + bottom - top, begin_x : begin_x + right - left]
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001  a codec may raise anything
                damaged.append((part.box, error))

        with self._file.reading():  # perhaps inside the reading of a larger region
            for_each(paste, self._parts(y, x, h, w))
        return out, list(left_out), damaged

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

    def _filled(self, box: Box) -> np.ndarray:
        """Return (h, w, 3) of a place where tiles were left out."""
        if self._finer is None:
            return np.full((*box[2:], 3), 255, np.uint8)
        return shrunk(self._finer, self.shape, box, self._finer.is_empty)

    def is_empty(self, box: Box) -> bool:
        """Whether all tiles of a region were left out, in this level and in all finer ones."""
        y, x, h, w = box
        th, tw = self.tile
        rows, cols = slice(y // th, -(-(y + h) // th)), slice(x // tw, -(-(x + w) // tw))
        for segments in self._segments:
            if segments.counts.reshape(self._planes, self._down, self._across)[:, rows, cols].any():
                return False
        return self._finer is None or self._finer.is_empty(in_level(box, self.shape, self._finer.shape))


def piece_of(key: tifffile.TiffPage) -> tuple[int, int]:
    """Return (height, width) of a unit of decoding: a tile, a strip, or rows of a single uncompressed strip."""
    if key.is_tiled:
        return key.tilelength, key.tilewidth
    height, width = key.imagelength, key.imagewidth
    rows = min(key.rowsperstrip, height)
    if rows == height and _is_plain(key):
        rows = max(1, min(height, _PLAIN_BYTES // max(1, width * key.shaped[-1] * key.bitspersample // 8)))
    return rows, width


def _is_plain(key: tifffile.TiffPage) -> bool:
    return key.compression == 1 and key.predictor == 1 and key.fillorder == 1 and key.bitspersample % 8 == 0


def check_layout(path: object, pages: Sequence[Page]) -> None:
    """Raise `SlideError` for an impossible page of a slide: see `check_segments`, or more pixels than a file can hold.

    So a file that was copied only in part is reported at once, not after an hour of work.
    """
    check_segments(path, pages)
    for page in pages:
        size = page.parent.filehandle.size
        planes, _, height, width, samples = key_of(page).shaped
        if height * width > _FEW_PX and height * width * planes * samples > _MOST_DENSE * size:
            raise SlideError(
                f"{path}: claims {width} × {height} px in a file of {size / 1e6:.3g} MB: damaged, or not a slide"
            )


def check_segments(path: object, pages: Sequence[Page]) -> None:
    """Raise `SlideError` for a page whose tiles lie beyond the end of the file, or are too few or too large."""
    for page in pages:
        key, size = key_of(page), page.parent.filehandle.size
        planes, _, height, width, samples = key.shaped
        th, tw = (key.tilelength, key.tilewidth) if key.is_tiled else (min(key.rowsperstrip, height), width)
        if min(height, width, th, tw) < 1:
            raise SlideError(f"{path}: damaged, an image of {width} × {height} px in tiles of {tw} × {th} px")
        expected = planes * math.ceil(height / th) * math.ceil(width / tw)
        offsets, counts = np.asarray(page.dataoffsets, np.int64), np.asarray(page.databytecounts, np.int64)
        if not len(offsets) == len(counts) == expected:
            raise SlideError(f"{path}: damaged, {len(offsets)} of {expected} tiles are said where to find")
        missing = int(((offsets + counts > size) | (offsets < 0) | (counts < 0)).sum())
        if missing:
            raise SlideError(f"{path}: truncated, {missing} of its {expected} tiles are missing: copy the file again")
        piece = math.prod(piece_of(key)) * samples * max(1, key.bitspersample // 8)
        if piece > _MOST_BYTES:
            raise SlideError(
                f"{path}: stored in pieces of {tw} × {th} px, of which each takes {piece / 1e9:.1f} GB to read: "
                "convert it to a tiled OME-TIFF"
            )
