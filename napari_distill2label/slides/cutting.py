"""Cut patches from a slide: every tile of the file is decoded once, in threads, and its pixels go into the patches.

The level is divided into squares of whole tiles. One thread reads a square and copies its pixels into all patches that
it touches. So nothing is decoded twice, memory stays small, and the pixels are still in the processor's cache when they
are copied.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from ..core.errors import TileError
from .slide import Slide
from .threads import for_each

_SQUARE_PX = 1024  # px of the level; side of a square, in whole tiles
_WINDOWS_BYTES = 128_000_000  # bytes of pixels that wait for resampling


def cut(slide: Slide, corners: np.ndarray, side: int, patch_px: int) -> np.ndarray:
    """Cut square patches.

    Parameters
    ----------
    corners
        (n, 2) int, top-left corners (y, x) in level-0 pixels. Patches may reach over the border: missing pixels are
        reflected without repeating the edge pixel (numpy's mode "reflect").
    side
        Side of a patch in level-0 pixels.
    patch_px
        Side of a patch as the model sees it. If it equals `side`, the pixels are copied. Otherwise the patch is
        resampled from the coarsest level that is not coarser than the result, by a triangle filter as wide as the
        reduction.

    Returns
    -------
    (n, 3, patch_px, patch_px) uint8 in the order of `corners`. In memory the colours are together (torch's
    channels_last), as decoders write them and convolutions read them.

    Raises
    ------
    TileError
        Some patches cannot be read: `boxes` has all damaged places. Patches that do not touch them can be cut.
    SlideError
        The slide cannot be read.
    """
    corners = np.asarray(corners, np.int64).reshape(-1, 2)
    patches = np.empty((len(corners), patch_px, patch_px, 3), np.uint8)
    if side == patch_px:
        _gather(slide, 0, corners, patches)
    else:
        _resample(slide, corners, side, patches)
    return patches.transpose(0, 3, 1, 2)


def level_for(slide: Slide, ratio: float) -> int:
    """Return the coarsest level that is not coarser than a patch reduced `ratio` times (0 if it is enlarged)."""
    fine = [index for index, downsample in enumerate(slide.downsamples) if downsample <= ratio * (1 + 1e-6)]
    return max(fine, default=0)


def read_reflected(slide: Slide, level: int, y: int, x: int, h: int, w: int) -> np.ndarray:
    """Read pixels (h, w, 3) of a region that may reach over the level's border by any amount."""
    height, width = slide.level_shapes[level]
    if y >= 0 and x >= 0 and y + h <= height and x + w <= width:
        return slide.read(level, y, x, h, w)
    rows, cols = _reflected(y, h, height), _reflected(x, w, width)
    top, left = int(rows.min()), int(cols.min())
    inside = slide.read(level, top, left, int(rows.max()) - top + 1, int(cols.max()) - left + 1)
    pixels: np.ndarray = inside[np.ix_(rows - top, cols - left)]
    return pixels


def _reflected(start: int, length: int, size: int) -> np.ndarray:
    """Return indices (length,) into an axis of `size` as np.pad(mode="reflect") has them: period 2 (size − 1)."""
    indices: np.ndarray = np.abs(np.arange(start, start + length))
    if size == 1:
        return np.zeros(length, np.int64)
    indices %= 2 * (size - 1)
    reflected: np.ndarray = np.minimum(indices, 2 * (size - 1) - indices)
    return reflected


def _gather(slide: Slide, level: int, corners: np.ndarray, out: np.ndarray) -> None:
    """Fill out[i] with the pixels of `level` whose top-left corner is corners[i]; `out` is (n, h, w, 3)."""
    h, w = out.shape[1:3]
    height, width = slide.level_shapes[level]
    boxes = np.empty((len(corners), 4), np.int64)  # y, x, h, w of the pixels each patch needs, all inside the level
    boxes[:, :2], boxes[:, 2:] = corners, (h, w)
    targets: list[np.ndarray] = list(out)
    over = ((corners < 0) | (corners + np.array([h, w]) > (height, width))).any(axis=1)
    mirrored = []
    for i in np.flatnonzero(over).tolist():
        rows, cols = _reflected(int(corners[i, 0]), h, height), _reflected(int(corners[i, 1]), w, width)
        top, left = int(rows.min()), int(cols.min())
        boxes[i] = top, left, int(rows.max()) - top + 1, int(cols.max()) - left + 1
        targets[i] = np.empty((*boxes[i, 2:], 3), np.uint8)
        mirrored.append((i, np.ix_(rows - top, cols - left)))
    _fill(slide, level, boxes, targets)
    for i, indices in mirrored:
        out[i] = targets[i][indices]


def _fill(slide: Slide, level: int, boxes: np.ndarray, targets: Sequence[np.ndarray]) -> None:
    """Fill targets[i] (h, w, 3) with the pixels in boxes[i] (y, x, h, w)."""
    square = np.array([tile * max(1, _SQUARE_PX // tile) for tile in slide.tiles[level]])
    damaged: list[TileError] = []

    def paste(job: tuple[np.ndarray, np.ndarray]) -> None:
        origin, chosen = job
        begins = np.maximum(boxes[chosen, :2], origin)
        ends = np.minimum(boxes[chosen, :2] + boxes[chosen, 2:], origin + square)
        (top, left), (bottom, right) = begins.min(axis=0).tolist(), ends.max(axis=0).tolist()
        parts = np.concatenate([chosen[:, None], begins, ends, boxes[chosen, :2]], axis=1).tolist()
        try:
            pixels = slide.read(level, top, left, bottom - top, right - left)
        except TileError:
            damaged.extend(paste_one_by_one(parts))  # the damage may lie between the patches
            return
        for i, y0, x0, y1, x1, y, x in parts:
            targets[i][y0 - y : y1 - y, x0 - x : x1 - x] = pixels[y0 - top : y1 - top, x0 - left : x1 - left]

    def paste_one_by_one(parts: list[list[int]]) -> Iterator[TileError]:
        for i, y0, x0, y1, x1, y, x in parts:
            try:
                targets[i][y0 - y : y1 - y, x0 - x : x1 - x] = slide.read(level, y0, x0, y1 - y0, x1 - x0)
            except TileError as error:
                yield error

    with slide.reading():
        for_each(paste, list(_squares(boxes, square)))
    if damaged:
        damaged.sort(key=lambda error: error.box)
        boxes_of_all = dict.fromkeys(box for error in damaged for box in error.boxes)
        raise TileError(str(damaged[0]), boxes_of_all) from damaged[0]


def _squares(boxes: np.ndarray, square: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (origin (y, x), indices of boxes) of every square that a box touches, row by row."""
    if len(boxes) == 0:
        return
    first = boxes[:, :2] // square
    last = (boxes[:, :2] + boxes[:, 2:] - 1) // square
    touched, which = [], []
    for dy in range(int((last - first)[:, 0].max()) + 1):
        for dx in range(int((last - first)[:, 1].max()) + 1):
            squares = first + np.array([dy, dx])
            here = np.flatnonzero((squares <= last).all(axis=1))
            touched.append(squares[here])
            which.append(here)
    squares, chosen = np.concatenate(touched), np.concatenate(which)
    order = np.lexsort((squares[:, 1], squares[:, 0]))
    squares, chosen = squares[order], chosen[order]
    borders = np.flatnonzero((np.diff(squares, axis=0) != 0).any(axis=1)) + 1
    for begin, group in zip([0, *borders.tolist()], np.split(chosen, borders), strict=True):
        yield squares[begin] * square, group


def _resample(slide: Slide, corners: np.ndarray, side: int, patches: np.ndarray) -> None:
    """Fill patches[i] (P, P, 3) with boxes of `side` level-0 pixels, reduced or enlarged."""
    patch_px = patches.shape[1]
    level = level_for(slide, side / patch_px)
    downsample = slide.downsamples[level]
    begins, span = corners / downsample, side / downsample
    # The filter reaches this far over a patch. With this margin a patch does not depend on its neighbours in the read.
    margin = math.ceil(max(1.0, span / patch_px)) + 1
    tops = np.floor(begins).astype(np.int64) - margin
    window_px = math.ceil(span) + 1 + 2 * margin
    square = _SQUARE_PX * downsample
    order = np.lexsort((corners[:, 1] // square, corners[:, 0] // square))  # neighbours share tiles
    step = max(1, _WINDOWS_BYTES // (3 * window_px**2))

    for start in range(0, len(corners), step):
        chosen = order[start : start + step]
        windows = np.empty((len(chosen), window_px, window_px, 3), np.uint8)
        _gather(slide, level, tops[chosen], windows)

        def shrink(part: range, chosen: np.ndarray = chosen, windows: np.ndarray = windows) -> None:
            for k in part:
                i = chosen[k]
                y, x = begins[i] - tops[i]
                patch = Image.fromarray(windows[k]).resize(
                    (patch_px, patch_px), Image.Resampling.BILINEAR, box=(x, y, x + span, y + span)
                )
                patches[i] = np.asarray(patch)

        for_each(shrink, [range(k, min(k + 64, len(chosen))) for k in range(0, len(chosen), 64)])
