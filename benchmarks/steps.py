"""Training steps: what the teacher's and the student's cost, in steps of plain MIL on the same bag.

One bag of K = 200 patches of 27 px, colon network, batch of one bag, Adam, method `paper`, precision `auto`; for
comparison, VAT in four forward passes against plain MIL, both as in the textbook.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.settings import TrainingSettings
from napari_distill2label.mil.device import compute_dtype
from napari_distill2label.mil.losses import Loss, StudentLoss, TeacherLoss
from napari_distill2label.mil.memory import retain_freed_memory
from napari_distill2label.mil.model import MILModel
from napari_distill2label.mil.training import make_optimiser, predict_bag
from napari_distill2label.mil.training_bags import BagBatch, TrainingBag

from .goals import Goal
from .rounds import in_turn, ratio, timed
from .textbook import Textbook

K, PATCH_PX = 200, 27
PLAIN = {"lambda_n": 0.0, "lambda_d": 0.0, "lambda_e": 0.0}


def _model(bag: Bag) -> MILModel:
    torch.manual_seed(0)
    model = MILModel(build_settings("colon", "paper").architecture, 2, bag.instances.shape[1:])
    model.fit_normalisation([bag])
    model.dtype = compute_dtype("auto", model.device)
    return model


def _stepper(
    loss_function: Loss, training_bag: TrainingBag, model: MILModel, settings: TrainingSettings
) -> Callable[[], None]:
    """A function that takes one training step, as `mil.training.fit` does."""
    optimiser = make_optimiser(model, settings)
    model.train()

    def step() -> None:
        terms = loss_function(model, BagBatch.of([training_bag], model.device))
        loss = sum(loss_function.weights[name] * term for name, term in terms.items())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def measure(quick: bool = False) -> Iterator[str]:
    """Yield a line per ratio."""
    retain_freed_memory()  # as the command line does
    pixels = np.random.default_rng(0).integers(0, 256, (K, 3, PATCH_PX, PATCH_PX), dtype=np.uint8)
    bag = Bag("bench", pixels, np.zeros((K, 2), np.int64), (1,))
    settings = build_settings("colon", "paper")
    plain = settings.teacher.model_copy(update=PLAIN)
    training_bag, teacher_targets = TrainingBag.of(bag, 2), TrainingBag.of(bag, 2, predict_bag(_model(bag), bag))
    textbook = Textbook(_model(bag), settings.teacher)
    steps = {
        "plain": _stepper(TeacherLoss(plain), training_bag, _model(bag), plain),
        "teacher": _stepper(TeacherLoss(settings.teacher), training_bag, _model(bag), settings.teacher),
        "student": _stepper(StudentLoss(settings.student), teacher_targets, _model(bag), settings.student),
        "textbook": lambda: textbook.step(bag, textbook.mil_loss),
        "four passes": lambda: textbook.step(bag, textbook.vat_loss),
    }
    seconds = in_turn({name: timed(step) for name, step in steps.items()}, rounds=5 if quick else 40, warm_up=3)
    yield f"plain MIL step: {1000 * np.median(seconds['plain']):.1f} ms"
    yield f"teacher step / plain MIL step: {ratio(seconds['teacher'], seconds['plain'], Goal(2.3))}"
    yield f"student step / plain MIL step: {ratio(seconds['student'], seconds['plain'], Goal(1.15))}"
    yield f"textbook, VAT in four passes / plain MIL: {ratio(seconds['four passes'], seconds['textbook'])}"
    yield f"textbook, VAT in four passes / our teacher step: {ratio(seconds['four passes'], seconds['teacher'])}"
