"""What a random sample of labelled patches says of a model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_distill2label.core.calibration import Calibration, FindingCalibration, Line, sigmoid
from napari_distill2label.core.metrics import expected_calibration_error
from napari_distill2label.core.recalibration import (
    LIMIT,
    fit_bias,
    lower_bound,
    measure_sample,
    patch_logit,
    probability,
    with_biases,
)


def cohort(n, seed, bias):
    """Patches of slides with and without the finding, whose true log-odds are the model's and a bias."""
    random = np.random.default_rng(seed)
    slide = np.where(random.random(n) < 0.6, 0.97, 0.03)
    logit = random.normal(-0.5, 2, n)
    return slide, logit, random.random(n) < probability(slide, logit, bias)


@pytest.mark.parametrize("bias", [-1.5, 0.0, 1.5])
def test_the_bias_of_a_cohort_is_found_and_calibrates_its_other_patches(bias):
    slide, logit, truth = cohort(4000, 0, bias)
    found = fit_bias(slide[:100], logit[:100], truth[:100])
    assert found == pytest.approx(bias, abs=0.8)
    rest = slice(100, None)
    before, after = (probability(slide[rest], logit[rest], each) for each in (0.0, found))
    if bias:
        error = expected_calibration_error(truth[rest], after)
        assert error < expected_calibration_error(truth[rest], before) / 2
        assert error < 0.07


def test_a_sample_is_measured_by_patches_that_the_bias_has_not_seen():
    slide, logit, truth = cohort(60, 1, 2.0)
    report = measure_sample(slide, logit, truth, 0.5)
    assert report.bias > 0.5
    assert report.helps
    assert report.ece[1] < report.ece[0]
    assert (report.n, report.n_positive, report.observed) == (60, truth.sum(), truth.mean())
    without_first = fit_bias(slide[1:], logit[1:], truth[1:])
    own = np.array([probability(slide[0], logit[0], without_first)])
    only_first = measure_sample(slide, logit, truth, 0.5).log_loss[1] * 60
    others = [fit_bias(np.delete(slide, i), np.delete(logit, i), np.delete(truth, i)) for i in range(60)]
    each = probability(slide, logit, np.array(others))
    assert only_first == pytest.approx(-np.log(np.where(truth, each, 1 - each)).sum())
    assert each[0] == pytest.approx(own[0])


def test_a_sample_without_a_positive_patch_has_a_finite_bias_and_no_recall():
    slide, logit, _ = cohort(30, 0, 0.0)
    report = measure_sample(slide, logit, np.zeros(30, bool), 0.5)
    assert -LIMIT < report.bias < 0
    assert report.recall_bound is None
    assert "recall" not in str(report)


def test_the_recall_is_below_its_bound_in_at_most_one_of_twenty_samples():
    random = np.random.default_rng(0)
    recall, missed = 0.8, 0
    for _ in range(2000):
        positive = random.binomial(50, 0.4)
        missed += lower_bound(random.binomial(positive, recall), positive) > recall if positive else 0
    assert missed / 2000 < 0.06
    assert lower_bound(0, 10) == 0.0
    assert lower_bound(10, 10) == pytest.approx(0.05 ** (1 / 10))  # (bound)^10 = 0.05


@given(st.floats(0.001, 1), st.floats(-12, 12))
def test_the_log_odds_of_a_patch_are_those_its_probability_was_made_of(slide, logit):
    p = probability(slide, np.array([logit]), 0.0)
    assert patch_logit(slide, p) == pytest.approx(logit, abs=1e-3)


@given(
    st.floats(-3, 3), st.floats(0.1, 2), st.floats(-5, 5), st.floats(-2, 2), st.floats(0.5, 2), st.integers(0, 2**31)
)
def test_a_bias_moves_patches_and_leaves_slides(bias, slope, offset, slide_offset, slide_slope, seed):
    finding = FindingCalibration(
        prior=0.5, patch=Line(slope=slope, offset=offset), slide=Line(slope=slide_slope, offset=slide_offset),
        slide_range=(-4.0, 4.0),
    )  # fmt: skip
    calibration = Calibration(findings=(finding,))
    moved = with_biases(calibration, [bias], 0.3)
    score = np.random.default_rng(seed).normal(0, 2, (40, 1))
    slide = calibration.slide_probability(score)
    assert moved.slide_probability(score) == pytest.approx(slide)
    expected = slide * sigmoid(finding.patch.logit(score) + bias)
    assert moved.patches_in(slide, score) == pytest.approx(expected)
    assert moved.threshold == 0.3
