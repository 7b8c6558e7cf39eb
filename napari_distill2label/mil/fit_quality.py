"""How well a network fits its own training slides. A network that is at chance even there has learnt nothing."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.bag import Bag
from ..core.events import Progress
from ..core.metrics import binary_metrics
from .chance import entropy_of_targets
from .model import MILModel
from .training import bag_loss_and_score, iter_predict_bag

CHANCE_LOSS_RATIO = 0.97  # of the loss at chance
CONSTANT_SCORE_STD = 0.05  # standard deviation of the slides' scores
CHANCE_AUROC = 0.6


@dataclass(frozen=True)
class FitQuality:
    """Loss, spread and ranking of the scores of the training slides.

    Attributes
    ----------
    loss
        Mean cross entropy of the slides' labels.
    chance_loss
        The smallest loss of a network that gives every slide the same score: the entropy of the labels (ln 2 for two
        classes of equal size).
    score_std
        Standard deviation of the slides' scores of being positive.
    auroc
        AUROC of these scores; None if all slides are positive, or none is.
    """

    loss: float
    chance_loss: float
    score_std: float
    auroc: float | None

    @property
    def is_at_chance(self) -> bool:
        """Whether the network scores all slides alike, or ranks them no better than a coin."""
        is_constant = self.loss >= CHANCE_LOSS_RATIO * self.chance_loss and self.score_std < CONSTANT_SCORE_STD
        return is_constant or (self.auroc is not None and self.auroc < CHANCE_AUROC)


def measure_fit(model: MILModel, bags: Sequence[Bag], keepalive: Progress) -> Generator[Progress, None, FitQuality]:
    """Measure how well a trained network fits its training bags; yields `keepalive` between them."""
    losses, scores = [], []
    for bag in bags:
        output = yield from iter_predict_bag(model, bag, keepalive)
        loss, score = bag_loss_and_score(model, bag, output.bag_logits)
        losses.append(loss)
        scores.append(score)
        yield keepalive
    positive = [bag.label != (0,) for bag in bags]
    return FitQuality(
        float(np.mean(losses)),
        entropy_of_targets(np.stack([bag.target(model.n_classes) for bag in bags]), model.settings.multi_label),
        float(np.std(scores)),
        binary_metrics(positive, scores)["auroc"],
    )
