import numpy as np
import pytest
import torch

from napari_distill2label.mil.perturbations import (
    adversarial_start,
    noise_instances,
    random_perturbation,
    random_subset,
    scaled_to,
    subset_size,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_noise_of_images_is_uniform_in_0_to_1():
    noise = noise_instances(50, torch.full((4, 3, 20, 20), 0.5))
    assert noise.shape == (50, 3, 20, 20)
    assert noise.min() >= 0
    assert noise.max() <= 1
    # a uniform draw: mean 1/2, variance 1/12, and each tenth as often
    assert noise.mean().item() == pytest.approx(0.5, abs=0.01)
    assert noise.var().item() == pytest.approx(1 / 12, abs=0.002)
    assert torch.histc(noise, 10, 0, 1).div(noise.numel()).sub(0.1).abs().max() < 0.01


def test_noise_of_features_has_the_mean_and_the_deviation_of_each_feature(make_model, make_bag):
    bag = make_bag(2000, features=3)
    bag.instances[:] = bag.instances * np.float32([1, 50, 0]) + np.float32([-5, 300, 3])
    bag.instances[0] *= 100  # one unusual instance decides nothing
    model = make_model(features=3)
    model.fit_normalisation([bag])
    noise = noise_instances(20_000, model.to_unit_range(torch.from_numpy(bag.instances)))
    assert noise.shape == (20_000, 3)
    raw = (noise - 0.5) * 12**0.5 * model.std + model.mean  # what `unit` would make this noise of
    assert raw.mean(0).tolist() == pytest.approx(bag.instances.mean(0).tolist(), rel=0.05, abs=0.1)
    assert raw.std(0).tolist() == pytest.approx(bag.instances.std(0).tolist(), rel=0.05, abs=1e-6)
    assert noise.T.corrcoef().fill_diagonal_(0).abs().max() < 0.05  # no feature knows of another


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_perturbation_of_features_is_as_large_as_their_own_deviations(make_model, make_bag, scale):
    bag = make_bag(400, features=64)
    bag.instances[:] *= np.float32(scale) * np.linspace(0.1, 10, 64, dtype=np.float32)
    model = make_model(features=64)
    model.fit_normalisation([bag])
    unit = model.to_unit_range(torch.from_numpy(bag.instances))
    moved = model.normalise(unit + random_perturbation(unit, 1.0)) - model.normalise(unit)
    # δ = 1 reaches √12 standard deviations, over all features together
    assert moved.norm(dim=1).max().item() == pytest.approx(12**0.5, rel=0.02)
    assert moved.std(0).max() / moved.std(0).min() < 1.5


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (1, 2, 2)])
def test_norm_ball_is_uniform_in_volume(shape):
    radius, count = 2.0, 20_000
    draws = random_perturbation(torch.zeros(count, *shape), radius).flatten(1)
    n = draws.shape[1]
    distance = draws.norm(dim=1) / radius
    assert distance.max() <= 1 + 1e-6
    for fraction in (0.5, 0.8, 0.95):  # the share within r of the centre is r^n
        assert (distance < fraction).float().mean().item() == pytest.approx(fraction**n, abs=0.015)
    # no direction is preferred: mean 0, covariance R² / (n + 2) on the diagonal and 0 beside it
    assert draws.mean(0).abs().max() < 0.05
    covariance = draws.T @ draws / count
    assert (covariance - torch.eye(n) * radius**2 / (n + 2)).abs().max() < 0.05


def test_norm_ball_of_a_patch_lies_near_the_sphere():
    distance = random_perturbation(torch.zeros(50, 3, 27, 27), 1.5).flatten(1).norm(dim=1)
    assert distance.max() <= 1.5 * (1 + 1e-5)
    assert distance.min() > 1.45  # in 2187 dimensions nearly all volume is there


def test_random_perturbation_is_drawn_for_each_instance_and_is_0_at_radius_0():
    draws = random_perturbation(torch.zeros(2, 3, 4, 4), 1.0)
    assert not torch.equal(draws[0], draws[1])
    assert random_perturbation(torch.zeros(2, 3, 4, 4), 0.0).abs().max() == 0


@pytest.mark.parametrize(
    ("count", "keep", "expected"),
    [(1, 0.5, 1), (1, 0.01, 1), (2, 0.5, 1), (3, 0.1, 1), (10, 0.5, 5), (10, 0.26, 3), (10, 1.0, 10), (629, 0.5, 314)],
)
def test_fixed_subset_size_is_max_of_1_and_the_rounded_fraction(count, keep, expected):
    assert subset_size(count, keep, "fixed") == expected


def test_uniform_subset_size_lies_between_1_and_the_fixed_one():
    sizes = [subset_size(10, 0.5, "uniform") for _ in range(300)]
    assert set(sizes) == {1, 2, 3, 4, 5}
    assert {subset_size(1, 0.5, "uniform") for _ in range(5)} == {1}


def test_subset_is_drawn_without_replacement():
    draws = [random_subset(10, 4) for _ in range(200)]
    assert all(len(set(draw.tolist())) == 4 for draw in draws)
    assert set(torch.cat(draws).tolist()) == set(range(10))
    assert sorted(random_subset(7, 7).tolist()) == list(range(7))


def test_scaled_to_keeps_the_direction_and_takes_zero():
    direction = torch.randn(3, 2, 4, 4)
    direction[1] = 0
    scaled = scaled_to(direction, 5.0)
    assert scaled.flatten(1).norm(dim=1).tolist() == pytest.approx([5, 0, 5], abs=1e-4)
    assert torch.allclose(scaled[0] / 5, direction[0] / direction[0].norm(), atol=1e-6)


def test_adversarial_start_is_short():
    assert adversarial_start(torch.zeros(4, 3, 5, 5)).flatten(1).norm(dim=1).tolist() == pytest.approx([0.01] * 4)
