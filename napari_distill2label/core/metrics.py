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
    from sklearn import metrics as sk

    truth, score = np.asarray(truth, bool), np.asarray(score, float)
    if not len(truth):
        return dict.fromkeys(("accuracy", "f1", "auroc", "auprc", "prevalence", "ece")) | {"n": 0}
    both = 0 < truth.sum() < len(truth)
    called = score >= threshold
    return {
        "accuracy": float((called == truth).mean()),
        "f1": float(sk.f1_score(truth, called)) if (truth | called).any() else None,
        "auroc": float(sk.roc_auc_score(truth, score)) if both else None,
        "auprc": float(sk.average_precision_score(truth, score)) if both else None,
        "prevalence": float(truth.mean()),
        "ece": expected_calibration_error(truth, score),
        "n": len(truth),
    }


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
