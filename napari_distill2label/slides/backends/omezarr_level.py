"""Chunks of an OME-Zarr level. zarr gives a chunk that is not there as blank, whether it was left out or is lost."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import zarr
from zarr.core.sync import sync

from .colour import on_white
from .finer import in_level, shrunk
from .protocol import Box, UndecodableError, overlap

_BLANK = 8  # of 255; how far a blank place may be off its value, in levels that were compressed with loss


@dataclass(frozen=True, eq=False)
class ZarrLevel:
    """One resolution of an image whose axes are any order of y, x and c, others having length 1.

    A chunk that is not there was left out, since all its pixels are alike, or is lost; nothing in the format tells the
    two apart, but the other levels show the same place. It is filled from the finer level where that has its pixels. It
    is blank where the coarser level is blank, or no level has anything, and else it is damaged; so it is where there is
    no other level to ask.

    Attributes
    ----------
    levels
        All of the slide, finest first, this one among them.
    """

    array: zarr.Array
    axes: str
    probe: Callable[[], None]
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
        """How many files its pixels fill, if none is missing."""
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
            pixels = self._read(y, x, h, w)  # it can be read by now
        self.probe()  # chunks that are not there are blank, and so are all of them once the folder is gone
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

    # ---- pixels as they are stored --------------------------------------------------------------------------------

    def _read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """(h, w, channels)."""
        cut = {"y": slice(y, y + h), "x": slice(x, x + w), "c": slice(None)}
        pixels = np.asarray(self.array[tuple(cut.get(axis, 0) for axis in self.axes)])
        left = [axis for axis in self.axes if axis in cut]
        pixels = np.transpose(pixels, [left.index(axis) for axis in "yxc" if axis in left])
        return pixels if pixels.ndim == 3 else pixels[..., None]

    def _damaged(self, y: int, x: int, h: int, w: int) -> Iterator[tuple[Box, str]]:
        """The chunks that cannot be read, and why."""
        for box in _boxes(self.shape, self.tile, y, x, h, w):
            try:
                self._read(*box)
            except Exception as error:  # noqa: BLE001  a codec may raise anything
                yield box, str(error) or type(error).__name__

    # ---- chunks that are not there --------------------------------------------------------------------------------

    @property
    def _parts(self) -> tuple[int, ...]:
        """What one file holds, along each axis of the array: a chunk, or a shard of them."""
        return self.array.shards or self.array.chunks

    @property
    def _blank(self) -> int:
        """The value of a pixel that is not there."""
        return int(self.array.fill_value or 0)

    def _of_axes(self, sizes: Sequence[int]) -> tuple[int, int, int]:
        """(y, x, c) of the sizes of all axes; 1 for an axis that the array has not."""
        return tuple(sizes[self.axes.index(axis)] if axis in self.axes else 1 for axis in "yxc")

    def _missing(self, pixels: np.ndarray, y: int, x: int, h: int, w: int) -> Iterator[Box]:
        """Boxes of the files that are not there, of those that a region touches.

        `pixels` (h, w, channels) of the region: only where they are blank is a file looked for, which over a network
        takes as long as reading it.
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
        """Is the file of a chunk (or shard) there?"""
        number = {"y": row, "x": col, "c": channel}
        place = self.array.store_path / self.array.metadata.encode_chunk_key(
            tuple(number.get(axis, 0) for axis in self.axes)
        )
        return bool(sync(place.exists()))

    def _elsewhere(self, box: Box) -> np.ndarray | None:
        """(h, w, 3) of a place whose chunk is not there, by what other levels show; None if it is lost."""
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
        """Is any file of a region there?"""
        return next(self._there(box), None) is not None

    def shows_blank(self, box: Box, value: int) -> bool | None:
        """Is a region nothing but `value`? None where all of its files are missing.

        Pixels at its border are left out where there are others: they are mixed with what is beside it.
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
        """Boxes of the files of a region that are there, in all channels."""
        high, wide, deep = self._of_axes(self._parts)
        channels = range(-(-self._of_axes(self.array.shape)[2] // deep))
        for part in _boxes(self.shape, (high, wide), *box):
            if all(self._is_there(part[0] // high, part[1] // wide, channel) for channel in channels):
                yield part


def chunks_there(folder: Path) -> int:
    """How many files of chunks a local array has; nothing is read."""
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
    """Of the parts (height, width) that a level is stored in, those that a region touches; clipped to the level."""
    high, wide = part
    for top, left in product(range(y // high * high, y + h, high), range(x // wide * wide, x + w, wide)):
        yield top, left, min(high, shape[0] - top), min(wide, shape[1] - left)


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 1, 3 or 4) -> (h, w, 3): grey is repeated, and what is transparent lies on white."""
    if pixels.shape[2] == 4:
        return on_white(pixels[..., :3], pixels[..., 3:])
    return np.array(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)
