"""`estimate`: measure on a few slides how long a training takes. Nothing is saved but features."""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from ..core.bag import Bag
from ..core.errors import CohortError, SlideError
from ..core.events import Event, ItemFailed, Progress, Task
from ..core.geometry import PatchGrid, PatchPoints
from ..core.inputs import Inputs
from ..core.settings import Settings, TrainingSettings
from ..mil.device import choose_device, compute_dtype
from ..mil.pipeline import Stage, TrainingPipeline
from ..mil.training import TrainingState, fit
from ..slides.patches import cut_bag
from ..store.cohort import Cohort, CohortSlide
from ..store.timing import Timing
from .plan import TrainingRequest, new_plan
from .slide_reader import SlideReader
from .stopwatch import Stopwatch, device_name

SAMPLE = 4  # slides; two of each kind of two classes
EPOCHS = 2  # of each network
WARMING = 2  # the first network may take one part in so many of the time that is left
BUDGET = 10.0  # s that an estimate may take, about
READING = 0.5  # share of the budget for reading slides
NUMBERS = 400_000  # of one bag: pixels or features. Larger bags are extrapolated


@dataclass(frozen=True)
class Sampled:
    """The slides that were read.

    Attributes
    ----------
    bags
        Bags of the slides, with a part of the patches of large ones.
    sizes
        Number of patches of each slide.
    seconds
        Time to read one slide with all its patches.
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
    inputs: Inputs = Inputs(),
    budget: float = BUDGET,
) -> Generator[Event, None, Timing]:
    """Return an estimate of the `Timing` of `train` with the same arguments, from `budget` seconds on a few slides.

    Some slides are read, and every network is trained in memory on some of their patches for an epoch or two, or for
    a part of one. The time is scaled to all slides and patches. The estimate is off if slides differ much in size. A
    network that was not reached in time is missing in `Timing.epoch`. New features are saved in the folder `features`,
    if one is given: the training uses the same.
    """
    end = time.perf_counter() + budget
    with TemporaryDirectory(prefix="d2l-estimate-") as folder:
        plan = new_plan(
            Path(folder) / "run",
            cohort,
            settings,
            TrainingRequest(classes, baseline, inputs),
        )
        n_slides = len(plan.cohort.in_split("train")) + len(plan.cohort.in_split("valid"))
        read_until = time.perf_counter() + READING * (end - time.perf_counter())
        read = yield from _read_some(plan.reader, _sample_slides(plan.cohort), plan.cohort, read_until)
        own = _shorten(plan.config.settings)
        device = choose_device(own.device)
        watch = Stopwatch()
        if read.bags:
            pipeline = TrainingPipeline(read.bags, [], len(plan.cohort.classes), own, device)
            networks = left = _networks(own, baseline)
            for item in pipeline.stages(baseline):
                if not isinstance(item, Stage):
                    yield item
                elif time.perf_counter() > end:
                    break
                else:
                    # The first network of a process warms up for all: torch compiles for each new shape of a bag.
                    parts = WARMING if left == networks else max(1, left)
                    left -= 1
                    until = time.perf_counter() + (end - time.perf_counter()) / parts
                    yield from _measured(item, device, watch, until)
            watch.mark_other()
        if not read.bags:
            return Timing(device=device_name(device), n_slides=n_slides, n_patches=1, reading=read.seconds * n_slides)
        return _scale_timing(watch.timing(device, read.bags), read, n_slides, own)


# ---- reading ------------------------------------------------------------------------------------------------------


def _read_some(
    reader: SlideReader, rows: Sequence[CohortSlide], cohort: Cohort, until: float
) -> Generator[Event, None, Sampled]:
    """Read slides until the time is up. `CohortError` if none can be read."""
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
                bag, share = yield from _within(reader.bag(row, cohort), until)
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


def _read_part(reader: SlideReader, row: CohortSlide, cohort: Cohort) -> Generator[Event, None, tuple[Bag, int, float]]:
    """A bag of some of a slide's patches, how many there are, and what reading all of them takes, in s."""
    began = time.perf_counter()
    with reader.open(row) as slide:
        patches = yield from reader.place(row, slide)
        placed = time.perf_counter()
        size = len(patches.corners)
        some = _first(patches, max(1, NUMBERS // (3 * patches.patch_px**2)))
        bag = cut_bag(slide, some, row.slide_id, cohort.indices(row))
    return bag, size, placed - began + (time.perf_counter() - placed) * size / len(bag)


def _first(patches: PatchGrid | PatchPoints, count: int) -> PatchGrid | PatchPoints:
    """Return the first patches in reading order: neighbours, which share tiles of the file as all patches do."""
    if isinstance(patches, PatchPoints):
        return replace(patches, centres=patches.centres[:count])
    scored = patches.scored.copy()
    scored.ravel()[scored.ravel().nonzero()[0][count:]] = False
    return patches.with_tissue(scored)


def _first_of(bag: Bag) -> Bag:
    count = max(1, NUMBERS // max(1, bag.instances[0].size))
    if len(bag) <= count:
        return bag
    regions = (region.among(np.arange(len(bag)) < count) for region in bag.regions)
    return replace(
        bag,
        instances=bag.instances[:count],
        coordinates=bag.coordinates[:count],
        patch_labels=None if bag.patch_labels is None else bag.patch_labels[:count],
        regions=tuple(region for region in regions if region is not None),
    )


def _within(work: Generator[Event, None, Any], until: float) -> Generator[Event, None, tuple[Any, float]]:
    """Return the result of `work`, or None if it did not end in time; and the fraction done, 0–1."""
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


def _sample_slides(cohort: Cohort) -> list[CohortSlide]:
    """Return a few training slides, of all classes in turn."""
    by_label: dict[str | None, list[CohortSlide]] = {}
    for row in cohort.in_split("train"):
        by_label.setdefault(row.label, []).append(row)
    order = [row for turn in zip(*(_padded(rows) for rows in by_label.values()), strict=True) for row in turn if row]
    return order[: max(SAMPLE, len(by_label))]


def _padded(rows: list[CohortSlide]) -> list[CohortSlide | None]:
    return [*rows, *[None] * SAMPLE][:SAMPLE]


# ---- training -------------------------------------------------------------------------------------------------------


def _networks(settings: Settings, baseline: bool) -> int:
    """Return the number of networks that are trained."""
    return 2 + baseline + (settings.oof.folds if settings.student.gamma_oof else 0)


def _measured(stage: Stage, device: torch.device, watch: Stopwatch, until: float) -> Generator[Event, None, None]:
    """Train a network for `EPOCHS`, or until the time is up, but for at least two steps.

    An epoch takes as many times the median step. The first steps warm up, and those of the first network in a process
    take seconds: the very first counts only if it is alone.
    """
    stage.model.dtype = compute_dtype(stage.settings.precision, device)
    watch.mark_other()
    training = fit(
        stage.model, stage.loss_function, stage.training_bags, [], stage.settings, stage.seed, network=stage.network
    )
    began, done, seconds, steps = time.perf_counter(), 0, [], 0
    try:
        for item in training:
            if isinstance(item, TrainingState):
                yield Progress(Task.MEASURE, item.epoch, EPOCHS, stage.network)
                done = 0
                continue
            yield item
            if isinstance(item, Progress) and item.total is not None and item.step > done:
                done, steps, now = item.step, item.total, time.perf_counter()
                seconds.append(now - began)
                began = now
                if now > until and (len(seconds) > 1 or steps == 1):
                    break
    finally:
        training.close()
    if seconds:
        watch.mark_epoch_of(stage.network, median(seconds[1:] or seconds) * steps)
    stage.model.eval()
    yield from stage.finish()


def _shorten(settings: Settings) -> Settings:
    """Return the same settings with few epochs, and without what needs more slides."""
    short = {"epochs": EPOCHS, "keep_epoch": "last"}
    parts = {part: getattr(settings, part).model_copy(update=short) for part in ("teacher", "oof", "student")}
    return settings.model_copy(update=parts)


def _scale_timing(timing: Timing, read: Sampled, n_slides: int, settings: Settings) -> Timing:
    """Scale the timing to all slides with all their patches."""
    slides = n_slides / len(read.bags)
    patches = sum(read.sizes) / sum(map(len, read.bags))
    return timing.model_copy(
        update={
            "n_slides": n_slides,
            "n_patches": max(1, round(sum(read.sizes) * slides)),
            "reading": read.seconds * n_slides,
            "epoch": {
                network: seconds * slides * _more_patches(read, _settings_of(network, settings))
                for network, seconds in timing.epoch.items()
            },
            "between": timing.between * slides * patches,
        }
    )


def _more_patches(read: Sampled, settings: TrainingSettings) -> float:
    """Return how many times more patches an epoch sees than the one that was measured."""
    draws = (
        read.bags[0].instances.ndim == 4 and settings.pseudo_bag_size is None
    )  # see `mil.training_bags.is_subsampled`
    most = settings.max_patches_per_bag if draws else max(read.sizes)
    return sum(min(size, most) for size in read.sizes) / sum(min(len(bag), most) for bag in read.bags)


def _settings_of(network: str, settings: Settings) -> TrainingSettings:
    if network == "student":
        return settings.student
    return settings.oof if network.startswith("oof") else settings.teacher
