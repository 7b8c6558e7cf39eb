"""`assess`: predictions that are there already against the truth. It predicts nothing and changes nothing.

`evaluate` is the verb for figures that are reported: it asks every model of a run on its test slides. This one answers
the person at the window: how good is what I see?
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.bag import UNKNOWN
from ..core.errors import CohortError, SettingsError
from ..core.events import Event, Progress
from ..core.metrics import Metrics, binary_metrics, positive_score
from ..store.labels import labels_of
from ..store.patchmap import PatchMap
from .bags import PathLike
from .truth import read_truth

CURVE_POINTS = 500  # of the ROC curve that is handed on: more cannot be seen


@dataclass(frozen=True)
class ClassFigures:
    """One class against the others, at the threshold. None where a share has no denominator.

    Attributes
    ----------
    patches
        That are of this class.
    sensitivity
        Share of them that are called so (recall).
    precision
        Share of the patches called so that are.
    f1
        Their harmonic mean.
    """

    name: str
    patches: int
    sensitivity: float | None
    precision: float | None
    f1: float | None


@dataclass(frozen=True, eq=False)
class Assessment:
    """What predictions are worth.

    Attributes
    ----------
    slides, threshold, classes
        How many slides had a truth; at which threshold; names, the negative one first.
    metrics
        Any finding against none, see `core.metrics`.
    confusion
        (C, C) patches: row = true class, column = label.
    false_positive, true_positive
        Rates along the ROC curve of "any finding"; empty where the truth has one kind only.
    """

    slides: int
    threshold: float
    classes: tuple[str, ...]
    metrics: Metrics
    confusion: np.ndarray
    false_positive: np.ndarray
    true_positive: np.ndarray

    @property
    def per_class(self) -> tuple[ClassFigures, ...]:
        """Each class against the others."""
        rows = []
        for index, name in enumerate(self.classes):
            right = int(self.confusion[index, index])
            true, called = int(self.confusion[index].sum()), int(self.confusion[:, index].sum())
            shares = [right / whole if whole else None for whole in (true, called, (true + called) / 2)]
            rows.append(ClassFigures(name, true, *shares))
        return tuple(rows)


def assess(
    maps: Sequence[PatchMap], truth: PathLike, *, threshold: float = 0.5, empty: str = "negative"
) -> Generator[Event, None, Assessment]:
    """Compare patch maps of one model with the truth, on the slides the truth speaks of.

    Parameters
    ----------
    truth
        As for `evaluate`: CSV `slide_id,x,y,label`, or a folder of mask images named by slide.
    empty
        Patches of a grid that hold no point of a CSV: "negative", or "ignore".

    Raises
    ------
    CohortError
        The truth cannot be read, or speaks of none of the slides.
    """
    if empty not in ("negative", "ignore"):
        raise SettingsError(f"empty is 'negative' or 'ignore', not {empty!r}")
    yield Progress("reading the truth", 0, len(maps))
    known = read_truth(truth)
    wanted = [patch_map for patch_map in maps if patch_map.slide_id in known]
    if not wanted:
        raise CohortError(
            f"{truth}: says nothing of any of the {len(maps)} predicted slides: are the slide ids the same?"
        )
    classes = wanted[0].classes
    truths, labels, scores = [], [], []
    for done, patch_map in enumerate(wanted, 1):
        patches = patch_map.patches
        true = known.of(patch_map.slide_id, patches, classes)
        if empty == "negative" and len(patches.shape) == 2:
            true[true == UNKNOWN] = 0
        given = (true != UNKNOWN) & patch_map.done[patches.scored]
        probability = patch_map.probability[patches.scored][given]
        truths.append(true[given])
        labels.append(labels_of(probability, threshold).astype(np.int64) - 1)
        scores.append(positive_score(probability, patch_map.several))
        yield Progress("comparing with the truth", done, len(wanted))
    true, label, score = np.concatenate(truths), np.concatenate(labels), np.concatenate(scores)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (true, label), 1)
    metrics = binary_metrics(true > 0, score, threshold)
    return Assessment(len(wanted), threshold, classes, metrics, confusion, *_roc(true > 0, score))


def _roc(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not 0 < truth.sum() < len(truth):
        return np.empty(0), np.empty(0)
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(truth, score)
    keep = np.unique(np.linspace(0, len(false) - 1, CURVE_POINTS).round().astype(int))
    return false[keep], true[keep]
