"""Coarser levels for files that lack them, computed from the pixels on demand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .backends.protocol import Box, PixelLevel, UndecodableError

_LARGE = 2048  # px; limit of the coarsest level, because a viewer loads it whole for its thumbnail
_SMALL = 1024  # px; levels are added until the smaller side is at most this
_PIECE = 2048  # px; side of the region that is read at once, so that memory is independent of the factor


@dataclass(frozen=True)
class CoarseLevel:
    """Every pixel is the mean of a `factor`-square of `fine`. Remaining pixels at the right and bottom are dropped."""

    fine: PixelLevel
    factor: int

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.fine.shape[0] // self.factor, self.fine.shape[1] // self.factor

    @property
    def tile(self) -> tuple[int, int]:
        """(height, width) of a tile of `fine`, in pixels of this level."""
        height, width = self.fine.tile
        return max(1, height // self.factor), max(1, width // self.factor)

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """See `PixelLevel.read`."""
        out = np.empty((h, w, 3), np.uint8)
        step, factor = max(1, _PIECE // self.factor), self.factor
        damaged: list[Box] = []
        reason = ""
        for top in range(0, h, step):
            for left in range(0, w, step):
                height, width = min(step, h - top), min(step, w - left)
                try:
                    fine = self.fine.read((y + top) * factor, (x + left) * factor, height * factor, width * factor)
                except UndecodableError as error:
                    damaged, reason = [*damaged, *error.boxes], str(error)
                    continue
                out[top : top + height, left : left + width] = _mean(fine, factor)
        if damaged:
            raise UndecodableError(reason, [self._coarse(box) for box in damaged])
        return out

    def _coarse(self, box: Box) -> Box:
        y, x, h, w = box
        top, left = y // self.factor, x // self.factor
        return top, left, -(-(y + h) // self.factor) - top, -(-(x + w) // self.factor) - left


def _mean(fine: np.ndarray, factor: int) -> np.ndarray:
    """Average (h·f, w·f, 3) to (h, w, 3) uint8, rounded half up."""
    # Adding slices is several times faster than a sum along short axes.
    rows = sum((fine[i::factor] for i in range(1, factor)), start=fine[::factor].astype(np.uint32))
    total = sum((rows[:, j::factor] for j in range(1, factor)), start=rows[:, ::factor])
    return ((total + factor * factor // 2) // (factor * factor)).astype(np.uint8)


def with_overview_levels(levels: Sequence[PixelLevel]) -> list[PixelLevel]:
    """Return `levels` and as many halved ones below the coarsest as a viewer needs."""
    result = list(levels)
    coarsest, factor = levels[-1], 2
    if max(coarsest.shape) > _LARGE:
        while min(result[-1].shape) > _SMALL or max(result[-1].shape) > 4 * _LARGE:
            if min(coarsest.shape) // factor < 1:
                break
            result.append(CoarseLevel(coarsest, factor))
            factor *= 2
    return result


def downsamples(levels: Sequence[PixelLevel], known: Sequence[float] = ()) -> tuple[float, ...]:
    """Return level-0 pixels per pixel of each level; `known` has those of the first levels, computed levels follow.

    The shapes of a pyramid are rounded, so their ratio is not the factor (2967 / 1483 is not 2). A whole number that
    explains both sides is used, otherwise the mean ratio.
    """
    if known:
        computed = (level for level in levels[len(known) :] if isinstance(level, CoarseLevel))
        return *known, *(known[-1] * level.factor for level in computed)
    base = levels[0].shape
    result = []
    for level in levels:
        ratios = [large / small for large, small in zip(base, level.shape, strict=True)]
        whole = round(math.sqrt(ratios[0] * ratios[1]))
        explains = all(abs(large / whole - small) < 1 for large, small in zip(base, level.shape, strict=True))
        result.append(float(whole) if explains else sum(ratios) / 2)
    return tuple(result)
