"""`assess`: predictions that are there already against the truth. It predicts nothing and changes nothing.

`evaluate` is the verb for figures that are reported: it asks every model of a run on its test slides. This one answers
the person at the window: how good is what I see?
"""

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.bag import UNLABELLED
from ..core.errors import SettingsError
from ..core.events import Event, Progress, Task
from ..core.label_map import COVERAGE
from ..core.metrics import Metrics, binary_metrics, positive_score
from ..store.maps.labels import labels_of
from ..store.maps.patch_map import PatchMap
from .bags import PathLike
from .truth import KnownPatches, read_truth

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
class Part:
    """Some of the slides: those that the model learnt from, or the others. What it has learnt from flatters it.

    `metrics` is any finding against none, see `core.metrics`.
    """

    learnt: bool
    slides: int
    metrics: Metrics


@dataclass(frozen=True, eq=False)
class Assessment:
    """What predictions are worth.

    All figures but `parts` are of slides that the model did not learn from; of all, where it learnt from every one.

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
    parts
        Slides not learnt from, and slides learnt from; one of them where there are no others.
    notices
        What counted of the truth and what did not, a line each.
    """

    slides: int
    threshold: float
    classes: tuple[str, ...]
    metrics: Metrics
    confusion: np.ndarray
    false_positive: np.ndarray
    true_positive: np.ndarray
    parts: tuple[Part, ...] = ()
    notices: tuple[str, ...] = ()

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


@dataclass(frozen=True, eq=False)
class _Compared:
    """The patches of one slide that are known: (n,) true class, label, score."""

    learnt: bool
    true: np.ndarray
    label: np.ndarray
    score: np.ndarray


def assess(
    maps: Sequence[PatchMap],
    truth: PathLike,
    *,
    threshold: float = 0.5,
    empty: str = "negative",
    coverage: float = COVERAGE,
    label_map: Mapping[str, str] | None = None,
    learnt: Collection[str] = (),
) -> Generator[Event, None, Assessment]:
    """Compare patch maps of one model with the truth, on the slides the truth speaks of.

    Parameters
    ----------
    truth
        As for `evaluate`: CSV `slide_id,x,y,label`, GeoJSON of QuPath, or a folder of mask images named by slide.
    empty
        Patches of a grid on which nothing is marked: "negative", or "ignore".
    coverage, label_map
        As for `evaluate`.
    learnt
        Ids of the slides that the model learnt from: they are accounted for apart.

    Raises
    ------
    CohortError
        The truth cannot be read, does not fit the classes, or speaks of none of the slides.
    """
    if empty not in ("negative", "ignore"):
        raise SettingsError(f"empty is 'negative' or 'ignore', not {empty!r}")
    yield Progress(Task.READ_TRUTH, 0, len(maps))
    classes = maps[0].classes
    patches = KnownPatches(read_truth(truth, label_map, coverage), truth, classes, empty == "negative", label_map)
    notices = patches.check([patch_map.slide_id for patch_map in maps], "predicted slides")
    wanted = [patch_map for patch_map in maps if patch_map.slide_id in patches.truth]
    compared = []
    for done, patch_map in enumerate(wanted, 1):
        compared.append(_compare(patch_map, patches.of(patch_map), threshold, patch_map.slide_id in learnt))
        yield Progress(Task.COMPARE, done, len(wanted))
    notices += patches.report()
    new = [one for one in compared if not one.learnt and len(one.true)]
    parts = tuple(
        Part(known, len(chosen), _metrics(chosen, threshold))
        for known in (False, True)
        if (chosen := [one for one in compared if one.learnt == known])
    )
    chosen = new or compared
    true, label, score = (np.concatenate([getattr(one, name) for one in chosen]) for name in ("true", "label", "score"))
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (true, label), 1)
    return Assessment(
        len(chosen),
        threshold,
        classes,
        _metrics(chosen, threshold),
        confusion,
        *_roc(true > 0, score),
        parts,
        tuple(notices),
    )


def _compare(patch_map: PatchMap, true: np.ndarray, threshold: float, learnt: bool) -> _Compared:
    given = (true != UNLABELLED) & patch_map.scored[patch_map.patches.scored]
    probability = patch_map.probability[patch_map.patches.scored][given]
    label = labels_of(probability, threshold).astype(np.int64) - 1
    return _Compared(learnt, true[given], label, positive_score(probability, patch_map.multi_label))


def _metrics(chosen: Sequence[_Compared], threshold: float) -> Metrics:
    true, score = (np.concatenate([getattr(one, name) for one in chosen]) for name in ("true", "score"))
    return binary_metrics(true > 0, score, threshold)


def _roc(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not 0 < truth.sum() < len(truth):
        return np.empty(0), np.empty(0)
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(truth, score)
    keep = np.unique(np.linspace(0, len(false) - 1, CURVE_POINTS).round().astype(int))
    return false[keep], true[keep]
