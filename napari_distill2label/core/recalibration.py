"""What a random sample of a new cohort's patches, labelled by a person, says of a model's probabilities there.

The share of positive patches of a new cohort is its own, and no estimate from training slides can know it: there all
probabilities are too high, or too low, together. One number mends that, a bias b of the log-odds of a patch in a slide
with the finding: p = P(slide) · σ(logit + b). It is the b under which the labels of the sample are likeliest, with a
normal prior of deviation `SPREAD`, so that it is finite whatever the labels are. The slide's own probability stays.

What it is worth is told by patches that it has not seen: each one of the sample is given its probability by the bias of
all others.

Of the positive patches of the sample the threshold finds some. That they were drawn at random from all patches gives a
lower bound of the recall (Clopper & Pearson 1934): it is below the true one with a probability of 95 %.

Where several findings can be present at once, each has a bias and a report of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .calibration import Calibration, Line, sigmoid
from .metrics import expected_calibration_error

SPREAD = 2.0  # of the bias, in log-odds: three times as many positives, or a third, is half of it
LIMIT = 10.0  # within which the bias is looked for
CONFIDENCE = 0.95  # of the lower bound
FEWEST = 20  # patches, below which nothing is said
_EPSILON = 1e-9


@dataclass(frozen=True)
class SampleReport:
    """What a random sample says of a model and one finding.

    Attributes
    ----------
    n, n_positive
        Patches of the sample, and positive ones.
    bias
        In log-odds. Above 0: the model's probabilities are too low here.
    predicted, observed
        Mean probability, and the share of positive patches.
    ece, log_loss
        Before and after, in pairs. After: each patch by the bias of all others. The ECE of few patches is never 0.
    threshold
        From which patches are called, in probabilities before.
    n_found
        Positive patches that it calls.
    recall_bound
        The recall is at least this, with a confidence of 95 %; None without a positive patch.
    """

    n: int
    n_positive: int
    bias: float
    predicted: float
    observed: float
    ece: tuple[float, float]
    log_loss: tuple[float, float]
    threshold: float
    n_found: int
    recall_bound: float | None

    @property
    def helps(self) -> bool:
        """Whether the bias makes patches that it has not seen likelier."""
        return self.log_loss[1] < self.log_loss[0]

    def __str__(self) -> str:
        lines = [
            f"{self.n} patches drawn at random, {self.n_positive} of them positive: {self.observed:.3f}, where the "
            f"model expects {self.predicted:.3f}.",
            f"Bias {self.bias:+.2f} (log-odds). By patches that it has not seen: ECE {self.ece[0]:.3f} before, "
            f"{self.ece[1]:.3f} after; log loss {self.log_loss[0]:.3f} before, {self.log_loss[1]:.3f} after."
            + ("" if self.helps else " It does not help: the model is as well left as it is."),
        ]
        if self.recall_bound is not None:
            lines.append(
                f"From {self.threshold:.3f} on, {self.n_found} of the {self.n_positive} positive patches are called: "
                f"the recall in these slides is at least {self.recall_bound:.3f}, with a confidence of 95 %."
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Recalibration:
    """What a random sample says of a model: a report for each finding, by its name, in the order of the classes."""

    findings: Mapping[str, SampleReport]

    @property
    def n(self) -> int:
        """Patches of the sample."""
        return next(iter(self.findings.values())).n

    @property
    def biases(self) -> tuple[float, ...]:
        """Of the findings, in log-odds."""
        return tuple(report.bias for report in self.findings.values())

    @property
    def helps(self) -> bool:
        """Whether the bias of some finding makes patches that it has not seen likelier."""
        return any(report.helps for report in self.findings.values())

    def __str__(self) -> str:
        if len(self.findings) == 1:
            return str(*self.findings.values())
        return "\n".join(f"{name}: {report}" for name, report in self.findings.items())


def measure_sample(slide: np.ndarray, logit: np.ndarray, is_positive: np.ndarray, threshold: float) -> SampleReport:
    """Measure a model on a random sample.

    Parameters
    ----------
    slide, logit
        (n,) of each patch: P(slide) of its slide, and its own log-odds in a slide with the finding.
    is_positive
        (n,) bool: what a person says.
    threshold
        Probability from which on a patch is called.
    """
    slide, logit, is_positive = np.asarray(slide, float), np.asarray(logit, float), np.asarray(is_positive, bool)
    before, unseen = probability(slide, logit, 0.0), np.empty(len(is_positive))
    for index in range(len(is_positive)):
        others = np.arange(len(is_positive)) != index
        own = fit_bias(slide[others], logit[others], is_positive[others])
        unseen[index] = probability(slide[index], logit[index], own)
    positive, found = int(is_positive.sum()), int((is_positive & (before >= threshold)).sum())
    return SampleReport(
        len(is_positive), positive, fit_bias(slide, logit, is_positive),
        float(before.mean()), float(is_positive.mean()),
        (expected_calibration_error(is_positive, before), expected_calibration_error(is_positive, unseen)),
        (_log_loss(is_positive, before), _log_loss(is_positive, unseen)),
        threshold, found, lower_bound(found, positive) if positive else None,
    )  # fmt: skip


def probability(slide: np.ndarray | float, logit: np.ndarray, bias: float) -> np.ndarray:
    """Return P(slide) · σ(logit + bias)."""
    return slide * sigmoid(logit + bias)


def patch_logit(slide: np.ndarray | float, p: np.ndarray) -> np.ndarray:
    """Return the log-odds of patches in a slide with the finding, from P(slide) · σ(logit): `probability`, inverted.

    They are finite, which costs what is below one in a billion.
    """
    own = np.clip(np.asarray(p, float) / np.maximum(slide, _EPSILON), _EPSILON, 1 - 1e-7)
    return np.log(own) - np.log1p(-own)


def fit_bias(slide: np.ndarray, logit: np.ndarray, is_positive: np.ndarray) -> float:
    """Return the bias under which the labels are likeliest, with its prior. See the module."""
    from scipy.optimize import minimize_scalar

    def loss(bias: float) -> float:
        return len(is_positive) * _log_loss(is_positive, probability(slide, logit, bias)) + (bias / SPREAD) ** 2 / 2

    return float(minimize_scalar(loss, bounds=(-LIMIT, LIMIT), method="bounded", options={"xatol": 1e-6}).x)


def _log_loss(is_positive: np.ndarray, p: np.ndarray) -> float:
    p = np.clip(p, _EPSILON, 1 - _EPSILON)
    return float(-np.where(is_positive, np.log(p), np.log1p(-p)).mean())


def lower_bound(found: int, total: int, confidence: float = CONFIDENCE) -> float:
    """Return the lower bound of a share of which `found` of `total` was seen (Clopper & Pearson 1934), one-sided."""
    from scipy.stats import beta

    return float(beta.ppf(1 - confidence, found, total - found + 1)) if found else 0.0


def with_biases(calibration: Calibration, biases: Sequence[float], threshold: float) -> Calibration:
    """Return the calibration with a bias on the patches of each finding. Slides keep their probabilities."""
    moved = []
    for finding, bias in zip(calibration.findings, biases, strict=True):
        patch = Line(slope=finding.patch.slope, offset=finding.patch.offset + bias)
        # The slide's score is made of the patches' log-odds, which are all higher by the bias.
        moved.append(finding.for_slide_scores_higher_by(bias).model_copy(update={"patch": patch}))
    return calibration.model_copy(update={"findings": tuple(moved), "threshold": threshold})
