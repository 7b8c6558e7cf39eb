"""Metrics of a network on slides with their labels."""

from collections.abc import Generator, Sequence

import numpy as np

from ..core.bag import Bag
from ..core.calibration import Calibration
from ..core.events import Progress, Task
from ..core.metrics import binary_metrics, positive_score
from ..mil.model import MILModel
from ..mil.training import iter_predict_bag

SMALLEST = 1e-6  # probability of what is true: one slide that is surely called wrongly does not decide alone


def slide_metrics(
    model: MILModel, bags: Sequence[Bag], network: str, calibration: Calibration | None = None
) -> Generator[Progress, None, dict[str, float | int | None]]:
    """Return the metrics of a network on the labels of slides (`core.metrics`), and `log_loss`, the mean cross entropy.

    By `log_loss` the networks of a run can be compared, each with the probabilities that it ships with. None without
    slides.
    """
    answers = []
    for done, bag in enumerate(bags):
        pause = Progress(Task.VALIDATE, done, len(bags), network)
        answer = yield from iter_predict_bag(model, bag, pause)
        probability = model.probabilities(answer.bag_logits).numpy()
        if calibration is not None:
            multi_label = model.settings.multi_label
            slide, _ = calibration.of_bag(answer.instance_logits.numpy(), bag.coordinates, multi_label)
            probability = np.array(calibration.bag(slide, float(probability[0]), multi_label))
        answers.append(probability)
    positive = np.array([bag.label != (0,) for bag in bags], bool)
    score = positive_score(np.array(answers).reshape(-1, model.n_classes), model.settings.multi_label)
    right = np.where(positive, score, 1 - score).clip(SMALLEST)
    return binary_metrics(positive, score) | {"log_loss": float(-np.log(right).mean()) if len(right) else None}
