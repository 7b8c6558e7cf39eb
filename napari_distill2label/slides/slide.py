"""A slide: a lazy pyramid of RGB pixels and the size of its pixels."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from ..core.errors import SlideError, TileError
from ..core.geometry import Mpp
from ..core.notices import Notice, NoticeCode
from ..core.paths import slide_name
from .backends.protocol import Box, PixelLevel, Source, UndecodableError, reason_of
from .pyramid import CoarseLevel, downsamples, with_overview_levels
from .scale import check_mpp, compare_given_mpp

if TYPE_CHECKING:
    import dask.array as da

_CHUNK_PX = 1024  # px; side of a dask chunk, in whole tiles of the file


class _File:
    """The open file behind one or more `Slide` objects."""

    def __init__(self, path: Path | str, source: Source) -> None:
        self.path, self.source, self.closed = path, source, False

    def probe(self) -> None:
        """Raise `SlideError` if the whole slide, and not only one region, cannot be read."""
        try:
            self.source.probe()
        except Exception as error:
            raise SlideError(f"{self.path}: can no longer be read: {reason_of(error)}") from error

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.source.close()


class _LazyLevel:
    """A level that dask can slice. Every error it raises names the file and the region."""

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, file: _File, index: int, level: PixelLevel, downsample: float) -> None:
        self._file, self._index, self._level, self._downsample = file, index, level, downsample
        self.shape = (*level.shape, 3)

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        where = f"level {self._index}, x={x}, y={y}, {w} × {h} px"
        if self._file.closed:
            raise SlideError(f"{self._file.path}: the slide was closed and cannot be read any more: open it again")
        if min(y, x) < 0 or min(h, w) < 1 or y + h > self.shape[0] or x + w > self.shape[1]:
            size = f"{self.shape[1]} × {self.shape[0]} px"
            raise SlideError(f"{self._file.path}: the region ({where}) does not lie inside the level ({size})")
        try:
            return self._level.read(y, x, h, w)
        except SlideError:
            raise
        except MemoryError as error:
            raise SlideError(f"{self._file.path}: there is not enough memory to read it ({where})") from error
        except Exception as error:  # a decoder may raise anything
            self._file.probe()
            boxes = error.boxes if isinstance(error, UndecodableError) else [(y, x, h, w)]
            raise self._damaged(reason_of(error), boxes) from error

    def _damaged(self, reason: str, boxes: Sequence[Box]) -> TileError:
        y, x, h, w = boxes[0]
        more = f" and in {len(boxes) - 1} more places" if len(boxes) > 1 else ""
        where = f"level {self._index}, x={x}, y={y}, {w} × {h} px{more}"
        height, width = self._file.source.levels[0].shape
        return TileError(
            f"{self._file.path}: damaged, cannot be decoded at {where}: {reason}",
            [self._in_level_0(box, height, width) for box in boxes],
        )

    def _in_level_0(self, box: Box, height: int, width: int) -> Box:
        y, h = _widened(box[0], box[2], self._downsample, height)
        x, w = _widened(box[1], box[3], self._downsample, width)
        return y, x, h, w

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, cols, *channels = (*key, slice(None), slice(None))[:3] if isinstance(key, tuple) else (key, slice(None))
        (y, h, inner_y), (x, w, inner_x) = _span(rows, self.shape[0]), _span(cols, self.shape[1])
        if h == 0 or w == 0:
            return np.empty((h, w, 3), np.uint8)[(inner_y, inner_x, *channels)]
        return self.read(y, x, h, w)[(inner_y, inner_x, *channels)]


def _widened(start: int, length: int, downsample: float, size: int) -> tuple[int, int]:
    """Return (start, length) of a stretch of a level in level-0 pixels: all pixels that it touches."""
    begin, end = math.floor(start * downsample), min(size, math.ceil((start + length) * downsample))
    return begin, end - begin


def _span(index: int | slice, size: int) -> tuple[int, int, int | slice]:
    """Return (start, length, index into them) for an axis' index: dask uses slices, and ints in fused slices."""
    if not isinstance(index, slice):
        return range(size)[index], 1, 0
    wanted = range(size)[index]
    if not wanted:
        return 0, 0, slice(None)
    return min(wanted), max(wanted) - min(wanted) + 1, slice(None, None, wanted.step)


class Slide:
    """An open slide. A context manager; two threads may read at once.

    Attributes
    ----------
    path, name
        The file, and its stem (see `slide_name`).
    level_shapes
        (height, width) of each level, level 0 first. If the file has no level that is small enough for a thumbnail,
        coarser levels are added and computed on demand.
    downsamples
        Level-0 pixels per pixel of each level.
    computed
        Whether each level is computed from the pixels of the file's coarsest level.
    tiles
        (height, width) of the file's unit of decoding, for each level and in its pixels.
    mpp
        (y, x) µm per level-0 pixel; None if the file does not state it. It is never guessed.
    mpp_from_user
        Whether the user gave `mpp`. Then the file does not confirm it, and results made with it say so.
    notices
        What the user should know of it, `Notice` values.
    associated
        Label, macro, thumbnail and other images of the file, by name. Each is read when called: (h, w, 3) uint8.
    canvas_origin
        (y, x) of level 0 in the canvas of the file. If a file states the scanned area of its canvas, level 0 is that
        area, and all positions count from its corner, as in QuPath. Positions of programs that count from the corner
        of the canvas (OpenSlide, CLAM, TRIDENT) are larger by this. (0, 0) for all other files.
    canvas_shape
        (height, width) of that canvas; for all other files that of level 0.
    icc
        ICC profile of the file. It is never applied to the pixels.
    brightfield
        False for another image that was opened with `allow_non_brightfield`.
    """

    def __init__(self, file: _File, mpp: Mpp | None = None, notices: tuple[Notice, ...] = ()) -> None:
        self._file = file
        self.path = file.path
        self.name = slide_name(file.path)
        self.associated, self.canvas_origin = file.source.associated, file.source.canvas_origin
        self.icc, self.brightfield = file.source.icc, not file.source.other_than_brightfield
        notices = (*file.source.notices, *notices)
        if not self.brightfield:
            kind = file.source.other_than_brightfield
            notices = (Notice(NoticeCode.NOT_BRIGHTFIELD, {"kind": kind}), *notices)
        self.mpp, self.notices, self.mpp_from_user = mpp, notices, False
        levels = with_overview_levels(file.source.levels)
        self.canvas_shape = file.source.canvas_shape or levels[0].shape
        self.downsamples = downsamples(levels, file.source.downsamples)
        self.computed = tuple(isinstance(level, CoarseLevel) for level in levels)
        self.tiles = tuple(level.tile for level in levels)
        self.level_shapes = tuple(level.shape for level in levels)
        self._lazy = [
            _LazyLevel(file, index, level, downsample)
            for index, (level, downsample) in enumerate(zip(levels, self.downsamples, strict=True))
        ]

    @classmethod
    def of(cls, path: Path | str, source: Source) -> "Slide":
        """Return a slide for an open file, with the file's µm/px if it is plausible."""
        mpp, notices = check_mpp(source.mpp)
        return cls(_File(path, source), mpp, notices)

    @cached_property
    def levels(self) -> "list[da.Array]":
        """Dask arrays (y, x, 3) uint8 of the levels, chunked along the file's tiles, for napari."""
        import dask.array as da  # it takes .5 s to import, and what reads squares of pixels needs none of it

        token = uuid4().hex  # not from the content: a hash would read the whole slide
        return [
            da.from_array(
                lazy, (*self.chunk_shape(index), 3), name=f"slide-{token}-{index}", asarray=False, fancy=False,
                inline_array=True, meta=np.empty((0, 0, 0), np.uint8),
            )
            for index, lazy in enumerate(self._lazy)
        ]  # fmt: skip

    def chunk_shape(self, level: int) -> tuple[int, int]:
        """Return (height, width) of about `_CHUNK_PX`² px in whole tiles, so that no two chunks decode one tile."""
        shape, tile = self.level_shapes[level], self.tiles[level]
        width = tile[1] * max(1, _CHUNK_PX // tile[1])
        height = tile[0] * max(1, _CHUNK_PX**2 // max(width, _CHUNK_PX) // tile[0])
        return min(height, shape[0]), min(width, shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of level 0."""
        return self.level_shapes[0]

    def read(self, level: int, y: int, x: int, h: int, w: int) -> np.ndarray:
        """Read the pixels (h, w, 3) uint8 of a region, in the pixels of `level`. Any thread may call.

        Each tile of the file is decoded once; threads decode several of them at a time.

        Raises
        ------
        TileError
            Part of the region is damaged; the rest of the slide can be read.
        SlideError
            The region does not lie inside the level, the slide was closed, or its file is gone.
        """
        if not 0 <= level < len(self._lazy):
            raise SlideError(f"{self.path}: there is no level {level}, only 0 to {len(self._lazy) - 1}")
        return self._lazy[level].read(int(y), int(x), int(h), int(w))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep the file open for several reads. `SlideError` if it is gone."""
        try:
            context = self._file.source.reading()
            context.__enter__()
        except Exception as error:
            self._file.probe()
            raise SlideError(f"{self.path}: cannot be opened again: {reason_of(error)}") from error
        try:
            yield
        finally:
            context.__exit__(None, None, None)

    def with_mpp(self, mpp: float | Mpp) -> "Slide":
        """Return the same slide with the µm/px of the user. Both share the file: closing one closes the other."""
        # `float` is a `Real`, and typeshed does not know it.
        given = (mpp, mpp) if isinstance(mpp, (float, Real)) else tuple(mpp)
        if not all(math.isfinite(value) and value > 0 for value in given):
            raise SlideError(f"{self.path}: {mpp} is no µm/px: give a number above 0")
        slide = Slide(
            self._file, given := (float(given[0]), float(given[1])), compare_given_mpp(given, self._file.source.mpp)
        )
        slide.mpp_from_user = True
        return slide

    def close(self) -> None:
        """Close the file. Closing it again does nothing."""
        self._file.close()

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        mpp = "unknown µm/px" if self.mpp is None else f"{self.mpp[0]:.4g} × {self.mpp[1]:.4g} µm/px"
        mpp += " (assumed)" if self.mpp_from_user else ""
        return f"Slide({self.name!r}, {self.shape[0]} × {self.shape[1]} px, {len(self.level_shapes)} levels, {mpp})"
