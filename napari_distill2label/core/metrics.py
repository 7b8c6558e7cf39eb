"""Metrics of slides and patches, the same in every table.

A patch or slide is *positive* if it belongs to any class but class 0; its score is 1 − p(class 0), which is p(class 1)
when there are two classes.
"""

from collections.abc import Iterable, Sequence

import numpy as np

Metrics = dict[str, float | int | None]
Values = Sequence[float] | np.ndarray
ECE_BINS = 10


def expected_calibration_error(truth: np.ndarray, score: np.ndarray, bins: int = ECE_BINS) -> float:
    """Return the mean gap between score and frequency of positives, over bins of equal width (Guo 2017, eq. 3)."""
    index = np.minimum((score * bins).astype(int), bins - 1)
    gap = np.zeros(bins)
    np.add.at(gap, index, score - truth)
    return float(np.abs(gap).sum() / len(truth))


def binary_metrics(truth: Values, score: Values, threshold: float = 0.5) -> Metrics:
    """Return metrics of scores (n,) in [0, 1] against truth (n,) bool; None for an undefined metric.

    Ranking metrics (auroc, auprc) need both classes, f1 a positive in truth or score, every metric at least one item.
    """
    truth, score = np.asarray(truth, bool), np.asarray(score, float)
    if not len(truth):
        return dict.fromkeys(("accuracy", "f1", "auroc", "auprc", "prevalence", "ece")) | {"n": 0}
    both = 0 < truth.sum() < len(truth)
    called = score >= threshold
    true, false = _called_above(truth, score)
    return {
        "accuracy": float((called == truth).mean()),
        "f1": float(2 * (truth & called).sum() / (truth.sum() + called.sum())) if (truth | called).any() else None,
        "auroc": _area_under_roc(true, false) if both else None,
        "auprc": _average_precision(true, false) if both else None,
        "prevalence": float(truth.mean()),
        "ece": expected_calibration_error(truth, score),
        "n": len(truth),
    }


def _called_above(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many positives and how many negatives have at least each distinct score, the highest score first."""
    order = np.argsort(score, kind="stable")[::-1]
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # of items of one score
    true = np.cumsum(truth[order], dtype=float)[last]
    return true, 1 + last - true


def _area_under_roc(true: np.ndarray, false: np.ndarray) -> float:
    """Return the area under the ROC curve by the trapezoidal rule (Fawcett 2006), as scikit-learn does to the bit.

    Points in the middle of a straight line are left out first: they add nothing but rounding.
    """
    corner = np.ones(len(true), bool)
    corner[1:-1] = (np.diff(true, 2) != 0) | (np.diff(false, 2) != 0)
    x, y = (np.append(0.0, counts[corner]) / counts[-1] for counts in (false, true))
    return float(np.trapezoid(y, x))


def _average_precision(true: np.ndarray, false: np.ndarray) -> float:
    """Return the mean precision, weighted by the increase of recall (Zhu 2004), as scikit-learn does to the bit."""
    precision, recall = true / (true + false), true / true[-1]
    return max(0.0, float(-np.sum(np.diff(np.append(recall[::-1], 0.0)) * precision[::-1])))


def mean_metrics(each: Iterable[Metrics]) -> Metrics:
    """Return unweighted means over slides, each metric over the slides that define it; `n` is the number of slides.

    F1 is none of them: a negative slide has an F1 of 0 with one false positive, and none without.
    """
    rows = list(each) or [binary_metrics(np.empty(0, bool), np.empty(0))]
    defined = {
        key: [value for row in rows if (value := row[key]) is not None] for key in rows[0] if key not in ("n", "f1")
    }
    return {key: float(np.mean(values)) if values else None for key, values in defined.items()} | {
        "n": sum(row["n"] != 0 for row in rows)
    }


def positive_score(probability: np.ndarray, multi_label: bool = False) -> np.ndarray:
    """Return the score (…) of being positive from probabilities (…, C): 1 − p(class 0), or the largest finding if
    several classes can be present (their probabilities do not sum to 1). Of two classes it is p(class 1) to the last
    digit, as labels are made of it.
    """
    one_finding = probability.shape[-1] == 2
    return probability[..., 1:].max(-1) if multi_label or one_finding else 1 - probability[..., 0]


def case_probability(slides: Sequence[Sequence[float]], multi_label: bool = False) -> list[float]:
    """Return the probabilities (C,) of a case from those of its slides: a case has what one of its slides has.

    Those of the slide that is least probably negative; if several classes can be present, the highest of each finding,
    and the lowest of the negative class.
    """
    each = np.asarray(slides, float)
    if multi_label:
        return [float(each[:, 0].min()), *each[:, 1:].max(0).tolist()]
    least: list[float] = each[each[:, 0].argmin()].tolist()
    return least
