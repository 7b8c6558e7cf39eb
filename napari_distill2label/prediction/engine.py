"""The one engine that walks a slide: blocks -> patches -> a network -> arrays in zarr."""

from collections.abc import Callable, Generator
from typing import Protocol

import numpy as np

from ..core.events import Progress
from ..core.geometry import Block, Patches
from ..slides.cutting import cut
from ..slides.slide import Slide

BLOCK_PIXELS = 750_000  # of the model's patches; a block is computed in about 0.2 s on two cores


class Sink(Protocol):
    """What takes the network's arrays: a `PatchMap`, a `FeatureMap`."""

    patches: Patches

    def is_done(self, block: Block) -> bool: ...

    def write(self, block: Block, **arrays: np.ndarray) -> None: ...


def walk(
    slide: Slide, sink: Sink, network: Callable[[np.ndarray], dict[str, np.ndarray]], phase: str
) -> Generator[Progress, None, None]:
    """Fill `sink` with what `network` says of its patches; blocks it already holds are skipped.

    `network` maps (n, 3, P, P) uint8 to named arrays with n rows. `SlideError` if the slide cannot be read.
    """
    patches = sink.patches
    total, done = int(patches.scored.sum()), 0
    for block in patches.blocks(max(1, BLOCK_PIXELS // patches.patch_px**2)):
        if not sink.is_done(block):
            sink.write(block, **network(cut(slide, block.corners, patches.side, patches.patch_px)))
        done += len(block.corners)
        yield Progress(phase, done, total)
