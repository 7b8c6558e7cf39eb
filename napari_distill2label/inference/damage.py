"""Scoring the readable patches of a damaged block."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import TileError
from ..core.geometry import Block, Patches
from ..slides.slide import Slide

Box = tuple[int, int, int, int]  # (y, x, h, w) in level-0 px


@dataclass(frozen=True)
class BlockResult:
    """The result of a block of n patches.

    `damaged` (n,) marks those that could not be read, because of `boxes`; `arrays` have a row for each of the others.
    """

    arrays: dict[str, np.ndarray]
    damaged: np.ndarray
    boxes: tuple[Box, ...] = ()


def score_readable(
    scorer: Callable[[Slide, Patches, Block], dict[str, np.ndarray]], slide: Slide, patches: Patches, block: Block
) -> BlockResult:
    """Score all patches of a block except those in a damaged part of the slide.

    The block is halved until a part can be read, or has no patch that could be.
    """
    n = len(block.corners)
    try:
        return BlockResult(scorer(slide, patches, block), np.zeros(n, bool))
    except TileError as error:
        if n == 1 or _touched(block.corners, patches.side, error.boxes).all():
            return BlockResult({}, np.ones(n, bool), error.boxes)
    damaged = np.zeros(n, bool)
    boxes: dict[Box, None] = {}
    arrays: dict[str, np.ndarray] = {}
    for part, index in split_block(block):
        result = score_readable(scorer, slide, patches, part)
        damaged[index] = result.damaged
        boxes |= dict.fromkeys(result.boxes)
        for name, rows in result.arrays.items():
            all_rows = arrays.setdefault(name, np.zeros((n, *rows.shape[1:]), rows.dtype))
            all_rows[index[~result.damaged]] = rows
    return BlockResult({name: rows[~damaged] for name, rows in arrays.items()}, damaged, tuple(boxes))


def _touched(corners: np.ndarray, side: int, boxes: Sequence[Box]) -> np.ndarray:
    """(n,) bool: which patches overlap one of `boxes`."""
    y, x, h, w = np.asarray(boxes, np.int64).reshape(-1, 4).T[..., None]
    top, left = corners.T
    touched: np.ndarray = ((top < y + h) & (top + side > y) & (left < x + w) & (left + side > x)).any(axis=0)
    return touched


def select_patches(block: Block, chosen: np.ndarray) -> Block:
    """Return the block with only those of its n scored patches that are `chosen` (n,) bool."""
    if chosen.all():
        return block
    scored = block.scored.copy()
    scored[block.scored] = chosen
    return Block(block.window, scored, block.corners[chosen])


def split_block(block: Block) -> Iterator[tuple[Block, np.ndarray]]:
    """Yield the two halves of a block along its longer axis, with the indices of their patches."""
    axis = int(np.argmax(block.scored.shape))
    number = np.full(block.scored.shape, -1)
    number[block.scored] = np.arange(len(block.corners))
    middle = block.scored.shape[axis] // 2
    for low, high in ((0, middle), (middle, block.scored.shape[axis])):
        cells = tuple(slice(low, high) if each == axis else slice(None) for each in range(block.scored.ndim))
        scored = block.scored[cells]
        if scored.any():
            window = list(block.window)
            window[axis] = slice(window[axis].start + low, window[axis].start + high)
            index = number[cells][scored]
            yield Block(tuple(window), scored, block.corners[index]), index
