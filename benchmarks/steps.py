"""Training steps: what the teacher's and the student's cost, in steps of plain MIL on the same bag.

One bag of K = 200 patches of 27 px, colon network, batch of one bag, Adam, precision `auto`. The three kinds of step
are timed in turn, round by round, so that a machine that slows down slows all of them; a ratio is the median over
rounds.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.settings import TrainingSettings
from napari_distill2label.mil.device import compute_dtype
from napari_distill2label.mil.model import MILModel
from napari_distill2label.mil.objectives import Batch, Lesson, Objective, StudentObjective, TeacherObjective
from napari_distill2label.mil.training import answer_bag, make_optimiser

K, PATCH_PX = 200, 27


def _stepper(objective: Objective, lesson: Lesson, bag: Bag, settings: TrainingSettings) -> Callable[[], float]:
    """A function that takes one training step and returns its seconds."""
    model = MILModel(build_settings("colon").model, 2, bag.instances.shape[1:])
    model.fit_normalisation([bag])
    model.dtype = compute_dtype("auto", model.device)
    optimiser = make_optimiser(model, settings)

    def step() -> float:
        start = time.perf_counter()
        terms = objective(model, Batch.of([lesson], model.device))
        loss = sum(objective.weights[name] * term for name, term in terms.items())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return time.perf_counter() - start

    return step


def measure(repetitions: int) -> Iterator[str]:
    """Yield a line per ratio: median, and the range between the quartiles."""
    pixels = np.random.default_rng(0).integers(0, 256, (K, 3, PATCH_PX, PATCH_PX), dtype=np.uint8)
    bag = Bag("bench", pixels, np.zeros((K, 2), np.int64), (1,))
    settings = build_settings("colon", "paper")
    plain = settings.teacher.model_copy(update={"lambda_n": 0.0, "lambda_d": 0.0, "lambda_e": 0.0})
    torch.manual_seed(0)
    teacher = MILModel(settings.model, 2, bag.instances.shape[1:])
    steps = {
        "plain MIL": _stepper(TeacherObjective(plain), Lesson.of(bag, 2), bag, settings.teacher),
        "teacher": _stepper(TeacherObjective(settings.teacher), Lesson.of(bag, 2), bag, settings.teacher),
        "student": _stepper(
            StudentObjective(settings.student), Lesson.of(bag, 2, answer_bag(teacher, bag)), bag, settings.student
        ),
    }
    for step in steps.values():  # warm up
        step(), step()
    times = {name: np.empty(repetitions) for name in steps}
    for round_ in range(repetitions):
        for name, step in steps.items():
            times[name][round_] = step()
    yield f"plain MIL step: {1000 * np.median(times['plain MIL']):.1f} ms"
    for name, goal in (("teacher", 2.3), ("student", 1.15)):
        low, middle, high = np.percentile(times[name] / times["plain MIL"], (25, 50, 75))
        yield f"{name} step / plain MIL step: {middle:.2f} ({low:.2f}–{high:.2f}), goal ≤ {goal}"
