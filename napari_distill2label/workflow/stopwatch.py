"""Measures a running training, for `store.timing`."""

import time
from collections.abc import Iterable

import torch

from ..core.bag import Bag
from ..store.timing import Timing


def device_name(device: torch.device) -> str:
    """Return the name of a device: a GPU's name, or the processor and its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device)


class Stopwatch:
    """The seconds of reading, of the epochs of each network, and of all else."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.reading = 0.0
        self.between = 0.0
        self.epochs: dict[str, list[float]] = {}

    def _lap(self) -> float:
        last, self._last = self._last, time.perf_counter()
        return self._last - last

    def mark_reading(self) -> None:
        """Count the time since the last mark as reading."""
        self.reading += self._lap()

    def mark_other(self) -> None:
        """Count the time since the last mark as neither reading nor an epoch."""
        self.between += self._lap()

    def mark_epoch(self, network: str) -> None:
        """Count the time since the last mark as an epoch of `network`."""
        self.epochs.setdefault(network, []).append(self._lap())

    def mark_epoch_of(self, network: str, seconds: float) -> None:
        """Note that an epoch of `network` takes so many seconds, by what was measured since the last mark."""
        self._lap()
        self.epochs[network] = [seconds]

    def timing(self, device: torch.device, bags: Iterable[Bag]) -> Timing:
        """Return what was measured of a training on `bags` (training and validation)."""
        sizes = [len(bag) for bag in bags]
        return Timing(
            device=device_name(device),
            n_slides=len(sizes),
            n_patches=sum(sizes),
            reading=self.reading,
            # The first epoch of a network warms up caches: leave it out if there are others.
            epoch={network: _mean(laps[1:] or laps) for network, laps in self.epochs.items()},
            between=self.between,
        )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
