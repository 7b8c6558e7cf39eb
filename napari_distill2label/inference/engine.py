"""The engine that scores a slide: blocks -> patches -> a network -> arrays in zarr.

It is a bounded pipeline: a few threads score blocks, each from reading to numbers, while the caller's thread writes
finished ones. So reading overlaps computing, and only a few blocks are in memory, whatever the slide's size. On several
machines (`inference.cluster`) the same blocks are scored elsewhere, and the same loop writes them.
"""

import math
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import numpy as np
import torch

from ..core.events import Progress
from ..core.geometry import Block, Patches
from ..core.resource_errors import may_be_out_of_memory
from ..mil.device import use_one_thread
from ..slides.cutting import cut
from ..slides.slide import Slide
from .damage import BlockResult, score_readable, select_patches

BLOCK_PIXELS = 750_000  # of the model's patches; a thread computes a block in about 0.2 s
# Of a block on a GPU, which it computes at once: 64 patches of 224 px. With more, few blocks of a small slide are left
# for the threads that read.
ACCELERATOR_PIXELS = 3_000_000
BATCH_PIXELS = 100_000  # at once on a processor: what a small network computes of more does not fit its cache
SMALLEST_BATCH = 8  # patches, however large: large networks are the faster for it
HEARTBEAT = 0.1  # s between events while nothing is finished
PATIENCE = 0.8  # s that a cancelled scoring waits for running blocks, to save them

Scorer = Callable[[Slide, Patches, Block], dict[str, np.ndarray]]
"""An open slide, its patches, one block of them -> named arrays with a row for each scored patch of the block.

Several threads call it at once. It raises `TileError` for a region that cannot be decoded, `SlideError` for a slide
that cannot be read. The result of a patch must not depend on the block's other patches. It may have an attribute
`patches_per_block`: the best number of patches per call.
"""

Network = Callable[[np.ndarray], dict[str, np.ndarray]]  # (n, 3, P, P) uint8 -> named arrays with n rows


class PatchScorer:
    """A scorer that cuts a block's patches and passes them to a network in batches.

    Parameters
    ----------
    network
        (n, 3, P, P) uint8 -> named arrays with n rows.
    at_once
        How many threads may be in the network at the same time; the others read. None: as many as torch uses.
    batch
        Patches that the network is shown at once; None: `BATCH_PIXELS` of them. Halved for good when memory does not
        suffice.
    """

    patches_per_block: int | None = None

    def __init__(self, network: Network, at_once: int | None = None, batch: int | None = None) -> None:
        self.network, self.batch = network, batch
        self._turns = threading.BoundedSemaphore(at_once or torch.get_num_threads())

    @classmethod
    def on_accelerator(cls, network: Network, patch_px: int) -> "PatchScorer":
        """Return the scorer for a network on a GPU: large blocks, each computed at once, by two threads in turn.

        One thread sends its patches to the GPU while those of the other are computed.
        """
        block = max(1, ACCELERATOR_PIXELS // patch_px**2)
        scorer = cls(network, at_once=2, batch=4 * block)  # `patches_per_block` rounds to a power of 4
        scorer.patches_per_block = block
        return scorer

    def __call__(self, slide: Slide, patches: Patches, block: Block) -> dict[str, np.ndarray]:
        cut_out = cut(slide, block.corners, patches.side, patches.patch_px)
        answers: list[dict[str, np.ndarray]] = []
        with self._turns:
            start = 0
            while start < len(cut_out):
                batch = self.batch or max(SMALLEST_BATCH, BATCH_PIXELS // patches.patch_px**2)
                try:
                    answers.append(self.network(cut_out[start : start + batch]))
                except (MemoryError, RuntimeError) as error:  # torch's and onnxruntime's own are RuntimeErrors
                    if batch == 1 or not may_be_out_of_memory(error):
                        raise
                    self.batch = max(1, min(batch, len(cut_out) - start) // 2)
                else:
                    start += batch
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


class Sink(Protocol):
    """A receiver of the network's arrays: a `PatchMap`, a `FeatureMap`."""

    @property
    def patches(self) -> Patches: ...

    def is_done(self, block: Block) -> bool: ...

    def write(self, block: Block, *args: Any, **arrays: Any) -> None:
        """Write the named arrays of the scorer, which each sink has as parameters of its own."""

    def fail(self, block: Block, boxes: tuple[tuple[int, int, int, int], ...]) -> None:
        """Mark the block's patches as unreadable: the slide is damaged in `boxes` (y, x, h, w), level-0 px."""


class Pool(Protocol):
    """A pool of threads or workers that scores the blocks of one slide."""

    heartbeat: float  # s to wait for a block before the next event

    def free_slots(self, waiting: int) -> int:
        """Return how many more blocks the pool takes while `waiting` blocks are not yet written."""

    def submit(self, block: Block) -> "Future[BlockResult]": ...

    def check(self) -> None:
        """Raise an error if what was submitted can never be finished."""

    def stop(self) -> None:
        """Score no more blocks; give those begun a moment to end."""


def score_slide(
    slide: Slide, sink: Sink, scorer: Scorer, progress: Progress, threads: int | None = None
) -> Generator[Progress, None, None]:
    """Score the patches of `sink` with `scorer`; blocks that it already holds are skipped.

    `threads` score blocks at the same time, each computing by itself; None: as many as torch uses, and one more,
    which reads. Finished blocks are saved when the generator is closed or fails. `SlideError` if the slide cannot be
    read; patches in a damaged part are left out and reported to the sink (`Sink.fail`).
    """
    pool = ThreadPool(slide, sink.patches, scorer, threads)
    yield from score_blocks(sink, pool, progress, patches_per_block(scorer, sink.patches))


def patches_per_block(scorer: Scorer, patches: Patches) -> int:
    """Return the patches per block: a square with a power of two as its side, which fits the chunks of a `PatchMap`."""
    wanted: int = getattr(scorer, "patches_per_block", None) or BLOCK_PIXELS // patches.patch_px**2
    return int(4 ** round(math.log(max(1, wanted), 4)))


def score_blocks(sink: Sink, pool: Pool, progress: Progress, per_block: int) -> Generator[Progress, None, None]:
    """Score the blocks that `sink` lacks in `pool`, and write each as soon as it is finished; yield `progress`."""
    total, done = int(sink.patches.scored.sum()), 0
    blocks, more = sink.patches.blocks(per_block), True
    waiting: dict[Future[BlockResult], Block] = {}
    finished: SimpleQueue[Future[BlockResult]] = SimpleQueue()
    try:
        while more or waiting:
            while more and pool.free_slots(len(waiting)) > 0:
                if (block := next(blocks, None)) is None:
                    more = False
                elif sink.is_done(block):
                    done += len(block.corners)
                    yield progress.at(done, total)
                else:
                    future = pool.submit(block)
                    waiting[future] = block
                    future.add_done_callback(finished.put)
            try:
                future = finished.get(timeout=pool.heartbeat)
            except Empty:
                pool.check()
            else:
                block = waiting.pop(future)
                _write_result(sink, block, future.result())
                done += len(block.corners)
            yield progress.at(done, total)
    finally:
        pool.stop()
        for future, block in waiting.items():
            if future.done():
                with suppress(Exception, CancelledError):  # the first error is the one that counts
                    _write_result(sink, block, future.result())


def _write_result(sink: Sink, block: Block, result: BlockResult) -> None:
    if not result.damaged.all():
        sink.write(select_patches(block, ~result.damaged), **result.arrays)
    if result.damaged.any():
        sink.fail(select_patches(block, result.damaged), result.boxes)


class ThreadPool:
    """Scores blocks of an open slide in threads of this process."""

    heartbeat = HEARTBEAT

    def __init__(self, slide: Slide, patches: Patches, scorer: Scorer, threads: int | None = None) -> None:
        self._score = lambda block: score_readable(scorer, slide, patches, block)
        self._restore = torch.get_num_threads()
        threads = threads or self._restore + 1
        self._most = threads + 1  # one is waiting for the thread that ends first
        self._running: set[Future[BlockResult]] = set()
        self._pool = ThreadPoolExecutor(threads, "scoring", initializer=use_one_thread)

    def free_slots(self, waiting: int) -> int:
        return self._most - waiting

    def submit(self, block: Block) -> "Future[BlockResult]":
        self._running = {future for future in self._running if not future.done()}
        self._running.add(future := self._pool.submit(self._score, block))
        return future

    def check(self) -> None:
        """Do nothing: threads do not get lost."""

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        wait(self._running, PATIENCE)
        torch.set_num_threads(self._restore)
