"""Metrics of a network on slides with their labels."""

from collections.abc import Generator, Sequence

import numpy as np

from ..core.bag import Bag
from ..core.calibration import Calibration
from ..core.events import Progress, Task
from ..core.metrics import binary_metrics, positive_score
from ..mil.model import MILModel
from ..mil.training import iter_predict_bag


def slide_metrics(
    model: MILModel, bags: Sequence[Bag], network: str, calibration: Calibration | None = None
) -> Generator[Progress, None, dict[str, float | int | None]]:
    """Return the metrics of a network on the labels of slides (`core.metrics`)."""
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
    return binary_metrics(
        positive, positive_score(np.array(answers).reshape(-1, model.n_classes), model.settings.multi_label)
    )
