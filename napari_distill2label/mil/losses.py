"""The terms of eq. (3) and eq. (5), for C classes.

All work on *log-probabilities* over their last axis and mean over the others, so that "one of C classes" and
"several classes at once" are one code path: `log_probabilities` gives (…, C) for the first and, for the second, one
two-way distribution (absent, present) per class, (…, C, 2).
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def log_probabilities(logits: Tensor, several: bool = False, temperature: float = 1.0) -> Tensor:
    """Log-probabilities of (…, C) logits softened by τ, eq. (4): softmax(z / τ), or a sigmoid per class."""
    logits = logits / temperature
    if several:
        return torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], -1)
    return F.log_softmax(logits, -1)


def target_probabilities(target: Tensor, several: bool = False) -> Tensor:
    """(…, C) 0/1 targets in the shape of `log_probabilities`."""
    return torch.stack([1 - target, target], -1) if several else target


def cross_entropy(target: Tensor, log_p: Tensor) -> Tensor:
    """−Σ_c t_c log p_c. L_c of eq. (3) and (5); with T(X) as target, L_n and L_δ (the paper: "implemented using
    the binary cross entropy"). Per item: the last axis is summed.
    """
    return -(target * log_p).sum(-1)


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """H(p, q) = Σ_c p_c log(p_c / q_c), eq. (6) for C classes. Zero where p = q. Per item."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def conditional_entropy(log_p: Tensor) -> Tensor:
    """L_e = −Σ_c p_c log p_c: low where the answer is sure. Per item."""
    return -(log_p.exp() * log_p).sum(-1)


def reduce_instances(per_instance: Tensor, lengths: list[int], reduction: str) -> Tensor:
    """(N, …) values of B ragged bags -> scalar: mean over bags of the mean (or the paper's sum) over instances."""
    if per_instance.ndim > 1:
        per_instance = per_instance.flatten(1).mean(1)
    over = torch.mean if reduction == "mean" else torch.sum
    return torch.stack([over(bag) for bag in per_instance.split(lengths)]).mean()
