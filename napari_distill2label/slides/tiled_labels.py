"""Pixels of a label image, decoded tile by tile where they are asked for: memory does not grow with the image."""

import math
import os
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tifffile

from ..core.errors import CohortError
from ..core.events import Progress, Task
from .backends.files import SharedFile
from .backends.protocol import reason_of
from .backends.tiff_level import Segments, check_segments, key_of, piece_of

if TYPE_CHECKING:
    from .backends.omezarr import LabelArray

CACHE_BYTES = 2**28  # of decoded tiles: 512 rows of 500,000 px
ZARR_PIECE = 2048  # px; smaller chunks are read together
MOST_PIXELS = 2**40  # an image of 1,000,000 px each way
TILES_PER_EVENT = 16

_MEMORY_SHARE = 0.5  # of this computer's, that a label image may fill


class Tile(NamedTuple):
    """A tile within an image: where it begins, and its pixels (h, w). Those of one value have strides of 0."""

    top: int
    left: int
    pixels: np.ndarray
    key: Hashable  # tiles with one key are equal


class TiledLabels:
    """A plane of whole numbers.

    Attributes
    ----------
    shape
        (height, width).
    dtype
        An unsigned or signed integer, or bool.

    Parameters
    ----------
    tile
        (height, width) of what is decoded at once.
    decode
        Returns the pixels of a tile by its row and column among tiles; it may be larger than what lies in the image.
    key
        Tiles of one key are equal. None: each has one of its own.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: np.dtype[Any],
        tile: tuple[int, int],
        decode: Callable[[int, int], np.ndarray],
        path: object = "the label image",
        key: Callable[[int, int], Hashable] | None = None,
    ) -> None:
        if dtype.kind not in "uib":
            raise ValueError(f"a mask is one channel of whole numbers, this is {shape} {dtype}")
        if math.prod(shape) > MOST_PIXELS:
            raise ValueError(f"it claims {shape[1]} × {shape[0]} px, more than a slide has")
        self.shape, self.dtype, self._tile, self._path = shape, dtype, tile, path
        self._decode, self._key = decode, key or (lambda row, col: (row, col))
        self._kept: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._left = CACHE_BYTES

    @classmethod
    def of(cls, labels: np.ndarray, path: object = "the label image") -> "TiledLabels":
        """Return labels (h, w) in memory as such pixels."""
        if labels.ndim != 2:
            raise ValueError(f"a mask is one channel of whole numbers, this is {labels.shape} {labels.dtype}")
        shape = (labels.shape[0], labels.shape[1])
        made = cls(shape, labels.dtype, (max(1, shape[0]), max(1, shape[1])), lambda row, col: labels, path)
        made._kept[0, 0] = labels
        return made

    def at(self, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
        """(len(ys), len(xs)) labels of the pixels in ascending rows and columns; 0 outside of the image."""
        out = np.zeros((len(ys), len(xs)), self.dtype)
        rows, columns = (
            _parts(*each) for each in ((ys, self._tile[0], self.shape[0]), (xs, self._tile[1], self.shape[1]))
        )
        for row, of_rows, in_rows in rows:
            for col, of_columns, in_columns in columns:
                pixels = self._pixels(row, col)
                if isinstance(in_rows, slice) or isinstance(in_columns, slice):
                    out[of_rows, of_columns] = pixels[in_rows][:, in_columns]
                else:
                    out[of_rows, of_columns] = pixels[in_rows[:, None], in_columns]
        return out

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """(h, w) labels of a region; 0 outside of the image."""
        return self.at(np.arange(y, y + h), np.arange(x, x + w))

    def whole(self) -> np.ndarray:
        """(height, width). `CohortError` if it does not leave this computer enough memory."""
        try:
            check_memory(self.shape, self.dtype.itemsize)
        except ValueError as error:
            raise CohortError(f"{self._path}: this mask cannot be read ({error})") from None
        return self.read(0, 0, *self.shape)

    def as_type(self, dtype: np.dtype[Any]) -> "TiledLabels":
        """Return the same pixels as another type, which must hold their values."""
        return TiledLabels(
            self.shape, dtype, self._tile, lambda row, col: self._decode(row, col).astype(dtype), self._path, self._key
        )

    def tiles(self) -> Iterator[Tile]:
        """Yield all tiles from the top down, and from left to right."""
        (height, width), (high, wide) = self.shape, self._tile
        for row in range(-(-height // high)):
            for col in range(-(-width // wide)):
                top, left = row * high, col * wide
                inside = min(high, height - top), min(wide, width - left)
                yield Tile(top, left, self._pixels(row, col)[: inside[0], : inside[1]], (self._key(row, col), inside))

    def values(self, name: str | None = None) -> Generator[Progress, None, set[int]]:
        """Return the values that occur. A generator of its progress, of the slide `name`."""
        found, seen = set[int](), set[Hashable]()
        for number, tile in enumerate(self.tiles()):
            if tile.key not in seen:
                seen.add(tile.key)
                found |= _values_of(tile.pixels)
            if number % TILES_PER_EVENT == 0:
                yield Progress(Task.READ_MARKS, tile.top, self.shape[0], name)
        return found

    def _pixels(self, row: int, col: int) -> np.ndarray:
        key = self._key(row, col)
        pixels = self._kept.get(key)
        if pixels is not None:
            self._kept.move_to_end(key)
            return pixels
        try:
            pixels = self._decode(row, col)
        except MemoryError:
            raise
        except Exception as error:  # whatever a decoder raises for a file that is cut short or of another kind
            raise CohortError(f"{self._path}: this mask cannot be read ({reason_of(error)[:160]})") from error
        first = pixels[:1, :1]
        if pixels.size and (pixels == first).all():
            pixels = np.broadcast_to(first.copy(), pixels.shape)
        elif pixels.base is not None:
            pixels = pixels.copy()
        self._kept[key] = pixels
        self._left -= _bytes_of(pixels)
        while self._left < 0 and len(self._kept) > 1:
            self._left += _bytes_of(self._kept.popitem(last=False)[1])
        return pixels


def check_memory(shape: tuple[int, int], itemsize: int) -> None:
    """`ValueError` for an image that would not leave this computer enough memory."""
    size, memory = math.prod(shape) * itemsize, math.inf
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > _MEMORY_SHARE * memory:
        raise ValueError(f"its {size / 1e9:.0f} GB do not fit into memory; areas can be given as GeoJSON")


def pixels_of_tiff(path: Path, level: tifffile.TiffPageSeries) -> TiledLabels:
    """Return the pixels of a level of a TIFF. The file may be closed then; it is opened where they are read."""
    page = level.pages[0]
    if page is None:
        raise ValueError("its pixels are in another file")
    key = key_of(page)
    planes, depth, height, width, samples = key.shaped
    if len(level.pages) != 1 or planes * depth * samples != 1 or key.dtype is None:
        raise ValueError(f"a mask is one channel of whole numbers, this is {level.shape} {level.dtype}")
    check_segments(path, [page])
    dtype, tile, file = np.dtype(key.dtype), piece_of(key), SharedFile(path)
    segments, across = Segments(page, tile), -(-width // tile[1])

    def decode(row: int, col: int) -> np.ndarray:
        with file.reading():
            data = segments.bytes_of(file, row * across + col)
        if data is None:
            return np.broadcast_to(np.zeros((), dtype), tile)
        # JPEG's pixels are valid until the next one is decoded.
        return segments.decode(data, row * across + col)[..., 0].astype(dtype)

    def place(row: int, col: int) -> Hashable:
        number = row * across + col
        return int(segments.offsets[number]), int(segments.counts[number])

    return TiledLabels((height, width), dtype, tile, decode, path, place)


def pixels_of_zarr(path: Path, found: "LabelArray") -> TiledLabels:
    """Return the pixels of a level of an OME-Zarr."""
    tile = tuple(-(-ZARR_PIECE // chunk) * chunk if chunk < ZARR_PIECE else chunk for chunk in found.chunks)

    def decode(row: int, col: int) -> np.ndarray:
        return found.read(row * tile[0], col * tile[1], *tile)

    return TiledLabels(found.shape, np.dtype(found.array.dtype), (tile[0], tile[1]), decode, path)


Part = tuple[int, slice, slice | np.ndarray]


def _parts(places: np.ndarray, size: int, whole: int) -> list[Part]:
    """Return for ascending places along an axis: number of the tile, which of them lie in it, and where there."""
    first, last = np.searchsorted(places, (0, whole))
    numbers = places[first:last] // size
    changes = (np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist()
    found: list[Part] = []
    for start, stop in pairwise([0, *changes, len(numbers)]) if len(numbers) else ():
        number = int(numbers[start])
        inside = places[first + start : first + stop] - number * size
        in_a_row = bool((np.diff(inside) == 1).all())
        where = slice(int(inside[0]), int(inside[-1]) + 1) if in_a_row else inside
        found.append((number, slice(int(first) + start, int(first) + stop), where))
    return found


def _bytes_of(pixels: np.ndarray) -> int:
    return 0 if pixels.strides == (0, 0) else pixels.nbytes


def _values_of(labels: np.ndarray) -> set[int]:
    if labels.strides == (0, 0):
        return {int(labels[0, 0])}
    if labels.dtype.kind != "i" and labels.dtype.itemsize == 1:
        return set(np.flatnonzero(np.bincount(labels.astype(np.uint8, copy=False).ravel())).tolist())
    return set(np.unique(labels).tolist())
