"""Labels of patches as pixels of the slide: the patch of every level-0 pixel.

The OME-TIFF mask and the picture share it. It is lazy: a region costs only what it holds, at any step.
"""

from collections.abc import Generator
from typing import Any, Protocol

import numpy as np

from ..core.geometry import PatchGrid, PatchPoints

PX_AT_ONCE = 2**26  # of level 0, between two events: .1 to .2 s
SMALLEST_LEVEL = 1024  # px: below this on the longer side, a pyramid ends


def pyramid_steps(shape: tuple[int, ...]) -> list[int]:
    """Down-sampling of each level of a pyramid: 1, 2, 4, … until the longer side is below `SMALLEST_LEVEL`."""
    steps = [1]
    while max(shape) / steps[-1] >= SMALLEST_LEVEL:
        steps.append(2 * steps[-1])
    return steps


def pixels_shown(start: int, length: int, step: int, size: int) -> np.ndarray:
    """Level-0 pixels (length,) that the pixels from `start` on of a level show, along an axis of `size` px.

    Nearest neighbour: labels cannot be averaged. Those past the level's end lie past the slide's.
    """
    pixels = np.arange(start, start + length) * step + step // 2
    # The last pixel of a level may be centred just past the slide when `step` does not divide it: pull it in.
    return np.where((pixels >= size) & (pixels < -(-size // step) * step), size - 1, pixels)


class LabelPixels(Protocol):
    """Where the pixels of a label image come from."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def at(self, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
        """(len(ys), len(xs)) labels of the pixels in ascending rows and columns; 0 outside of the image."""


def iter_labels(pixels: LabelPixels, ys: np.ndarray, xs: np.ndarray) -> Generator[None, None, np.ndarray]:
    """Return `pixels.at(ys, xs)`, and yield between parts of it: a tile of a coarse level lies on many pixels."""
    area = (int(ys[-1] - ys[0]) + 1) * (int(xs[-1] - xs[0]) + 1)
    parts: list[np.ndarray] = []
    for some in np.array_split(ys, min(len(ys), -(-area // PX_AT_ONCE))):
        if parts:
            yield
        parts.append(pixels.at(some, xs))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


class Mask:
    """The label of every level-0 pixel of a slide, computed on request.

    On a grid a pixel belongs to the cell, **the S-square centred on its patch**, that holds the pixel's centre, clipped
    to the slide. With a stride S larger than the patch P a cell carries just its patch, and the gaps stay 0.
    Around points each pixel of a patch's box has the label of the nearest centre among the boxes that hold it (a
    Voronoi diagram inside the boxes; of centres equally near, the first). 0 is "not scored".

    Parameters
    ----------
    labels
        uint8 of `patches.shape`.
    """

    def __init__(self, labels: np.ndarray, patches: PatchGrid | PatchPoints) -> None:
        if labels.shape != patches.shape:
            raise ValueError(f"labels must be {patches.shape}, got {labels.shape}")
        self.patches = patches
        self.dtype = np.dtype(np.uint8)
        self.shape: tuple[int, int] = patches.slide_shape
        if isinstance(patches, PatchGrid):
            # One cell more each way, 0: where the pixels of no cell point to.
            self._padded = np.pad(labels.astype(np.uint8), ((0, 1), (0, 1)))
        else:
            kept = np.flatnonzero(labels)
            kept = kept[np.argsort(patches.corners[kept, 0], kind="stable")]
            self._corners, self._centres = patches.corners[kept], patches.centres[kept]
            self._order, self._labels = kept, labels.astype(np.uint8)

    def region(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """(h, w) uint8 labels of level-0 pixels; 0 outside the slide."""
        return self.at(np.arange(y, y + h), np.arange(x, x + w))

    def at(self, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
        """(len(ys), len(xs)) uint8 labels of the pixels in ascending rows `ys` and columns `xs`, int64."""
        if isinstance(self.patches, PatchGrid):
            out: np.ndarray = self._padded[np.ix_(_cells(self.patches, ys, 0), _cells(self.patches, xs, 1))]
        else:
            out = self._nearest(ys, xs)
        out[(ys < 0) | (ys >= self.shape[0])] = 0
        out[:, (xs < 0) | (xs >= self.shape[1])] = 0
        return out

    def runs(self, pixels: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Cells of ascending pixels along an axis of a grid, and how many pixels in a row lie in each: int64 both."""
        grid: Any = self.patches
        cells = _cells(grid, pixels, axis)
        cells[(pixels < 0) | (pixels >= self.shape[axis])] = grid.shape[axis]
        starts = np.flatnonzero(np.concatenate([[True], cells[1:] != cells[:-1]]))
        return cells[starts], np.diff(starts, append=len(cells))

    def cells(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """(len(rows), len(cols)) uint8 labels of the cells of a grid, as `runs` numbers them."""
        labels: np.ndarray = self._padded[rows[:, None], cols]
        return labels

    def _nearest(self, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
        out = np.zeros((len(ys), len(xs)), np.uint8)
        if not (len(ys) and len(xs)):
            return out
        side, rows = self.patches.side, self._corners[:, 0]
        first, last = np.searchsorted(rows, ys[0] - side, "right"), np.searchsorted(rows, ys[-1], "right")
        columns = self._corners[first:last, 1]
        near = first + np.flatnonzero((columns > xs[0] - side) & (columns <= xs[-1]))
        if not len(near):
            return out
        # The smallest distance² wins, then the smallest index: one number for both, one minimum for all boxes.
        best = np.full(out.size + 1, np.iinfo(np.int64).max)
        per_point = (_most(ys, side), _most(xs, side))
        step = max(1, 2**20 // (per_point[0] * per_point[1]))
        count = np.int64(self.patches.shape[0])
        for start in range(0, len(near), step):
            some = near[start : start + step]
            corner, centre = self._corners[some], self._centres[some]
            iy, dy = _along(ys, corner[:, 0], centre[:, 0], side, per_point[0])
            ix, dx = _along(xs, corner[:, 1], centre[:, 1], side, per_point[1])
            pixel = iy[:, :, None] * len(xs) + ix[:, None, :]
            pixel[(iy < 0)[:, :, None] | (ix < 0)[:, None, :]] = out.size
            key = (dy[:, :, None] + dx[:, None, :]) * count + self._order[some][:, None, None]
            np.minimum.at(best, pixel, key)
        best = best[:-1]
        found = best < np.iinfo(np.int64).max
        out.reshape(-1)[found] = self._labels[best[found] % count]
        return out


def _cells(grid: PatchGrid, pixels: np.ndarray, axis: int) -> np.ndarray:
    """Cell (row or column) of pixels along one axis; the one past the last where there is none."""
    count = grid.shape[axis]
    cells, inside = np.divmod(pixels - grid.cell_origin[axis], grid.stride)
    return np.where((inside < grid.cell_side) & (cells >= 0) & (cells < count), cells, count)


def _most(pixels: np.ndarray, side: int) -> int:
    """The most entries of ascending `pixels` that `side` pixels in a row can hold."""
    return int((np.searchsorted(pixels, pixels + side, "left") - np.arange(len(pixels))).max())


def _along(
    pixels: np.ndarray, corner: np.ndarray, centre: np.ndarray, side: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """(n, count) indices into `pixels` inside the boxes along one axis (−1: none), and distances² to the centre."""
    index = np.searchsorted(pixels, corner, "left")[:, None] + np.arange(count)
    value = pixels[np.minimum(index, len(pixels) - 1)]
    inside = (index < len(pixels)) & (value < corner[:, None] + side)
    return np.where(inside, index, -1), (value - centre[:, None]) ** 2


class ArrayPixels:
    """Labels (h, w) in memory, as the writers of label images ask for them."""

    def __init__(self, labels: np.ndarray) -> None:
        self._padded, self.dtype = np.pad(labels, ((0, 1), (0, 1))), labels.dtype
        self.shape: tuple[int, int] = (labels.shape[0], labels.shape[1])

    def at(self, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
        """(len(ys), len(xs)) labels of the pixels in ascending rows and columns; 0 outside of the image."""
        found: np.ndarray = self._padded[np.ix_(*map(np.minimum, (ys, xs), self.shape))]
        return found
