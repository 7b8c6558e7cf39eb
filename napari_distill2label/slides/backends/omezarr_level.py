"""Chunks of an OME-Zarr level. zarr reads a missing chunk as blank, whether it was left out or is lost."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.core.sync import sync

from .colour import on_white
from .finer import in_level, shrunk
from .protocol import Box, UndecodableError, overlap

_BLANK = 8  # of 255; tolerance of a blank place in levels with lossy compression


@dataclass(frozen=True, eq=False)
class ZarrLevel:
    """One resolution of an image whose axes are any order of y, x and c, others having length 1.

    A missing chunk was left out because all its pixels are equal, or it is lost. The format does not distinguish the
    two, but the other levels show the same place. If the finer level has the pixels, they fill the chunk. If the
    coarser level is blank there, or no level has any pixels there, the chunk is blank. Otherwise, and if there is no
    other level, it is damaged.

    Attributes
    ----------
    levels
        All levels of the slide, finest first, including this one.
    """

    array: zarr.Array[Any]
    axes: str
    probe: Callable[[], object]
    levels: Sequence["ZarrLevel"]

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self._of_axes(self.array.shape)[:2]

    @property
    def tile(self) -> tuple[int, int]:
        """A chunk's (height, width)."""
        return self._of_axes(self.array.chunks)[:2]

    @property
    def n_chunks(self) -> int:
        """Return the number of files of the level if none is missing."""
        return math.prod(-(-size // part) for size, part in zip(self.array.shape, self._parts, strict=True))

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """See `PixelLevel.read`."""
        try:
            pixels = self._read(y, x, h, w)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  zarr, its codecs and a network may raise anything
            self.probe()
            damaged = list(self._damaged(y, x, h, w))
            if damaged:
                raise UndecodableError(damaged[0][1], [box for box, _ in damaged]) from None
            pixels = self._read(y, x, h, w)  # a second try succeeded
        self.probe()  # missing chunks read as blank, and so do all chunks of a folder that is gone
        rgb = _rgb(pixels)
        lost = []
        for box in self._missing(pixels, y, x, h, w):
            top, left, bottom, right = overlap(box, (y, x, h, w))
            found = self._elsewhere((top, left, bottom - top, right - left))
            if found is None:
                lost.append(box)
            else:
                rgb[top - y : bottom - y, left - x : right - x] = found
        if lost:
            raise UndecodableError("a chunk is missing, and the other levels do not show that it is blank", lost)
        return rgb

    # ---- stored pixels --------------------------------------------------------------------------------------------

    def _read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """(h, w, channels)."""
        cut = {"y": slice(y, y + h), "x": slice(x, x + w), "c": slice(None)}
        pixels = np.asarray(self.array[tuple(cut.get(axis, 0) for axis in self.axes)])
        left = [axis for axis in self.axes if axis in cut]
        pixels = np.transpose(pixels, [left.index(axis) for axis in "yxc" if axis in left])
        return pixels if pixels.ndim == 3 else pixels[..., None]

    def _damaged(self, y: int, x: int, h: int, w: int) -> Iterator[tuple[Box, str]]:
        """Return the chunks that cannot be read, and the reasons."""
        for box in _boxes(self.shape, self.tile, y, x, h, w):
            try:
                self._read(*box)
            except Exception as error:  # noqa: BLE001  a codec may raise anything
                yield box, str(error) or type(error).__name__

    # ---- missing chunks -------------------------------------------------------------------------------------------

    @property
    def _parts(self) -> tuple[int, ...]:
        """Return the shape of the data in one file: a chunk, or a shard of chunks."""
        return self.array.shards or self.array.chunks

    @property
    def _blank(self) -> int:
        """Return the value of missing pixels."""
        return int(self.array.fill_value or 0)

    def _of_axes(self, sizes: Sequence[int]) -> tuple[int, int, int]:
        """Select (y, x, c) from the sizes of all axes; 1 for an axis that the array lacks."""
        y, x, c = (sizes[self.axes.index(axis)] if axis in self.axes else 1 for axis in "yxc")
        return y, x, c

    def _missing(self, pixels: np.ndarray, y: int, x: int, h: int, w: int) -> Iterator[Box]:
        """Yield the boxes of missing files that a region touches.

        `pixels` (h, w, channels) are those of the region. A file is checked only where they are blank, because over a
        network a check takes as long as reading.
        """
        high, wide, deep = self._of_axes(self._parts)
        for box in _boxes(self.shape, (high, wide), y, x, h, w):
            top, left, bottom, right = overlap(box, (y, x, h, w))
            part = pixels[top - y : bottom - y, left - x : right - x]
            for first in range(0, pixels.shape[2], deep):
                blank = (part[..., first : first + deep] == self._blank).all()
                if blank and not self._is_there(box[0] // high, box[1] // wide, first // deep):
                    yield box
                    break

    def _is_there(self, row: int, col: int, channel: int) -> bool:
        """Whether the file of a chunk (or shard) exists."""
        number = {"y": row, "x": col, "c": channel}
        place = self.array.store_path / self.array.metadata.encode_chunk_key(
            tuple(number.get(axis, 0) for axis in self.axes)
        )
        return bool(sync(place.exists()))

    def _elsewhere(self, box: Box) -> np.ndarray | None:
        """Return (h, w, 3) of a place whose chunk is missing, from other levels; None if it is lost."""
        index = self.levels.index(self)
        for finer in reversed(self.levels[:index]):
            if finer.has_any(in_level(box, self.shape, finer.shape)):
                return self._from_finer(finer, box)
        blank = np.full((*box[2:], 3), self._blank, np.uint8)
        for coarser in self.levels[index + 1 :]:
            shows = coarser.shows_blank(in_level(box, self.shape, coarser.shape), self._blank)
            if shows is not None:
                return blank if shows else None
        return blank if len(self.levels) > 1 else None

    def _from_finer(self, finer: "ZarrLevel", box: Box) -> np.ndarray | None:
        try:
            return shrunk(finer, self.shape, box)
        except UndecodableError:
            return None

    def has_any(self, box: Box) -> bool:
        """Whether any file of a region exists."""
        return next(self._there(box), None) is not None

    def shows_blank(self, box: Box, value: int) -> bool | None:
        """Whether all pixels of a region have the value `value`; None if all of its files are missing.

        Pixels at the border are ignored if there are others, because they are mixed with their neighbours.
        """
        y, x, h, w = box
        inner = (y + 1, x + 1, h - 2, w - 2) if min(h, w) > 2 else box
        answer = None
        for part in self._there(inner):
            top, left, bottom, right = overlap(part, inner)
            pixels = _rgb(self._read(top, left, bottom - top, right - left))
            if np.abs(pixels.astype(np.int16) - value).max() > _BLANK:
                return False
            answer = True
        return answer

    def _there(self, box: Box) -> Iterator[Box]:
        """Return the boxes of the existing files of a region, in all channels."""
        high, wide, deep = self._of_axes(self._parts)
        channels = range(-(-self._of_axes(self.array.shape)[2] // deep))
        for part in _boxes(self.shape, (high, wide), *box):
            if all(self._is_there(part[0] // high, part[1] // wide, channel) for channel in channels):
                yield part


def chunks_there(folder: Path) -> int:
    """Return the number of chunk files of a local array. Nothing is read."""
    found, folders = 0, [os.fspath(folder)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif not entry.name.startswith(".") and entry.name != "zarr.json":
                    found += 1
    return found


def _boxes(shape: tuple[int, int], part: tuple[int, int], y: int, x: int, h: int, w: int) -> Iterator[Box]:
    """Yield the parts (height, width) of a level that a region touches, clipped to the level."""
    high, wide = part
    for top, left in product(range(y // high * high, y + h, high), range(x // wide * wide, x + w, wide)):
        yield top, left, min(high, shape[0] - top), min(wide, shape[1] - left)


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """Convert (h, w, 1, 3 or 4) to (h, w, 3): grey is repeated, transparency is shown on white."""
    if pixels.shape[2] == 4:
        return on_white(pixels[..., :3], pixels[..., 3:])
    return np.array(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)
