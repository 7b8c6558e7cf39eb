"""Runs the tasks of an experiment, here or on a dask cluster, and writes their rows as soon as they are known."""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from napari_distill2label.core.errors import Distill2LabelError, SettingsError
from napari_distill2label.core.events import Event, Failed, Notice, Progress, drain
from napari_distill2label.prediction.cluster import INSTALL, is_open, local_client, open_scheduler, remote_client
from napari_distill2label.store.files import write_bytes

from .results import Key, Results, Row
from .times import Elapsed, note, timed

HEARTBEAT = 0.2  # seconds between events while workers compute
ONE_THREAD = (
    "has workers of several threads, and trainings side by side in one process are not repeatable: start them with "
    "dask worker --nthreads 1 (--nworkers for more on a machine)"
)


@dataclass(frozen=True)
class Task:
    """A piece of an experiment that can be done anywhere, on its own.

    `work` is picklable (a `functools.partial` of a function of a module) and gives a generator of events that returns
    the rows of all `keys`, or an `Outcome` with files besides. If some of the keys are there already, all is done
    again: their rows stay, the files are replaced.
    """

    name: str
    keys: tuple[Key, ...]
    work: Callable[[], Generator[Event, None, "list[Row] | Outcome"]]


@dataclass
class Outcome:
    """Rows, and files by their name in the experiment's folder: wherever a task runs, they are written there."""

    rows: list[Row] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _Finished:
    task: str
    outcome: Outcome
    elapsed: Elapsed


def run_tasks(
    tasks: Sequence[Task], results: Results, workers: int = 1, scheduler: str | None = None
) -> Generator[Event, None, None]:
    """Do the tasks whose rows `results` lacks; a task that fails is reported, and the others go on.

    Parameters
    ----------
    workers
        Processes on this machine, which share its cores; 1: this process.
    scheduler
        Address of a dask scheduler (`tcp://…`) to use instead. Its workers must see the data under the same path and
        have one thread each: torch's random numbers are a process's, and tasks side by side would share them.
    """
    waiting = [task for task in tasks if not set(task.keys) <= results.done]
    yield Progress("experiment", len(tasks) - len(waiting), len(tasks))
    if not waiting:
        return
    finish = _here(waiting) if workers == 1 and scheduler is None else _cluster(waiting, workers, scheduler)
    done = len(tasks) - len(waiting)
    for item in finish:
        if isinstance(item, _Finished):
            for name, data in item.outcome.files.items():
                write_bytes(results.path.parent / name, data)
            results.add(row for row in item.outcome.rows if row.key not in results.done)
            note(results.path.parent, item.task, item.elapsed)
            done += 1
            yield Progress("experiment", done, len(tasks))
        else:
            yield item


def _here(tasks: Sequence[Task]) -> Generator[Event | _Finished, None, None]:
    for task in tasks:
        try:
            yield (yield from _timed(task))
        except Distill2LabelError as error:
            yield Failed(task.name, str(error))


def _cluster(tasks: Sequence[Task], workers: int, scheduler: str | None) -> Generator[Event | _Finished, None, None]:
    try:
        from distributed import wait
    except ImportError:
        raise SettingsError(f"experiments on several workers need dask.distributed: {INSTALL}") from None
    # Torch takes the whole machine in every process unless it is told before it is imported.
    share = str(max(1, (os.cpu_count() or 1) // workers))
    environment = {"OMP_NUM_THREADS": share, "MKL_NUM_THREADS": share}
    with ExitStack() as stack:
        if scheduler is None:
            client = stack.enter_context(local_client(workers, 1, environment))
        else:
            client = stack.enter_context(remote_client(scheduler, timeout=10))
            if is_open(scheduler):
                yield Notice(open_scheduler(scheduler))
            if any(threads > 1 for threads in client.nthreads().values()):
                raise SettingsError(f"{scheduler}: {ONE_THREAD}")
        running = {client.submit(_finish, task, pure=False): task for task in tasks}
        while running:
            try:
                with client.as_current():
                    finished = wait(list(running), timeout=HEARTBEAT, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                yield Progress("waiting for workers", 0)
                continue
            for future in finished:
                task, error = running.pop(future), future.exception()
                if error is None:
                    yield future.result()
                elif isinstance(error, Distill2LabelError):
                    yield Failed(task.name, str(error))
                else:
                    raise error


def _finish(task: Task) -> _Finished:
    from distributed import get_worker

    if get_worker().state.nthreads > 1:  # one that came later than the command
        raise SettingsError(ONE_THREAD)
    return drain(_timed(task))


def _timed(task: Task) -> Generator[Event, None, _Finished]:
    with timed() as elapsed:
        result = yield from task.work()
    return _Finished(task.name, result if isinstance(result, Outcome) else Outcome(result), elapsed)
