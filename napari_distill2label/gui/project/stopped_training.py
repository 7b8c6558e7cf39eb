"""A training on these slides that was stopped: offered, until it goes on or the user does not want it. No Qt."""

from functools import partial
from pathlib import Path

from psygnal import Signal

from ...core.errors import Distill2LabelError
from ...store.cohort import Cohort
from ...store.files.lock import LOCK
from ...store.run_summary import RunSummary, where
from ..runner.jobs import JobQueue
from ..runner.reader import BackgroundReader
from .project import Project
from .runs import Runs

MOST_READ = 20  # stopped runs looked into, the latest first


class StoppedTraining:
    """Finds the latest stopped run in the work folder that was trained on the slides that are open.

    Attributes
    ----------
    offer
        That run; None where there is none, or where the user said no.
    """

    changed = Signal()

    def __init__(
        self, project: Project, runs: Runs, jobs: JobQueue, reader: BackgroundReader, has_window: bool = True
    ) -> None:
        self._project, self._runs, self._jobs, self._reader = project, runs, jobs, reader
        self._has_window = has_window
        self.offer: RunSummary | None = None
        self._refused: set[Path] = set()
        project.cohort_opened.connect(self._look)
        runs.changed.connect(self._choose)
        jobs.changed.connect(self._on_job)

    @property
    def text(self) -> str:
        """What to say of it; "" where there is none."""
        run = self.offer
        return "" if run is None else f"A training on these slides was stopped: {run.name}, {where(run)}."

    def refuse(self) -> None:
        """Do not offer this run again in this window."""
        if self.offer is not None:
            self._refused.add(self.offer.folder)
            self._set(None)

    def _look(self) -> None:
        self._set(None)
        if self._has_window and len(self._project.cohort):
            self._runs.look()

    def _choose(self) -> None:
        if self._jobs.of_kind("train"):
            self._set(None)
            return
        runs = [run for run in self._runs.found if run.can_resume and run.folder not in self._refused]
        ids = frozenset(row.slide_id for row in self._project.cohort)
        self._reader.request("stopped", partial(trained_on, runs[:MOST_READ], ids), self._set)

    def _on_job(self, job: object) -> None:
        if self.offer is not None and self._jobs.of_kind("train"):
            self._set(None)  # the list of runs is read again when it has ended

    def _set(self, run: RunSummary | None) -> None:
        if run != self.offer:
            self.offer = run
            self.changed.emit()


def trained_on(runs: list[RunSummary], slide_ids: frozenset[str]) -> RunSummary | None:
    """The first run, trained by nobody at the moment, whose slides are among these. Any thread may call."""
    for run in runs:
        try:
            cohort = Cohort.read(run.folder / "cohort.csv")
        except (Distill2LabelError, OSError):
            continue
        if slide_ids and {row.slide_id for row in cohort} <= slide_ids and not _is_held(run.folder):
            return run
    return None


def _is_held(folder: Path) -> bool:
    """Does a process that is alive train there?"""
    from filelock import FileLock, Timeout

    path = folder / LOCK
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except (Timeout, OSError):
        return True
