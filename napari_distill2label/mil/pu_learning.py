"""Positive-unlabelled learning: probabilities that patches are positive, from the labels of their slides.

A patch of a negative slide is negative (the standard assumption of multiple-instance learning). A patch of a positive
slide is positive with an unknown probability π, the *prior*. If the negatives of positive slides look like those of
negative slides, scores s have the densities f_neg on negative and π·f_pos + (1 − π)·f_neg on positive slides, and both
π and the probability of each patch follow from slide labels alone (Elkan & Noto 2008; Scott 2015).
"""

from collections.abc import Sequence

import numpy as np

# Quantiles of the negative scores. Lower ones show differences between slides (stain, empty tissue) rather than between
# positive and negative patches; above higher ones there are too few patches.
QUANTILES = np.linspace(0.6, 0.9, 13)
_EPSILON = 1e-6  # a score of exactly 0 or 1 has no odds
PROBABILITY_FLOOR = 0.01  # probabilities of patches of positive slides stay this far from 0 and 1


def estimate_prior(positive: np.ndarray, negative: np.ndarray) -> float:
    """Estimate π from the scores of patches of positive (n,) and of negative slides (m,).

    Below any threshold t, F(t) of positive slides is at least (1 − π)·F(t) of negative ones, with equality if no
    positive patch scores below t: π = max_t 1 − F_positive(t) / F_negative(t).
    """
    thresholds = np.quantile(negative, QUANTILES)
    below, of_negative = ((scores[:, None] <= thresholds).mean(0) for scores in (positive, negative))
    return float(np.clip((1 - below / of_negative).max(), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR))


def prior_of_slides(positive: Sequence[np.ndarray], negative: Sequence[np.ndarray], quantile: float) -> float:
    """Estimate π as 1 − F_positive(t) / F_negative(t), from the scores (n,) of the patches of each slide.

    t is the quantile of the negatives if every negative slide has the same weight: slides are the independent
    observations, and one large slide that scores unlike the others must not decide.
    """
    score = np.concatenate(list(negative))
    weight = np.concatenate([np.full(len(own), 1 / len(own)) for own in negative]) / len(negative)
    order = np.argsort(score)
    threshold = score[order[min(int(np.searchsorted(weight[order].cumsum(), quantile)), len(score) - 1)]]
    below, of_negative = (np.concatenate(list(positive)) <= threshold).mean(), weight[score <= threshold].sum()
    return float(np.clip(1 - below / of_negative, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR))


def fit_logistic(score: np.ndarray, of_positive: np.ndarray) -> tuple[float, float, float]:
    """Fit (a, b, π): on positive slides a patch of score s is positive with probability p = σ(a·s + b).

    There f_positive / f_negative = (1 − π) / (1 − p). If both kinds of slides have the same weight, a patch of score s
    is from a positive slide with probability g = (1 − π) / (1 − π + 1 − p). π comes from `estimate_prior`; a and b
    maximise the likelihood of the labels (n,) bool of the patches' slides. Both kinds of slides must be there.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    prior = estimate_prior(score[of_positive], score[~of_positive])
    centre, width = score.mean(), score.std()
    if width < 1e-6:  # the network gives every patch the same score
        return 1.0, 0.0, prior
    standard = (score - centre) / width
    weight = np.where(of_positive, 1 / of_positive.sum(), 1 / (~of_positive).sum())

    def negative_log_likelihood(line: np.ndarray) -> float:
        unlike = expit(-(line[0] * standard + line[1]))  # 1 − p
        g = np.where(of_positive, 1 - prior, unlike) / (1 - prior + unlike)
        return -float((weight * np.log(g + 1e-300)).sum())

    slope, offset = minimize(negative_log_likelihood, [2.0, 0.0], bounds=[(0.01, 10), (-10, 10)], method="L-BFGS-B").x
    return slope / width, offset - slope * centre / width, prior


def posterior(score: np.ndarray, of_positive: np.ndarray) -> np.ndarray:
    """Return the probability (n,) that a patch is positive, from its score (n,) and its slide's label (n,) bool.

    See `fit_logistic`. It is 0 on negative slides; on positive slides it stays `PROBABILITY_FLOOR` away from 0 and 1.
    """
    slope, offset, _ = fit_logistic(score, of_positive)
    with np.errstate(over="ignore"):
        p = 1 / (1 + np.exp(-(slope * score + offset)))
    return np.where(of_positive, p.clip(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR), 0.0)


def calibration_line(score: np.ndarray, of_positive: np.ndarray) -> tuple[float, float]:
    """Return (a, b): a patch of any slide is positive with probability σ(a·s + b), in the mixture of these slides.

    If the slide's label is unknown, the patch may be from a negative slide. With m patches of negative slides for each
    patch of a positive slide, the odds of `fit_logistic` shrink by (1 − π) / (1 − π + m).
    """
    slope, offset, prior = fit_logistic(score, of_positive)
    negatives = (~of_positive).sum() / of_positive.sum()
    return slope, offset + float(np.log((1 - prior) / (1 - prior + negatives)))


def threshold_from_slide_labels(score: np.ndarray, of_positive: np.ndarray) -> float:
    """Return the threshold on patches' scores (n,) in [0, 1] with the best expected F1, from slide labels (n,) bool.

    `calibration_line` turns scores into probabilities. It is 0.5 if there is only one kind of slides.
    """
    if of_positive.all() or not of_positive.any():
        return 0.5
    score = np.asarray(score, float)
    odds = score.clip(_EPSILON, 1 - _EPSILON)
    odds = np.log(odds / (1 - odds))
    slope, offset = calibration_line(odds, of_positive)
    return float(score[_best_expected_f1(1 / (1 + np.exp(-(slope * odds + offset))))])


def best_f1_threshold(probability: np.ndarray) -> float:
    """Return the threshold on calibrated probabilities (n,) with the best expected F1; n ≥ 1."""
    return float(probability[_best_expected_f1(probability)])


def _best_expected_f1(probability: np.ndarray) -> int:
    """Return the index of the lowest probability p that is called at the threshold with the best expected F1.

    The threshold t has the expected F1 = 2·Σ_{p ≥ t} p / (Σ_{p ≥ t} 1 + Σ p) (Lipton 2014).
    """
    order = np.argsort(-probability)
    expected = 2 * probability[order].cumsum() / (np.arange(1, len(probability) + 1) + probability.sum())
    return int(order[expected.argmax()])
