"""The bag: one slide as the method sees it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

UNLABELLED = -1  # in `Bag.patch_labels`: the user has not corrected this patch
RegionSays = Literal["none", "some", "all"]
REGION_WORDS: dict[RegionSays, str] = {"none": "none here", "some": "somewhere here", "all": "all of this"}
"""What the class of an annotation is called that says so."""


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a slide, and what somebody says of its patches: a bag inside the bag.

    Attributes
    ----------
    patches
        (n,) int64, n >= 1, indices of its patches in the bag.
    says
        "none" of them has the finding, at least one ("some") has it, or "all" have it.
    finding
        Index of the finding's class; 0: of any finding (with "none" and "some").
    """

    patches: np.ndarray
    says: RegionSays
    finding: int = 0

    def among(self, kept: np.ndarray) -> "Region | None":
        """Return the same of a bag that keeps some of its patches, (K,) bool; None if too few of the region are left.

        A region of which somebody says "some" is of use only whole.
        """
        here = kept[self.patches]
        if not here.any() or (self.says == "some" and not here.all()):
            return None
        return Region((np.cumsum(kept) - 1)[self.patches[here]], self.says, self.finding)


@dataclass(frozen=True, eq=False)
class Bag:
    """The K >= 1 patches of one slide, or of all slides of a case, and the label.

    Attributes
    ----------
    slide_id
        The slide's name in its cohort; of a case, that of the case.
    instances
        (K, C, H, W) uint8 patches, or (K, D) float32 or float16 features of a frozen encoder.
    coordinates
        (K, 2) int64, top-left corners of the patches as (y, x) in level-0 pixels.
    label
        Indices of the classes present, `(0,)` for a negative slide; None where the slide is not labelled.
    patch_labels
        (K,) int8: the class of each patch that the user corrected, `UNLABELLED` elsewhere. None without corrections.
    case_id
        The patient, whose slides are not independent of each other. None: no other slide is of this patient.
    regions
        What somebody says of parts of the slide.
    share
        Somebody's estimate of the share of its patches that have a finding, in [0, 1]. None: not given.
    parts
        Of a case (`bag_of_case`): id and number of patches of each slide, in the order of the patches. () of a slide.

    A bag has no field for the ground truth, so the ground truth cannot reach training.
    """

    slide_id: str
    instances: np.ndarray
    coordinates: np.ndarray
    label: tuple[int, ...] | None = None
    patch_labels: np.ndarray | None = None
    case_id: str | None = None
    regions: tuple[Region, ...] = ()
    share: float | None = None
    parts: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        patches = self.instances.ndim == 4 and self.instances.dtype == np.uint8
        features = self.instances.ndim == 2 and self.instances.dtype in (np.float32, np.float16)
        if not (patches or features) or len(self) == 0:
            raise ValueError(
                f"bag {self.slide_id!r}: instances must be (K, C, H, W) uint8, or (K, D) float32 or float16, "
                f"with K >= 1, got {self.instances.shape} {self.instances.dtype}"
            )
        if self.coordinates.shape != (len(self), 2):
            raise ValueError(f"bag {self.slide_id!r}: coordinates must be ({len(self)}, 2)")
        if self.patch_labels is not None and self.patch_labels.shape != (len(self),):
            raise ValueError(f"bag {self.slide_id!r}: patch_labels must be ({len(self)},)")
        if self.parts and sum(size for _, size in self.parts) != len(self):
            raise ValueError(f"bag {self.slide_id!r}: its parts must have {len(self)} patches together")

    def __len__(self) -> int:
        return len(self.instances)

    @property
    def is_features(self) -> bool:
        """Whether the instances are features of a frozen encoder instead of patches."""
        return self.instances.ndim == 2

    @property
    def slices(self) -> list[slice]:
        """The patches of each of its slides."""
        ends = np.cumsum([size for _, size in self.parts] or [len(self)]).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    @property
    def slides(self) -> "list[Bag]":
        """The slides that it holds, without what a user says of their patches. Views of the same numbers."""
        if not self.parts:
            return [self]
        return [
            Bag(name, self.instances[own], self.coordinates[own], self.label, case_id=self.case_id)
            for (name, _), own in zip(self.parts, self.slices, strict=True)
        ]

    @property
    def classes(self) -> tuple[int, ...]:
        """The label of a bag that has one; `ValueError` for any other."""
        if self.label is None:
            raise ValueError(f"bag {self.slide_id!r} has no label")
        return self.label

    def target(self, n_classes: int) -> np.ndarray:
        """Return (C,) float32, 1 at the classes present (one-hot if there is one)."""
        target = np.zeros(n_classes, np.float32)
        target[list(self.classes)] = 1
        return target


def bag_of_case(bags: Sequence[Bag]) -> Bag:
    """Return the one bag of the slides of a case, which have one label.

    The estimated share is that of all patches, and None if it is not known of every slide.
    """
    first = bags[0]
    if len({bag.label for bag in bags}) > 1 or len({bag.case_id for bag in bags}) > 1:
        raise ValueError(f"bag {first.slide_id!r}: slides of a case have one label and one case_id")
    sizes = [len(bag) for bag in bags]
    starts = np.cumsum([0, *sizes])
    labels = None
    if any(bag.patch_labels is not None for bag in bags):
        labels = np.concatenate([
            np.full(len(bag), UNLABELLED, np.int8) if bag.patch_labels is None else bag.patch_labels for bag in bags
        ])  # fmt: skip
    regions = tuple(
        replace(own, patches=own.patches + start)
        for bag, start in zip(bags, starts, strict=False)
        for own in bag.regions
    )
    shares = [bag.share for bag in bags if bag.share is not None]
    return Bag(
        first.case_id or first.slide_id,
        np.concatenate([bag.instances for bag in bags]),
        np.concatenate([bag.coordinates for bag in bags]),
        first.label,
        labels,
        first.case_id,
        regions,
        float(np.average(shares, weights=sizes)) if len(shares) == len(bags) else None,
        tuple((bag.slide_id, len(bag)) for bag in bags),
    )
