"""From a network's logits to probabilities: patches in their context, and the slide as a whole.

A trained network ships with a `Calibration`. It answers two questions, each calibrated for itself:

- **Is there a finding in the slide?** P(slide) = σ(a · t + b), where t is the mean score of its highest patches.
- **Is this patch one, if the slide has the finding?** σ(slope · s + offset), where s is the patch's score in its
  context (`core.context`).

The probability of a patch is the product of both: a patch of a slide that surely has no finding has none. A score is
the logit of a finding against the negative class.
"""

import hashlib

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .context import smooth_points

UNBOUNDED = 1e6  # log-odds


class Line(BaseModel):
    """A line of log-odds: x becomes the probability σ(slope · x + offset)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    slope: float = 1.0
    offset: float = 0.0

    def logit(self, score: np.ndarray) -> np.ndarray:
        return self.slope * np.asarray(score, np.float64) + self.offset

    def __call__(self, score: np.ndarray) -> np.ndarray:
        """Return probabilities of scores, of the same shape, float64."""
        return sigmoid(self.logit(score))


class FindingCalibration(BaseModel):
    """The calibration of one finding: of patches of slides that have it, and of slides.

    Attributes
    ----------
    prior
        Estimated share of positive patches in the training slides that have the finding.
    patch, slide
        Of a patch's score in its context; of a slide's `slide_score`, which is made of `patch.logit`.
    slide_range
        Of the slide scores that `slide` was fitted on: a score beyond it counts as its end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    prior: float = Field(ge=0, le=1)
    patch: Line
    slide: Line
    slide_range: tuple[float, float] = (-UNBOUNDED, UNBOUNDED)

    def slide_probability(self, score: np.ndarray, top: float) -> float:
        """Return P(slide) from the scores in context (n,) of its patches, of which the highest `top` count."""
        return float(self.slide(np.clip(slide_score(self.patch.logit(score), top), *self.slide_range)))

    def for_slide_scores_higher_by(self, difference: float) -> "FindingCalibration":
        """Return what gives slides the same probabilities when all their scores are higher by `difference`."""
        slope, offset = self.slide.slope, self.slide.offset
        low, high = self.slide_range
        return self.model_copy(
            update={
                "slide": Line(slope=slope, offset=offset - slope * difference),
                "slide_range": (low + difference, high + difference),
            }
        )


class Reliability(BaseModel):
    """How often what is given a probability comes true, from slides that the network had not seen: bins of [0, 1].

    `predicted` is the mean probability in a bin, `observed` the share of slides with the finding, `count` how many.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    predicted: tuple[float, ...] = ()
    observed: tuple[float, ...] = ()
    count: tuple[int, ...] = ()


class Calibration(BaseModel):
    """What turns the logits of a network into probabilities; part of its bundle.

    Attributes
    ----------
    neighbours
        Patches around a patch at given points whose mean score is half of its own. On a grid: the eight around it.
    findings
        One per class but the negative one.
    top
        Share of a slide's patches, the highest ones, that its score is made of.
    threshold
        The probability from which on a patch is labelled, unless the user gives another.
    n_slides
        Slides that the calibration rests on.
    n_sample, biases
        Patches that somebody has labelled in a random sample of other slides, and the bias of each finding in log-odds,
        already part of `findings`, that follows from them (`core.recalibration`). 0 and (): there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    neighbours: int = Field(8, ge=0, le=100)
    findings: tuple[FindingCalibration, ...] = Field(min_length=1, max_length=253)
    top: float = Field(0.1, gt=0, le=1)
    threshold: float = Field(0.5, ge=0, le=1)
    n_slides: int = Field(0, ge=0)
    reliability: Reliability = Reliability()
    n_sample: int = Field(0, ge=0)
    biases: tuple[float, ...] = ()

    @property
    def digest(self) -> str:
        """A digest of what decides probabilities."""
        deciding = self.model_dump_json(include={"neighbours", "findings", "top"})
        return hashlib.sha256(deciding.encode()).hexdigest()

    def patches_alone(self, logit: np.ndarray, multi_label: bool) -> np.ndarray:
        """Return probabilities (n, C) of patches without context and without their slide, from logits (n, C)."""
        scores = finding_scores(logit, multi_label)
        return self.with_negative(
            np.stack([own.patch(scores[..., f]) for f, own in enumerate(self.findings)], -1), logit, multi_label
        )

    def slide_probability(self, score: np.ndarray) -> np.ndarray:
        """Return P(slide) (F,) of every finding, from the scores in context (n, F) of its patches; NaN: not scored."""
        return np.array([own.slide_probability(score[..., f], self.top) for f, own in enumerate(self.findings)])

    def patches_in(self, slide: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Return probabilities (…, F) of patches of a slide with P(slide) (F,), from scores in context (…, F)."""
        return np.stack([slide[f] * own.patch(score[..., f]) for f, own in enumerate(self.findings)], -1)

    def bag(self, slide: np.ndarray, negative: float, multi_label: bool) -> list[float]:
        """Return probabilities (C,) of a slide from P(slide) (F,), and from the network's own of the negative class.

        The latter counts if several findings can be present; else the classes sum to 1.
        """
        return [negative if multi_label else 1 - float(slide.sum()), *map(float, slide)]

    def of_bag(self, logit: np.ndarray, coordinates: np.ndarray, multi_label: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return P(slide) (F,) of a slide in memory and probabilities (K, C) of its patches at `coordinates` (K, 2)."""
        score = smooth_points(finding_scores(logit, multi_label), coordinates, self.neighbours)
        slide = self.slide_probability(score)
        return slide, self.with_negative(self.patches_in(slide, score), logit, multi_label)

    @staticmethod
    def with_negative(finding: np.ndarray, logit: np.ndarray, multi_label: bool) -> np.ndarray:
        """Return (…, C) from probabilities (…, F) of the findings: the negative class is first."""
        negative = sigmoid(logit[..., :1]) if multi_label else 1 - finding
        return np.concatenate([negative, finding], -1)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(−x)) without overflow; NaN stays."""
    with np.errstate(invalid="ignore"):  # NaN: not scored
        return np.exp(-np.logaddexp(0, -np.asarray(x, np.float64)))


def finding_scores(logit: np.ndarray, multi_label: bool) -> np.ndarray:
    """Return scores (…, C − 1) from logits (…, C): each finding against its absence, or against the negative class."""
    return logit[..., 1:] if multi_label else logit[..., 1:] - logit[..., :1]


def slide_score(scores: np.ndarray, top: float) -> float:
    """Return the mean of the highest `top` of the scores of a slide's patches, at least one; NaN are no patches."""
    scores = scores[np.isfinite(scores)]
    n = max(1, int(np.ceil(top * len(scores))))
    return float(np.partition(scores, len(scores) - n)[len(scores) - n :].mean())
