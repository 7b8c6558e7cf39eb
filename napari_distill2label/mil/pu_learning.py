"""From "which slide is this patch of?" to "is this patch positive?": learning from positive and unlabelled patches.

A patch of a negative slide is negative (the standard assumption of multiple-instance learning). A patch of a positive
slide is positive with an unknown probability π, the *prior*. If the negatives of positive slides look like those of
negative slides, scores s have the densities f_neg on negative and π·f_pos + (1 − π)·f_neg on positive slides, and both
π and the probability of each patch follow from slide labels alone (Elkan & Noto 2008; Scott 2015).
"""

import numpy as np

# Of the negative scores. Lower down, what differs between slides (stain, empty tissue) counts more than what is
# positive; further up there are too few patches to count.
QUANTILES = np.linspace(0.6, 0.9, 13)
_EPSILON = 1e-6  # a score of exactly 0 or 1 has no odds
PROBABILITY_FLOOR = 0.01  # no patch of a positive slide is surer than this of being the one or the other


def estimate_prior(positive: np.ndarray, negative: np.ndarray) -> float:
    """π from the scores of patches of positive (n,) and of negative slides (m,).

    Below any threshold t, F(t) of positive slides is at least (1 − π)·F(t) of negative ones, with equality where no
    positive patch scores: π = max_t 1 − F_positive(t) / F_negative(t).
    """
    thresholds = np.quantile(negative, QUANTILES)
    below, of_negative = ((scores[:, None] <= thresholds).mean(0) for scores in (positive, negative))
    return float(np.clip((1 - below / of_negative).max(), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR))


def fit_logistic(score: np.ndarray, of_positive: np.ndarray) -> tuple[float, float, float]:
    """(a, b, π): on positive slides a patch of score s is positive with probability p = σ(a·s + b).

    There f_positive / f_negative = (1 − π) / (1 − p), so a patch of score s is of a positive slide, both kinds of
    slides counting the same, with probability g = (1 − π) / (1 − π + 1 − p). π is `estimate_prior`'s; a and b make the
    labels (n,) bool of the patches' slides likeliest. Both kinds of slides must be there.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    prior = estimate_prior(score[of_positive], score[~of_positive])
    centre, width = score.mean(), score.std()
    if width < 1e-6:  # a network that says the same of everything
        return 1.0, 0.0, prior
    standard = (score - centre) / width
    weight = np.where(of_positive, 1 / of_positive.sum(), 1 / (~of_positive).sum())

    def negative_log_likelihood(line: np.ndarray) -> float:
        unlike = expit(-(line[0] * standard + line[1]))  # 1 − p
        g = np.where(of_positive, 1 - prior, unlike) / (1 - prior + unlike)
        return -(weight * np.log(g + 1e-300)).sum()

    slope, offset = minimize(negative_log_likelihood, [2.0, 0.0], bounds=[(0.01, 10), (-10, 10)], method="L-BFGS-B").x
    return slope / width, offset - slope * centre / width, prior


def posterior(score: np.ndarray, of_positive: np.ndarray) -> np.ndarray:
    """(n,) probability that a patch is positive, from its score (n,) and its slide's label (n,) bool (`fit_logistic`).

    0 on negative slides; no patch of a positive slide is surer than `PROBABILITY_FLOOR`.
    """
    slope, offset, _ = fit_logistic(score, of_positive)
    with np.errstate(over="ignore"):
        p = 1 / (1 + np.exp(-(slope * score + offset)))
    return np.where(of_positive, p.clip(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR), 0.0)


def calibration_line(score: np.ndarray, of_positive: np.ndarray) -> tuple[float, float]:
    """(a, b): a patch of whatever slide is positive with probability σ(a·s + b), if slides are mixed as these are.

    Without its slide's label a patch may be of a negative slide too: where those have m patches for every one of a
    positive slide, the odds of `fit_logistic` shrink by (1 − π) / (1 − π + m).
    """
    slope, offset, prior = fit_logistic(score, of_positive)
    negatives = (~of_positive).sum() / of_positive.sum()
    return slope, offset + float(np.log((1 - prior) / (1 - prior + negatives)))


def threshold_from_slide_labels(score: np.ndarray, of_positive: np.ndarray) -> float:
    """The threshold on patches' scores (n,) in [0, 1] with the best F1 that slide labels (n,) bool promise.

    `calibration_line` turns scores to probabilities p of being positive; calling a patch positive from t on then has the
    expected F1 = 2·Σ_{p ≥ t} p / (Σ_{p ≥ t} 1 + Σ p) (Lipton 2014). 0.5 where only one kind of slides is there.
    """
    if of_positive.all() or not of_positive.any():
        return 0.5
    score = np.asarray(score, float)
    odds = score.clip(_EPSILON, 1 - _EPSILON)
    odds = np.log(odds / (1 - odds))
    slope, offset = calibration_line(odds, of_positive)
    order = np.argsort(-odds)
    probability = 1 / (1 + np.exp(-(slope * odds[order] + offset)))
    expected = 2 * probability.cumsum() / (np.arange(1, len(score) + 1) + probability.sum())
    return float(score[order[expected.argmax()]])
