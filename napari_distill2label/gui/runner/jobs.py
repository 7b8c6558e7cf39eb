"""Long work off the GUI thread: one job computes at a time, the others wait in a queue that everybody can see.

`draining` runs the work of a job; here it gets its turn and its thread, and everybody is told how it ended.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from psygnal import Signal

from ...core.errors import Distill2LabelError
from ...core.events import EpochEnd, Event, Progress, Task, Unit
from ...core.network_names import in_words
from ...core.progress import Part, TimeLeft, title
from . import draining
from .draining import Cancelled, Done, Failure, Outcome, Work, drain_safely, failure_of
from .worker import start_worker

__all__ = ["BusyError", "Cancelled", "DependencyCancelled", "Done", "Failure", "Job", "JobQueue", "RetryOffer", "Work"]

State = Literal["queued", "running", "cancelling", "done", "cancelled", "failed"]
ENDS: dict[type[Outcome], State] = {Done: "done", Cancelled: "cancelled", Failure: "failed"}
WAIT_AT_CLOSE = 5.0  # s that a closing session gives its work to leave the last checkpoint whole
PAST = 20  # jobs that are remembered


class BusyError(Distill2LabelError):
    """Without a window, a job cannot be waited for from inside another one."""


class DependencyCancelled(Exception):
    """Of `prepare`: what this job builds on was cancelled, and so is it. Says so in one sentence."""


class RetryOffer(NamedTuple):
    """What to try after a failure: `text` for a button, `start` for pressing it."""

    text: str
    start: Callable[[], object]


class Job:
    """One piece of long work. Its attributes change in the GUI thread only.

    Attributes
    ----------
    kind, title
        train, predict, export, … and what to call it.
    state
        queued, running, cancelling; then done, cancelled or failed.
    phase, done, total, unit
        What it is doing: `done` of `total` steps of `phase` (0 of 0 while unknown), and what the steps are; None where
        `phase` says it.
    started_at
        Seconds since the epoch (`time.time`); None while it is queued.
    notes
        What the user should know when it is over.
    kept
        What to say of it when it is cancelled: what is kept, or why it was.
    summary
        What came of it, in a sentence or two; "" where "done" says it.
    retry, retry_text
        After a failure: what starts it again, on the CPU for one, and what to call that. Else None and "".
    """

    _ids = itertools.count(1)

    def __init__(self, kind: str, name: str, parts: Sequence[Part] = (), kept: str = "") -> None:
        self.id, self.kept = next(Job._ids), kept
        self.kind, self.title = kind, name
        self.state: State = "queued"
        self.phase, self.done, self.total = name, 0, 0
        self.unit: Unit | None = None
        self.started_at: float | None = None
        self.outcome: Outcome | None = None
        self.notes: list[str] = []
        self.summary = ""
        self.retry: Callable[[], object] | None = None
        self.retry_text = ""
        self.cancel_flag = threading.Event()
        self.began = threading.Event()  # set in the worker's thread, before the work is made
        self.finished = threading.Event()  # and after it is closed
        self.time_left = TimeLeft(parts)
        self._began_at: float | None = None  # of the clock that only goes forward
        self._ended_at: float | None = None

    def __repr__(self) -> str:
        return f"<{self.kind} job {self.id}: {self.text}>"

    @property
    def is_running(self) -> bool:
        """Is it not over yet? So is one that waits."""
        return self.outcome is None

    @property
    def elapsed(self) -> float:
        """Seconds it has been computing, or did; 0 while it is queued."""
        if self._began_at is None:
            return 0.0
        return (self._ended_at if self._ended_at is not None else time.monotonic()) - self._began_at

    @property
    def remaining(self) -> float | None:
        """Seconds it will still take, by how fast it has been so far; None while nobody can tell, and at its end."""
        return self.time_left.at(time.monotonic()) if self.state == "running" else None

    @property
    def fraction(self) -> float | None:
        """How much of all it has to do is done, 0–1; None where that is not known."""
        return 1.0 if isinstance(self.outcome, Done) else self.time_left.fraction

    @property
    def text(self) -> str:
        """What to show beside the progress bar."""
        if self.state == "queued":
            return f"{self.title}: waiting"
        if self.state == "cancelling":
            return f"Cancelling: {self.phase}…"
        if isinstance(self.outcome, Failure):
            return f"{self.title} failed: {self.outcome.message}"
        if isinstance(self.outcome, Cancelled):
            return f"{self.title}: cancelled{f'. {self.kept}' if self.kept and self._began_at else ''}"
        if isinstance(self.outcome, Done) and self.summary:
            return self.summary
        if isinstance(self.outcome, Done):
            notes = f" ({len(self.notes)} to note, see the details)" if self.notes else ""
            return f"{self.title}: done{notes}"
        if not self.total:
            return f"{self.phase}…"
        return f"{self.phase} ({self.done}/{self.total} {self.unit})" if self.unit else self.phase

    @property
    def details(self) -> str:
        """What only the curious read: notes, and the traceback of a failure."""
        traceback_lines = [self.outcome.details] if isinstance(self.outcome, Failure) else []
        return "\n".join([*self.notes, *traceback_lines])

    def cancel(self) -> None:
        """Ask the work to stop at its next step. More than once does nothing."""
        self.cancel_flag.set()
        if self.state == "running":
            self.state = "cancelling"

    def result(self) -> Any:
        """What the work returned. Raises its error; None after a cancel."""
        if isinstance(self.outcome, Failure):
            raise self.outcome.error or Distill2LabelError(self.outcome.message)
        return self.outcome.value if isinstance(self.outcome, Done) else None

    def _begin(self) -> None:
        self.state, self.started_at, self._began_at = "running", time.time(), time.monotonic()

    def _take(self, event: Event) -> None:
        self.time_left.update(event, time.monotonic())
        if isinstance(event, EpochEnd):
            self.phase, self.done, self.total, self.unit = _epoch(event), event.epoch, event.epochs, None
        elif isinstance(event, Progress):
            self.phase, self.done, self.total, self.unit = _doing(event), event.step, event.total or 0, event.task.unit

    def _end(self, outcome: Outcome) -> None:
        self.outcome, self._ended_at = outcome, time.monotonic()
        self.state = ENDS[type(outcome)]


def _epoch(event: EpochEnd) -> str:
    loss = event.metrics.get("valid_loss")
    what = title(replace(event, network=in_words(event.network)))
    return what if loss is None else f"{what}, validation loss {loss:.3f}"


def _doing(event: Progress) -> str:
    if event.task is Task.COMPUTE_TARGETS:
        return f"{in_words(event.item or 'network').capitalize()} scores the slides"
    if event.item is not None and event.task in (Task.TRAIN, Task.VALIDATE, Task.CHECK_TRAINING):
        return title(replace(event, item=in_words(event.item)))
    return title(event)


class _Task(NamedTuple):
    """What a job is to do, and what comes before and after."""

    make_work: Callable[[], Work]
    on_done: Callable[[Any], str | None]
    prepare: Callable[[], None]
    retry: Callable[[Failure], RetryOffer | None] | None


class JobQueue:
    """Runs one job at a time: in a napari worker where there is a window, else at once in the calling thread.

    `threaded`: is there a window? `spare_a_core`: may the next job's torch not use all cores?

    Attributes
    ----------
    current
        The job that computes; None if none does.
    """

    changed = Signal(object)  # Job: queued, started, moved on (at most twice a second), or ended
    event = Signal(object, object)  # Job, Event

    def __init__(self, threaded: Callable[[], bool], spare_a_core: Callable[[], bool] = lambda: True) -> None:
        self._threaded, self._spare_a_core = threaded, spare_a_core
        self.current: Job | None = None
        self._queue: dict[Job, _Task] = {}
        self._task: _Task | None = None  # of the current job
        self._past: deque[Job] = deque(maxlen=PAST)
        self._worker: Any = None
        self._told = 0.0  # when `changed` was sent last

    @property
    def busy(self) -> bool:
        """Is there work going on, or waiting?"""
        return self.current is not None or bool(self._queue)

    @property
    def queue(self) -> tuple[Job, ...]:
        """The jobs that wait for their turn, the next one first."""
        return tuple(self._queue)

    @property
    def past(self) -> tuple[Job, ...]:
        """The last twenty jobs that ended, the latest last."""
        return tuple(self._past)

    @property
    def last(self) -> Job | None:
        """The job that ended last."""
        return self._past[-1] if self._past else None

    def of_kind(self, *kinds: str) -> Job | None:
        """The running job of one of these kinds, else the first that waits; None if there is none."""
        alive = ([self.current] if self.current else []) + list(self._queue)
        return next((job for job in alive if job.kind in kinds), None)

    def start(
        self,
        kind: str,
        title: str,
        make_work: Callable[[], Work],
        on_done: Callable[[Any], str | None] = lambda value: None,
        *,
        parts: Sequence[Part] = (),
        prepare: Callable[[], None] = lambda: None,
        retry: Callable[[Failure], RetryOffer | None] | None = None,
        kept: str = "",
    ) -> Job:
        """Do work when it is its turn: at once, unless another job computes.

        Parameters
        ----------
        make_work
            Called in the worker's thread.
        on_done
            Called here, with what the work returned, if it succeeds. It may return a summary of what came of it.
        parts
            What the work consists of, where that is known: what is left of it can be told then.
        prepare
            Called here when its turn comes: what depends on the jobs before it is looked up now. An error is that of
            the job, and `DependencyCancelled` cancels it.
        retry
            What to offer after a failure; None: the same again.
        kept
            What to say of a cancelled job that had begun.
        """
        job = Job(kind, title, parts, kept)
        self._queue[job] = _Task(make_work, on_done, prepare, retry)
        if self.current is None:
            self._next()
        else:
            self._tell(job)
        return job

    def run(self, *what: Any, wait: bool, result: Callable[[Any], Any] = lambda value: value, **how: Any) -> Any | Job:
        """`start`; with `wait` until it has ended: then `result` of what the work returned, None after a cancel."""
        job = self.start(*what, **how)
        if not wait:
            return job
        value = self.wait(job).result()
        return None if value is None else result(value)

    def coming(self, *kinds: str) -> Job | None:
        """The last job of one of these kinds that runs or waits."""
        alive = ([self.current] if self.current else []) + list(self._queue)
        return next((job for job in reversed(alive) if job.kind in kinds), None)

    def cancel(self, job: Job | None = None) -> None:
        """Ask a job (None: the one that computes) to stop; one that waits is taken out of the queue."""
        job = job or self.current
        if job in self._queue:
            del self._queue[job]
            job.cancel()
            self._conclude(job, Cancelled())
        elif job is not None and job is self.current and job.state == "running":
            job.cancel()
            self._tell(job)

    def wait(self, job: Job) -> Job:
        """Block the caller, but not the window, until `job` has ended."""
        if job.is_running and not self._threaded():
            before = self.current.title if self.current else "The job before it"
            raise BusyError(f"{before} is still going on: start {job.title} after it")
        if job.is_running:
            from qtpy.QtCore import QEventLoop, QTimer

            loop, timer = QEventLoop(), QTimer()
            timer.timeout.connect(lambda: None if job.is_running else loop.quit())
            timer.start(20)
            loop.exec()
            timer.stop()
        return job

    def shutdown(self) -> None:
        """Cancel everything and drop what it may still send; what runs gets a moment to close its files. Idempotent."""
        job, self.current, self._worker, self._task = self.current, None, None, None
        waiting, self._queue = list(self._queue), {}
        for each in waiting:
            each.cancel()
            each._end(Cancelled())
        if job is not None:
            job.cancel()
            if job.began.is_set() and threading.current_thread() is threading.main_thread():
                job.finished.wait(WAIT_AT_CLOSE)
            job._end(Cancelled())

    # ---- called in the GUI thread ---------------------------------------------------------------------------

    def _tell(self, job: Job) -> None:
        self._told = time.monotonic()
        self.changed.emit(job)

    def _next(self) -> None:
        """Begin the first job of the queue."""
        while self.current is None and self._queue:
            job = next(iter(self._queue))
            task = self._queue.pop(job)
            self.current, self._task = job, task
            job._begin()
            try:
                task.prepare()
            except DependencyCancelled as reason:
                job.kept = str(reason)
                self._tell(job)
                self.take_outcome(job, Cancelled())
            except Exception as error:  # noqa: BLE001 - shown as the job's own, whatever it is
                self._tell(job)
                self.take_outcome(job, failure_of(error))
            else:
                if self._threaded():
                    self._worker = start_worker(self, job, task.make_work, self._spare_a_core())
                    self._tell(job)
                else:
                    self._tell(job)
                    self._run_here(job, task.make_work)

    def take_event(self, job: Job, event: Event) -> None:
        if job is not self.current:  # it comes late, from a job that nobody waits for any more
            return
        job._take(event)
        self.event.emit(job, event)
        if job is self.current and time.monotonic() - self._told >= draining.MIN_INTERVAL:
            self._tell(job)

    def take_outcome(self, job: Job, outcome: Outcome) -> None:
        if job is not self.current:
            return
        task, self.current, self._worker, self._task = self._task, None, None, None
        try:
            self._conclude(job, outcome, task)
        finally:
            self._next()

    def _conclude(self, job: Job, outcome: Outcome, task: _Task | None = None) -> None:
        job._end(outcome)
        self._past.append(job)
        if isinstance(outcome, Failure) and task is not None:
            offered = task.retry(outcome) if task.retry else RetryOffer("Try again", lambda: self._again(job, task))
            job.retry_text, job.retry = offered or ("", None)
        try:
            if isinstance(outcome, Done) and task is not None:
                job.summary = task.on_done(outcome.value) or ""
        finally:
            self._tell(job)

    def _again(self, job: Job, task: _Task) -> Job:
        """The same once more. What was known of how long it takes is of no use to it."""
        return self.start(
            job.kind, job.title, task.make_work, task.on_done, parts=job.time_left.parts, prepare=task.prepare,
            retry=task.retry, kept=job.kept,
        )  # fmt: skip

    def _run_here(self, job: Job, make_work: Callable[[], Work]) -> None:
        events = drain_safely(make_work, job.cancel_flag, spare_a_core=False)
        try:
            while True:
                self.take_event(job, next(events))
        except StopIteration as stop:
            job.finished.set()
            self.take_outcome(job, stop.value)
        finally:
            events.close()
            if job is self.current:  # an interrupt, or an error in a listener
                self.take_outcome(job, Cancelled())
