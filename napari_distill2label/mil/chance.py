"""Has a network learnt anything? Told from its own training slides, where even a poor network does well."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.bag import Bag
from ..core.events import Progress
from ..core.metrics import binary_metrics
from .model import MILModel
from .training import answering, judge_bag

AT_CHANCE = 0.97  # of the loss that the shares of the classes alone give
CONSTANT = 0.05  # standard deviation of the slides' scores
COIN = 0.6  # AUROC


@dataclass(frozen=True)
class Learnt:
    """How well a network knows the slides it was trained on.

    Attributes
    ----------
    loss
        Mean cross entropy of the slides' labels.
    chance
        The smallest that a network has which says the same of every slide: the entropy of the labels (ln 2 for two
        classes of equal size).
    spread
        Standard deviation of the slides' scores of being positive.
    auroc
        Of these scores; None where all slides are positive, or none is.
    """

    loss: float
    chance: float
    spread: float
    auroc: float | None

    @property
    def is_nothing(self) -> bool:
        """Does it say the same of all slides, or rank them no better than a coin?"""
        is_constant = self.loss >= AT_CHANCE * self.chance and self.spread < CONSTANT
        return is_constant or (self.auroc is not None and self.auroc < COIN)


def learnt(model: MILModel, bags: Sequence[Bag], pause: Progress) -> Generator[Progress, None, Learnt]:
    """Judge a trained network by the bags it was trained on; yields `pause` between them."""
    losses, scores = [], []
    for bag in bags:
        answer = yield from answering(model, bag, pause)
        loss, score = judge_bag(model, bag, answer.bag_logits)
        losses.append(loss)
        scores.append(score)
        yield pause
    positive = [bag.label != (0,) for bag in bags]
    return Learnt(
        float(np.mean(losses)),
        entropy_of_labels(bags, model.n_classes, model.settings.several),
        float(np.std(scores)),
        binary_metrics(positive, scores)["auroc"],
    )


def entropy_of_labels(bags: Sequence[Bag], n_classes: int, several: bool) -> float:
    """The cross entropy of whoever knows how frequent the classes are, and nothing else (natural logarithm)."""
    share = np.mean([bag.target(n_classes) for bag in bags], axis=0, dtype=np.float64)
    if several:  # one decision per class
        return float((_surprise(share) + _surprise(1 - share)).mean())
    return float(_surprise(share).sum())


def _surprise(share: np.ndarray) -> np.ndarray:
    """−p ln p, 0 at 0."""
    return -share * np.log(np.where(share > 0, share, 1.0))
