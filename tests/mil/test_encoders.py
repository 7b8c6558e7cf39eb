"""Encoders, and layers made for training on a CPU: the same as torch's, by other ways."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.mil.encoders import (
    STACKS,
    ConvolutionalEncoder,
    Dropout,
    FeatureEncoder,
    PairwiseMax,
    conv_then_pool,
    map_side,
    smallest_patch,
)


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
    result = PairwiseMax.apply(first, second)
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
    maps = conv_then_pool(convolution, patches)
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
    assert torch.allclose(conv_then_pool(convolution, patches), F.max_pool2d(convolution(patches), 2), atol=1e-6)


def encoder(name, patch_px, hidden=8, channels=3):
    torch.manual_seed(0)
    return ConvolutionalEncoder(name, patch_px, channels, hidden, dropout=0.0).eval()


def test_colon_encoder_is_that_of_the_textbook():
    # Ilse 2018, Table 9: 27 px -> 36 × 24² -> 36 × 12² -> 48 × 10² -> 48 × 5² -> 512 -> 512; a third layer: the paper's
    net = encoder("colon", 27, hidden=512)
    assert net.convolutions(torch.zeros(1, 3, 27, 27)).shape == (1, 48, 5, 5)
    linear = [module for module in net.connected if isinstance(module, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(1200, 512), (512, 512), (512, 512)]
    assert [(conv.out_channels, conv.kernel_size) for conv in net.convolutions if isinstance(conv, nn.Conv2d)] == [
        (36, (4, 4)),
        (48, (3, 3)),
    ]


def test_breast_encoder_has_five_convolutions_and_takes_32_px():
    net = encoder("breast", 32)
    assert sum(isinstance(module, nn.Conv2d) for module in net.convolutions) == 5
    assert sum(isinstance(module, nn.Linear) for module in net.connected) == 3
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 8)


def test_lenet5_encoder_takes_mnist():
    net = encoder("lenet5", 28, hidden=500, channels=1)
    assert net.convolutions(torch.zeros(1, 1, 28, 28)).shape == (1, 50, 4, 4)  # Ilse 2018, Table 7


@pytest.mark.parametrize("name", STACKS)
def test_every_side_from_the_smallest_up_works(name):
    smallest = smallest_patch(name)
    for side in [*range(smallest, smallest + 13), 64, 97]:
        net = encoder(name, side)
        assert net(torch.rand(2, 3, side, side)).shape == (2, 8)
        assert net.convolutions(torch.zeros(1, 3, side, side)).shape[-1] == map_side(STACKS[name][0], side)


@pytest.mark.parametrize("name", STACKS)
def test_a_patch_too_small_is_refused_with_the_side_it_takes(name):
    smallest = smallest_patch(name)
    for side in (1, 2, smallest - 1):
        with pytest.raises(SettingsError, match=rf"patches of {side} px are too small .*{smallest} px or more"):
            encoder(name, side)


@pytest.mark.parametrize("name", STACKS)
def test_convolutions_are_unpadded_so_a_dense_map_equals_cut_patches(name):
    stack, _ = STACKS[name]
    stride, patch_px = 1, 30
    for layer in stack:
        stride *= layer.pool
    net = encoder(name, patch_px)
    assert all(module.padding == (0, 0) for module in net.convolutions if isinstance(module, nn.Conv2d))
    image = torch.rand(1, 3, patch_px + 3 * stride, patch_px + 3 * stride, generator=torch.manual_seed(1))
    side = map_side(stack, patch_px)
    with torch.no_grad():
        dense = net.convolutions(image)
        for row, col in ((0, 0), (1, 2), (3, 3)):
            y, x = row * stride, col * stride
            cut = net.convolutions(image[..., y : y + patch_px, x : x + patch_px])
            assert torch.allclose(dense[..., row : row + side, col : col + side], cut, atol=1e-5)


@pytest.mark.parametrize("name", STACKS)
def test_features_of_a_patch_depend_on_the_patch_alone(name):
    net = encoder(name, 28)
    patches = torch.rand(4, 3, 28, 28, generator=torch.manual_seed(2))
    others = patches.clone()
    others[1:] = 1 - others[1:]
    with torch.no_grad():
        assert torch.equal(net(patches)[0], net(others)[0])
        assert torch.allclose(net(patches)[:1], net(patches[:1]), atol=1e-6)


def test_pooling_before_relu_is_relu_before_pooling():
    x = torch.randn(2, 3, 9, 9, generator=torch.manual_seed(0))
    assert torch.equal(nn.MaxPool2d(2)(x).relu(), nn.MaxPool2d(2)(x.relu()))


def test_feature_encoder_projects():
    net = FeatureEncoder(20, 8, dropout=0.5).eval()
    assert net(torch.zeros(3, 20)).shape == (3, 8)
    assert net.width == 8
