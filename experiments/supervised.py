"""The ceiling: an instance classifier that is shown every patch's true class. Only here does truth meet training."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.events import Event
from napari_distill2label.core.settings import Settings, TeacherSettings
from napari_distill2label.mil import losses
from napari_distill2label.mil.augmentation import augment
from napari_distill2label.mil.device import choose_device
from napari_distill2label.mil.model import MILModel
from napari_distill2label.mil.pipeline import TrainingPipeline
from napari_distill2label.mil.training_bags import BagBatch, TrainingBag

from .training import Trained, train_stage

# Patches of all slides in one step, as any classifier is trained; 16 epochs, the last one taken.
TRAINING = TeacherSettings(batch_size=4, pseudo_bag_size=32, learning_rate=3e-4, schedule="cosine", keep_epoch="last")


class SupervisedLoss:
    """Cross entropy of every patch against its true class, `BagBatch.patch_labels`. Attention is not trained."""

    weights: Mapping[str, float] = {"instance": 1.0}

    def __init__(self, settings: TeacherSettings) -> None:
        self.settings = settings

    def __call__(self, model: MILModel, batch: BagBatch) -> dict[str, Tensor]:
        log_p = losses.log_probabilities(
            model.head(model.encode(augment(model.to_unit_range(batch.instances), self.settings)))
        )
        target = torch.nn.functional.one_hot(batch.patch_labels, model.n_classes).to(log_p)
        return {"instance": losses.cross_entropy(target, log_p).mean()}


def train_supervised(
    bags: Sequence[Bag], truth: Mapping[str, np.ndarray], n_classes: int, settings: Settings, training: TeacherSettings
) -> Generator[Event, None, Trained]:
    """The same network as the others, on the true class (K,) of every patch of `bags`, by slide id."""
    pipeline = TrainingPipeline(bags, (), n_classes, settings, choose_device(settings.device))
    training_bags = [
        replace(TrainingBag.of(bag, n_classes), patch_labels=torch.from_numpy(truth[bag.slide_id]).long())
        for bag in bags
    ]
    stage = pipeline.make_stage("supervised", SupervisedLoss(training), training_bags, training, offset=0)
    return Trained(stage.model, (yield from train_stage(stage, ())))
