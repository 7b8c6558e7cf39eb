"""Small bags and networks for the tests of `mil`."""

import numpy as np
import pytest
import torch

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.settings import ArchitectureSettings
from napari_distill2label.mil.model import MILModel

SIDE = 12


@pytest.fixture
def cuda_device():
    """A CUDA device, or a test reported as skipped."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine: that CUDA and CPU agree was NOT tested")
    return torch.device("cuda")


@pytest.fixture
def make_bag():
    """Positive bags hold some bright patches."""

    def make(
        k: int,
        label: int | tuple[int, ...] = 1,
        seed: int = 0,
        features: int | None = None,
        patch_labels=None,
        side=SIDE,
    ) -> Bag:
        rng = np.random.default_rng(seed)
        label = label if isinstance(label, tuple) else (label,)
        if features is None:
            instances = rng.integers(0, 160, (k, 3, side, side), dtype=np.uint8)
            if label != (0,):
                instances[: max(1, k // 3)] += 90
        else:
            instances = rng.normal(size=(k, features)).astype(np.float32)
        patch_labels = None if patch_labels is None else np.array(patch_labels, np.int8)
        return Bag(f"slide{seed}", instances, np.zeros((k, 2), np.int64), label, patch_labels)

    return make


@pytest.fixture
def make_model():
    def make(seed: int = 0, n_classes: int = 2, features: int | None = None, side=SIDE, **settings) -> MILModel:
        settings = {
            "encoder": "features" if features else "colon",
            "hidden_dim": 8,
            "attention_dim": 4,
            "dropout": 0.0,
        } | settings
        torch.manual_seed(seed)
        model = MILModel(ArchitectureSettings(**settings), n_classes, (features,) if features else (3, side, side))
        if not features:
            model.mean.fill_(0.4)
            model.std.fill_(0.25)
        for parameter in model.parameters():  # biases start near zero, which would hide that they are forgotten
            torch.nn.init.normal_(parameter, std=0.3)
        return model

    return make
