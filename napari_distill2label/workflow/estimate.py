"""`estimate`: how long a training would take, measured on a few of its slides. Nothing is kept but features."""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..core.bag import Bag
from ..core.errors import CohortError, SlideError
from ..core.events import Event, ItemFailed, Progress, Task
from ..core.geometry import PatchGrid, PatchPoints
from ..core.settings import Settings, TrainingSettings
from ..mil.device import choose_device, compute_dtype
from ..mil.pipeline import Stage, TrainingPipeline
from ..mil.training import TrainingState, fit
from ..slides.patches import cut_bag
from ..slides.registry import open_slide
from ..store.cohort import Cohort, CohortSlide
from ..store.timing import Timing
from .bags import BagReader, PathLike
from .plan import Asked, new_plan
from .stopwatch import Stopwatch, device_in_words
from .tissue import Tissue

SAMPLE = 4  # slides; two of each kind of two classes
EPOCHS = 2  # the first warms up caches and is not counted
BUDGET = 10.0  # s that all of it may take, about
READING = 0.5  # of the budget, for reading slides
NUMBERS = 400_000  # of one bag: pixels or features. What more patches take is reckoned from these


@dataclass(frozen=True)
class Sampled:
    """What was read of some slides.

    Attributes
    ----------
    bags
        With a part of their patches, where there are many.
    sizes
        How many patches their slides have.
    seconds
        That reading one slide takes, all its patches.
    """

    bags: list[Bag]
    sizes: list[int]
    seconds: float


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
    budget: float = BUDGET,
) -> Generator[Event, None, Timing]:
    """The `Timing` that `train` with the same arguments would have, as far as `budget` seconds on a few slides tell.

    Some slides are read and every network is trained on some of their patches for an epoch or two, or a part of one,
    in memory; what that took is scaled to all slides and patches. Slides of very different sizes make it wrong by as
    much. A network that was not reached in time is not in `Timing.epoch`. Features that the encoder computes are kept
    in the folder `features`, where one is given: the training will look for the same.
    """
    end = time.perf_counter() + budget
    with TemporaryDirectory(prefix="d2l-estimate-") as folder:
        plan = new_plan(
            Path(folder) / "run",
            cohort,
            settings,
            Asked(classes, baseline, centres, encoder, None, features, trust, tissue),
        )
        n_slides = len(plan.cohort.in_split("train")) + len(plan.cohort.in_split("valid"))
        read_until = time.perf_counter() + READING * (end - time.perf_counter())
        read = yield from _read_some(plan.reader, _sample(plan.cohort), plan.cohort, read_until)
        own = _short(plan.config.settings)
        device = choose_device(own.device)
        watch = Stopwatch()
        if read.bags:
            pipeline = TrainingPipeline(read.bags, [], len(plan.cohort.classes), own, device)
            left = _networks(own, baseline)
            for item in pipeline.stages(baseline):
                if not isinstance(item, Stage):
                    yield item
                elif time.perf_counter() > end:
                    break
                else:
                    share = (end - time.perf_counter()) / max(1, left)
                    left -= 1
                    yield from _measured(item, device, watch, time.perf_counter() + share)
            watch.rest()
        if not read.bags:
            return Timing(
                device=device_in_words(device), n_slides=n_slides, n_patches=1, reading=read.seconds * n_slides
            )
        return _scaled(watch.timing(device, read.bags), read, n_slides, own)


# ---- reading ------------------------------------------------------------------------------------------------------


def _read_some(
    reader: BagReader, rows: Sequence[CohortSlide], cohort: Cohort, until: float
) -> Generator[Event, None, Sampled]:
    """Read slides until it is time for other things. `CohortError` if none can be read."""
    bags: list[Bag] = []
    sizes: list[int] = []
    seconds: list[float] = []
    n_failed = 0
    for done, row in enumerate(rows, 1):
        began = time.perf_counter()
        try:
            if reader.features is None:
                bag, size, took = yield from _read_part(reader, row, cohort)
            else:
                bag, share = yield from _within(reader.read(row, cohort), until)
                size, took = 0 if bag is None else len(bag), (time.perf_counter() - began) / share
        except SlideError as error:
            yield ItemFailed(row.slide_id, error)
            n_failed += 1
            continue
        seconds.append(took)
        if bag is None:  # its features are not finished
            break
        bags.append(_first_of(bag))
        sizes.append(size)
        yield Progress(Task.READ_SLIDES, done, len(rows))
        if time.perf_counter() > until:
            break
    if n_failed == len(rows):
        raise CohortError(f"none of the {len(rows)} labelled slides could be read")
    return Sampled(bags, sizes, sum(seconds) / len(seconds))


def _read_part(reader: BagReader, row: CohortSlide, cohort: Cohort) -> Generator[Event, None, tuple[Bag, int, float]]:
    """A bag of some of a slide's patches, how many there are, and what reading all of them takes, in s."""
    began = time.perf_counter()
    with open_slide(row.path, row.mpp) as slide:
        patches = yield from reader.lay(row, slide)
        laid = time.perf_counter()
        size = len(patches.corners)
        some = _first(patches, max(1, NUMBERS // (3 * patches.patch_px**2)))
        bag = cut_bag(slide, some, row.slide_id, cohort.indices(row))
    return bag, size, laid - began + (time.perf_counter() - laid) * size / len(bag)


def _first(patches: PatchGrid | PatchPoints, count: int) -> PatchGrid | PatchPoints:
    """The first patches in reading order: neighbours, which share tiles of the file as all patches do."""
    if isinstance(patches, PatchPoints):
        return replace(patches, centres=patches.centres[:count])
    scored = patches.scored.copy()
    scored.ravel()[scored.ravel().nonzero()[0][count:]] = False
    return patches.with_tissue(scored)


def _first_of(bag: Bag) -> Bag:
    count = max(1, NUMBERS // max(1, bag.instances[0].size))
    if len(bag) <= count:
        return bag
    patch_labels = None if bag.patch_labels is None else bag.patch_labels[:count]
    return replace(bag, instances=bag.instances[:count], coordinates=bag.coordinates[:count], patch_labels=patch_labels)


def _within(work: Generator[Event, None, Any], until: float) -> Generator[Event, None, tuple[Any, float]]:
    """What work returns, or None if it is not over in time; and how much of it was done, 0–1."""
    share = 0.0
    try:
        while True:
            event = next(work)
            if isinstance(event, Progress) and event.total:
                share = max(share, event.step / event.total)
            if time.perf_counter() > until and share:
                return None, share
            yield event
    except StopIteration as stop:
        return stop.value, 1.0
    finally:
        work.close()


def _sample(cohort: Cohort) -> list[CohortSlide]:
    """A few training slides, of every class in turn."""
    by_label: dict[str | None, list[CohortSlide]] = {}
    for row in cohort.in_split("train"):
        by_label.setdefault(row.label, []).append(row)
    order = [row for turn in zip(*(_padded(rows) for rows in by_label.values()), strict=True) for row in turn if row]
    return order[: max(SAMPLE, len(by_label))]


def _padded(rows: list[CohortSlide]) -> list[CohortSlide | None]:
    return [*rows, *[None] * SAMPLE][:SAMPLE]


# ---- training -------------------------------------------------------------------------------------------------------


def _networks(settings: Settings, baseline: bool) -> int:
    """How many networks are trained."""
    return 2 + baseline + (settings.assistant.parts if settings.student.gamma_a else 0)


def _measured(stage: Stage, device: object, watch: Stopwatch, until: float) -> Generator[Event, None, None]:
    """Train a network for `EPOCHS`, or until it is time for the next one, but for a step at least."""
    stage.model.dtype = compute_dtype(stage.settings.precision, device)
    watch.rest()
    training = fit(
        stage.model, stage.loss_function, stage.training_bags, [], stage.settings, stage.seed, network=stage.role
    )
    began, warm_up = time.perf_counter(), 0.0  # s of the first step, which counts only where there is no other
    try:
        for item in training:
            late = time.perf_counter() > until
            if isinstance(item, TrainingState):
                watch.epoch(stage.role)
                yield Progress(Task.MEASURE, item.epoch, EPOCHS, stage.role)
                if late:
                    break
            else:
                yield item
                now = time.perf_counter()
                if late and item.step:
                    step = (now - began) / (item.step - 1) if warm_up and item.step > 1 else warm_up or now - began
                    watch.part_of_epoch(stage.role, step * item.total)
                    break
                if item.step and not warm_up:
                    began, warm_up = now, now - began
    finally:
        training.close()
    stage.model.eval()
    yield from stage.finish()


def _short(settings: Settings) -> Settings:
    """The same with few epochs, and without what needs more slides than there are here."""
    short = {"epochs": EPOCHS, "select": "last"}
    parts = {part: getattr(settings, part).model_copy(update=short) for part in ("teacher", "assistant", "student")}
    return settings.model_copy(update=parts)


def _scaled(timing: Timing, read: Sampled, n_slides: int, settings: Settings) -> Timing:
    """Of all slides, with all their patches."""
    slides = n_slides / len(read.bags)
    patches = sum(read.sizes) / sum(map(len, read.bags))
    return timing.model_copy(
        update={
            "n_slides": n_slides,
            "n_patches": max(1, round(sum(read.sizes) * slides)),
            "reading": read.seconds * n_slides,
            "epoch": {
                role: seconds * slides * _more_patches(read, _settings_of(role, settings))
                for role, seconds in timing.epoch.items()
            },
            "between": timing.between * slides * patches,
        }
    )


def _more_patches(read: Sampled, settings: TrainingSettings) -> float:
    """How many times more patches an epoch sees than the one that was measured."""
    draws = read.bags[0].instances.ndim == 4 and settings.bag_patches is None  # see `mil.training_bags.is_subsampled`
    most = settings.max_bag_patches if draws else max(read.sizes)
    return sum(min(size, most) for size in read.sizes) / sum(min(len(bag), most) for bag in read.bags)


def _settings_of(role: str, settings: Settings) -> TrainingSettings:
    if role == "student":
        return settings.student
    return settings.assistant if role.startswith("assistant") else settings.teacher
