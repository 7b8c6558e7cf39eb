"""Encoders: patches (N, C, P, P) in 0–1 units, normalised -> features (N, D).

Convolutions are **unpadded** (and pooling drops what does not fill a window), so that a patch's features depend on
the patch alone and a dense map over a slide can equal cut patches exactly.

`Dropout`, `PairwiseMax` and `conv_then_pool` train faster on a CPU than torch's own layers, with the same meaning and
no weights. They are used only while training on a CPU: a network that predicts or is exported is made of torch's
layers alone. `docs/design-notes.md` lists what each of them saves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction, FunctionCtx
from torch.nn import functional as F

from ..core.errors import SettingsError

DROPOUT_LEVELS = 2**16  # a uniform 16-bit number decides whether a value is dropped


class Dropout(nn.Dropout):
    """Dropout whose mask is made of random 64-bit numbers, four values from each.

    Torch draws one number per value, which is slower. The probability is rounded to a multiple of 2⁻¹⁶.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p or x.device.type != "cpu":
            return super().forward(x)
        dropped = round(self.p * DROPOUT_LEVELS)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = draws[: x.numel()].view(x.shape) >= dropped - DROPOUT_LEVELS // 2
        return x * kept.to(x.dtype).mul_(DROPOUT_LEVELS / (DROPOUT_LEVELS - dropped))


class PairwiseMax(torch.autograd.Function):
    """Maximum of two tensors, element by element. The gradient goes to the larger one, to the second if both are equal.

    `torch.maximum` is slow in bfloat16: its derivative compares and selects value by value.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(first, second)
        return torch.maximum(first, second)

    @staticmethod
    def backward(ctx: BackwardCFunction, gradient: Tensor) -> tuple[Tensor, Tensor]:
        first, second = ctx.saved_tensors  # type: ignore[misc]  # torch: "a tuple of one"
        to_first = torch.ops.aten.threshold_backward(gradient, first - second, 0)  # where the difference is > 0
        return to_first, gradient - to_first


def pairwise_max(first: Tensor, second: Tensor) -> Tensor:
    """Compute `PairwiseMax` of two tensors."""
    larger: Tensor = PairwiseMax.apply(first, second)  # type: ignore[no-untyped-call]  # torch does not annotate it
    return larger


def conv_then_pool(convolution: nn.Conv2d, patches: Tensor) -> Tensor:
    """Compute `max_pool2d(convolution(patches), 2)` for a square unpadded kernel: (N, C, H, W) -> (N, C', H', W').

    Four convolutions of stride 2 give the four values of every window, with as many multiplications as one convolution
    of stride 1. Comparing four dense tensors is faster than pooling, which goes window by window and saves a 64-bit
    index for each. This is meant for the first layer, where no gradient of `patches` is needed.
    """
    kernel = convolution.kernel_size[0]
    height, width = ((side - kernel + 1) // 2 * 2 + kernel - 2 for side in patches.shape[2:])
    top_left, top_right, low_left, low_right = (
        F.conv2d(patches[..., y : y + height, x : x + width], convolution.weight, convolution.bias, stride=2)
        for y in (0, 1)
        for x in (0, 1)
    )
    return pairwise_max(pairwise_max(top_left, top_right), pairwise_max(low_left, low_right))


@dataclass(frozen=True)
class Convolution:
    """A square convolution with ReLU, and max pooling after it where `pool` > 1."""

    channels: int
    kernel: int
    pool: int = 1


# Widths and kernels: colon as Ilse 2018, Table 9 (paper: 2 convolutions, 3 fully connected layers); LeNet-5 as
# Ilse 2018, Table 7; breast: five convolutions (paper), the sizes are ours.
STACKS: dict[str, tuple[tuple[Convolution, ...], int]] = {
    "colon": ((Convolution(36, 4, 2), Convolution(48, 3, 2)), 3),
    "breast": (
        (Convolution(36, 3), Convolution(36, 3, 2), Convolution(48, 3), Convolution(48, 3, 2), Convolution(64, 3)),
        3,
    ),
    "lenet5": ((Convolution(20, 5, 2), Convolution(50, 5, 2)), 1),
}


def map_side(stack: Sequence[Convolution], patch_px: int) -> int:
    """Return the side of a patch's feature map after `stack`; 0 or less if the patch is too small."""
    for layer in stack:
        patch_px = (patch_px - layer.kernel + 1) // layer.pool
    return patch_px


def smallest_patch(name: str) -> int:
    """Return the smallest patch side (px) that encoder `name` can take."""
    stack, _ = STACKS[name]
    return next(px for px in range(1, 1024) if map_side(stack, px) >= 1)


def fully_connected(width_in: int, width: int, layers: int, dropout: float) -> list[nn.Module]:
    """Return `layers` × (linear, ReLU, dropout)."""
    widths = [width_in] + [width] * layers
    return [
        module
        for before, after in pairwise(widths)
        for module in (nn.Linear(before, after), nn.ReLU(), Dropout(dropout))
    ]


class ConvolutionalEncoder(nn.Module):
    """A stack of unpadded convolutions, then fully connected layers.

    Parameters
    ----------
    name
        A key of `STACKS`.
    patch_px, channels
        Side and channels of a patch. `SettingsError` if the patch is too small for the stack.
    hidden, dropout
        Width of, and dropout after, the fully connected layers. Features have `hidden` dimensions.
    """

    def __init__(self, name: str, patch_px: int, channels: int, hidden: int, dropout: float) -> None:
        super().__init__()
        stack, n_connected = STACKS[name]
        side = map_side(stack, patch_px)
        if side < 1:
            raise SettingsError(
                f"patches of {patch_px} px are too small for the encoder {name!r}: "
                f"it takes {smallest_patch(name)} px or more"
            )
        modules: list[nn.Module] = []
        for layer in stack:
            # Pooling before ReLU gives the same result (both are monotone) at a quarter of the work.
            modules.append(nn.Conv2d(channels, layer.channels, layer.kernel))
            modules += [nn.MaxPool2d(layer.pool)] if layer.pool > 1 else []
            modules.append(nn.ReLU())
            channels = layer.channels
        self.convolutions = nn.Sequential(*modules)
        self.connected = nn.Sequential(*fully_connected(channels * side**2, hidden, n_connected, dropout))
        self.width = hidden
        self.pools_first_by_two = stack[0].pool == 2

    def forward(self, patches: Tensor) -> Tensor:
        features: Tensor = self.connected(self.maps(patches).flatten(1))
        return features

    def maps(self, patches: Tensor) -> Tensor:
        """Return the feature maps (N, C', S, S) of patches (N, C, P, P) after the convolutions."""
        on_cpu = patches.device.type == "cpu"
        maps, layers = patches, list(self.convolutions)
        # In float32, torch's own pooling is faster.
        if self.pools_first_by_two and self.training and on_cpu and patches.dtype == torch.bfloat16:
            first, _, *layers = layers
            assert isinstance(first, nn.Conv2d)
            maps = conv_then_pool(first, patches)
        for layer in layers:
            maps = layer(maps)
        return maps


class FeatureEncoder(nn.Module):
    """A projection (N, D) -> (N, hidden) of a frozen encoder's features; the frozen encoder itself is a file."""

    def __init__(self, n_features: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.connected = nn.Sequential(*fully_connected(n_features, hidden, 1, dropout))
        self.width = hidden

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.connected(features)
        return projected
