"""Whether a network has learnt anything is told from the slides it was trained on."""

import math

import numpy as np
import pytest
import torch

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.events import Progress, Task, drain
from napari_distill2label.core.settings import ArchitectureSettings
from napari_distill2label.mil.fit_quality import FitQuality, measure_fit
from napari_distill2label.mil.model import MILModel


def bags(labels):
    """Bags of features: the first of them is 1 in patches of positive slides, −1 in those of negative ones."""
    made = []
    for index, label in enumerate(labels):
        value = np.full((3, 2), 1.0 if label != (0,) else -1.0, np.float32)
        made.append(Bag(str(index), value, np.zeros((3, 2), int), label))
    return made


def network(gain):
    """Says sigmoid(gain · first feature) of every patch."""
    model = MILModel(ArchitectureSettings(encoder="features", hidden_dim=2, attention_dim=2, dropout=0), 2, (2,)).eval()
    model.encode = lambda unit: unit
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[0.0, 0.0], [gain, 0.0]]))
        model.head.bias.zero_()
    model.to_unit_range = lambda instances: instances
    return model


def quality(gain, labels):
    return drain(measure_fit(network(gain), bags(labels), Progress(Task.CHECK_TRAINING)))


BALANCED = [(0,), (1,)] * 4


def test_a_network_that_knows_its_slides():
    found = quality(2.0, BALANCED)
    assert found.loss == pytest.approx(math.log(1 + math.exp(-2)), abs=1e-6)
    assert found.chance_loss == pytest.approx(math.log(2))
    assert found.auroc == 1
    assert not found.is_at_chance


def test_one_that_says_the_same_of_all():
    assert quality(0.0, BALANCED).is_at_chance
    assert quality(0.01, BALANCED).auroc == 1  # differences in the last digits rank, but mean nothing
    assert quality(0.01, BALANCED).is_at_chance
    assert quality(0.0, [(0,), (1,), (1,), (1,)]).is_at_chance


def test_one_that_ranks_no_better_than_a_coin():
    assert quality(-2.0, BALANCED).is_at_chance
    assert FitQuality(loss=0.6, chance_loss=0.69, score_std=0.3, auroc=0.55).is_at_chance


def test_scores_that_are_not_calibrated_are_something():
    """A student's score of a slide is made of probabilities of patches: its loss may be high and its order perfect."""
    assert not FitQuality(loss=0.9, chance_loss=0.69, score_std=0.2, auroc=1.0).is_at_chance
    assert not FitQuality(loss=0.2, chance_loss=0.69, score_std=0.01, auroc=None).is_at_chance
