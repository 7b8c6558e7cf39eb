"""Cut patches from a slide: neighbours are read together, once, and resampled to the model's pixels."""

import math
from collections.abc import Iterator

import numpy as np
from PIL import Image

from .slide import Slide

_BUCKET_PX = 1024  # px of the level read; patches whose corners share a square of this side are read together


def cut(slide: Slide, corners: np.ndarray, side: int, patch_px: int) -> np.ndarray:
    """Cut square patches.

    Parameters
    ----------
    corners
        (n, 2) int, top-left corners (y, x) in level-0 pixels. Patches may reach over the border: what is missing is
        reflected, the edge pixel not repeated (numpy's mode "reflect").
    side
        Of a patch, in level-0 pixels.
    patch_px
        Of a patch as the model sees it. If it equals `side` the pixels are copied; else the patch is resampled from
        the coarsest level that is still as fine as the result, by a triangle filter as wide as the reduction.

    Returns
    -------
    (n, 3, patch_px, patch_px) uint8, C-contiguous, in the order of `corners`.

    Raises
    ------
    SlideError
        The slide cannot be read there.
    """
    corners = np.asarray(corners, np.int64).reshape(-1, 2)
    patches = np.empty((len(corners), 3, patch_px, patch_px), np.uint8)
    if side == patch_px:
        for chosen in _buckets(corners, 1.0):
            _copy(slide, corners[chosen], patches, chosen)
    else:
        level = level_for(slide, side / patch_px)
        for chosen in _buckets(corners, slide.downsamples[level]):
            _resample(slide, level, corners[chosen], side, patches, chosen)
    return patches


def level_for(slide: Slide, ratio: float) -> int:
    """The coarsest level that still has a pixel for each of a patch shrunk `ratio` times (0 if it is enlarged)."""
    fine = [index for index, downsample in enumerate(slide.downsamples) if downsample <= ratio * (1 + 1e-6)]
    return max(fine, default=0)


def read_reflected(slide: Slide, level: int, y: int, x: int, h: int, w: int) -> np.ndarray:
    """Pixels (h, w, 3) of a region that may reach over the level's border, by any amount."""
    height, width = slide.levels[level].shape[:2]
    if y >= 0 and x >= 0 and y + h <= height and x + w <= width:
        return slide.read(level, y, x, h, w)
    rows, cols = _reflected(y, h, height), _reflected(x, w, width)
    top, left = int(rows.min()), int(cols.min())
    inside = slide.read(level, top, left, int(rows.max()) - top + 1, int(cols.max()) - left + 1)
    return inside[np.ix_(rows - top, cols - left)]


def _reflected(start: int, length: int, size: int) -> np.ndarray:
    """(length,) indices into an axis of `size`, as np.pad(mode="reflect") would find them: period 2 (size − 1)."""
    indices = np.abs(np.arange(start, start + length))
    if size == 1:
        return np.zeros(length, np.int64)
    indices %= 2 * (size - 1)
    return np.minimum(indices, 2 * (size - 1) - indices)


def _buckets(corners: np.ndarray, downsample: float) -> Iterator[np.ndarray]:
    """Indices of corners that lie in the same square of the level, row by row, so that no read spans the slide."""
    if len(corners) == 0:
        return
    squares = np.floor(corners / (downsample * _BUCKET_PX)).astype(np.int64)
    order = np.lexsort((squares[:, 1], squares[:, 0]))
    borders = np.flatnonzero((np.diff(squares[order], axis=0) != 0).any(axis=1)) + 1
    yield from np.split(order, borders)


def _copy(slide: Slide, corners: np.ndarray, patches: np.ndarray, chosen: np.ndarray) -> None:
    """patches[chosen] = the pixels of level 0 themselves."""
    side = patches.shape[-1]
    top, left = corners.min(axis=0)
    height, width = corners.max(axis=0) - (top, left) + side
    block = np.ascontiguousarray(read_reflected(slide, 0, top, left, height, width).transpose(2, 0, 1))
    for index, (y, x) in zip(chosen.tolist(), (corners - (top, left)).tolist(), strict=True):
        patches[index] = block[:, y : y + side, x : x + side]


def _resample(
    slide: Slide, level: int, corners: np.ndarray, side: int, patches: np.ndarray, chosen: np.ndarray
) -> None:
    """patches[chosen] = boxes of `side` level-0 pixels, read from `level` and shrunk or enlarged."""
    patch_px, downsample = patches.shape[-1], slide.downsamples[level]
    begins, span = corners / downsample, side / downsample
    # The filter reaches this far over a patch; without it a patch would depend on what is read along with it.
    margin = math.ceil(max(1.0, span / patch_px)) + 1
    top, left = np.floor(begins.min(axis=0)).astype(int) - margin
    bottom, right = np.ceil(begins.max(axis=0) + span).astype(int) + margin
    block = Image.fromarray(np.ascontiguousarray(read_reflected(slide, level, top, left, bottom - top, right - left)))
    for index, (y, x) in zip(chosen.tolist(), (begins - (top, left)).tolist(), strict=True):
        box = (x, y, x + span, y + span)
        patch = block.resize((patch_px, patch_px), Image.Resampling.BILINEAR, box=box)
        patches[index] = np.asarray(patch).transpose(2, 0, 1)
