"""The network of teacher, student and baseline: encoder, pooling, one linear head.

Three facts follow and are tested: for a bag of one instance attention is inert; the bag logit is the
attention-weighted mean of the instance logits; the order of the instances does not matter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..core.bag import Bag
from ..core.settings import ArchitectureSettings
from .device import to_device
from .encoders import ConvolutionalEncoder, FeatureEncoder
from .pooling import POOLINGS

UNIFORM = 12**0.5  # the range of a uniform variable over its standard deviation
ROWS = 8192  # rows of features that are read at once: a large bag is not copied


@dataclass(frozen=True)
class InstanceOutput:
    """N instances classified one by one: `logits` (N, C) as bags of one, attention `scores` (N,) before pooling.

    Neither depends on the bag of an instance, so one output serves every bag that is made of these instances.
    """

    logits: Tensor
    scores: Tensor

    def split(self, sizes: Sequence[int]) -> "list[InstanceOutput]":
        """Split into `sizes` consecutive instances."""
        parts = zip(torch.split(self.logits, list(sizes)), torch.split(self.scores, list(sizes)), strict=True)
        return [InstanceOutput(*part) for part in parts]

    def subset(self, index: Tensor) -> "InstanceOutput":
        """Return the instances `index` (M,)."""
        return InstanceOutput(self.logits[index], self.scores[index])

    def detached_leaf(self) -> "InstanceOutput":
        """Return detached copies that collect their own gradients."""
        return InstanceOutput(self.logits.detach().requires_grad_(), self.scores.detach().requires_grad_())

    @staticmethod
    def cat(parts: "Sequence[InstanceOutput]") -> "InstanceOutput":
        """Concatenate `parts`."""
        return InstanceOutput(torch.cat([part.logits for part in parts]), torch.cat([part.scores for part in parts]))


class MILOutput(NamedTuple):
    """Output of the network for B bags that hold N instances together.

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

    Inputs are raw: patches in 0–255 (any dtype) or features of the frozen encoder. The network normalises them by its
    buffers `mean` and `std` (per channel in 0–1 units, or per feature; `std` is 0 for a feature that does not vary,
    which is left out).
    """

    encoder: ConvolutionalEncoder | FeatureEncoder
    mean: Tensor
    std: Tensor

    def __init__(self, settings: ArchitectureSettings, n_classes: int, instance_shape: Sequence[int]) -> None:
        super().__init__()
        self.settings = settings
        self.n_classes = n_classes
        self.instance_shape = tuple(instance_shape)
        self.dtype = torch.float32  # of the encoder; training may choose bfloat16 (mil.device.compute_dtype)
        channels = self.instance_shape[0]
        if settings.encoder == "features":
            self.encoder = FeatureEncoder(channels, settings.hidden_dim, settings.dropout)
        else:
            self.encoder = ConvolutionalEncoder(
                settings.encoder, self.instance_shape[1], channels, settings.hidden_dim, settings.dropout
            )
        self.pooling = POOLINGS[settings.pooling](self.encoder.width, settings.attention_dim)
        self.head = nn.Linear(self.encoder.width, n_classes)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        # channels_last is what bfloat16 convolutions are fast in; it changes no result's meaning.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads leave it out

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def fit_normalisation(self, bags: Sequence[Bag]) -> None:
        """Set `mean` and `std` from training bags."""
        if bags[0].is_features:
            mean, std = feature_statistics(bags)
        else:
            levels = np.arange(256) / 255
            counts = np.zeros((self.instance_shape[0], 256), np.int64)
            for bag in bags:
                for c, of_channel in enumerate(counts):
                    of_channel += np.bincount(bag.instances[:, c].ravel(), minlength=256)
            share = counts / counts.sum(1, keepdims=True)
            mean, square = share @ levels, share @ levels**2
            std = np.sqrt(np.maximum(square - mean**2, 0))
            std = np.where(std > 1e-6, std, 1.0)
        self.mean.copy_(torch.as_tensor(mean))
        self.std.copy_(torch.as_tensor(std))

    def to_unit_range(self, instances: Tensor) -> Tensor:
        """Return raw instances as float32 in the unit of the perturbations, 0–1.

        For a feature, 0 and 1 are its mean ∓ √3 standard deviations over the training bags: a uniform variable in 0–1
        then has the mean and deviation of the feature, as uniform noise in 0–1 has for an image. So settings in this
        unit (noise instances, the radius δ) mean the same for images and for features of any scale. Features may lie
        outside 0–1. A feature that does not vary is 0.5.
        """
        instances = to_device(instances, self.device)
        if instances.ndim == 2:
            scale = torch.where(self.std > 0, 1 / (UNIFORM * self.std), 0)
            return torch.sub(instances, self.mean).mul_(scale).add_(0.5)
        return instances.contiguous(memory_format=torch.channels_last).div(255).float()

    def normalise(self, scaled: Tensor) -> Tensor:
        """Normalise (N, …) instances in 0–1 units by `mean` and `std`; patches as channels_last."""
        if scaled.ndim == 2:
            gain = UNIFORM * (self.std > 0)
            return scaled.mul(gain).sub_(gain / 2)
        # By whole rows of pixels: the few channels alone are too short for vector instructions.
        pixels = scaled.permute(0, 2, 3, 1)
        mean, std = (statistic.repeat(pixels.shape[2]) for statistic in (self.mean, self.std))
        return ((pixels.flatten(2) - mean) / std).view(pixels.shape).permute(0, 3, 1, 2)

    def encode(self, scaled: Tensor) -> Tensor:
        """Encode (N, …) instances in 0–1 units as (N, D) float32 features."""
        normalised = self.normalise(scaled).to(self.dtype)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            features: Tensor = self.encoder(normalised)
            return features.float()

    def classify_instances(self, features: Tensor) -> InstanceOutput:
        """Classify each instance on its own, from features (N, D)."""
        logits = self.head(features)
        return InstanceOutput(logits, self.pooling.scores(features, logits))

    def pool(self, outputs: InstanceOutput, lengths: Sequence[int]) -> MILOutput:
        """Pool the instances of ragged bags of `lengths` (summing to N).

        The weights of eq. (1) sum to 1 and the head is linear, so it may come before the sum instead of after it:
        head(Σ_k a_k h_k) = Σ_k a_k head(h_k).
        """
        bags = outputs.split(lengths)
        attention = [self.pooling.weights(bag.scores) for bag in bags]
        bag_logits = torch.stack([a @ bag.logits for a, bag in zip(attention, bags, strict=True)])
        return MILOutput(bag_logits, outputs.logits, torch.cat(attention), outputs.scores)

    def classify(self, features: Tensor, lengths: Sequence[int]) -> MILOutput:
        """Classify ragged bags of `lengths` (summing to N), from features (N, D)."""
        return self.pool(self.classify_instances(features), lengths)

    def forward(self, instances: Tensor, lengths: Sequence[int] | None = None) -> MILOutput:
        """Classify raw instances (N, …) of one bag, or of ragged bags of `lengths`."""
        return self.classify(self.encode(self.to_unit_range(instances)), lengths or [len(instances)])

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities of (…, C) logits: softmax, or one sigmoid per class if several can be present."""
        return torch.sigmoid(logits) if self.settings.multi_label else torch.softmax(logits, -1)


def feature_statistics(bags: Sequence[Bag]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (D,) float64 of the features of all bags; a negligible deviation is 0.

    Two passes, some rows at a time: bags may be far larger than memory, and E[x²] − E[x]² loses all its digits if a
    feature is large and varies little.
    """

    def mean_of(piece: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        total = np.zeros(bags[0].instances.shape[1])
        for bag in bags:
            for start in range(0, len(bag), ROWS):
                total += piece(bag.instances[start : start + ROWS]).sum(0, dtype=np.float64)
        return total / sum(len(bag) for bag in bags)

    mean = mean_of(lambda rows: rows)
    std = np.sqrt(mean_of(lambda rows: np.square(rows - mean.astype(np.float32))))
    return mean, np.where(std > 1e-6 * np.maximum(1, np.abs(mean)), std, 0.0)
