"""Metrics of a network on slides with their labels."""

from collections.abc import Generator, Sequence

import numpy as np

from ..core.bag import Bag
from ..core.calibration import Calibration
from ..core.events import Progress, Task
from ..core.metrics import binary_metrics, case_probability, positive_score
from ..mil.model import MILModel
from ..mil.training import iter_predict_bag

SMALLEST = 1e-6  # probability of what is true: one slide that is surely called wrongly does not decide alone


def slide_metrics(
    model: MILModel, bags: Sequence[Bag], network: str, calibration: Calibration | None = None
) -> Generator[Progress, None, dict[str, float | int | None]]:
    """Return the metrics of a network on the labels of slides (`core.metrics`), and `log_loss`, the mean cross entropy.

    A case has what one of its slides has, as when it is predicted. By `log_loss` the networks of a run can be compared,
    each with the probabilities that it ships with. None without slides.
    """
    answers = []
    multi_label = model.settings.multi_label
    for done, bag in enumerate(bags):
        pause = Progress(Task.VALIDATE, done, len(bags), network)
        of_slides = []
        for slide in bag.slides:
            answer = yield from iter_predict_bag(model, slide, pause)
            probability = model.probabilities(answer.bag_logits).tolist()
            if calibration is not None:
                present, _ = calibration.of_bag(answer.instance_logits.numpy(), slide.coordinates, multi_label)
                probability = calibration.bag(present, probability[0], multi_label)
            of_slides.append(probability)
        answers.append(case_probability(of_slides, multi_label))
    positive = np.array([bag.label != (0,) for bag in bags], bool)
    score = positive_score(np.array(answers).reshape(-1, model.n_classes), multi_label)
    right = np.where(positive, score, 1 - score).clip(SMALLEST)
    return binary_metrics(positive, score) | {"log_loss": float(-np.log(right).mean()) if len(right) else None}
