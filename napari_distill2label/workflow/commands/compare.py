"""`compare`: existing predictions against the ground truth. It predicts nothing and changes nothing.

Use `evaluate` for metrics that are reported: it runs every network of a run on its test slides. `compare` is for the
window: it shows how good the displayed predictions are.
"""

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass

import numpy as np

from ...core.bag import UNLABELLED
from ...core.errors import SettingsError
from ...core.events import Event, Progress, Task
from ...core.inputs import Inputs
from ...core.metrics import Metrics, binary_metrics, positive_score
from ...core.notices import Notice
from ...core.paths import PathLike
from ...store.maps.labels import labels_of
from ...store.maps.patch_map import PatchMap
from ..corrections import coverage_of
from ..ground_truth import TruePatches, read_truth

CURVE_POINTS = 500  # of the ROC curve that is returned: more cannot be seen


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class against the others, at the threshold. None if a ratio has no denominator.

    Attributes
    ----------
    patches
        Number of patches of this class.
    sensitivity
        Share of them that are labelled so (recall).
    precision
        Share of the patches labelled so that are of this class.
    f1
        Harmonic mean of sensitivity and precision.
    """

    name: str
    patches: int
    sensitivity: float | None
    precision: float | None
    f1: float | None


@dataclass(frozen=True, eq=False)
class Part:
    """Either the slides that the model was trained on, or the others. Metrics of training slides are too good.

    `metrics` is any finding against none, see `core.metrics`.
    """

    learnt: bool
    slides: int
    metrics: Metrics


@dataclass(frozen=True, eq=False)
class TruthComparison:
    """How well predictions agree with the ground truth.

    All fields but `parts` are of slides that the model was not trained on; of all slides, if there are no others.

    Attributes
    ----------
    slides, threshold, classes
        Number of slides with ground truth; threshold; class names, the negative one first.
    metrics
        Any finding against none, see `core.metrics`.
    confusion
        (C, C) patches: row = true class, column = label.
    false_positive, true_positive
        Rates along the ROC curve of "any finding"; empty if all patches are of one kind.
    parts
        The other slides, and the training slides; only one of them if the other has no slide.
    notices
        Which marks of the ground truth were used and which were not.
    """

    slides: int
    threshold: float
    classes: tuple[str, ...]
    metrics: Metrics
    confusion: np.ndarray
    false_positive: np.ndarray
    true_positive: np.ndarray
    parts: tuple[Part, ...] = ()
    notices: tuple[Notice, ...] = ()

    @property
    def per_class(self) -> tuple[ClassMetrics, ...]:
        """Metrics of each class against the others."""
        rows = []
        for index, name in enumerate(self.classes):
            right = int(self.confusion[index, index])
            true, called = int(self.confusion[index].sum()), int(self.confusion[:, index].sum())
            shares = [right / whole if whole else None for whole in (true, called, (true + called) / 2)]
            rows.append(ClassMetrics(name, true, *shares))
        return tuple(rows)


@dataclass(frozen=True, eq=False)
class _Compared:
    """The patches of one slide with a known class: (n,) true class, label, score."""

    learnt: bool
    true: np.ndarray
    label: np.ndarray
    score: np.ndarray


def compare(
    maps: Sequence[PatchMap],
    truth: PathLike,
    *,
    threshold: float = 0.5,
    missing_truth: str = "negative",
    inputs: Inputs = Inputs(),
    learnt: Collection[str] = (),
) -> Generator[Event, None, TruthComparison]:
    """Compare patch maps of one model with the ground truth, on the slides that have one.

    Parameters
    ----------
    truth
        As for `evaluate`: CSV `slide_id,x,y,label`, GeoJSON of QuPath, or a folder of mask images named by slide.
    missing_truth
        Patches of a grid on which nothing is marked: "negative", or "ignore".
    inputs
        Of these: label_map and coverage of the ground truth.
    learnt
        Ids of the slides that the model was trained on. They are reported separately.

    Raises
    ------
    CohortError
        The ground truth cannot be read, does not fit the classes, or has no entry for any slide.
    """
    if missing_truth not in ("negative", "ignore"):
        raise SettingsError(f"missing_truth is 'negative' or 'ignore', not {missing_truth!r}")
    inputs.check_only("Comparing", "label_map", "coverage")
    yield Progress(Task.READ_TRUTH, 0, len(maps))
    classes = maps[0].classes
    known = read_truth(truth, inputs.label_map, coverage_of(inputs))
    patches = TruePatches(known, truth, classes, missing_truth == "negative", inputs.label_map)
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
    return TruthComparison(
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
