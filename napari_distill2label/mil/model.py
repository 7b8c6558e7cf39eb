"""The network of teacher, student and plain MIL: encoder, pooling, one linear head.

Three facts follow and are tested: for a bag of one instance attention is inert; the bag logit is the
attention-weighted mean of the instance logits; the order of the instances does not matter.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..core.bag import Bag
from ..core.settings import ModelSettings
from .encoders import ConvolutionalEncoder, FeatureEncoder
from .pooling import POOLINGS


class MILOutput(NamedTuple):
    """What the network says of B bags that hold N instances together.

    bag_logits (B, C); instance_logits (N, C), each instance as a bag of one; attention (N,), summing to 1 over each
    bag; scores (N,), attention before it is normalised over the bag.
    """

    bag_logits: Tensor
    instance_logits: Tensor
    attention: Tensor
    scores: Tensor


class MILModel(nn.Module):
    """Gated-attention multiple-instance network with a linear head.

    Parameters
    ----------
    settings
        The architecture.
    n_classes
        C >= 2, class 0 the negative one.
    instance_shape
        (C, P, P) of a patch, or (D,) of features.

    Inputs are raw: patches in 0–255 (any dtype) or features as the frozen encoder gave them. The network holds their
    `mean` and `std` (per channel in 0–1 units, or per feature) as buffers and normalises by them.
    """

    def __init__(self, settings: ModelSettings, n_classes: int, instance_shape: Sequence[int]) -> None:
        super().__init__()
        self.settings = settings
        self.n_classes = n_classes
        self.instance_shape = tuple(instance_shape)
        self.dtype = torch.float32  # of the encoder; training may choose bfloat16 (mil.device.compute_dtype)
        channels = self.instance_shape[0]
        if settings.encoder == "features":
            self.encoder: nn.Module = FeatureEncoder(channels, settings.hidden, settings.dropout)
        else:
            self.encoder = ConvolutionalEncoder(
                settings.encoder, self.instance_shape[1], channels, settings.hidden, settings.dropout
            )
        self.pooling = POOLINGS[settings.pooling](self.encoder.width, settings.attention)
        self.head = nn.Linear(self.encoder.width, n_classes)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        # channels_last is what bfloat16 convolutions are fast in; it changes no result's meaning.
        self.to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def fit_normalisation(self, bags: Sequence[Bag]) -> None:
        """Take mean and standard deviation of the inputs from training bags."""
        total = sum(len(bag) for bag in bags)
        if bags[0].is_features:
            mean = sum(bag.instances.sum(0, dtype=np.float64) for bag in bags) / total
            square = sum((bag.instances.astype(np.float64) ** 2).sum(0) for bag in bags) / total
        else:
            levels = np.arange(256) / 255
            counts = sum(
                np.stack(
                    [np.bincount(bag.instances[:, c].ravel(), minlength=256) for c in range(self.instance_shape[0])]
                )
                for bag in bags
            )
            share = counts / counts.sum(1, keepdims=True)
            mean, square = share @ levels, share @ levels**2
        std = np.sqrt(np.maximum(square - mean**2, 0))
        self.mean.copy_(torch.as_tensor(mean))
        self.std.copy_(torch.as_tensor(np.where(std > 1e-6, std, 1.0)))

    def unit(self, instances: Tensor) -> Tensor:
        """Raw instances as float32 in the units perturbations are given in: 0–1 images; features as they are."""
        instances = instances.to(self.device, non_blocking=True)
        if instances.ndim == 2:
            return instances.float()
        return instances.contiguous(memory_format=torch.channels_last).div(255).float()

    def encode(self, unit: Tensor) -> Tensor:
        """(N, …) instances in `unit`s -> (N, D) float32 features."""
        shape = (1, -1) + (1,) * (unit.ndim - 2)
        normalised = (unit - self.mean.view(shape)) / self.std.view(shape)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.encoder(normalised).float()

    def classify(self, features: Tensor, lengths: Sequence[int]) -> MILOutput:
        """(N, D) features of ragged bags of `lengths` (summing to N) -> what the network says of them."""
        instance_logits = self.head(features)
        scores = self.pooling.scores(features, instance_logits)
        attention = [self.pooling.weights(bag) for bag in scores.split(list(lengths))]
        pooled = [a @ h for a, h in zip(attention, features.split(list(lengths)), strict=True)]  # eq. (1)
        return MILOutput(self.head(torch.stack(pooled)), instance_logits, torch.cat(attention), scores)

    def forward(self, instances: Tensor, lengths: Sequence[int] | None = None) -> MILOutput:
        """Raw instances (N, …) of one bag, or of ragged bags of `lengths`."""
        return self.classify(self.encode(self.unit(instances)), lengths or [len(instances)])

    def probabilities(self, logits: Tensor) -> Tensor:
        """(…, C) logits -> probabilities: softmax, or one sigmoid per class where several can be present."""
        return torch.sigmoid(logits) if self.settings.several else torch.softmax(logits, -1)
