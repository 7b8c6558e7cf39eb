"""The calibration of a student, from drawn slides whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_distill2label.core.calibration import Calibration, sigmoid
from napari_distill2label.core.metrics import expected_calibration_error
from napari_distill2label.mil.calibration import (
    LIMIT,
    MOST_SCORES,
    PRIOR_QUANTILE,
    SLOPE,
    UNCALIBRATED,
    BagScores,
    bagged_share,
    estimate_share,
    fit_calibration,
    fit_label_line,
    offset_for_mean,
    reliability,
    thinned,
    typical_negatives,
)
from napari_distill2label.mil.pu_learning import prior_of_slides


def drawn(n, seed, memory=0.0, share=0.4, size=200, shift=2.5):
    """`n` slides, every other one positive, and the truth of their patches.

    Scores are of two Gaussians. The student's are 1 too high, and a slide that it has learnt (`memory`) is pushed
    towards its label.
    """
    rng = np.random.default_rng(seed)
    slides, truth = [], []
    for index in range(n):
        positive = index % 2 == 1
        own = rng.random(size) < np.clip(rng.normal(share, 0.1), 0.05, 0.95) * positive
        score = rng.normal(shift * (own - 0.5), 1.0)[:, None]
        learnt = memory if positive else -memory
        student = score + rng.normal(0, 0.3, score.shape) + 1 + learnt
        slides.append(BagScores(np.array([positive]), student, (score,)))
        truth.append(own)
    return slides, truth


def fitted(train, valid) -> Calibration:
    return fit_calibration(train, valid)[0]


def probabilities(calibration: Calibration, slides):
    return [calibration.patches_in(calibration.slide_probability(own.student), own.student)[:, 0] for own in slides]


def test_what_the_student_remembers_of_its_slides_does_not_shift_what_it_says_of_others():
    train, _ = drawn(60, 0, memory=2.0)
    valid, _ = drawn(20, 1)
    new, truth = drawn(40, 2)
    calibration = fitted(train, valid)
    assert calibration.findings[0].prior == pytest.approx(0.4, abs=0.08)
    p, true = np.concatenate(probabilities(calibration, new)), np.concatenate(truth)
    assert expected_calibration_error(true, p) < 0.08
    assert p[np.repeat(np.arange(40) % 2 == 0, 200)].mean() < 0.02
    # By what it says of its own slides it would be off.
    by_memory = fitted(train, ())
    assert calibration.findings[0].patch.offset - by_memory.findings[0].patch.offset > 1


def with_look_alikes(n, seed, every=8):
    """Slides of which one in `every` is negative and scores as a positive one does: crowded lymphocytes, say."""
    slides, truth = drawn(n, seed)
    for index in range(0, n, every):
        own = slides[index]
        slides[index] = BagScores(own.label, own.student + 2.5, tuple(score + 2.5 for score in own.out_of_fold))
    return slides, truth


def test_negative_slides_that_look_positive_do_not_hide_the_finding():
    train, _ = with_look_alikes(80, 0)
    scores = [own.out_of_fold[0][:, 0] for own in train]
    negative, positive = scores[::2], scores[1::2]
    assert len(typical_negatives(negative, positive, 0.25)) == len(negative) - 10
    hidden = prior_of_slides(positive, negative, PRIOR_QUANTILE)
    assert hidden < 0.2  # of 0.4: the look-alikes' scores are above most positive patches'
    assert fitted(train, ()).findings[0].prior == pytest.approx(0.4, abs=0.08)


def test_where_all_negative_slides_look_positive_all_count():
    random = np.random.default_rng(0)
    positive, negative = ([random.normal(mean, 1, 50) for _ in range(5)] for mean in (0, 3))
    assert len(typical_negatives(negative, positive, 0.25)) == 5


def test_the_slides_are_calibrated_by_what_had_not_seen_them():
    train, _ = drawn(60, 0, memory=3.0)
    calibration = fitted(train, drawn(10, 1)[0])
    new, _ = drawn(100, 3)
    score = np.array([calibration.slide_probability(own.student)[0] for own in new])
    assert expected_calibration_error(np.arange(100) % 2 == 1, score) < 0.1
    assert calibration.n_slides == 70
    assert sum(calibration.reliability.count) == 60


def test_two_validation_slides_tell_how_much_lower_the_student_scores_slides_that_it_has_not_learnt():
    """What it remembers lowers its offset for patches, and so its scores of new slides, below the classifiers'."""
    slides, _ = drawn(20, 0, memory=4.0)
    calibration = fitted(slides, drawn(2, 1)[0])
    score = np.array([calibration.slide_probability(own.student)[0] for own in drawn(100, 3)[0]])
    positive = np.arange(100) % 2 == 1
    assert ((score > 0.5) == positive).mean() > 0.95
    assert expected_calibration_error(positive, score) < 0.15


def test_the_reliability_of_slides_is_of_lines_that_have_not_seen_them():
    """Labels that mean nothing: a line of the same slides finds something, a line of others does not."""
    random = np.random.default_rng(0)
    slides = [
        BagScores(np.array([bool(random.integers(2))]), score, (score,), number % 3)
        for number in range(24)
        for score in [random.normal(random.normal(), 0.1, (20, 1))]
    ]
    found = fitted(slides, ()).reliability
    gap = np.average(np.abs(np.subtract(found.predicted, found.observed)), weights=found.count)
    assert gap > 0.1
    assert sum(found.count) == 24


def test_the_threshold_has_the_best_expected_f1_of_its_own_probabilities():
    calibration = fitted(drawn(40, 0)[0], drawn(8, 1)[0])
    p = np.concatenate(probabilities(calibration, [*drawn(40, 0)[0], *drawn(8, 1)[0]]))

    def expected(threshold):
        return 2 * p[p >= threshold].sum() / ((p >= threshold).sum() + p.sum())

    assert expected(calibration.threshold) >= max(expected(t) for t in np.linspace(0.05, 0.95, 50)) - 1e-9


def test_a_finding_of_all_slides_or_none_keeps_its_scores():
    slides, _ = drawn(10, 0)
    every = [BagScores(np.array([own.label[0], True, False]), np.repeat(own.student, 3, 1),
                         (np.repeat(own.out_of_fold[0], 3, 1),)) for own in slides]  # fmt: skip
    calibration = fitted(every, ())
    assert calibration.findings[0] != UNCALIBRATED
    assert calibration.findings[1:] == (UNCALIBRATED,) * 2
    assert UNCALIBRATED.slide(np.array(-1e3)) == pytest.approx(1)


@given(st.integers(1, 50), st.floats(0.001, 0.999), st.floats(-20, 20), st.integers(0, 2**31))
def test_the_offset_gives_the_mean_that_is_asked_for(n, mean, centre, seed):
    logit = np.random.default_rng(seed).normal(centre, 3, n)
    offset = offset_for_mean(logit, mean)
    assert abs(offset) <= LIMIT
    if abs(offset) < LIMIT:
        assert sigmoid(logit + offset).mean() == pytest.approx(mean, abs=1e-6)


def test_slides_that_a_line_separates_have_a_finite_slope():
    score, label = np.array([-3.0, -2, 2, 3] * 5), np.array([False, False, True, True] * 5)
    line = fit_label_line(score, label)
    assert 0 < line.slope < 10
    assert (line(score) > 0.5).tolist() == label.tolist()
    assert fit_label_line(np.zeros(4), np.array([True, False] * 2)).slope == 0
    backwards = fit_label_line(-score, label)  # more of the finding never makes a slide less likely
    assert backwards.slope == 0


def test_reliability_counts_every_slide_once_and_leaves_empty_bins_out():
    found = reliability(np.array([0.05, 0.1, 0.95, 1.0]), np.array([False, True, True, True]), bins=5)
    assert found.count == (2, 2)
    assert found.observed == (0.5, 1.0)
    assert found.predicted == pytest.approx((0.075, 0.975))


def test_the_slope_is_that_of_scores_in_context():
    assert fitted(drawn(20, 0)[0], ()).findings[0].patch.slope == SLOPE


def with_shares(slides, truth):
    """The same with the true share of every positive slide."""
    pairs = zip(slides, truth, strict=True)
    return [replace(own, share=float(true.mean())) if own.label[0] else own for own, true in pairs]


def test_shares_that_a_person_estimates_mend_the_prior():
    train, truth = drawn(40, 0)
    # Positive slides have another stain: their negatives score higher, too.
    wrong = [replace(own, out_of_fold=(own.out_of_fold[0] + 0.8 * own.label,)) for own in train]
    without = fitted(wrong, ())
    shared = with_shares(wrong, truth)
    some = [*shared[:8], *wrong[8:]]
    true = np.concatenate([own for own in truth if own.any()]).mean()
    priors = [fitted(each, ()).findings[0].prior for each in (wrong, some, shared)]
    off = [abs(prior - true) for prior in priors]
    assert off[0] > 0.1
    assert off[0] > off[1] > off[2]
    assert off[2] < 0.02
    assert without.findings[0].prior == priors[0]


def test_the_share_of_a_validation_slide_takes_the_place_of_an_estimate():
    train, _ = drawn(40, 0)
    valid, truth = drawn(10, 1)
    none = fitted(train, valid).findings[0].patch.offset
    more = [replace(own, share=0.9) if own.label[0] else own for own in valid]
    assert fitted(train, more).findings[0].patch.offset > none + 0.5
    right = with_shares(valid, truth)
    assert fitted(train, right).findings[0].patch.offset == pytest.approx(none, abs=0.3)


def test_a_case_is_as_positive_as_its_highest_slide():
    """Cases of two slides, of which one at most has the finding: a case's score is one that its slides get later."""
    slides, _ = drawn(80, 0)
    empty, _ = drawn(160, 1)
    cases = []
    for own, other in zip(slides, empty[::2], strict=True):  # even numbers: negative
        joined = [
            np.concatenate([a, b])
            for a, b in ((own.student, other.student), (own.out_of_fold[0], other.out_of_fold[0]))
        ]
        parts = (slice(0, len(own.student)), slice(len(own.student), None))
        cases.append(BagScores(own.label, joined[0], (joined[1],), slices=parts))
    calibration = fitted(cases, ())
    score = np.array([max(calibration.slide_probability(own.student[part])[0] for part in own.slices) for own in cases])
    label = np.array([own.label[0] for own in cases])
    assert ((score >= 0.5) == label).mean() > 0.95
    without = np.array([calibration.slide_probability(own.student[own.slices[1]])[0] for own in cases if own.label[0]])
    assert without.max() < 0.5  # the other slide of a positive case
    assert calibration.findings[0].prior == pytest.approx(0.2, abs=0.06)  # .4 of one of its two slides


def shifted(seed, n=24):
    """Scores of slides that differ more than their patches do (stain, say), and in which of them the finding is."""
    random, slides = np.random.default_rng(seed), drawn(n, seed, size=30)[0]
    return [own.out_of_fold[0][:, 0] + random.normal(0, 2.5) for own in slides], np.arange(n) % 2 == 1


def test_the_share_depends_less_on_the_folds_if_slides_are_drawn_again_and_again():
    plain, bagged = [], []
    for seed in range(6):
        scores, present = shifted(seed)
        assigned = [np.random.default_rng(number).permutation(len(scores)) % 3 for number in range(3)]
        plain.append(np.var([estimate_share(scores, present, own.tolist()) for own in assigned], ddof=1))
        bagged.append(np.var([bagged_share(scores, present, own.tolist()) for own in assigned], ddof=1))
    assert np.sqrt(np.mean(plain)) > 0.06
    assert np.sqrt(np.mean(bagged)) < 0.8 * np.sqrt(np.mean(plain))


def test_it_is_the_same_each_time_and_right_where_slides_are_alike():
    scores, present = [own.out_of_fold[0][:, 0] for own in drawn(60, 0)[0]], np.arange(60) % 2 == 1
    found = bagged_share(scores, present, [0] * 60)
    assert found == bagged_share(scores, present, [0] * 60)
    assert found == pytest.approx(0.4, abs=0.08)
    assert found == pytest.approx(estimate_share(scores, present, [0] * 60), abs=0.03)


def test_many_scores_are_thinned_and_few_are_not():
    few, many = [np.arange(10.0)] * 3, [np.random.default_rng(k).normal(k, 1, MOST_SCORES) for k in range(4)]
    assert all(one is other for one, other in zip(thinned(few), few, strict=True))
    less = thinned([*many, np.array([7.0])])
    assert sum(map(len, less)) <= MOST_SCORES + 5
    for own, all_of_it in zip(less, many, strict=False):
        assert np.abs(np.quantile(own, [0.1, 0.5, 0.9]) - np.quantile(all_of_it, [0.1, 0.5, 0.9])).max() < 0.01
    assert less[-1].tolist() == [7.0]


@pytest.mark.parametrize("wrong", [3, 8])
def test_a_label_that_was_flipped_is_named_and_no_other(wrong):
    slides, _ = drawn(40, 0)
    assert fit_calibration(slides, ())[1] == ()
    slides[wrong] = replace(slides[wrong], label=~slides[wrong].label)
    (doubted,) = fit_calibration(slides, ())[1]
    assert (doubted.slide, doubted.finding) == (wrong, 0)
    assert doubted.probability == pytest.approx(wrong % 2, abs=0.1)


def test_labels_by_chance_are_not_doubted():
    slides, _ = drawn(40, 0, shift=0.0)
    assert fit_calibration(slides, ())[1] == ()
