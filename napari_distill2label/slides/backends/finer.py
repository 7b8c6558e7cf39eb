"""Pixels that a level lacks, computed from the next finer level."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
from PIL import Image

from .protocol import Box, PixelLevel, UndecodableError

_AT_ONCE_PX = 2048  # side of the region of the finer level that is read at once

Shape = tuple[int, int]  # (height, width) of a level


def in_level(box: Box, shape: Shape, other: Shape) -> Box:
    """Return a region of a level in whole pixels of another one: all pixels that it touches, at least one."""
    down, across = (theirs / own for theirs, own in zip(other, shape, strict=True))
    top, left = min(int(box[0] * down), other[0] - 1), min(int(box[1] * across), other[1] - 1)
    bottom = min(math.ceil((box[0] + box[2]) * down), other[0])
    right = min(math.ceil((box[1] + box[3]) * across), other[1])
    return top, left, max(1, bottom - top), max(1, right - left)


def shrunk(
    finer: PixelLevel, shape: Shape, box: Box, is_empty: Callable[[Box], bool] = lambda _: False, empty: int = 255
) -> np.ndarray:
    """Return the means (h, w, 3) of the finer level's pixels in a region of a level of `shape`.

    Regions of the finer level that are empty (`is_empty`) are not read and have the value `empty`. If the finer level
    is damaged, `UndecodableError` names the places in this level.
    """
    y, x, h, w = box
    out = np.full((h, w, 3), empty, np.uint8)
    damaged: list[Box] = []
    reason = ""
    down, across = (theirs / own for theirs, own in zip(finer.shape, shape, strict=True))
    step_y, step_x = max(1, int(_AT_ONCE_PX / down)), max(1, int(_AT_ONCE_PX / across))
    for top, left in product(range(y, y + h, step_y), range(x, x + w, step_x)):
        bottom, right = min(top + step_y, y + h), min(left + step_x, x + w)
        here = (top, left, bottom - top, right - left)
        fine = in_level(here, shape, finer.shape)
        if is_empty(fine):
            continue
        try:
            pixels = finer.read(*fine)
        except UndecodableError as error:
            damaged, reason = [*damaged, here], str(error)
            continue
        edges = (  # left, top, right, bottom, in fractions of the finer level's pixels
            left * across - fine[1],
            top * down - fine[0],
            min(right * across - fine[1], fine[3]),
            min(bottom * down - fine[0], fine[2]),
        )
        means = Image.fromarray(pixels).resize((right - left, bottom - top), Image.Resampling.BOX, box=edges)
        out[top - y : bottom - y, left - x : right - x] = np.asarray(means)
    if damaged:
        raise UndecodableError(reason, damaged)
    return out
