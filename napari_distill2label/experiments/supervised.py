"""The ceiling: an instance classifier that is shown every patch's true class. Only here does truth meet training."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.bag import Bag
from ..core.events import Event
from ..core.settings import Settings, TeacherSettings
from ..mil import losses
from ..mil.augmentation import augmented
from ..mil.curriculum import Curriculum, Stage
from ..mil.device import choose_device
from ..mil.model import MILModel
from ..mil.objectives import Batch, Lesson
from .training import Trained, train_stage

# Patches of all slides in one step, as any classifier is trained; 16 epochs, the last one taken.
TRAINING = TeacherSettings(batch_bags=4, bag_patches=32, learning_rate=3e-4, select="last")


@dataclass(frozen=True)
class SupervisedObjective:
    """Cross entropy of every patch against its true class, `Batch.known`."""

    settings: TeacherSettings
    weights: Mapping[str, float]

    def __call__(self, model: MILModel, batch: Batch) -> dict[str, Tensor]:
        features = model.encode(augmented(model.unit(batch.instances), self.settings))
        log_p = losses.log_probabilities(model.classify(features, batch.lengths).instance_logits)
        target = torch.nn.functional.one_hot(batch.known, model.n_classes).to(log_p)
        return {"instance": losses.cross_entropy(target, log_p).mean()}


def train_supervised(
    bags: Sequence[Bag], truth: Mapping[str, np.ndarray], n_classes: int, settings: Settings, training: TeacherSettings
) -> Generator[Event, None, Trained]:
    """The same network as the others, on the true class (K,) of every patch of `bags`, by slide id."""
    curriculum = Curriculum(bags, (), n_classes, settings, choose_device(settings.device))
    plain = curriculum.of_bags("supervised", training)
    lessons = [
        Lesson(lesson.instances, lesson.target, torch.from_numpy(truth[bag.slide_id]).long())
        for lesson, bag in zip(plain.lessons, bags, strict=True)
    ]
    stage = Stage(
        plain.role, plain.model, SupervisedObjective(training, {"instance": 1.0}), lessons, training, plain.seed
    )
    return Trained(stage.model, (yield from train_stage(stage, ())))
