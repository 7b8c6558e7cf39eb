"""What a calibration makes of logits."""

import numpy as np
import pytest

from napari_distill2label.core.calibration import (
    Calibration,
    FindingCalibration,
    Line,
    finding_scores,
    sigmoid,
    slide_score,
)


def calibration(*slides, n=1, **own):
    lines = slides or (Line(slope=1, offset=0),) * n
    return Calibration(
        findings=[FindingCalibration(prior=0.4, patch=Line(slope=2, offset=-1), slide=line) for line in lines], **own
    )


def test_a_patch_alone_is_its_own_line_and_the_classes_sum_to_one():
    logit = np.array([[1.0, 2.0], [0.0, -3.0]])
    alone = calibration().patches_alone(logit, multi_label=False)
    assert alone[:, 1] == pytest.approx(sigmoid(2 * np.array([1.0, -3.0]) - 1))
    assert alone.sum(1) == pytest.approx(1)


def test_of_several_findings_each_has_its_own_and_the_negative_class_is_the_networks():
    logit = np.array([[1.0, 2.0, -1.0]])
    alone = calibration(n=2).patches_alone(logit, multi_label=True)
    assert alone[0] == pytest.approx(sigmoid(np.array([1.0, 3.0, -3.0])))
    assert finding_scores(logit, True).tolist() == [[2, -1]]
    assert finding_scores(logit, False).tolist() == [[1, -2]]


def test_a_patch_of_a_slide_that_surely_has_no_finding_has_none():
    surely_not = calibration(Line(slope=0, offset=-50))
    slide, patches = surely_not.of_bag(np.array([[0.0, 9.0]] * 20), np.zeros((20, 2)), False)
    assert slide[0] < 1e-12
    assert patches[:, 1].max() < 1e-12
    slide, patches = calibration(Line(slope=0, offset=50)).of_bag(np.array([[0.0, 9.0]] * 20), np.zeros((20, 2)), False)
    assert slide[0] == pytest.approx(1)
    assert patches[:, 1] == pytest.approx(sigmoid(2 * 9.0 - 1))


def test_the_score_of_a_slide_is_the_mean_of_its_highest_patches():
    scores = np.array([1.0, 9, 5, np.nan, 7, 2, 3, 4, 6, 8, 0, -1])
    assert slide_score(scores, 0.2) == pytest.approx((9 + 8 + 7) / 3)  # of eleven patches, three
    assert slide_score(scores, 0.01) == 9
    assert slide_score(np.array([np.nan, 3.0]), 0.1) == 3


def test_the_digest_tells_what_decides_a_probability():
    own = calibration()
    assert own.digest == calibration(threshold=0.3).digest  # a label, and no probability
    assert own.digest != calibration(top=0.2).digest
    assert own.digest != calibration(Line(slope=1, offset=0.1)).digest


def test_the_probability_of_a_slide_has_its_classes():
    own = calibration(n=2)
    assert own.bag(np.array([0.25, 0.5]), 0.7, multi_label=True) == [0.7, 0.25, 0.5]
    assert calibration().bag(np.array([0.25]), 0.7, multi_label=False) == [0.75, 0.25]
