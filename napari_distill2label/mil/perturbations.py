"""The bag perturbations of the paper's VAT (III.B).

All work in the 0–1 units of `MILModel.to_unit_range`: an image's range, or of each feature of a frozen encoder its mean ∓ √3
standard deviations over the training bags. What is drawn here so fits features of any scale as it fits images. All
draw from torch's global generator of the tensor's device.
"""

import torch
from torch import Tensor


def noise_instances(count: int, like: Tensor) -> Tensor:
    """`count` uncorrelated noise instances in the shape of `like`'s, uniform in 0–1.

    Of features (N, D): every feature has the mean and the deviation it has in the training bags, and none knows of
    the others. The range of a feature in the bag would be set by its most unusual instance.
    """
    noise = torch.rand((count, *like.shape[1:]), device=like.device)
    return noise if like.ndim == 2 else noise.contiguous(memory_format=torch.channels_last)


def _normal(like: Tensor) -> Tensor:
    """Standard normal numbers in the shape of `like`; of patches as channels_last, the layout they are encoded in."""
    if like.ndim == 2:
        return torch.randn_like(like)
    n, channels, height, width = like.shape
    # Not randn_like: it is ten times slower where memory does not follow the axes.
    return torch.randn((n, height, width, channels), device=like.device).permute(0, 3, 1, 2)


def _norms(x: Tensor) -> Tensor:
    """(N, 1, …) L2 norms of the instances of `x`, never 0."""
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True).clamp_min(1e-12)


def random_perturbation(like: Tensor, radius: float) -> Tensor:
    """One perturbation per instance, uniform in the L2 ball of `radius`.

    A direction is a normalised Gaussian; the distance from the centre is radius · u^(1/n) in n dimensions, which
    makes the draw uniform in volume (Muller 1959).
    """
    direction = _normal(like)
    dimensions = like[0].numel()
    distance = radius * torch.rand(len(like), device=like.device).pow(1 / dimensions)
    return direction.mul_(distance.view(-1, *(1,) * (like.ndim - 1)) / _norms(direction))


def subset_size(count: int, keep: float, kind: str) -> int:
    """K̄ = max(1, round(keep · K)), or uniform between 1 and that."""
    largest = max(1, round(keep * count))
    return largest if kind == "fixed" else int(torch.randint(1, largest + 1, ()))


def random_subset(count: int, size: int) -> Tensor:
    """(size,) int64: which instances of a bag of `count` stay, drawn without replacement."""
    return torch.randperm(count)[:size]


def scaled_to(direction: Tensor, radius: float) -> Tensor:
    """Every instance's `direction` at length `radius`."""
    return direction * (radius / _norms(direction))


def adversarial_start(like: Tensor, length: float = 1e-2) -> Tensor:
    """A short random step per instance, from which one power iteration finds the worst direction (Miyato 2018, 3.1)."""
    return scaled_to(_normal(like), length)
