"""A place that a level lacks, from the next finer level."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
from PIL import Image

from .protocol import Box, PixelLevel, UndecodableError

_AT_ONCE_PX = 2048  # side of what is read of the finer level in one go

Shape = tuple[int, int]  # (height, width) of a level


def in_level(box: Box, shape: Shape, other: Shape) -> Box:
    """A region of a level in whole pixels of another one: all those that show any of it, at least one."""
    down, across = (theirs / own for theirs, own in zip(other, shape, strict=True))
    top, left = min(int(box[0] * down), other[0] - 1), min(int(box[1] * across), other[1] - 1)
    bottom = min(math.ceil((box[0] + box[2]) * down), other[0])
    right = min(math.ceil((box[1] + box[3]) * across), other[1])
    return top, left, max(1, bottom - top), max(1, right - left)


def shrunk(
    finer: PixelLevel, shape: Shape, box: Box, is_empty: Callable[[Box], bool] = lambda _: False, empty: int = 255
) -> np.ndarray:
    """(h, w, 3) means of the pixels of a finer level, in a region of a level of `shape`.

    What `is_empty` says of regions of the finer level has the value `empty`, and is not read. `UndecodableError` names
    the places of this level, where the finer one is damaged.
    """
    y, x, h, w = box
    out, damaged, reason = np.full((h, w, 3), empty, np.uint8), [], ""
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
