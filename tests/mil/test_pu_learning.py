"""The prior and the probabilities of patches, from mixtures whose truth is known."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from napari_distill2label.mil.pu_learning import (
    calibration_line,
    estimate_prior,
    posterior,
    threshold_from_slide_labels,
)


def mixture(prior, n=4000, shift=3.0, seed=0):
    """Scores, the label of each patch's slide, and the truth: Gaussians of variance 1, `shift` apart."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([rng.random(n) < prior, np.zeros(n, bool)])
    return rng.normal(size=2 * n) + shift * truth, np.arange(2 * n) < n, truth


@pytest.mark.parametrize("prior", [0.1, 0.4, 0.8])
def test_the_prior_of_a_mixture_is_found(prior):
    score, of_positive, _ = mixture(prior)
    assert estimate_prior(score[of_positive], score[~of_positive]) == pytest.approx(prior, abs=0.06)


def test_scores_that_say_nothing_give_a_prior_near_nothing():
    score, of_positive, _ = mixture(0.5, shift=0.0)
    assert estimate_prior(score[of_positive], score[~of_positive]) < 0.1


@pytest.mark.parametrize("prior", [0.2, 0.6])
def test_posteriors_are_calibrated_and_negative_slides_have_none(prior):
    score, of_positive, truth = mixture(prior, n=20_000, shift=2.0)
    p = posterior(score, of_positive)
    assert (p[~of_positive] == 0).all()
    assert p[of_positive].mean() == pytest.approx(prior, abs=0.07)
    for low in np.arange(0, 1, 0.2):
        chosen = of_positive & (p >= low) & (p < low + 0.2)
        assert truth[chosen].mean() == pytest.approx(p[chosen].mean(), abs=0.08), low


@pytest.mark.parametrize("prior", [0.2, 0.6])
def test_the_threshold_of_slides_comes_near_the_best_f1(prior):
    score, of_positive, truth = mixture(prior, shift=2.0)
    score = 1 / (1 + np.exp(-score))
    best = max(f1_score(truth, score >= t) for t in np.quantile(score, np.linspace(0, 1, 101)))
    assert f1_score(truth, score >= threshold_from_slide_labels(score, of_positive)) > best - 0.02


def test_slides_of_one_kind_choose_no_threshold():
    assert threshold_from_slide_labels(np.array([0.2, 0.9]), np.array([True, True])) == 0.5


@pytest.mark.parametrize(("prior", "negatives"), [(0.3, 4000), (0.6, 1500)])
def test_calibrated_scores_are_probabilities_over_all_slides(prior, negatives):
    score, of_positive, truth = mixture(prior, shift=2.0)
    keep = of_positive | (np.cumsum(~of_positive) <= negatives)
    score, of_positive, truth = score[keep], of_positive[keep], truth[keep]
    slope, offset = calibration_line(score, of_positive)
    p = 1 / (1 + np.exp(-(slope * score + offset)))
    assert p.mean() == pytest.approx(truth.mean(), abs=0.05)
    for low in np.arange(0, 1, 0.2):
        chosen = (p >= low) & (p < low + 0.2)
        assert truth[chosen].mean() == pytest.approx(p[chosen].mean(), abs=0.1), low
