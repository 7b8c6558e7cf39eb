"""How long a job will still take, from how fast its own parts have gone so far. No Qt.

Nothing is known in advance but which parts there are and what they cost relative to one another; seconds come from the
job itself. Until enough of it is done to say, there is no answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ...core.events import EpochEnd, Event, Failed, Finished, Progress
from ...core.settings import Settings, TrainingSettings

MEASURED = 1.0  # s of work before anything is said
ENOUGH = 0.02  # of a part, before its own speed is believed more than that of the others

# Of one pass over the training bags, in passes of plain MIL (benchmarks/steps.py): relative costs, never seconds.
COST = {"mil": 1.0, "teacher": 2.3, "assistant": 1.0, "student": 1.15}


@dataclass(frozen=True)
class Part:
    """A part of a job: a slide to predict (`name` is its id), or a network to train for `epochs` (its role).

    `weight` is what it costs, in units that all parts of the job share.
    """

    name: str
    weight: float = 1.0
    epochs: int = 1


def training_parts(settings: Settings, baseline: bool = False) -> tuple[Part, ...]:
    """The networks of a training, in order, each with what it costs."""

    def part(role: str, own: TrainingSettings, share: float = 1.0) -> Part:
        return Part(role, COST[role.partition("-")[0]] * own.epochs * share, own.epochs)

    parts = [part("mil", settings.teacher)] if baseline else []
    parts.append(part("teacher", settings.teacher))
    if settings.student.gamma_a:
        count = settings.assistant.parts
        each = (count - 1) / count  # an assistant does not see the slides it answers for
        parts += [part(f"assistant-{number}", settings.assistant, each) for number in range(1, count + 1)]
    return (*parts, part("student", settings.student))


class Remaining:
    """Follows the events of one job.

    Parameters
    ----------
    parts
        What the job consists of, in order; empty: whatever phase its `Progress` tells of is all that is known.
    """

    def __init__(self, parts: Sequence[Part] = ()) -> None:
        self.parts = tuple(parts)
        self._follow(parts)
        self._last: float | None = None

    def _follow(self, parts: Sequence[Part]) -> None:
        self._parts = {part.name: part for part in parts}
        self._done = dict.fromkeys(self._parts, 0.0)  # fraction of each part
        self._seconds = dict.fromkeys(self._parts, 0.0)  # spent on it
        self._fresh = dict.fromkeys(self._parts, 0.0)  # fraction of it that was done in these seconds
        self._begun: set[str] = set()

    def take(self, event: Event, now: float) -> None:
        """Note what an event says; `now` in seconds of a clock that only goes forward."""
        if isinstance(event, (Finished, Failed)):
            self._finish(event.item, now)
        elif isinstance(event, Progress):
            if not self.parts and event.phase not in self._parts:
                self._follow([Part(event.phase)])
            name = self._part_of(event.phase)
            if name is not None:
                self._move(name, event, now)
        self._last = now

    @property
    def fraction(self) -> float | None:
        """How much of the whole job is done, 0–1; None where its parts are not known."""
        total = sum(part.weight for part in self._parts.values())
        return sum(part.weight * self._done[part.name] for part in self._parts.values()) / total if total else None

    def at(self, now: float) -> float | None:
        """Seconds left; None while nobody can tell."""
        spent = sum(self._seconds.values())
        made = sum(self._parts[name].weight * fresh for name, fresh in self._fresh.items())
        if spent < MEASURED or made <= 0 or max(self._fresh.values()) < ENOUGH:
            return None
        left = 0.0
        for name, part in self._parts.items():
            known = self._fresh[name] >= ENOUGH
            each = self._seconds[name] / (self._fresh[name] * part.weight) if known else spent / made
            left += part.weight * (1 - self._done[name]) * each
        return max(0.0, left - (now - self._last if self._last is not None else 0.0))

    def _part_of(self, phase: str) -> str | None:
        """The part a phase is of: "teacher: epoch 3", "predicting slide_000", "features of slide_000"."""
        role, _, slide = phase.partition(":")[0], *phase.partition(" ")[1:]
        return next((name for name in (phase, role, slide, slide.removeprefix("of ")) if name in self._parts), None)

    def _move(self, name: str, event: Progress, now: float) -> None:
        fraction, epoch = event.done / event.total if event.total else 0.0, 1
        if not isinstance(event, EpochEnd) and ":" in event.phase:
            epoch = _number(event.phase)
            within = 1.0 if "validation" in event.phase else fraction
            fraction = min(1.0, (epoch - 1 + within) / self._parts[name].epochs)
        if name not in self._begun:
            self._begin(name)
            if epoch > 1:  # a training that is gone on with: these epochs took none of our time
                self._done[name] = fraction
        if self._last is not None:
            self._seconds[name] += now - self._last
        self._fresh[name] += max(0.0, fraction - self._done[name])
        self._done[name] = max(self._done[name], fraction)

    def _begin(self, name: str) -> None:
        """What comes before this part is over, or was done before this job."""
        self._begun.add(name)
        for before in self._parts:
            if before == name:
                return
            self._done[before] = 1.0

    def _finish(self, name: str, now: float) -> None:
        if name in self._begun and self._last is not None:
            self._seconds[name] += now - self._last
            self._fresh[name] += 1 - self._done[name]
        if name in self._parts:  # else it took no time: it was there already
            self._done[name] = 1.0


def _number(phase: str) -> int:
    """The epoch a phase is of, 1-based."""
    last = phase.rsplit(" ", 1)[-1]
    return int(last) if last.isdecimal() else 1
