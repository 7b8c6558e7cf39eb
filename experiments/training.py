"""The networks of one fold, trained in memory, and what they say of its bags."""

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass

import numpy as np

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.calibration import Calibration
from napari_distill2label.core.events import Event, Progress, Task
from napari_distill2label.core.metrics import positive_score
from napari_distill2label.core.settings import Settings
from napari_distill2label.mil.device import choose_device, compute_dtype
from napari_distill2label.mil.model import MILModel
from napari_distill2label.mil.pipeline import Stage, TrainingPipeline
from napari_distill2label.mil.training import TrainingState, fit, predict_bag

from .memory import Memory, digest_of

trained_here = Memory()


@dataclass(frozen=True)
class Trained:
    """A network and how it came about."""

    model: MILModel
    state: TrainingState
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Answers:
    """What a network says of some bags, in their order: `bag` (B,) scores, `instance` and `attention` per bag (K,)."""

    bag: np.ndarray
    instance: list[np.ndarray]
    attention: list[np.ndarray]


def train_models(
    train: Sequence[Bag], valid: Sequence[Bag], n_classes: int, settings: Settings, wanted: Collection[str]
) -> Generator[Event, None, dict[str, Trained]]:
    """What `workflow.commands.train` trains, by role, without a run folder; no more than the roles `wanted` need."""
    pipeline = TrainingPipeline(train, valid, n_classes, settings, choose_device(settings.device))
    trained = {}
    for item in pipeline.stages(baseline="baseline" in wanted):
        if isinstance(item, Stage):
            state = yield from train_stage(item, valid)
            if item.network in wanted:
                calibration = pipeline.calibration if item.network == "student" else None
                trained[item.network] = Trained(item.model, state, calibration)
            if len(trained) == len(wanted):
                break
        else:
            yield item
    return trained


def train_stage(stage: Stage, valid: Sequence[Bag]) -> Generator[Event, None, TrainingState]:
    """Train one network in place, as a run would; one that was trained here before is taken from memory."""
    digest = digest_of(stage, valid)
    stage.model.dtype = compute_dtype(stage.settings.precision, stage.model.device)
    if (state := trained_here.recall(digest, stage)) is None:
        work = fit(
            stage.model,
            stage.loss_function,
            stage.training_bags,
            valid,
            stage.settings,
            stage.seed,
            network=stage.network,
        )
        for item in work:
            if isinstance(item, TrainingState):
                state = item
            else:
                yield item
        trained_here.keep(digest, stage, state)
    yield from stage.finish()
    stage.model.dtype = compute_dtype("float32", stage.model.device)
    return state


def probabilities_of(trained: Trained, bag: Bag) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities of a slide (C,) and of its K patches (K, C), and their attention (K,).

    Patches are in context where the network is calibrated, as it predicts; else each is a bag of one.
    """
    model, calibration = trained.model, trained.calibration
    multi_label = model.settings.multi_label
    answer = predict_bag(model, bag)
    slide, patches = (model.probabilities(own).numpy() for own in (answer.bag_logits, answer.instance_logits))
    if calibration is not None:
        present, patches = calibration.of_bag(answer.instance_logits.numpy(), bag.coordinates, multi_label)
        slide = np.array(calibration.bag(present, float(slide[0]), multi_label))
    return slide, patches, answer.attention.numpy()


def answers_of(trained: Trained, bags: Sequence[Bag]) -> Generator[Progress, None, Answers]:
    """Scores (`core.metrics.positive_score`) of bags and of their instances, see `probabilities_of`, and attention."""
    multi_label = trained.model.settings.multi_label
    bag_scores, instance_scores, attention = [], [], []
    for done, bag in enumerate(bags, 1):
        of_bag, of_instances, weights = probabilities_of(trained, bag)
        bag_scores.append(float(positive_score(of_bag, multi_label)))
        instance_scores.append(positive_score(of_instances, multi_label))
        attention.append(weights)
        yield Progress(Task.PREDICT_BAGS, done, len(bags))
    return Answers(np.array(bag_scores), instance_scores, attention)
