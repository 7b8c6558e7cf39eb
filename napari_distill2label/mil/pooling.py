"""Pooling: the weight of each instance in its bag.

Every pooling gives one *score* per instance and turns a bag's scores into weights that sum to 1, so eq. (1),
z = Σ_k a_k h_k, and the facts that follow from it hold for all of them.
"""

import torch
from torch import Tensor, nn


class Pooling(nn.Module):
    """A pooling for features of `width` dimensions; `attention` is the width of its own network, if it has one."""

    def __init__(self, width: int, attention: int) -> None:
        super().__init__()

    def scores(self, features: Tensor, instance_logits: Tensor) -> Tensor:
        """Return scores (N,) from features (N, D) and logits (N, C)."""
        raise NotImplementedError

    def weights(self, scores: Tensor) -> Tensor:
        """Return weights (K,) that sum to 1 from the scores (K,) of one bag."""
        return torch.softmax(scores, 0)


class GatedAttention(Pooling):
    """Eq. (2): score_k = wᵀ(tanh(V h_k) ⊙ sigm(U h_k)), weights = softmax over the bag (Ilse 2018)."""

    def __init__(self, width: int, attention: int) -> None:
        super().__init__(width, attention)
        self.V = nn.Linear(width, attention)
        self.U = nn.Linear(width, attention)
        self.w = nn.Linear(attention, 1)

    def scores(self, features: Tensor, instance_logits: Tensor) -> Tensor:
        scores: Tensor = self.w(torch.tanh(self.V(features)) * torch.sigmoid(self.U(features)))
        return scores.squeeze(1)


class Attention(GatedAttention):
    """Attention without the gate: score_k = wᵀ tanh(V h_k) (Ilse 2018, eq. 8)."""

    def __init__(self, width: int, attention: int) -> None:
        super().__init__(width, attention)
        del self.U

    def scores(self, features: Tensor, instance_logits: Tensor) -> Tensor:
        scores: Tensor = self.w(torch.tanh(self.V(features)))
        return scores.squeeze(1)


class Mean(Pooling):
    """Mean: every instance has the same weight."""

    def scores(self, features: Tensor, instance_logits: Tensor) -> Tensor:
        return features.new_zeros(len(features))


class Max(Pooling):
    """Maximum: only the most positive instance has a weight, by max_{c>0} logit_c − logit_0 (mi-Net)."""

    def scores(self, features: Tensor, instance_logits: Tensor) -> Tensor:
        return instance_logits[:, 1:].amax(1) - instance_logits[:, 0]

    def weights(self, scores: Tensor) -> Tensor:
        return nn.functional.one_hot(scores.argmax(), len(scores)).to(scores)


POOLINGS: dict[str, type[Pooling]] = {"gated": GatedAttention, "attention": Attention, "mean": Mean, "max": Max}
