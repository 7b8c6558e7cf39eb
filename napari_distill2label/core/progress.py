"""What progress means: the title of an event, and the time that is left of a job. No Qt; no sentence is parsed.

Nothing is known in advance but the parts of a job and what they cost relative to one another. Seconds come from the
job itself: until enough of it is done, there is no answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .events import EpochEnd, Event, ItemDone, ItemFailed, Progress, Task

if TYPE_CHECKING:
    from .settings import Settings, TrainingSettings

MIN_MEASURED = 1.0  # s of work before a time is given
MIN_FRACTION = 0.02  # of a part, before its own speed counts in place of the mean speed of all parts

# One pass over the training bags, in passes of the baseline (benchmarks/steps.py): relative costs, never seconds.
COST = {"baseline": 1.0, "teacher": 2.3, "oof": 1.0, "student": 1.15}


def title(event: Progress | EpochEnd) -> str:
    """The event in a few words: 'predicting S-001', 'segmenting tissue of S-001', 'teacher: epoch 3 of 20'."""
    if isinstance(event, EpochEnd):
        return f"{event.network}: epoch {event.epoch} of {event.epochs}"
    if event.epoch is not None:
        doing = "epoch" if event.task is Task.TRAIN else f"{event.task} epoch"
        return f"{event.item}: {doing} {event.epoch}" + (f" of {event.epochs}" if event.epochs else "")
    if event.item is None:
        return str(event.task)
    if event.task in _OF_THE_ITEM_ITSELF:
        return f"{event.task} {event.item}"
    return f"{event.task} of {'the ' * (event.task in _OF_A_NETWORK)}{event.item}"


_OF_THE_ITEM_ITSELF = (Task.PREDICT, Task.VALIDATE, Task.WRITE)  # 'predicting S-001', but 'segmenting tissue of S-001'
_OF_A_NETWORK = (Task.CHECK_TRAINING,)  # 'checking the fit of the teacher'


@dataclass(frozen=True)
class Part:
    """A part of a job: a slide (`name` is its id), or a network to train for `epochs`.

    `weight` is its cost, in units that all parts of the job share.
    """

    name: str
    weight: float = 1.0
    epochs: int = 1


def training_parts(settings: "Settings", baseline: bool = False) -> tuple[Part, ...]:
    """The networks of a training, in order, each with its cost."""

    def part(network: str, own: "TrainingSettings", share: float = 1.0) -> Part:
        return Part(network, COST[network.partition("-")[0]] * own.epochs * share, own.epochs)

    parts = [part("baseline", settings.teacher)] if baseline else []
    parts.append(part("teacher", settings.teacher))
    if settings.student.gamma_oof:
        count = settings.oof.folds
        share = (count - 1) / count  # each is trained without the slides that it answers for
        parts += [part(f"oof-{number}", settings.oof, share) for number in range(1, count + 1)]
    return (*parts, part("student", settings.student))


@dataclass
class _Pace:
    """How far a part is, and how fast it has gone."""

    part: Part
    done: float = 0.0  # fraction of the part
    seconds: float = 0.0  # spent on it in this job
    measured: float = 0.0  # fraction that was done in these seconds
    is_begun: bool = False


class TimeLeft:
    """Follows the events of one job.

    Parameters
    ----------
    parts
        What the job consists of, in order. Empty: the task that is going on is all that is known.
    """

    def __init__(self, parts: Sequence[Part] = ()) -> None:
        self.parts = tuple(parts)
        self._task: tuple[Task, str | None] | None = None  # the only part, where none were given
        self._paces = {part.name: _Pace(part) for part in parts}
        self._last: float | None = None  # when the last event came

    def update(self, event: Event, now: float) -> None:
        """Follow an event; `now` is in seconds of a clock that only goes forward."""
        if isinstance(event, ItemDone | ItemFailed):
            self._end(event.item, now)
        elif isinstance(event, Progress | EpochEnd):
            self._advance(event, now)
        self._last = now

    @property
    def fraction(self) -> float | None:
        """Share of the whole job that is done, 0-1; None where its parts are not known."""
        total = sum(pace.part.weight for pace in self._paces.values())
        return sum(pace.part.weight * pace.done for pace in self._paces.values()) / total if total else None

    def at(self, now: float) -> float | None:
        """Seconds left; None while unknown."""
        paces = self._paces.values()
        spent = sum(pace.seconds for pace in paces)
        measured = sum(pace.part.weight * pace.measured for pace in paces)
        if spent < MIN_MEASURED or measured <= 0 or max(pace.measured for pace in paces) < MIN_FRACTION:
            return None
        left = 0.0
        for pace in paces:
            has_speed = pace.measured >= MIN_FRACTION
            per_unit = pace.seconds / (pace.measured * pace.part.weight) if has_speed else spent / measured
            left += pace.part.weight * (1 - pace.done) * per_unit
        return max(0.0, left - (now - self._last if self._last is not None else 0.0))

    def _advance(self, event: Progress | EpochEnd, now: float) -> None:
        pace = self._pace_of(event)
        if pace is None:
            return
        fraction = _fraction(event, pace.part.epochs)
        if not pace.is_begun:
            self._begin(pace)
            if isinstance(event, Progress) and (event.epoch or 1) > 1:  # a resumed training: done before this job
                pace.done = fraction
            elif isinstance(event, Progress) and event.task is Task.COMPUTE_TARGETS:  # so was all of its training
                pace.done = 1.0
        self._measure(pace, fraction, now)

    def _pace_of(self, event: Progress | EpochEnd) -> _Pace | None:
        if self.parts:
            return self._paces.get((event.network if isinstance(event, EpochEnd) else event.item) or "")
        if isinstance(event, EpochEnd):
            return None
        if self._task != (event.task, event.item):
            self._task = (event.task, event.item)
            self._paces = {"": _Pace(Part(""))}
        return self._paces[""]

    def _measure(self, pace: _Pace, fraction: float, now: float) -> None:
        if self._last is not None:  # nobody knows how long the first event took
            pace.seconds += now - self._last
            pace.measured += max(0.0, fraction - pace.done)
        pace.done = max(pace.done, fraction)

    def _begin(self, pace: _Pace) -> None:
        """What comes before this part is over, or was done before this job."""
        for before in self._before(pace):
            before.done = 1.0
        pace.is_begun = True

    def _before(self, pace: _Pace) -> Iterator[_Pace]:
        for other in self._paces.values():
            if other is pace:
                return
            yield other

    def _end(self, item: str, now: float) -> None:
        pace = self._paces.get(item)
        if pace is None:
            return
        if pace.is_begun:
            self._measure(pace, 1.0, now)
        pace.done = 1.0  # a part that was never begun was done before, and took no time


def _fraction(event: Progress | EpochEnd, epochs: int) -> float:
    """Share of a part that is done after an event."""
    if isinstance(event, EpochEnd):
        return min(1.0, event.epoch / event.epochs)
    within = event.step / event.total if event.total else 0.0
    if event.epoch is None:
        return within
    if event.task is Task.VALIDATE:  # the training of this epoch is over
        within = 1.0
    return min(1.0, (event.epoch - 1 + within) / epochs)
