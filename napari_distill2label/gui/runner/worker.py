"""A job's work in a napari worker, so that napari's Activity dock shows it and closing the window asks first."""

import sys
import traceback
import weakref
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from ...core.events import Event
from ..messages import reason_of
from .draining import Failure, Outcome, Work, drain_safely
from .gui_thread import in_gui_thread

if TYPE_CHECKING:
    from .jobs import Job, JobQueue


def start_worker(jobs: "JobQueue", job: "Job", make_work: Callable[[], Work], spare_a_core: bool) -> Any:
    """Run the job's work in a thread; what comes of it is handed to `jobs` in the GUI thread.

    `spare_a_core`: torch leaves one core of the processor to the window.
    """
    from napari.qt.threading import GeneratorWorker, create_worker

    class Worker(GeneratorWorker):
        """`quit` (napari calls it when the window closes) would leave the generator open: set our flag instead."""

        def quit(self) -> None:
            job.cancel()

    def drain() -> Generator[Event, None, Outcome]:
        job.began.set()
        try:
            return (yield from drain_safely(make_work, job.cancel_flag, spare_a_core))
        finally:
            job.finished.set()

    drain.__name__ = drain.__qualname__ = job.title  # napari names it so when it asks whether to close

    worker = create_worker(drain, _worker_class=Worker, _progress={"desc": job.title}, _start_thread=False)
    worker.pbar.gui, worker.pbar.sp = True, None  # in the Activity dock alone: not on the terminal too
    owner = weakref.ref(jobs)  # a window that is closed is freed, though the work may need another moment
    bar = weakref.ref(worker.pbar)

    def on_event(event: Event) -> None:
        if (alive := owner()) is not None:
            alive.take_event(job, event)
            if job is alive.current:
                _show_in_activity_dock(bar(), job)

    def on_outcome(outcome: Outcome) -> None:
        if (alive := owner()) is not None:
            alive.take_outcome(job, outcome)

    def on_error(error: Exception) -> None:  # only if the machinery around the work itself fails
        on_outcome(Failure(reason_of(error), "".join(traceback.format_exception(error)), error))

    # Qt's binding may call a plain function in the thread that emits: a call from there is left for the window's.
    worker.yielded.connect(in_gui_thread(on_event))
    worker.returned.connect(in_gui_thread(on_outcome))
    worker.errored.connect(in_gui_thread(on_error))
    # The worker captures every warning of the process while it runs; without a listener they would vanish.
    worker.warned.connect(lambda shown: print(f"{shown[1].__name__}: {shown[0]}", file=sys.stderr))
    worker.start()
    return worker


def _show_in_activity_dock(bar: Any, job: "Job") -> None:
    if bar is None:
        return
    if bar.desc.removesuffix(": ") != job.phase:
        bar.set_description(job.phase)
    if job.total:
        if bar.total != job.total:
            bar.total = job.total
        bar.n = job.done
        bar.events.value(value=job.done)
