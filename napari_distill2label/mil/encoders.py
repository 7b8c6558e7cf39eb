"""Encoders: patches (N, C, P, P) in 0–1 units, normalised -> features (N, D).

Convolutions are **unpadded** (and pooling drops what does not fill a window), so that a patch's features depend on
the patch alone and a dense map over a slide can equal cut patches exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..core.errors import SettingsError
from .layers import Dropout, halved_convolution


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
    """Side of the feature map that `stack` leaves of a patch; 0 or less if the patch is too small."""
    for layer in stack:
        patch_px = (patch_px - layer.kernel + 1) // layer.pool
    return patch_px


def smallest_patch(name: str) -> int:
    """The smallest patch side (px) that encoder `name` can take."""
    stack, _ = STACKS[name]
    return next(px for px in range(1, 1024) if map_side(stack, px) >= 1)


def fully_connected(width_in: int, width: int, layers: int, dropout: float) -> list[nn.Module]:
    """`layers` × (linear, ReLU, dropout)."""
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
        self.halves_first = stack[0].pool == 2

    def forward(self, patches: Tensor) -> Tensor:
        return self.connected(self.maps(patches).flatten(1))

    def maps(self, patches: Tensor) -> Tensor:
        """(N, C, P, P) patches -> (N, C', S, S), what the convolutions make of them."""
        on_cpu = patches.device.type == "cpu"
        # In float32, torch's own pooling is the faster.
        if not (self.halves_first and self.training and on_cpu and patches.dtype == torch.bfloat16):
            return self.convolutions(patches)
        first, _, *others = self.convolutions
        maps = halved_convolution(first, patches)
        for layer in others:
            maps = layer(maps)
        return maps


class FeatureEncoder(nn.Module):
    """A projection (N, D) -> (N, hidden) of a frozen encoder's features; the frozen encoder itself is a file."""

    def __init__(self, n_features: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.connected = nn.Sequential(*fully_connected(n_features, hidden, 1, dropout))
        self.width = hidden

    def forward(self, features: Tensor) -> Tensor:
        return self.connected(features)
