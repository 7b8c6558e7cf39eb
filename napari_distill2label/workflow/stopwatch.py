"""Measures a training while it goes on, for `store.timing`."""

import time
from collections.abc import Iterable

import torch

from ..core.bag import Bag
from ..store.timing import Timing


def device_in_words(device: torch.device) -> str:
    """The same words for the same speed: a GPU's name, or the processor and its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device)


class Stopwatch:
    """Seconds of reading, of each role's epochs, and of the rest."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.reading = 0.0
        self.between = 0.0
        self.epochs: dict[str, list[float]] = {}

    def _lap(self) -> float:
        last, self._last = self._last, time.perf_counter()
        return self._last - last

    def read(self) -> None:
        """All slides have been read."""
        self.reading += self._lap()

    def rest(self) -> None:
        """What was done since the last lap was no epoch."""
        self.between += self._lap()

    def epoch(self, role: str) -> None:
        """An epoch of `role` is over."""
        self.epochs.setdefault(role, []).append(self._lap())

    def part_of_epoch(self, role: str, seconds: float) -> None:
        """No more is done of an epoch of `role`, which would take so long. Nothing if an epoch was whole."""
        self._lap()
        self.epochs.setdefault(role, [seconds])

    def timing(self, device: torch.device, bags: Iterable[Bag]) -> Timing:
        """What was measured, of a training on `bags` (training and validation)."""
        sizes = [len(bag) for bag in bags]
        return Timing(
            device=device_in_words(device),
            n_slides=len(sizes),
            n_patches=sum(sizes),
            reading=self.reading,
            # The first epoch of a network warms caches up: leave it out where there are others.
            epoch={role: _mean(laps[1:] or laps) for role, laps in self.epochs.items()},
            between=self.between,
        )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
