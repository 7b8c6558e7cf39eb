"""What a model says of a slide as a whole, in plain words, and whether that contradicts the slide's label. No Qt."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core.classes import split_label
from ...core.metrics import case_probability

if TYPE_CHECKING:
    from ...store.maps.patch_map import PatchMap

THRESHOLD = 0.5  # of the slide's own, calibrated probability; the threshold of the window is that of patches


@dataclass(frozen=True)
class Verdict:
    """What a model says of a slide.

    Attributes
    ----------
    classes
        Names, the negative one first.
    probability
        (C,) of the classes, 0–1.
    several
        Can several findings be present at once? Else exactly one class is.
    """

    classes: tuple[str, ...]
    probability: tuple[float, ...]
    multi_label: bool = False

    @property
    def said(self) -> tuple[str, ...]:
        """The classes that the model says: one, or all findings from `THRESHOLD` on."""
        if self.multi_label or len(self.classes) == 2:
            findings = [
                name for name, value in zip(self.classes[1:], self.probability[1:], strict=True) if value >= THRESHOLD
            ]
            return tuple(findings) or self.classes[:1]
        return (self.classes[max(range(len(self.classes)), key=self.probability.__getitem__)],)

    @property
    def finding(self) -> int:
        """Index of the likeliest finding."""
        return max(range(1, len(self.classes)), key=self.probability.__getitem__)

    @property
    def finding_probability(self) -> float:
        """Of the likeliest finding."""
        return self.probability[self.finding]

    def __str__(self) -> str:
        """'normal · P(tumour) 0.01': what it says, then how likely the likeliest finding is."""
        return f"{' + '.join(self.said)} · P({self.classes[self.finding]}) {self.finding_probability:.2f}"

    def contradicts(self, label: str | None) -> bool:
        """Does a label say something else? Not where there is none, nor where the model does not know its classes."""
        names = split_label(label)
        if not names or not set(names) <= set(self.classes):
            return False
        return set(names) != set(self.said) if self.multi_label else self.said[0] not in names


def verdict_of(patch_map: "PatchMap | None") -> Verdict | None:
    """None where nothing is said of the slide as a whole."""
    if patch_map is None or (probability := patch_map.bag_probability) is None:
        return None
    if not all(math.isfinite(value) for value in probability):
        return None
    return Verdict(tuple(patch_map.classes), tuple(float(value) for value in probability), bool(patch_map.multi_label))


def verdict_of_case(slides: Sequence[Verdict | None]) -> Verdict | None:
    """Return what is said of a case, from what is said of its slides; None if it is not known of all of them."""
    known = [own for own in slides if own is not None]
    if not known or len(known) < len(slides):
        return None
    probability = case_probability([own.probability for own in known], known[0].multi_label)
    return Verdict(known[0].classes, tuple(probability), known[0].multi_label)
