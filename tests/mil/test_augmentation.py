"""Rotation, mirroring and stain jitter: what changes, and what must not."""

import pytest
import torch

from napari_distill2label.core.settings import TeacherSettings
from napari_distill2label.mil.augmentation import N_ORIENTATIONS, augment, jitter_stain, rotate_flip


def test_turns_are_the_eight_symmetries_of_a_square():
    patches = torch.arange(2 * 3 * 5 * 5).view(2, 3, 5, 5)
    seen = {tuple(rotate_flip(patches, turn)[1, 2].flatten().tolist()) for turn in range(N_ORIENTATIONS)}
    assert len(seen) == N_ORIENTATIONS == 8
    assert torch.equal(rotate_flip(patches, 0), patches)
    assert torch.equal(rotate_flip(rotate_flip(patches, 1), 3), patches)  # a quarter there, three quarters on
    assert torch.equal(rotate_flip(rotate_flip(patches, 4), 4), patches)  # a mirror image of a mirror image
    for turn in range(N_ORIENTATIONS):
        assert torch.equal(rotate_flip(patches, turn)[:, :, 2, 2], patches[:, :, 2, 2])  # the centre stays


def test_features_are_not_augmented():
    features = torch.rand(3, 7)
    assert augment(features, TeacherSettings(rotate_flip=True, stain_jitter=0.3)) is features


def test_nothing_asked_for_changes_nothing():
    patches = torch.rand(3, 3, 5, 5)
    assert augment(patches, TeacherSettings()) is patches


def test_restaining_scales_and_shifts_the_optical_density_of_each_channel_of_each_patch():
    torch.manual_seed(0)
    patches = torch.rand(400, 3, 6, 6) * 0.5 + 0.2
    density = -jitter_stain(patches, 0.1).log()
    before = -patches.log()
    # Two pixels of a channel give its factor, and with it the offset; a third must agree.
    factor = (density[:, :, 0, 0] - density[:, :, 0, 1]) / (before[:, :, 0, 0] - before[:, :, 0, 1])
    offset = density[:, :, 0, 0] - factor * before[:, :, 0, 0]
    far = (before[:, :, 0, 0] - before[:, :, 0, 1]).abs() > 0.1
    expected = factor * before[:, :, 3, 3] + offset
    assert torch.allclose(density[:, :, 3, 3][far], expected[far], atol=1e-3)
    assert factor[far].mean() == pytest.approx(1, abs=0.02)
    assert factor[far].std() == pytest.approx(0.1, rel=0.1)
    assert offset[far].std() == pytest.approx(0.03, rel=0.15)


def test_restained_patches_stay_images():
    torch.manual_seed(0)
    extremes = torch.tensor([0.0, 1.0]).repeat_interleave(25).view(2, 1, 5, 5).expand(2, 3, 5, 5)
    seen = jitter_stain(extremes.contiguous(), 1.0)
    assert ((seen >= 0) & (seen <= 1)).all()


def test_a_step_turns_in_all_eight_ways():
    torch.manual_seed(0)
    patch = torch.arange(25.0).view(1, 1, 5, 5)
    settings = TeacherSettings(rotate_flip=True)
    seen = {tuple(augment(patch, settings).flatten().tolist()) for _ in range(200)}
    assert len(seen) == N_ORIENTATIONS
