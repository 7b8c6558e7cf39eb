"""Metrics against values worked out by hand, and where they are undefined."""

import numpy as np
import pytest
from sklearn import metrics as sk

from napari_distill2label.core.metrics import (
    binary_metrics,
    case_probability,
    expected_calibration_error,
    mean_metrics,
    positive_score,
)

KEYS = {"accuracy", "f1", "auroc", "auprc", "prevalence", "ece", "n"}


def test_metrics_by_hand():
    # sorted by score: + 0.9, − 0.8, + 0.6, − 0.3, − 0.1
    truth = np.array([1, 0, 0, 1, 0], bool)
    score = np.array([0.9, 0.1, 0.8, 0.6, 0.3])
    found = binary_metrics(truth, score)
    assert set(found) == KEYS
    assert found["accuracy"] == pytest.approx(4 / 5)
    assert found["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 0))
    assert found["auroc"] == pytest.approx(5 / 6)  # of 6 pairs one is the wrong way round
    assert found["auprc"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert found["prevalence"] == pytest.approx(2 / 5)
    # each in a bin of its own: |0.9 − 1| + 0.1 + 0.8 + |0.6 − 1| + 0.3, over 5
    assert found["ece"] == pytest.approx((0.1 + 0.1 + 0.8 + 0.4 + 0.3) / 5)
    assert found["n"] == 5


def test_they_are_those_of_scikit_learn():
    """To the bit: results that were written before are compared with these."""
    rng = np.random.default_rng(0)
    for n in (2, 3, 10, 1000):
        for digits in (1, 2, 12):  # with and without ties
            truth, score = rng.random(n) > 0.6, rng.random(n).round(digits)
            truth[:2] = False, True
            found, called = binary_metrics(truth, score), score >= 0.5
            assert found["auroc"] == sk.roc_auc_score(truth, score)
            assert found["auprc"] == sk.average_precision_score(truth, score)
            assert found["f1"] == sk.f1_score(truth, called)
            assert found["accuracy"] == sk.accuracy_score(truth, called)


def test_calibration_error_is_weighted_by_the_size_of_a_bin():
    truth = np.array([1, 0, 1, 1, 0], bool)
    score = np.array([0.72, 0.74, 0.76, 0.78, 0.05])
    # 4 of 5 in one bin, mean score 0.75 against 3/4 positive; 1 of 5 with 0.05 against 0
    assert expected_calibration_error(truth, score) == pytest.approx(0.2 * 0.05)
    assert expected_calibration_error(np.array([True]), np.array([1.0])) == 0
    assert expected_calibration_error(np.array([False]), np.array([1.0])) == 1


def test_threshold():
    truth, score = np.array([True, False]), np.array([0.5, 0.4])
    assert binary_metrics(truth, score)["accuracy"] == 1  # ≥ 0.5 is positive
    assert binary_metrics(truth, score, 0.45)["accuracy"] == 1
    assert binary_metrics(truth, score, 0.3)["accuracy"] == 0.5
    assert binary_metrics(truth, score, 0.9)["f1"] == 0


def test_metrics_of_one_class_only():
    found = binary_metrics(np.zeros(3, bool), np.array([0.1, 0.2, 0.9]))
    assert (found["auroc"], found["auprc"], found["prevalence"], found["n"]) == (None, None, 0, 3)
    assert found["f1"] == 0  # one false positive
    assert binary_metrics(np.zeros(3, bool), np.array([0.1, 0.2, 0.3]))["f1"] is None  # 0 / 0
    found = binary_metrics(np.ones(3, bool), np.array([0.9, 0.8, 0.9]))
    assert (found["auroc"], found["f1"], found["accuracy"]) == (None, 1, 1)


def test_metrics_of_nothing_are_undefined():
    found = binary_metrics(np.empty(0, bool), np.empty(0))
    assert set(found) == KEYS
    assert found.pop("n") == 0
    assert set(found.values()) == {None}
    assert mean_metrics([])["n"] == 0


def test_mean_is_over_the_slides_on_which_a_metric_is_defined():
    rows = [
        binary_metrics(np.array([True, False]), np.array([0.9, 0.1])),  # auroc 1
        binary_metrics(np.array([True, False]), np.array([0.1, 0.9])),  # auroc 0
        binary_metrics(np.array([False, False]), np.array([0.1, 0.2])),  # auroc undefined
    ]
    found = mean_metrics(iter(rows))
    assert found["auroc"] == pytest.approx(0.5)
    assert "f1" not in found  # of a negative slide it says 0 for one false positive, and nothing for none
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["n"] == 3
    assert mean_metrics(rows[2:])["auroc"] is None


def test_positive_is_whatever_is_not_class_0():
    assert positive_score(np.array([[0.3, 0.7], [0.2, 0.5]])[:1]).tolist() == pytest.approx([0.7])
    assert positive_score(np.array([[0.3, 0.2, 0.5]])).tolist() == pytest.approx([0.7])
    assert positive_score(np.array([[0.9, 0.2, 0.8]]), multi_label=True).tolist() == pytest.approx([0.8])


def test_a_case_has_what_one_of_its_slides_has():
    assert case_probability([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]) == [0.2, 0.8]
    assert case_probability([[0.5, 0.1, 0.4], [0.3, 0.6, 0.1]]) == [0.3, 0.6, 0.1]
    assert case_probability([[0.5, 0.1, 0.4], [0.3, 0.6, 0.1]], multi_label=True) == [0.3, 0.6, 0.4]
    assert case_probability([[0.9, 0.1]]) == [0.9, 0.1]
