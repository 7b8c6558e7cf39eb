"""An epoch of plain MIL: ours against the textbook's, on bags as large as those of the colon set.

Each trains in a process of its own, ours by `mil.training.fit`. The pixels are random: they do not change the time.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.settings import TeacherSettings
from napari_distill2label.mil.device import compute_dtype
from napari_distill2label.mil.losses import TeacherLoss
from napari_distill2label.mil.memory import retain_freed_memory
from napari_distill2label.mil.model import MILModel
from napari_distill2label.mil.training import TrainingState, fit
from napari_distill2label.mil.training_bags import TrainingBag

from .goals import Goal
from .rounds import Elsewhere, in_turn, ratio
from .steps import PATCH_PX, PLAIN
from .textbook import Textbook

BAGS, LARGEST = 56, 629  # training images of a fold, and the nuclei of the image that has most


def random_bags(count: int) -> list[Bag]:
    """Bags of 1 to 629 patches: many small ones and few large ones, 214 in the mean (colon: 198)."""
    rng = np.random.default_rng(0)
    sizes = np.maximum(1, np.round(LARGEST * np.linspace(0, 1, count) ** 2)).astype(int)
    return [
        Bag(f"bag{i}", rng.integers(0, 256, (k, 3, PATCH_PX, PATCH_PX), np.uint8), np.zeros((k, 2), int), (i % 2,))
        for i, k in enumerate(sizes)
    ]


def plain_settings(**changes: object) -> TeacherSettings:
    """Plain MIL by the paper's method."""
    return build_settings("colon", "paper").teacher.model_copy(update=PLAIN | changes)


def first_model(bags: list[Bag], seed: int = 0) -> MILModel:
    """The network both start from."""
    torch.manual_seed(seed)
    model = MILModel(build_settings("colon", "paper").architecture, 2, bags[0].instances.shape[1:])
    model.fit_normalisation(bags)
    return model


def our_epochs(bags: list[Bag], model: MILModel, settings: TeacherSettings, seed: int = 0) -> Callable[[], object]:
    """A function that trains `model` for one epoch more."""
    model.dtype = compute_dtype(settings.precision, model.device)
    training_bags = [TrainingBag.of(bag, 2) for bag in bags]
    training = fit(model, TeacherLoss(settings), training_bags, [], settings, seed)
    return lambda: next(item for item in training if isinstance(item, TrainingState))


def _ours(count: int) -> Callable[[], object]:
    retain_freed_memory()  # as the command line does
    bags = random_bags(count)
    return our_epochs(bags, first_model(bags), plain_settings(epochs=100_000))


def _textbook(count: int) -> Callable[[], object]:
    bags = random_bags(count)
    textbook = Textbook(first_model(bags), plain_settings())
    return lambda: textbook.epoch(bags)


def measure(quick: bool = False) -> Iterator[str]:
    """Yield the ratio of an epoch's times."""
    count = 12 if quick else BAGS
    competitors = {"ours": Elsewhere(_ours, count), "textbook": Elsewhere(_textbook, count)}
    seconds = in_turn(competitors, rounds=3 if quick else 15, warm_up=1)
    yield f"plain MIL epoch of {count} bags: {np.median(seconds['ours']):.2f} s"
    yield f"textbook epoch / our epoch: {ratio(seconds['textbook'], seconds['ours'], Goal(2.5, at_least=True))}"
