"""A network that was trained before is taken from memory: the same to the last bit, and only if it is the same."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments import memory, training
from experiments.memory import digest_of
from experiments.training import answers_of, train_models, trained_here
from napari_distill2label.core.bag import Bag
from napari_distill2label.core.events import drain
from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.settings import merged
from napari_distill2label.mil.losses import InheritedLabelLoss
from napari_distill2label.mil.pipeline import TrainingPipeline
from napari_distill2label.mil.training_bags import TeacherTargets, TrainingRegion

SMALL = {
    "architecture": {"hidden_dim": 16, "attention_dim": 8}, "device": "cpu",
    "teacher": {"epochs": 2}, "oof": {"epochs": 1, "folds": 2}, "student": {"epochs": 2},
}  # fmt: skip


def bags(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Bag(f"{seed}-{i}", rng.integers(0, 255, (6, 3, 27, 27), np.uint8), rng.integers(0, 99, (6, 2)), (i % 2,))
        for i in range(count)
    ]


@pytest.fixture
def fits(monkeypatch):
    """The names of the networks that are trained from now on."""
    names = []
    real = training.fit

    def fit(*args, network, **kwargs):
        names.append(network)
        return real(*args, network=network, **kwargs)

    monkeypatch.setattr(training, "fit", fit)
    return names


def scores(method, networks, **overrides):
    """What the networks of one training say of other bags, and their histories."""
    settings = build_settings("colon", method, merged(SMALL, overrides))
    trained = drain(train_models(bags(6), bags(2, 1), 2, settings, networks))
    said = {network: drain(answers_of(own, bags(2, 2))) for network, own in trained.items()}
    return said, {network: (own.state.best_epoch, own.state.history) for network, own in trained.items()}


@pytest.mark.parametrize(
    ("method", "before", "after", "saved"),
    [
        ("paper", {}, {"student": {"temperature": 5.0}}, ["teacher"]),
        ("paper", {}, {}, ["teacher", "student"]),
        ("recommended", {}, {"student": {"calibrate": False}}, ["teacher", "oof-1", "oof-2", "student"]),
        ("recommended", {}, {"oof": {"teacher_weight": 0.0}}, ["teacher", "oof-1", "oof-2"]),
        ("recommended", {}, {"oof": {"smoothing_neighbours": 0}}, ["teacher", "oof-1", "oof-2"]),
        ("recommended", {}, {"seed": 1}, []),
        ("recommended", {}, {"teacher": {"learning_rate": 3e-3}}, ["oof-1", "oof-2"]),
    ],
)
def test_what_rows_share_is_trained_once_and_is_the_same(fits, method, before, after, saved):
    anew, histories = scores(method, ("teacher", "student"), **after)
    trained_here.forget()
    scores(method, ("teacher", "student"), **before)
    fits.clear()
    again, same = scores(method, ("teacher", "student"), **after)
    everything = ["teacher", *(["oof-1", "oof-2"] if method == "recommended" else []), "student"]
    assert fits == [name for name in everything if name not in saved]
    assert same == histories
    for network in again:
        assert np.array_equal(again[network].bag, anew[network].bag)
        assert all(map(np.array_equal, again[network].instance, anew[network].instance))


def stage_of(own=None, **overrides):
    settings = build_settings("colon", "paper", merged(SMALL, overrides))
    pipeline = TrainingPipeline(own or bags(4), bags(2, 1), 2, settings, torch.device("cpu"))
    return pipeline.make_bag_stage("teacher", settings.teacher)


def test_any_difference_makes_another_network(monkeypatch):
    """Every field of what a training gets is changed once."""
    valid = bags(2, 1)
    plain = stage_of()
    seen = {digest_of(plain, valid)}
    assert digest_of(stage_of(), bags(2, 1)) in seen

    def differs(stage, valid=valid):
        digest = digest_of(stage, valid)
        assert digest not in seen
        seen.add(digest)

    differs(stage_of(seed=1))
    differs(stage_of(teacher={"lambda_n": 0.1}))
    differs(stage_of(architecture={"attention_dim": 9}))
    differs(plain, bags(2, 3))
    differs(plain, [replace(valid[0], label=(1,)), valid[1]])
    differs(plain, valid[:1])
    differs(replace(plain, seed=7))
    differs(replace(plain, loss_function=InheritedLabelLoss(plain.settings)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    differs(plain)
    differs(replace(plain, training_bags=plain.training_bags[::-1]))
    differs(replace(plain, settings=plain.settings.model_copy(update={"epochs": 3})))
    first, *rest = plain.training_bags
    change: dict[str, Callable] = {
        "instances": lambda: first.instances.clone().fill_(3),
        "target": lambda: 1 - first.target,
        "patch_labels": lambda: torch.zeros(6, dtype=torch.long),
        "teacher_targets": lambda: TeacherTargets(torch.zeros(2), torch.zeros(6, 2)),
        "oof_targets": lambda: torch.zeros(6, 2),
        "regions": lambda: (TrainingRegion(torch.tensor([0, 1]), "some", 1),),
        "share": lambda: 0.3,
    }
    assert change.keys() == vars(first).keys()
    for name, value in change.items():
        differs(replace(plain, training_bags=[replace(first, **{name: value()}), *rest]))
    with torch.no_grad():
        plain.model.head.bias += 1
    differs(plain)


def test_what_cannot_be_told_apart_is_not_remembered():
    stage = stage_of()
    with pytest.raises(TypeError, match="set"):
        digest_of(replace(stage, training_bags=[{1}]), [])


def test_only_the_last_are_kept(fits, monkeypatch):
    monkeypatch.setattr(memory, "KEPT", 2)
    for seed in (0, 1, 2):
        scores("paper", ("baseline",), seed=seed)
    fits.clear()
    scores("paper", ("baseline",), seed=2)
    assert fits == []
    scores("paper", ("baseline",), seed=0)
    assert fits == ["baseline"]
