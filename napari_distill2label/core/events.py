"""Long work is a generator of frozen events: facts in fields. Each interface makes its own sentences of them.

A command of `workflow` yields events at least every 0.2 s of work and *returns* its result. Closing the generator
cancels the work: its `finally` blocks run in the thread that closes it and leave the last checkpoint whole.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar

from .errors import Distill2LabelError, without_frames
from .notices import Notice


class Unit(StrEnum):
    """What the steps of a task are counted in."""

    PATCHES = "patches"
    SLIDES = "slides"
    STEPS = "steps"
    EPOCHS = "epochs"
    FILES = "files"


class Task(StrEnum):
    """What long work is doing. The value is the plain name that all interfaces show (`core.progress.title`)."""

    READ_SLIDES = "reading slides"
    CHECK_SCALE = "reading pixel sizes"
    FIND_TISSUE = "segmenting tissue"
    COMPARE_SLIDES = "looking for copies"
    HASH_DATA = "computing checksums"
    TRAIN = "training"
    VALIDATE = "validating"
    COMPUTE_TARGETS = "computing targets"
    CALIBRATE = "calibrating"
    CHECK_TRAINING = "checking the fit"
    PREDICT_BAGS = "predicting bags"
    PREDICT = "predicting"
    EXTRACT_FEATURES = "extracting features"
    IMPORT_FEATURES = "importing features"
    READ_FEATURES = "reading features"
    PROJECT_FEATURES = "projecting features"
    CLASSIFY_FEATURES = "classifying patches"
    EXPORT = "exporting"
    WRITE = "writing"
    APPLY_CORRECTIONS = "applying corrections"
    READ_PREDICTIONS = "reading predictions"
    READ_TRUTH = "reading the ground truth"
    READ_MARKS = "reading marks"
    COMPARE = "comparing with the ground truth"
    COMPARE_WITH_TRAINING = "comparing with the training data"
    PREPARE_DATASET = "reading the data set"
    MEASURE = "measuring the speed"
    LOAD_MODEL = "loading the model"
    SAVE_MODEL = "saving the models"
    START_WORKERS = "starting the workers"
    RUN_EXPERIMENT = "running the experiment"

    @property
    def unit(self) -> Unit:
        """What its steps are."""
        return _UNITS.get(self, Unit.SLIDES)


_UNITS = {
    **dict.fromkeys((Task.PREDICT, Task.EXTRACT_FEATURES, Task.IMPORT_FEATURES), Unit.PATCHES),
    **dict.fromkeys(
        (
            Task.FIND_TISSUE, Task.TRAIN, Task.COMPUTE_TARGETS, Task.READ_TRUTH, Task.READ_MARKS, Task.LOAD_MODEL,
            Task.SAVE_MODEL, Task.START_WORKERS, Task.RUN_EXPERIMENT, Task.WRITE,
        ),
        Unit.STEPS,
    ),
    Task.MEASURE: Unit.EPOCHS,
    Task.PREPARE_DATASET: Unit.FILES,
}  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """`step` of `total` steps of a task are finished.

    Attributes
    ----------
    total
        None while it is unknown.
    item
        The slide's id or the network ("teacher", "oof-2") that the task works on; None if it works on several.
    epoch, epochs
        The current epoch, from 1, of how many; None outside a training.
    """

    task: Task
    step: int = 0
    total: int | None = None
    item: str | None = None
    epoch: int | None = None
    epochs: int | None = None

    def at(self, step: int, total: int) -> "Progress":
        """The same task, `step` of `total` further on."""
        return replace(self, step=step, total=total)


@dataclass(frozen=True)
class EpochEnd:
    """An epoch is over.

    Attributes
    ----------
    network
        "baseline", "teacher", "oof-1", "student".
    epoch, epochs
        The epoch that is over, from 1, of how many.
    losses
        Means over the training bags, by term.
    metrics
        Of the validation bags.
    best
        Whether the finished model would be taken from this epoch, were training to stop now.
    """

    network: str
    epoch: int
    epochs: int
    losses: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    best: bool = False


@dataclass(frozen=True)
class ItemStarted:
    """One item of many is begun; `result` is what the work fills from now on (a `PatchMap`)."""

    item: str
    result: Any = None


@dataclass(frozen=True)
class ItemDone:
    """One item of many is done; `result` is what it left (a `PatchMap`, a path)."""

    item: str
    result: Any = None


@dataclass(frozen=True)
class ItemFailed:
    """One item of many could not be done; the others go on. The error keeps no frames alive."""

    item: str
    error: Distill2LabelError

    def __post_init__(self) -> None:
        without_frames(self.error)


Result = TypeVar("Result")
Event = Progress | EpochEnd | Notice | ItemStarted | ItemDone | ItemFailed


def drain(work: Generator[Event, None, Result], show: Callable[[Event], None] = lambda event: None) -> Result:
    """Run `work` to its end, handing every event to `show`; return its result.

    `work` is closed before any exception of `show` (a Ctrl-C among them) leaves this function.
    """
    try:
        while True:
            show(next(work))
    except StopIteration as stop:
        result: Result = stop.value
        return result
    finally:
        work.close()
