"""Augmentation that changes no diagnosis (beyond the paper): rotation, mirroring and stain jitter.

All draw from torch's global generator of the tensor's device.
"""

import torch
from torch import Tensor

from ..core.settings import TrainingSettings

N_ORIENTATIONS = 8  # four rotations by right angles and their mirror images: tissue has no upside
MIN_INTENSITY = 1 / 255  # the darkest pixel a camera tells from black: optical density is finite from here on


def rotate_flip(patches: Tensor, turn: int) -> Tensor:
    """Rotate patches (N, C, P, P) by `turn % 4` right angles and mirror them if `turn` >= 4; features stay."""
    if patches.ndim == 2 or turn == 0:
        return patches
    rotated = torch.rot90(patches, turn % 4, (2, 3))
    return rotated.flip(3) if turn >= 4 else rotated


def jitter_stain(patches: Tensor, strength: float) -> Tensor:
    """Change the colours of patches (N, C, P, P) in 0–1 units as other stains and scanners would; features stay.

    Optical density is proportional to the amount of stain (Beer–Lambert). Every patch gets its own factor and
    offset per channel: I' = I^(1 + s·ε₁) · exp(−0.3·s·ε₂), ε₁ and ε₂ standard normal and s the `strength`. After
    Tellez 2018, who jitter each stain; jitter per channel needs no unmixing and covers scanners' colours too.
    """
    if patches.ndim == 2 or strength == 0:
        return patches
    factor, offset = torch.randn((2, *patches.shape[:2], 1, 1), device=patches.device).mul_(strength)
    return patches.clamp_min(MIN_INTENSITY).pow(1 + factor).mul_(torch.exp(-0.3 * offset)).clamp_(0, 1)


def augment(patches: Tensor, settings: TrainingSettings) -> Tensor:
    """Augment the patches of a step, in 0–1 units: one orientation for all of them, another stain for each."""
    if settings.rotate_flip:
        patches = rotate_flip(patches, int(torch.randint(N_ORIENTATIONS, ())))
    return jitter_stain(patches, settings.stain_jitter)
