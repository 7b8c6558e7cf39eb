"""Long work off the GUI thread: a workflow generator drained by one worker, with nothing lost on the way.

`relay` is the part without Qt. It never raises: whatever happens to the work, an out-of-memory error included, is
its return value (`Done`, `Cancelled` or `Broken`), because napari's worker silently drops every `RuntimeError` that
leaves a generator, and torch's out-of-memory error is one. It closes the work in the thread that ran it.
"""

import gc
import itertools
import os
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from psygnal import Signal

from ..core.errors import Distill2LabelError
from ..core.events import EpochEnd, Event, Progress

Work = Generator[Event, None, Any]
MIN_INTERVAL = 0.1  # s between two `Progress` events that reach the window; others pass at once
WAIT_AT_CLOSE = 5.0  # s that a closing session gives its work to leave the last checkpoint whole


class BusyError(Distill2LabelError):
    """Another job is still running: one at a time."""


@dataclass(frozen=True)
class Done:
    """The work came to its end; `value` is what it returned."""

    value: Any


@dataclass(frozen=True)
class Cancelled:
    """The work was closed because someone asked for it."""


@dataclass(frozen=True)
class Broken:
    """The work failed: one line for people, the traceback for those who mend it."""

    message: str
    details: str
    error: BaseException | None = None


Outcome = Done | Cancelled | Broken
State = Literal["running", "cancelling", "done", "cancelled", "failed"]


def relay(
    make_work: Callable[[], Work], cancel: threading.Event, spare_a_core: bool = True
) -> Generator[Event, None, Outcome]:
    """Run `make_work()` to its end in the thread that drains this, and pass on its events.

    Of `Progress` at most one per 0.1 s is passed on, but for the last of a phase.

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
                    if now - last < MIN_INTERVAL and event.done != event.total:
                        continue
                    last = now
                yield event
        return Cancelled()
    except StopIteration as stop:
        return Done(stop.value)
    except Distill2LabelError as error:
        return Broken(str(error), traceback.format_exc(), _bare(error))
    except Exception as error:  # noqa: BLE001 - all of it is shown to the user: see the module's first lines
        return Broken(plain_reason(error), traceback.format_exc(), _bare(error))
    finally:
        if work is not None:
            work.close()
        del work
        _free_memory()


def _bare(error: BaseException) -> BaseException:
    """The error without its frames, which would keep bags and tensors alive for as long as it is shown."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def plain_reason(error: BaseException) -> str:
    """One line for an error that nobody foresaw."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, MemoryError) or "out of memory" in first.lower():
        return "out of memory: choose the device 'cpu', smaller batches or fewer patches, and try again"
    return f"unexpected {type(error).__name__}: {first}" if first else f"unexpected {type(error).__name__}"


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


class Job:
    """One piece of long work. Its attributes change in the GUI thread only."""

    _ids = itertools.count(1)

    def __init__(self, kind: str, title: str) -> None:
        self.id = next(Job._ids)
        self.kind, self.title = kind, title
        self.state: State = "running"
        self.phase, self.done, self.total = title, 0, 0
        self.outcome: Outcome | None = None
        self.notes: list[str] = []  # what the user should know when it is over
        self.cancel_flag = threading.Event()
        self.began = threading.Event()  # set in the worker's thread, before the work is made
        self.finished = threading.Event()  # and after it is closed

    @property
    def is_running(self) -> bool:
        return self.outcome is None

    @property
    def text(self) -> str:
        """What to show beside the progress bar."""
        if self.state == "cancelling":
            return f"Cancelling: {self.phase}…"
        if isinstance(self.outcome, Broken):
            return f"{self.title} failed: {self.outcome.message}"
        if isinstance(self.outcome, Cancelled):
            return f"{self.title}: cancelled"
        if isinstance(self.outcome, Done):
            notes = f" ({len(self.notes)} to note, see the details)" if self.notes else ""
            return f"{self.title}: done{notes}"
        return f"{self.phase} ({self.done}/{self.total})" if self.total else f"{self.phase}…"

    @property
    def details(self) -> str:
        """What only the curious read: notes, and the traceback of a failure."""
        traceback_lines = [self.outcome.details] if isinstance(self.outcome, Broken) else []
        return "\n".join([*self.notes, *traceback_lines])

    def cancel(self) -> None:
        """Ask the work to stop at its next step. More than once does nothing."""
        self.cancel_flag.set()
        if self.is_running:
            self.state = "cancelling"

    def result(self) -> Any:
        """What the work returned. Raises its error; None after a cancel."""
        if isinstance(self.outcome, Broken):
            raise self.outcome.error or Distill2LabelError(self.outcome.message)
        return self.outcome.value if isinstance(self.outcome, Done) else None

    def _take(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.phase, self.done, self.total = _phase(event), event.done, event.total or 0

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.state = {Done: "done", Cancelled: "cancelled", Broken: "failed"}[type(outcome)]


def _phase(event: Progress) -> str:
    if isinstance(event, EpochEnd):
        loss = event.metrics.get("valid_loss")
        told = "" if loss is None else f", validation loss {loss:.3f}"
        return f"{event.phase}: epoch {event.done}{told}"
    return event.phase


class Jobs:
    """Runs one job at a time: in a napari worker where there is a window, else at once in the calling thread."""

    changed = Signal(object)  # Job: started, moved on, or ended
    event = Signal(object, object)  # Job, Event

    def __init__(self, threaded: Callable[[], bool]) -> None:
        self._threaded = threaded
        self.current: Job | None = None
        self.last: Job | None = None
        self._worker: Any = None

    @property
    def busy(self) -> bool:
        return self.current is not None

    def start(
        self, kind: str, title: str, make_work: Callable[[], Work], on_done: Callable[[Any], None] = lambda value: None
    ) -> Job:
        """Start work; `on_done(value)` is called in this thread when it succeeds. `BusyError` while another runs."""
        if self.current is not None:
            raise BusyError(f"{self.current.title} is still going on: wait for it, or cancel it")
        job = self.current = Job(kind, title)
        if not self._threaded():
            self.changed.emit(job)
            self._run_here(job, make_work, on_done)
            return job
        self._worker = _start_worker(self, job, make_work, on_done)
        self.changed.emit(job)
        return job

    def cancel(self) -> None:
        if self.current is not None and self.current.state == "running":
            self.current.cancel()
            self.changed.emit(self.current)

    def wait(self, job: Job) -> Job:
        """Block the caller, but not the window, until `job` has ended."""
        if job.is_running:
            from qtpy.QtCore import QEventLoop, QTimer

            loop, timer = QEventLoop(), QTimer()
            timer.timeout.connect(lambda: None if job.is_running else loop.quit())
            timer.start(20)
            loop.exec()
            timer.stop()
        return job

    def shutdown(self) -> None:
        """Cancel what runs, give it a moment to close its files, and drop what it may still send. Idempotent."""
        job, self.current, self._worker = self.current, None, None
        if job is not None:
            job.cancel()
            if job.began.is_set() and threading.current_thread() is threading.main_thread():
                job.finished.wait(WAIT_AT_CLOSE)
            job._end(Cancelled())

    # ---- called in the GUI thread ---------------------------------------------------------------------------

    def _on_event(self, job: Job, event: Event) -> None:
        if job is self.current:  # else it comes late, from a job that nobody waits for any more
            job._take(event)
            self.event.emit(job, event)
            self.changed.emit(job)

    def _on_outcome(self, job: Job, outcome: Outcome, on_done: Callable[[Any], None]) -> None:
        if job is not self.current:
            return
        self.current, self._worker, self.last = None, None, job
        job._end(outcome)
        try:
            if isinstance(outcome, Done):
                on_done(outcome.value)
        finally:
            self.changed.emit(job)

    def _run_here(self, job: Job, make_work: Callable[[], Work], on_done: Callable[[Any], None]) -> None:
        events = relay(make_work, job.cancel_flag, spare_a_core=False)
        try:
            while True:
                self._on_event(job, next(events))
        except StopIteration as stop:
            job.finished.set()
            self._on_outcome(job, stop.value, on_done)
        finally:
            events.close()
            if job is self.current:  # an interrupt, or an error in a listener
                self._on_outcome(job, Cancelled(), on_done)


def _start_worker(jobs: Jobs, job: Job, make_work: Callable[[], Work], on_done: Callable[[Any], None]) -> Any:
    """A napari worker, so that napari's Activity dock shows it and closing the window asks first."""
    from napari.qt.threading import GeneratorWorker, create_worker

    class Worker(GeneratorWorker):
        """`quit` (napari calls it when the window closes) would leave the generator open: set our flag instead."""

        def quit(self) -> None:
            job.cancel()

    def drain() -> Generator[Event, None, Outcome]:
        job.began.set()
        try:
            return (yield from relay(make_work, job.cancel_flag))
        finally:
            job.finished.set()

    drain.__name__ = drain.__qualname__ = job.title  # napari names it so when it asks whether to close

    worker = create_worker(drain, _worker_class=Worker, _progress={"desc": job.title}, _start_thread=False)
    owner = weakref.ref(jobs)  # a window that is closed is freed, though the work may need another moment
    bar = weakref.ref(worker.pbar)

    def on_event(event: Event) -> None:
        if (alive := owner()) is not None:
            alive._on_event(job, event)
            if job is alive.current:
                _show_in_activity_dock(bar(), job)

    def on_outcome(outcome: Outcome) -> None:
        if (alive := owner()) is not None:
            alive._on_outcome(job, outcome, on_done)

    def on_error(error: Exception) -> None:  # only if the machinery around the work itself fails
        on_outcome(Broken(plain_reason(error), "".join(traceback.format_exception(error)), error))

    worker.yielded.connect(on_event)
    worker.returned.connect(on_outcome)
    worker.errored.connect(on_error)
    # The worker captures every warning of the process while it runs; without a listener they would vanish.
    worker.warned.connect(lambda shown: print(f"{shown[1].__name__}: {shown[0]}", file=sys.stderr))
    worker.start()
    return worker


def _show_in_activity_dock(bar: Any, job: Job) -> None:
    if bar is None:
        return
    if bar.desc.removesuffix(": ") != job.phase:
        bar.set_description(job.phase)
    if job.total:
        if bar.total != job.total:
            bar.total = job.total
        bar.n = job.done
        bar.events.value(value=job.done)
