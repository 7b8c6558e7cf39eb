"""A network at chance: what its loss is there, and when a training is stuck at it."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..core.settings import TrainingSettings

STUCK_LOSS_RATIO = 0.98  # of the loss at chance
PATIENCE_SHARE, MIN_PATIENCE = 0.4, 5  # of the epochs; epochs. Slow starts are common: the demo's takes a third
MAX_RESTARTS = 2


def patience(settings: TrainingSettings) -> int:
    """Return the epoch after which a training that is still at chance starts again."""
    return max(MIN_PATIENCE, math.ceil(PATIENCE_SHARE * settings.epochs))


def is_stuck(history: Sequence[Mapping[str, float | None]], chance_loss: float, settings: TrainingSettings) -> bool:
    """Whether the classification loss of slides (`loss_class`) has never left chance, `patience` epochs on.

    Networks whose loss has no such term, and those with no epochs left, are never stuck.
    """
    losses = [row.get("loss_class") for row in history]
    known = [loss for loss in losses if loss is not None]
    if len(history) != patience(settings) or len(history) >= settings.epochs or len(known) < len(losses):
        return False
    return chance_loss > 0 and min(known) >= STUCK_LOSS_RATIO * chance_loss


def entropy_of_targets(targets: np.ndarray, multi_label: bool) -> float:
    """Return the cross entropy (natural logarithm) of a constant prediction, the frequencies of `targets` (B, C).

    It is the smallest loss of a network that scores all slides alike: ln 2 for two classes of equal size.
    """
    share: np.ndarray = targets.mean(axis=0, dtype=np.float64)
    if multi_label:  # one decision per class
        return float((_entropy_term(share) + _entropy_term(1 - share)).mean())
    return float(_entropy_term(share).sum())


def _entropy_term(share: np.ndarray) -> np.ndarray:
    """−p ln p, 0 at 0."""
    return -share * np.log(np.where(share > 0, share, 1.0))
