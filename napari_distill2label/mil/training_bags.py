"""Training bags: a bag as tensors with its targets, pseudo-bags of it, and batches that can be cut into chunks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..core.bag import UNLABELLED, Bag, RegionSays
from ..core.settings import TrainingSettings
from .device import to_device

# Values (instances × channels × pixels) that go through the network at once (our images have 2 M), and values per chunk
# of a larger batch: one or two tenths of a second, on one core.
MAX_DIRECT, CHUNK = 2_500_000, 1_250_000

Value = TypeVar("Value")


@dataclass(frozen=True)
class TeacherTargets:
    """A teacher's predictions for one bag, computed once: bag logits (C,) and instance logits (K, C)."""

    bag_logits: Tensor
    instance_logits: Tensor


@dataclass(frozen=True)
class TrainingRegion:
    """A `core.bag.Region` as tensors: `patches` (n,) are indices into the bag, or into the batch."""

    patches: Tensor
    says: RegionSays
    finding: int


@dataclass(frozen=True)
class TrainingBag:
    """One bag as tensors: raw instances (K, …), target (C,) float32, `patch_labels` (K,) or None.

    `teacher_targets` are the predictions of a teacher, `oof_targets` (K, C) the instance logits of an out-of-fold
    classifier. `regions` and `share` are what a user says of parts of the bag, and of the share of positive instances.
    """

    instances: Tensor
    target: Tensor
    patch_labels: Tensor | None = None
    teacher_targets: TeacherTargets | None = None
    oof_targets: Tensor | None = None
    regions: tuple[TrainingRegion, ...] = ()
    share: float | None = None

    @classmethod
    def of(cls, bag: Bag, n_classes: int, teacher_targets: TeacherTargets | None = None) -> "TrainingBag":
        patch_labels = None if bag.patch_labels is None else torch.from_numpy(bag.patch_labels).long()
        regions = tuple(TrainingRegion(torch.from_numpy(own.patches), own.says, own.finding) for own in bag.regions)
        return cls(
            torch.from_numpy(bag.instances),
            torch.from_numpy(bag.target(n_classes)),
            patch_labels,
            teacher_targets,
            regions=regions,
            share=bag.share,
        )

    def pseudo_bags(self, settings: TrainingSettings) -> "list[Callable[[], TrainingBag]]":
        """Return functions that make the bags of one epoch, drawn again at every call.

        A bag of more than `pseudo_bag_size` instances is split at random into pseudo-bags (Zhang 2022, DTFD-MIL); a bag
        that `is_subsampled` gives some of its patches; any other bag gives itself. Each function makes one bag when it
        is called, because all bags of an epoch at once would be a second copy of the data. The patches of a region of
        which a user says "somewhere here" stay together.
        """
        count, largest = len(self.instances), settings.pseudo_bag_size
        if is_subsampled(self.instances, settings):
            drawn = torch.randperm(count)[: settings.max_patches_per_bag]
            return [partial(self.subset, torch.cat([drawn, *whole]).unique() if (whole := self._groups()) else drawn)]
        if largest is None or count <= largest:
            return [lambda: self]
        shuffled = torch.randperm(count).tensor_split(math.ceil(count / largest))
        if groups := self._groups():
            home = torch.empty(count, dtype=torch.long)
            for number, index in enumerate(shuffled):
                home[index] = number
            for group in groups:
                home[group] = int(home[group[0]])
            parts = (torch.nonzero(home == number)[:, 0] for number in range(len(shuffled)))
            return [partial(self.subset, index) for index in parts if len(index)]
        return [partial(self.subset, index) for index in shuffled]

    def _groups(self) -> list[Tensor]:
        """Return groups of instances that stay in one pseudo-bag; regions that share instances are one group."""
        groups: list[set[int]] = []
        for region in self.regions:
            if region.says == "some":
                own = set(region.patches.tolist())
                own = own.union(*(group for group in groups if group & own))
                groups = [*(group for group in groups if not group & own), own]
        return [torch.tensor(sorted(group)) for group in groups]

    def subset(self, index: Tensor) -> "TrainingBag":
        """Return the pseudo-bag of the instances `index`. It has the label and the bag logits of the whole bag."""
        patch_labels = None if self.patch_labels is None else self.patch_labels[index]
        teacher_targets = self.teacher_targets and TeacherTargets(
            self.teacher_targets.bag_logits, self.teacher_targets.instance_logits[index]
        )
        oof_targets = None if self.oof_targets is None else self.oof_targets[index]
        regions: tuple[TrainingRegion, ...] = ()
        if self.regions:
            place = torch.full((len(self.instances),), -1)
            place[index] = torch.arange(len(index))
            here = ((place[own.patches], own) for own in self.regions)
            regions = tuple(
                TrainingRegion(found[found >= 0], own.says, own.finding) for found, own in here if (found >= 0).any()
            )
        return TrainingBag(
            self.instances[index], self.target, patch_labels, teacher_targets, oof_targets, regions, self.share
        )


def is_subsampled(instances: Tensor | np.ndarray, settings: TrainingSettings) -> bool:
    """Whether an epoch trains on some of a bag's instances only, because its pixels (K, C, H, W) do not fit in memory.

    A whole bag goes through the network at once. Bags that are split into pseudo-bags do not, and features are small.
    """
    return instances.ndim == 4 and settings.pseudo_bag_size is None and len(instances) > settings.max_patches_per_bag


def all_or_none(values: Sequence[Value | None]) -> list[Value] | None:
    """Return the values, or None if there is none. `ValueError` if some are missing."""
    present = [value for value in values if value is not None]
    if present and len(present) < len(values):
        raise ValueError("some bags of a batch have targets and others have none")
    return present or None


@dataclass(frozen=True)
class BagBatch:
    """B ragged bags at once: instances (N, …), `lengths` summing to N, targets (B, C).

    Instances and `patch_labels` stay in the computer's memory, the rest is on the device of the network. `largest` is
    the number of values that go through the network at once where its memory does not hold `MAX_DIRECT`.
    """

    instances: Tensor
    lengths: list[int]
    target: Tensor
    patch_labels: Tensor | None
    teacher_targets: TeacherTargets | None
    oof_targets: Tensor | None
    largest: int | None = None
    regions: tuple[TrainingRegion, ...] = ()
    shares: tuple[float | None, ...] = ()

    @classmethod
    def of(cls, bags: Sequence[TrainingBag], device: torch.device, largest: int | None = None) -> "BagBatch":
        patch_labels = None
        if any(bag.patch_labels is not None for bag in bags):
            patch_labels = torch.cat(
                [
                    torch.full((len(bag.instances),), UNLABELLED) if bag.patch_labels is None else bag.patch_labels
                    for bag in bags
                ]
            )
        teacher_targets = all_or_none([bag.teacher_targets for bag in bags])
        oof_targets = all_or_none([bag.oof_targets for bag in bags])
        regions, start = [], 0
        for bag in bags:
            regions += [
                TrainingRegion(to_device(own.patches + start, device), own.says, own.finding) for own in bag.regions
            ]
            start += len(bag.instances)
        return cls(
            torch.cat([bag.instances for bag in bags]) if len(bags) > 1 else bags[0].instances,
            [len(bag.instances) for bag in bags],
            to_device(torch.stack([bag.target for bag in bags]), device),
            patch_labels,
            None
            if teacher_targets is None
            else TeacherTargets(
                to_device(torch.stack([own.bag_logits for own in teacher_targets]), device),
                to_device(torch.cat([own.instance_logits for own in teacher_targets]), device),
            ),
            None if oof_targets is None else to_device(torch.cat(oof_targets), device),
            largest,
            tuple(regions),
            tuple(bag.share for bag in bags),
        )

    @property
    def is_large(self) -> bool:
        """Whether the batch is too large to go through the network at once."""
        return self.instances.numel() > (self.largest or MAX_DIRECT)

    @property
    def half(self) -> int | None:
        """Half of the values that went through the network at once. None if they are of one instance."""
        at_once = min(self.instances.numel(), self.largest or MAX_DIRECT) // 2
        return at_once if at_once >= self.instances[0].numel() else None

    @property
    def slices(self) -> "list[BagSlice]":
        """Return one slice per bag: the whole bag."""
        return [BagSlice(0, length, length) for length in self.lengths]

    @property
    def chunks(self) -> "list[list[BagSlice]]":
        """Return chunks of consecutive instances, at most `CHUNK` values each; a chunk is a list of slices of bags."""
        largest = max(1, min(CHUNK, self.largest or CHUNK) // self.instances[0].numel())
        chunks: list[list[BagSlice]] = [[]]
        left = largest
        for length in self.lengths:
            start = 0
            while start < length:
                if not left:
                    chunks.append([])
                    left = largest
                stop = min(length, start + left)
                chunks[-1].append(BagSlice(start, stop, length))
                left -= stop - start
                start = stop
        return chunks


@dataclass(frozen=True)
class BagSlice:
    """The instances `start` to `stop` of a bag of `length`."""

    start: int
    stop: int
    length: int

    def __len__(self) -> int:
        return self.stop - self.start
