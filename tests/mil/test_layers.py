"""Layers made for training on a CPU: the same as torch's, by other ways."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from napari_distill2label.mil.layers import Dropout, Larger, halved_convolution


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    x = torch.ones(1000, 513)
    dropped = Dropout(p)(x)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-3)
    assert (dropped == 0).float().mean().item() == pytest.approx(p, abs=0.003)
    assert dropped.mean().item() == pytest.approx(1, abs=0.01)


def test_dropout_draws_every_value_on_its_own():
    torch.manual_seed(0)
    kept = Dropout(0.5)(torch.ones(20_000, 8)) > 0
    assert (kept.float().mean(0) - 0.5).abs().max() < 0.02
    assert (torch.corrcoef(kept.T.float()) - torch.eye(8)).abs().max() < 0.03
    # a mask is not the one before, and a seed brings it back
    torch.manual_seed(0)
    assert torch.equal(Dropout(0.5)(torch.ones(20_000, 8)) > 0, kept)
    assert not torch.equal(Dropout(0.5)(torch.ones(20_000, 8)) > 0, kept)


def test_dropout_passes_the_gradient_of_what_it_keeps():
    x = torch.ones(7, 3, requires_grad=True)
    result = Dropout(0.5)(x)
    (gradient,) = torch.autograd.grad(result.sum(), x)
    assert torch.equal(gradient, result.detach())


def test_dropout_of_nothing_and_outside_training_changes_nothing():
    x = torch.randn(5, 4)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert Dropout(0.5)(x[:0]).shape == (0, 4)


def test_dropout_keeps_precision_and_shape():
    x = torch.randn(3, 5, 7).to(torch.bfloat16)
    result = Dropout(0.5)(x)
    assert result.dtype == torch.bfloat16
    assert torch.equal(result[result != 0], 2 * x[result != 0])


def test_larger_sends_the_gradient_to_the_larger_and_of_equals_to_the_second():
    first = torch.tensor([3.0, -1.0, 2.0], requires_grad=True)
    second = torch.tensor([1.0, 4.0, 2.0], requires_grad=True)
    result = Larger.apply(first, second)
    assert result.tolist() == [3, 4, 2]
    result.backward(torch.tensor([10.0, 20.0, 30.0]))
    assert first.grad.tolist() == [10, 0, 0]
    assert second.grad.tolist() == [0, 20, 30]


@pytest.mark.parametrize(("side", "kernel"), [(27, 4), (28, 4), (12, 4), (28, 5), (5, 4), (8, 1)])
def test_halved_convolution_is_a_convolution_and_max_pooling(side, kernel):
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 6, kernel)
    patches = torch.rand(4, 3, side, side).contiguous(memory_format=torch.channels_last)
    expected = F.max_pool2d(convolution(patches), 2)
    maps = halved_convolution(convolution, patches)
    assert torch.allclose(maps, expected, atol=1e-6)
    weights = torch.randn_like(expected)
    for mine, other in zip(
        torch.autograd.grad((maps * weights).sum(), convolution.parameters()),
        torch.autograd.grad((expected * weights).sum(), convolution.parameters()),
        strict=True,
    ):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-4)


def test_halved_convolution_of_patches_that_are_not_square():
    convolution = nn.Conv2d(1, 2, 3)
    patches = torch.rand(2, 1, 9, 14)
    assert torch.allclose(halved_convolution(convolution, patches), F.max_pool2d(convolution(patches), 2), atol=1e-6)
