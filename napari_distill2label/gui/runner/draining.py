"""A workflow generator drained in whichever thread calls, with nothing lost on the way. No Qt.

`drain_safely` never raises: whatever happens to the work, an out-of-memory error included, is its return value (`Done`,
`Cancelled` or `Failure`), because napari's worker silently drops every `RuntimeError` that leaves a generator, and
torch's out-of-memory error is one. It closes the work in the thread that ran it.
"""

import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...core.errors import Distill2LabelError, without_frames
from ...core.events import Event, Progress
from ...core.resource_errors import may_be_out_of_memory
from ..messages import reason_of

Work = Generator[Event, None, Any]
MIN_INTERVAL = 0.5  # s between two `Progress` events that reach the window, which each draws it; others pass at once


@dataclass(frozen=True)
class Done:
    """The work came to its end; `value` is what it returned."""

    value: Any


@dataclass(frozen=True)
class Cancelled:
    """The work was closed because someone asked for it."""


@dataclass(frozen=True)
class Failure:
    """The work failed: one line for people, the traceback for those who mend it."""

    message: str
    details: str
    error: BaseException | None = None
    out_of_memory: bool = False


Outcome = Done | Cancelled | Failure


def drain_safely(
    make_work: Callable[[], Work], cancel: threading.Event, spare_a_core: bool = True
) -> Generator[Event, None, Outcome]:
    """Run `make_work()` to its end in the thread that drains this, and pass on its events.

    Of `Progress` at most one per 0.5 s is passed on; everything else is, the end of an epoch included.
    `cancel` is looked at before every step of the work. With `spare_a_core` torch leaves one to the window.
    """
    work = None
    last = 0.0
    try:
        if cancel.is_set():
            return Cancelled()
        work = make_work()  # imports torch, unless it is there already
        with _courtesy(spare_a_core):
            while not cancel.is_set():
                event = next(work)
                if type(event) is Progress:
                    now = time.monotonic()
                    if now - last < MIN_INTERVAL:
                        continue
                    last = now
                yield event
        return Cancelled()
    except StopIteration as stop:
        return Done(stop.value)
    except Exception as error:  # noqa: BLE001 - all of it is shown to the user: see the module's first lines
        return failure_of(error)
    finally:
        if work is not None:
            work.close()
        del work
        _free_memory()


def then(work: Work, finish: Callable[[Any], Any]) -> Work:
    """The same work, its result changed by `finish`, still in the worker's thread."""
    return finish((yield from work))


def failure_of(error: BaseException) -> Failure:
    """An exception as an outcome: in plain words, with its traceback, and without what it keeps alive."""
    known = isinstance(error, Distill2LabelError)
    details = "".join(traceback.format_exception(error))
    return Failure(reason_of(error), details, without_frames(error), not known and may_be_out_of_memory(error))


@contextmanager
def _courtesy(spare_a_core: bool) -> Iterator[None]:
    """Leave one core to the window while computing. torch is looked at only if the work has imported it."""
    torch = sys.modules.get("torch")
    if not spare_a_core or torch is None or not hasattr(torch, "set_num_threads"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, (os.cpu_count() or 2) - 1)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _free_memory() -> None:
    """Give a GPU's memory back: torch keeps what its garbage held."""
    torch = sys.modules.get("torch")
    if torch is not None and getattr(torch, "cuda", None) and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
