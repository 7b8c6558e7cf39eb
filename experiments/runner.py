"""Runs the trials of an experiment, here or on a dask cluster, and writes their rows as soon as they are known."""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from napari_distill2label.core.errors import Distill2LabelError, SettingsError
from napari_distill2label.core.events import Event, ItemFailed, Progress, Task, drain
from napari_distill2label.core.notices import Notice, NoticeCode
from napari_distill2label.inference.cluster import INSTALL, is_open, local_client, remote_client
from napari_distill2label.mil.memory import retain_freed_memory
from napari_distill2label.store.files.atomic import write_bytes

from .results import Key, Results, Row
from .times import Elapsed, note, timed

HEARTBEAT = 0.2  # seconds between events while workers compute
ONE_THREAD = (
    "has workers of several threads, and trainings side by side in one process are not repeatable: start them with "
    "dask worker --nthreads 1 (--nworkers for more on a machine)"
)


@dataclass(frozen=True)
class Trial:
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
    """Rows, and files by their name in the experiment's folder: wherever a trial runs, they are written there."""

    rows: list[Row] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _Finished:
    trial: str
    outcome: Outcome
    elapsed: Elapsed


def run_trials(
    trials: Sequence[Trial], results: Results, workers: int = 1, scheduler: str | None = None
) -> Generator[Event, None, None]:
    """Do the trials whose rows `results` lacks; a trial that fails is reported, and the others go on.

    Parameters
    ----------
    workers
        Processes on this machine, which share its cores; 1: this process.
    scheduler
        Address of a dask scheduler (`tcp://…`) to use instead. Its workers must see the data under the same path and
        have one thread each: torch's random numbers are a process's, and trials side by side would share them.
    """
    waiting = [trial for trial in trials if not set(trial.keys) <= results.done]
    yield Progress(Task.RUN_EXPERIMENT, len(trials) - len(waiting), len(trials))
    if not waiting:
        return
    finish = _here(waiting) if workers == 1 and scheduler is None else _cluster(waiting, workers, scheduler)
    done = len(trials) - len(waiting)
    for item in finish:
        if isinstance(item, _Finished):
            for name, data in item.outcome.files.items():
                write_bytes(results.path.parent / name, data)
            results.add(row for row in item.outcome.rows if row.key not in results.done)
            note(results.path.parent, item.trial, item.elapsed)
            done += 1
            yield Progress(Task.RUN_EXPERIMENT, done, len(trials))
        else:
            yield item


def _here(trials: Sequence[Trial]) -> Generator[Event | _Finished, None, None]:
    for trial in trials:
        try:
            yield (yield from _timed(trial))
        except Distill2LabelError as error:
            yield ItemFailed(trial.name, error)


def _cluster(trials: Sequence[Trial], workers: int, scheduler: str | None) -> Generator[Event | _Finished, None, None]:
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
                yield Notice(NoticeCode.OPEN_SCHEDULER, {"scheduler": scheduler})
            if any(threads > 1 for threads in client.nthreads().values()):
                raise SettingsError(f"{scheduler}: {ONE_THREAD}")
        running = {client.submit(_finish, trial, pure=False): trial for trial in trials}
        while running:
            try:
                with client.as_current():
                    finished = wait(list(running), timeout=HEARTBEAT, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                yield Progress(Task.START_WORKERS)
                continue
            for future in finished:
                trial, error = running.pop(future), future.exception()
                if error is None:
                    yield future.result()
                elif isinstance(error, Distill2LabelError):
                    yield ItemFailed(trial.name, error)
                else:
                    raise error


def _finish(trial: Trial) -> _Finished:
    from distributed import get_worker

    retain_freed_memory()
    if get_worker().state.nthreads > 1:  # one that came later than the command
        raise SettingsError(ONE_THREAD)
    return drain(_timed(trial))


def _timed(trial: Trial) -> Generator[Event, None, _Finished]:
    with timed() as elapsed:
        result = yield from trial.work()
    return _Finished(trial.name, result if isinstance(result, Outcome) else Outcome(result), elapsed)
