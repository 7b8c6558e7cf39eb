"""Long work is a generator of frozen events; whoever drains it shows them and may close it.

A verb of `workflow` yields events at least every 0.2 s of work and *returns* its result. Closing the generator
cancels the work: its `finally` blocks run in the thread that closes it and leave the last checkpoint whole.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar


@dataclass(frozen=True)
class Progress:
    """`done` of `total` steps of `phase` are finished (`total` is None while unknown)."""

    phase: str
    done: int
    total: int | None = None
    losses: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochEnd(Progress):
    """An epoch is over: `losses` are means over its training bags, `metrics` those of the validation bags."""

    best: bool = False  # is this the epoch the finished model would be taken from, were training to stop now?


@dataclass(frozen=True)
class Notice:
    """Something the user should know and may act on; the work goes on."""

    message: str


@dataclass(frozen=True)
class Failed:
    """One item of many could not be done; the others go on."""

    item: str
    reason: str


@dataclass(frozen=True)
class Begun:
    """One item of many is begun; `result` is what the work fills from now on (a `PatchMap`)."""

    item: str
    result: object = None


@dataclass(frozen=True)
class Finished:
    """One item of many is done; `result` is what it left (a `PatchMap`, a path)."""

    item: str
    result: object = None


Result = TypeVar("Result")
Event = Progress | Notice | Begun | Failed | Finished


def drain(work: Generator[Event, None, Result], show: Callable[[Event], None] = lambda event: None) -> Result:
    """Run `work` to its end, handing every event to `show`; return its result.

    `work` is closed before any exception of `show` (a Ctrl-C among them) leaves this function.
    """
    try:
        while True:
            show(next(work))
    except StopIteration as stop:
        return stop.value
    finally:
        work.close()
