"""A training on these slides that was stopped: offered, until it goes on or the user does not want it. No Qt."""

import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

from ...core.errors import Distill2LabelError
from ...store.cohort import Cohort
from ...store.files.lock import LOCK
from ...store.run_summary import RunSummary, where

if TYPE_CHECKING:
    from ..session import Session

MOST_READ = 20  # stopped runs looked into, the latest first


class StoppedTraining:
    """Finds the latest stopped run in the work folder that was trained on the slides that are open.

    Attributes
    ----------
    offer
        That run; None where there is none, or where the user said no.
    """

    changed = Signal()

    def __init__(self, session: "Session") -> None:
        self._owner = weakref.ref(session)  # a cycle would keep the session past its viewer
        self.offer: RunSummary | None = None
        self._refused: set[Path] = set()
        session.cohort_opened.connect(self._look)
        session.runs.changed.connect(self._choose)
        session.jobs.changed.connect(self._on_job)

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
        session = self._owner()
        self._set(None)
        if session is not None and session._has_window and len(session.cohort):
            session.runs.look()

    def _choose(self) -> None:
        session = self._owner()
        if session is None:
            return
        if session.jobs.of_kind("train"):
            self._set(None)
            return
        runs = [run for run in session.runs.found if run.can_resume and run.folder not in self._refused]
        ids = frozenset(row.slide_id for row in session.cohort)
        session.reader.request(("stopped", id(self)), partial(trained_on, runs[:MOST_READ], ids), self._set)

    def _on_job(self, job: object) -> None:
        session = self._owner()
        if session is not None and self.offer is not None and session.jobs.of_kind("train"):
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
