"""Metrics of a network on the labels of slides."""

import numpy as np
import pytest
import torch

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.events import drain
from napari_distill2label.core.settings import ArchitectureSettings
from napari_distill2label.mil.model import MILModel
from napari_distill2label.mil.training import predict_bag
from napari_distill2label.workflow.slide_metrics import slide_metrics


def bags(labels):
    draw = np.random.default_rng(0)
    return [
        Bag(f"s{number}", draw.normal(size=(5, 4)).astype("f4"), np.zeros((5, 2), int), (label,))
        for number, label in enumerate(labels)
    ]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MILModel(ArchitectureSettings(encoder="features", hidden_dim=8, attention_dim=4), 2, (4,)).eval()


def test_metrics_are_those_of_the_probabilities_of_the_slides(model):
    slides, seen = bags((0, 1, 1)), []
    found = drain(slide_metrics(model, slides, "teacher"), seen.append)
    logits = [predict_bag(model, bag).bag_logits for bag in slides]
    called = [float(model.probabilities(own).flatten()[1]) >= 0.5 for own in logits]
    right = sum(one == (bag.label == (1,)) for one, bag in zip(called, slides, strict=True))
    assert found["n"] == 3
    assert found["accuracy"] == pytest.approx(right / 3)
    chance = [float(model.probabilities(own).flatten()[bag.label[0]]) for own, bag in zip(logits, slides, strict=True)]
    assert found["log_loss"] == pytest.approx(-np.log(chance).mean(), abs=1e-6)


def test_without_slides_there_are_no_metrics(model):
    found = drain(slide_metrics(model, (), "teacher"))
    assert found["n"] == 0
    assert found["log_loss"] is None
    assert found["accuracy"] is None
