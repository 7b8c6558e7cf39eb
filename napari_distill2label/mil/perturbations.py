"""The bag perturbations of the paper's VAT (III.B).

All work in the units of `MILModel.to_unit_range`, where 0–1 is the range of an image, or the mean ∓ √3 standard
deviations of a feature over the training bags. So the same perturbations fit images and features of any scale. All
draw from torch's global generator of the tensor's device.
"""

import torch
from torch import Tensor


def noise_instances(count: int, like: Tensor) -> Tensor:
    """Return `count` uncorrelated noise instances in the shape of `like`'s, uniform in 0–1.

    Noise features (N, D) have the mean and deviation of each feature in the training bags and are independent of one
    another. The range of a feature in the bag would depend on the most unusual instance.
    """
    noise = torch.rand((count, *like.shape[1:]), device=like.device)
    return noise if like.ndim == 2 else noise.contiguous(memory_format=torch.channels_last)


def _normal(like: Tensor) -> Tensor:
    """Return standard normal numbers in the shape of `like`; for patches as channels_last, the encoder's layout."""
    if like.ndim == 2:
        return torch.randn_like(like)
    n, channels, height, width = like.shape
    # Not randn_like: it is ten times slower where memory does not follow the axes.
    return torch.randn((n, height, width, channels), device=like.device).permute(0, 3, 1, 2)


def _norms(x: Tensor) -> Tensor:
    """Return the L2 norms (N, 1, …) of the instances of `x`, never 0."""
    norms: Tensor = torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)
    return norms.clamp_min(1e-12)


def random_perturbation(like: Tensor, radius: float) -> Tensor:
    """Return one perturbation per instance, uniform in the L2 ball of `radius`.

    A direction is a normalised Gaussian; the distance from the centre is radius · u^(1/n) in n dimensions, which
    makes the draw uniform in volume (Muller 1959).
    """
    direction = _normal(like)
    dimensions = like[0].numel()
    distance = radius * torch.rand(len(like), device=like.device).pow(1 / dimensions)
    return direction.mul_(distance.view(-1, *(1,) * (like.ndim - 1)) / _norms(direction))


def subset_size(count: int, keep: float, kind: str) -> int:
    """Return K̄ = max(1, round(keep · K)), or a uniform number from 1 to that."""
    largest = max(1, round(keep * count))
    return largest if kind == "fixed" else int(torch.randint(1, largest + 1, ()))


def random_subset(count: int, size: int) -> Tensor:
    """Return indices (size,) int64 of instances of a bag of `count`, drawn without replacement."""
    return torch.randperm(count)[:size]


def scaled_to(direction: Tensor, radius: float) -> Tensor:
    """Scale every instance's `direction` to length `radius`."""
    return direction * (radius / _norms(direction))


def adversarial_start(like: Tensor, length: float = 1e-2) -> Tensor:
    """Return a short random step per instance: the start of the power iteration of Miyato 2018, 3.1."""
    return scaled_to(_normal(like), length)
