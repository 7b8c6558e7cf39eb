"""A training that is stuck at chance, and what chance is."""

import math

import numpy as np
import pytest

from napari_distill2label.core.settings import TeacherSettings
from napari_distill2label.mil.chance import entropy_of_targets, is_stuck, patience


def one_hot(labels, n_classes):
    return np.array([[c in label for c in range(n_classes)] for label in labels], np.float32)


def entropy_of(labels, n_classes, multi_label):
    return entropy_of_targets(one_hot(labels, n_classes), multi_label)


def test_chance_is_the_entropy_of_the_labels():
    assert entropy_of([(0,), (1,), (1,), (1,)], 2, False) == pytest.approx(0.5623351)
    assert entropy_of([(0,), (1,), (2,), (2,)], 3, False) == pytest.approx(1.5 * math.log(2))
    # Several at once: a decision per class, the mean of them; class 0 is in a quarter, 1 and 2 in half of the slides.
    multi_label = entropy_of([(0,), (1,), (2,), (1, 2)], 3, True)
    assert multi_label == pytest.approx((0.5623351 + 2 * math.log(2)) / 3)
    assert entropy_of([(1,), (1,)], 2, False) == 0


def test_when_a_training_counts_as_stuck():
    settings = TeacherSettings(epochs=20)
    rows = [{"loss_class": 0.69}] * 8
    assert patience(settings) == 8
    assert is_stuck(rows, math.log(2), settings)
    assert not is_stuck(rows[:-1], math.log(2), settings)
    assert not is_stuck([*rows[:-1], {"loss_class": 0.6}], math.log(2), settings)
    assert not is_stuck([{"loss": 0.69}] * 8, math.log(2), settings)
    assert not is_stuck(rows[:5], math.log(2), TeacherSettings(epochs=5))  # nothing would be left to train
    assert not is_stuck(rows, 0.0, settings)  # all slides are of one class
