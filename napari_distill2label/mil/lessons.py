"""What a network is trained on: the lesson of a bag, and batches of lessons, which can be cut into runs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..core.bag import UNKNOWN, Bag
from ..core.settings import TrainingSettings

# Of the numbers that instances consist of, how many are judged without a pause (our images have 2 M), and of larger
# batches in each run: one or two tenths of a second, on one core.
AT_ONCE, RUN = 2_500_000, 1_250_000


@dataclass(frozen=True)
class Taught:
    """A teacher's answers for one bag, computed once: bag logits (C,) and instance logits (K, C)."""

    bag_logits: Tensor
    instance_logits: Tensor


@dataclass(frozen=True)
class Lesson:
    """One training bag as tensors: instances (K, …) raw, target (C,) float32, `known` (K,) or None.

    `taught` is what a teacher says of it, `assisted` (K, C) the instance logits of an assistant.
    """

    instances: Tensor
    target: Tensor
    known: Tensor | None = None
    taught: Taught | None = None
    assisted: Tensor | None = None

    @classmethod
    def of(cls, bag: Bag, n_classes: int, taught: Taught | None = None) -> "Lesson":
        known = None if bag.known is None else torch.from_numpy(bag.known).long()
        return cls(torch.from_numpy(bag.instances), torch.from_numpy(bag.target(n_classes)), known, taught)

    def parts(self, settings: TrainingSettings) -> "list[Callable[[], Lesson]]":
        """What of the bag one epoch trains on, drawn anew at every call.

        The bag itself; of more than `bag_patches` instances, pseudo-bags dealt at random (Zhang 2022, DTFD-MIL); of a
        bag that `is_thinned`, some of its patches. Each is made when it is called: all of an epoch at once would be a
        second copy of the data.
        """
        count, largest = len(self.instances), settings.bag_patches
        if is_thinned(self.instances, settings):
            return [partial(self.take, torch.randperm(count)[: settings.max_bag_patches])]
        if largest is None or count <= largest:
            return [lambda: self]
        dealt = torch.randperm(count).tensor_split(math.ceil(count / largest))
        return [partial(self.take, index) for index in dealt]

    def take(self, index: Tensor) -> "Lesson":
        """The pseudo-bag of the instances `index`: its label and what is known of the bag are the bag's."""
        known = None if self.known is None else self.known[index]
        taught = self.taught and Taught(self.taught.bag_logits, self.taught.instance_logits[index])
        assisted = None if self.assisted is None else self.assisted[index]
        return Lesson(self.instances[index], self.target, known, taught, assisted)


def is_thinned(instances: Tensor | np.ndarray, settings: TrainingSettings) -> bool:
    """Does an epoch train on some of a bag's instances only? Where pixels (K, C, H, W) are too many for memory.

    What is trained on as one bag goes through the network at once. Bags that are dealt to pseudo-bags do not, and
    features are small.
    """
    return instances.ndim == 4 and settings.bag_patches is None and len(instances) > settings.max_bag_patches


@dataclass(frozen=True)
class Batch:
    """B ragged bags at once: instances (N, …), `lengths` summing to N, targets (B, C)."""

    instances: Tensor
    lengths: list[int]
    target: Tensor
    known: Tensor | None
    taught: Taught | None
    assisted: Tensor | None

    @classmethod
    def of(cls, lessons: Sequence[Lesson], device: torch.device) -> "Batch":
        known = taught = None
        if any(lesson.known is not None for lesson in lessons):
            known = torch.cat(
                [
                    torch.full((len(lesson.instances),), UNKNOWN) if lesson.known is None else lesson.known
                    for lesson in lessons
                ]
            ).to(device)
        if lessons[0].taught is not None:
            taught = Taught(
                torch.stack([lesson.taught.bag_logits for lesson in lessons]).to(device),
                torch.cat([lesson.taught.instance_logits for lesson in lessons]).to(device),
            )
        return cls(
            torch.cat([lesson.instances for lesson in lessons]) if len(lessons) > 1 else lessons[0].instances,
            [len(lesson.instances) for lesson in lessons],
            torch.stack([lesson.target for lesson in lessons]).to(device),
            known,
            taught,
            None if lessons[0].assisted is None else torch.cat([lesson.assisted for lesson in lessons]).to(device),
        )

    @property
    def is_large(self) -> bool:
        """Too large to be judged without a pause?"""
        return self.instances.numel() > AT_ONCE

    @property
    def pieces(self) -> "list[Piece]":
        """Every bag in one piece."""
        return [Piece(0, length, length) for length in self.lengths]

    @property
    def runs(self) -> "list[list[Piece]]":
        """Consecutive instances in runs of at most `RUN` numbers, each as the pieces of bags it consists of."""
        most = max(1, RUN // self.instances[0].numel())
        runs, room = [[]], most
        for length in self.lengths:
            start = 0
            while start < length:
                if not room:
                    runs.append([])
                    room = most
                stop = min(length, start + room)
                runs[-1].append(Piece(start, stop, length))
                room -= stop - start
                start = stop
        return runs


@dataclass(frozen=True)
class Piece:
    """The instances `start` to `stop` of a bag of `length`."""

    start: int
    stop: int
    length: int

    def __len__(self) -> int:
        return self.stop - self.start
