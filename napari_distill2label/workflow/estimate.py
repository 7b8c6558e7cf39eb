"""`estimate`: how long a training would take, measured on a few of its slides. Nothing is kept but features."""

import time
from collections.abc import Generator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ..core.events import Event, Progress
from ..core.settings import Settings
from ..mil.curriculum import Curriculum, Stage
from ..mil.device import choose_device, compute_dtype
from ..mil.training import TrainingState, fit
from ..store.cohort import Cohort, CohortSlide
from ..store.timing import Timing
from .bags import PathLike
from .plan import Asked, new_plan
from .stopwatch import Stopwatch
from .tissue import Tissue

SAMPLE = 4  # slides; two of each kind of two classes
EPOCHS = 2  # the first warms up caches and is not counted
ENOUGH = 20.0  # s of one network's first epoch from which on warming up is little of it, and one is enough


def estimate(
    cohort: Cohort,
    settings: Settings,
    *,
    classes: Sequence[str] | None = None,
    baseline: bool = False,
    centres: PathLike | None = None,
    encoder: PathLike | None = None,
    features: PathLike | None = None,
    trust: bool = False,
    tissue: Tissue | None = None,
) -> Generator[Event, None, Timing]:
    """The `Timing` that `train` with the same arguments would have, as far as a few slides tell.

    Some slides are read and every network is trained on them for an epoch or two, in memory; what that took is
    scaled to all slides. Slides of very different sizes make it wrong by as much. Features that the encoder computes
    are kept in the folder `features`, where one is given: the training will look for the same.
    """
    with TemporaryDirectory(prefix="d2l-estimate-") as folder:
        plan = new_plan(
            Path(folder) / "run",
            cohort,
            settings,
            Asked(classes, baseline, centres, encoder, None, features, trust, tissue),
        )
        rows = [*plan.cohort.in_split("train"), *plan.cohort.in_split("valid")]
        sample = _sample(plan.cohort)
        watch = Stopwatch()
        bags = list((yield from plan.reader.read_all(sample, plan.cohort)).values())
        watch.read()
        own = _short(plan.config.settings)
        device = choose_device(own.device)
        curriculum = Curriculum(bags, [], len(plan.cohort.classes), own, device)
        for item in curriculum.stages(baseline):
            if isinstance(item, Stage):
                yield from _measured(item, device, watch)
            else:
                yield item
        watch.rest()
        return _scaled(watch.timing(device, bags), len(rows) / len(bags))


def _measured(stage: Stage, device: object, watch: Stopwatch) -> Generator[Event, None, None]:
    stage.model.dtype = compute_dtype(stage.settings.precision, device)
    watch.rest()
    began = time.perf_counter()
    for item in fit(stage.model, stage.objective, stage.lessons, [], stage.settings, stage.seed, phase=stage.role):
        if isinstance(item, TrainingState):
            watch.epoch(stage.role)
            yield Progress(f"measuring the {stage.role}", item.epoch, EPOCHS)
            if time.perf_counter() - began > ENOUGH:
                break
        else:
            yield item
    yield from stage.finish()


def _sample(cohort: Cohort) -> list[CohortSlide]:
    """A few training slides, of every class in turn."""
    by_label: dict[str | None, list[CohortSlide]] = {}
    for row in cohort.in_split("train"):
        by_label.setdefault(row.label, []).append(row)
    order = [row for turn in zip(*(_padded(rows) for rows in by_label.values()), strict=True) for row in turn if row]
    return order[: max(SAMPLE, len(by_label))]


def _padded(rows: list[CohortSlide]) -> list[CohortSlide | None]:
    return [*rows, *[None] * SAMPLE][:SAMPLE]


def _short(settings: Settings) -> Settings:
    """The same with few epochs, and without what needs more slides than there are here."""
    short = {"epochs": EPOCHS, "select": "last"}
    parts = {part: getattr(settings, part).model_copy(update=short) for part in ("teacher", "assistant", "student")}
    return settings.model_copy(update=parts)


def _scaled(timing: Timing, factor: float) -> Timing:
    """Of `factor` times as many slides."""
    return timing.model_copy(
        update={
            "n_slides": max(1, round(timing.n_slides * factor)),
            "n_patches": max(1, round(timing.n_patches * factor)),
            "reading": timing.reading * factor,
            "epoch": {role: seconds * factor for role, seconds in timing.epoch.items()},
            "between": timing.between * factor,
        }
    )
