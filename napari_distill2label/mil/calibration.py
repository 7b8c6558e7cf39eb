"""Fits the `core.calibration.Calibration` of a student from out-of-fold scores. No label of a patch is read.

A network remembers the slides that it was trained on: it scores their patches as it will score no others. So nothing is
fitted on what the student says of its training slides. The out-of-fold classifiers (`mil.pipeline`) have not seen the
slides that they score. They give

1. the prior π, the share of positive patches in slides with the finding (`pu_learning.prior_of_slides`): for each
   classifier by itself, as their scales differ, and the mean of these, over draws of the slides (`bagged_share`).
   Negative slides that score as slides with the finding do are left out (`typical_negatives`): the negatives of
   positive slides do not look like these, and a few of them hide the finding;
2. the probability of a patch in such a slide, σ(SLOPE · s + offset), with the offset of each classifier for which its
   mean is π;
3. the probability that a slide has the finding, by a logistic fit of labels on `slide_score`.

This line is of the classifiers' scores, and the student scores slides higher or lower than they do. How much is seen on
the *validation* slides, which neither has seen, with the finding or without: the line is moved by the mean difference.
Without validation slides it stays.

The student's own offset for patches is a mean of two. On the validation slides with the finding its mean probability
should be theirs: both score the same patches, so the unknown shares of these slides cancel, but there are few. Over the
training slides with the finding its mean should be π, which is off by what it remembers. The first counts
n / (n + `WORTH`), for n such validation slides.

Where a user has estimated the shares of n training slides with the (only) finding, their mean counts n / (n + `WORTH`)
in π. Of a validation slide, the user's share takes the place of what the classifiers say.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..core.calibration import Calibration, FindingCalibration, Line, Reliability, sigmoid, slide_score
from .pu_learning import best_f1_threshold, prior_of_slides

SLOPE = 1.25  # of scores in context, which vary less than scores alone
PRIOR_QUANTILE = 0.9  # of the negatives' scores: at lower ones slides differ more than classes do
NEIGHBOURS = 8
TOP = 0.1  # of a slide's patches, the highest: its score is their mean
POSITIVE_QUANTILE = 0.5  # quantile of the positive slides' scores from which on a negative slide is like one of them
# (Both quantiles were chosen on drawn cohorts of digits: `python -m experiments prior`.)
DRAWS = 100  # of slides, over which the share of positive patches is averaged
MOST_SCORES = 50_000  # that a draw looks at: more take longer and say the same
LIMIT = 40.0  # log-odds within which an offset is looked for
WORTH = 2  # validation slides with the finding, of all training slides with it
RIDGE = 1e-3  # on the slope, of scores with deviation 1: finite also where a line separates the slides
RELIABILITY_BINS = 5  # of slides, which are few
DOUBT = 0.1  # of a label: the probability from which on classifiers that have not seen the slide say that it is wrong
UNCALIBRATED = FindingCalibration(prior=0, patch=Line(), slide=Line(slope=0, offset=LIMIT))


@dataclass(frozen=True)
class BagScores:
    """The scores in context of the patches of one bag, (K, F) for F findings, and `label` (F,) bool: which it has.

    A bag is a slide, or a case: `slices` are the patches of each of its slides, and its score is the highest of theirs,
    since a case has a finding if one of its slides has it.

    `out_of_fold` has the scores of each classifier that has not seen the slide: that of its `fold` of a training slide;
    all, in the order of their folds, of a validation slide. `share` is a user's estimate of the share of positive
    patches.
    """

    label: np.ndarray
    student: np.ndarray
    out_of_fold: tuple[np.ndarray, ...]
    fold: int = 0
    share: float | None = None
    slices: tuple[slice, ...] = (slice(None),)


@dataclass(frozen=True)
class DoubtedLabel:
    """A training slide (its index) whose label says that it has a finding (index) or not, against all likelihood.

    `probability` is that of the finding, by classifiers that have not seen the slide.
    """

    slide: int
    finding: int
    probability: float


def fit_calibration(
    train: Sequence[BagScores], valid: Sequence[BagScores]
) -> tuple[Calibration, tuple[DoubtedLabel, ...]]:
    """Fit the calibration of a student, and name the training slides whose labels are strongly contradicted.

    A finding that all training slides have, or none, keeps its scores: there is nothing to compare with. The threshold
    is the one with the best expected F1 of the student's probabilities, of all findings together.
    """
    fitted = [
        _fit_finding(*([_Slide.of(slide, finding) for slide in slides] for slides in (train, valid)))
        for finding in range(len(train[0].label))
    ]
    calibration = Calibration(
        neighbours=NEIGHBOURS,
        findings=tuple(each.finding for each in fitted),
        top=TOP,
        n_slides=len(train) + len(valid),
        reliability=reliability(
            np.concatenate([each.slides for each in fitted]), np.concatenate([each.labels for each in fitted])
        ),
    )
    student = (slide.student[own] for slide in (*train, *valid) for own in slide.slices)
    probability = [calibration.patches_in(calibration.slide_probability(own), own).ravel() for own in student]
    calibration = calibration.model_copy(update={"threshold": best_f1_threshold(np.concatenate(probability))})
    return calibration, tuple(_doubted(fitted))


def _doubted(fitted: "Sequence[_FindingFit]") -> Iterator[DoubtedLabel]:
    for finding, each in enumerate(fitted):
        for slide, (probability, label) in enumerate(zip(each.slides.tolist(), each.labels.tolist(), strict=True)):
            if (probability if label else 1 - probability) <= DOUBT:
                yield DoubtedLabel(slide, finding, probability)


class _Slide(NamedTuple):
    """What is known of one slide about one finding; scores (K,) in context are times `SLOPE`.

    `share` is a user's, if it is of this finding: of several, nobody knows of which it is.
    """

    label: bool
    student: np.ndarray
    out_of_fold: tuple[np.ndarray, ...]
    fold: int
    share: float | None
    slices: tuple[slice, ...]

    @classmethod
    def of(cls, slide: BagScores, finding: int) -> "_Slide":
        return cls(
            bool(slide.label[finding]),
            SLOPE * slide.student[:, finding],
            tuple(SLOPE * scores[:, finding] for scores in slide.out_of_fold),
            slide.fold,
            slide.share if len(slide.label) == 1 else None,
            slide.slices,
        )


@dataclass(frozen=True)
class _FindingFit:
    """The calibration of one finding, and the out-of-fold probabilities and labels (n,) of the training slides."""

    finding: FindingCalibration
    slides: np.ndarray
    labels: np.ndarray


def _fit_finding(train: Sequence[_Slide], valid: Sequence[_Slide]) -> _FindingFit:
    present = np.array([slide.label for slide in train])
    if present.all() or not present.any():
        return _FindingFit(UNCALIBRATED, np.empty(0), np.empty(0, bool))
    scores, folds = [slide.out_of_fold[0] for slide in train], [slide.fold for slide in train]
    shares = [(slide.share, len(slide.student)) for slide in train if slide.label and slide.share is not None]
    prior, offsets = _prior_and_offsets(scores, present, folds, shares)
    patch = Line(slope=SLOPE, offset=_student_offset(train, valid, prior, offsets))
    score = np.array([
        highest_slide(own + offsets[slide.fold], slide.slices) for own, slide in zip(scores, train, strict=True)
    ])  # fmt: skip
    slide_range = float(score.min()), float(score.max())
    finding = FindingCalibration(
        prior=prior, patch=patch, slide=fit_label_line(score, present), slide_range=slide_range
    )
    if valid:
        finding = finding.for_slide_scores_higher_by(_student_minus_classifiers(valid, patch.offset, offsets))
    return _FindingFit(finding, _by_lines_of_other_folds(score, present, np.array(folds)), present)


def _student_offset(train: Sequence[_Slide], valid: Sequence[_Slide], prior: float, offsets: Sequence[float]) -> float:
    """Return the offset of the student's patches: a mean of two, see the top of this module."""
    remembered = offset_for_mean(np.concatenate([slide.student for slide in train if slide.label]), prior)
    chosen = [slide for slide in valid if slide.label]
    if not chosen:
        return remembered
    positive = [
        slide.share * len(own) if slide.share is not None else sigmoid(own + offset).sum()
        for slide in chosen
        for own, offset in zip(slide.out_of_fold, offsets, strict=True)
    ]
    expected = float(np.sum(positive)) / len(offsets) / sum(len(slide.student) for slide in chosen)
    unseen = offset_for_mean(np.concatenate([slide.student for slide in chosen]), expected)
    return remembered + (unseen - remembered) * len(chosen) / (len(chosen) + WORTH)


def _student_minus_classifiers(valid: Sequence[_Slide], student_offset: float, offsets: Sequence[float]) -> float:
    """Return by how much the student scores slides that none has seen higher than the classifiers do, in log-odds."""
    differences = [
        highest_slide(slide.student + student_offset, slide.slices) - highest_slide(own + offset, slide.slices)
        for slide in valid
        for own, offset in zip(slide.out_of_fold, offsets, strict=True)
    ]
    return float(np.mean(differences))


def highest_slide(logit: np.ndarray, slices: Sequence[slice]) -> float:
    """Return the score of a bag from its patches' log-odds (K,): the highest of its slides'."""
    return max(slide_score(logit[own], TOP) for own in slices)


def _by_lines_of_other_folds(score: np.ndarray, label: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return the probabilities of slides (n,), each by a line that was fitted on the slides of the other folds."""
    probability = np.empty(len(score))
    for number in set(folds.tolist()):
        own = folds == number
        others = ~own if 0 < label[~own].sum() < (~own).sum() else np.ones(len(score), bool)
        probability[own] = fit_label_line(score[others], label[others])(score[own])
    return probability


def _prior_and_offsets(
    scores: Sequence[np.ndarray],
    present: np.ndarray,
    folds: Sequence[int],
    shares: Sequence[tuple[float, int]] = (),
) -> tuple[float, list[float]]:
    """Return π and the offset of each fold's classifier, from the scores (K,) of training slides.

    `shares` has a user's share and the number of patches of slides with the finding.

    A fold without positive slides has the offset of all together.
    """
    prior = bagged_share(scores, present, folds)
    if shares:
        given = float(np.average([share for share, _ in shares], weights=[size for _, size in shares]))
        prior += (given - prior) * len(shares) / (len(shares) + WORTH)

    def offset(chosen: Sequence[int]) -> float:
        return offset_for_mean(np.concatenate([scores[index] for index in chosen]), prior)

    positive = np.flatnonzero(present).tolist()
    of_fold = [[index for index in positive if folds[index] == number] for number in range(max(folds) + 1)]
    return prior, [offset(own or positive) for own in of_fold]


def bagged_share(scores: Sequence[np.ndarray], present: np.ndarray, folds: Sequence[int]) -> float:
    """Return π as the mean of `estimate_share` over `DRAWS` draws of the slides with replacement (Breiman 1996).

    Slides are drawn within each fold and label, from a fixed seed. One estimate rests on a quantile of some ten
    negative slides, so that it jumps with each of them; the mean jumps less.
    """
    scores, fold_of = thinned(scores), np.asarray(folds)
    kinds = [(kind, fold) for kind in (False, True) for fold in np.unique(fold_of)]
    strata = [np.flatnonzero((present == kind) & (fold_of == fold)) for kind, fold in kinds]
    random, found = np.random.default_rng(0), []
    for _ in range(DRAWS):
        drawn = np.concatenate([random.choice(own, len(own)) for own in strata if len(own)])
        found.append(estimate_share([scores[index] for index in drawn], present[drawn], fold_of[drawn].tolist()))
    return float(np.mean(found))


def thinned(scores: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return every n-th of the ranked scores (K,) of each slide, so that few are more than `MOST_SCORES` together.

    All of them where they are no more.
    """
    step = -(-sum(map(len, scores)) // MOST_SCORES)
    return list(scores) if step <= 1 else [np.sort(own)[min(step // 2, len(own) - 1) :: step] for own in scores]


def estimate_share(
    scores: Sequence[np.ndarray],
    present: np.ndarray,
    folds: Sequence[int],
    quantile: float = PRIOR_QUANTILE,
    positive_quantile: float | None = POSITIVE_QUANTILE,
) -> float:
    """Return π from the scores (K,) of slides, their labels (n,) bool and the folds of the classifiers (n,).

    The mean over classifiers, each by itself, weighted by their patches of positive slides. A fold without slides of
    both kinds takes no part. See `prior_of_slides` and (None: all negatives) `typical_negatives`.
    """
    priors, weights = [], []
    for number in sorted(set(folds)):
        own = [index for index, fold in enumerate(folds) if fold == number]
        positive, negative = ([scores[index] for index in own if present[index] == kind] for kind in (True, False))
        if positive and negative:
            if positive_quantile is not None:
                negative = typical_negatives(negative, positive, positive_quantile)
            priors.append(prior_of_slides(positive, negative, quantile))
            weights.append(sum(map(len, positive)))
    if not priors:  # no fold has both
        return estimate_share(scores, present, [0] * len(folds), quantile, positive_quantile)
    return float(np.average(priors, weights=weights))


def typical_negatives(
    negative: Sequence[np.ndarray], positive: Sequence[np.ndarray], positive_quantile: float
) -> list[np.ndarray]:
    """Return the scores (K,) of the negative slides whose `slide_score` is below that of most positive slides.

    Below their quantile `positive_quantile`; all, if none is.
    """
    limit = np.quantile([slide_score(own, TOP) for own in positive], positive_quantile)
    return [own for own in negative if slide_score(own, TOP) < limit] or list(negative)


def offset_for_mean(logit: np.ndarray, mean: float) -> float:
    """Return the offset b for which σ(logit + b) has this mean in (0, 1), by bisection; it is within ± `LIMIT`."""
    low, high = -LIMIT - float(logit.max()), LIMIT - float(logit.min())
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sigmoid(logit + middle).mean() < mean else (low, middle)
    return float(np.clip((low + high) / 2, -LIMIT, LIMIT))


def fit_label_line(score: np.ndarray, label: np.ndarray) -> Line:
    """Fit P(label) = σ(slope · score + offset), slope ≥ 0, to labels (n,) bool, by (nearly) maximum likelihood."""
    from scipy.optimize import minimize

    centre, width = float(score.mean()), float(score.std())
    if width < 1e-6:
        return Line(slope=0.0, offset=0.0)
    standard = (score - centre) / width
    target = label.astype(float)

    def loss(line: np.ndarray) -> float:
        logit = line[0] * standard + line[1]
        loss = target * np.logaddexp(0, -logit) + (1 - target) * np.logaddexp(0, logit)
        return float(loss.mean() + RIDGE * line[0] ** 2)

    slope, offset = minimize(loss, [1.0, 0.0], bounds=[(0.0, 50), (-50, 50)], method="L-BFGS-B").x
    return Line(slope=slope / width, offset=offset - slope * centre / width)


def reliability(probability: np.ndarray, labels: np.ndarray, bins: int = RELIABILITY_BINS) -> Reliability:
    """Return how often slides (n,) bool have what they are given a probability (n,) for; empty bins are left out."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    used = [index == number for number in range(bins) if (index == number).any()]
    return Reliability(
        predicted=tuple(float(probability[here].mean()) for here in used),
        observed=tuple(float(labels[here].mean()) for here in used),
        count=tuple(int(here.sum()) for here in used),
    )
