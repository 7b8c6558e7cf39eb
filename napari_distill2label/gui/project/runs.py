"""The runs beside the slides and the training that goes on, for one session. No Qt, no torch."""

import math
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from ...core.events import EpochEnd
from ...core.network_names import in_words
from ...core.paths import free_path
from ...store.run_summary import Curve, Curves, RunSummary, append, read_curves, scan
from ..runner.jobs import Job, JobQueue
from ..runner.reader import BackgroundReader
from ..runner.times import about, duration
from .estimate import TimingSample
from .project import Project
from .training_choices import TrainingChoices

if TYPE_CHECKING:
    import pandas as pd

RUN_NAME = "distill2label_run"
ENDED = {
    "done": "Finished.",
    "cancelled": "Training stopped. Resume it under ‘Runs’.",
    "failed": "Training failed; the message at the bottom says why. Resume it under ‘Runs’.",
}


class Runs:
    """The runs beside the slides, and the curves of the training that goes on. `session.runs` in the console.

    Attributes
    ----------
    found
        What the last look at the disk found, the latest first.
    live
        Curves of the training that goes on, or was the last in this window.
    folder
        Its run folder.
    best
        Its best epoch so far, by model.
    added
        Folders the user has loaded from, listed too.
    """

    changed = Signal()  # `found`
    curves_changed = Signal()  # `live`

    def __init__(self, project: Project, choices: TrainingChoices, jobs: JobQueue, reader: BackgroundReader) -> None:
        self._project, self._choices, self._jobs, self._reader = project, choices, jobs, reader
        self.found: list[RunSummary] = []
        self.live: Curves = {}
        self.best: dict[str, int] = {}
        self.folder: Path | None = None
        self.trained_at: datetime | None = None
        self.added: list[Path] = []
        self.measured: list[TimingSample] = []  # how long trainings take: trials of this window, the latest first
        self._next: Path | None = None
        self._promised: set[Path] = set()
        self._folders: dict[int, Path | None] = {}  # of training jobs, by id
        self.ended = ""  # done, cancelled or failed: how the training of `live` ended; "" while it goes on
        self._live_job = 0  # the job `live` is of
        self._home: tuple[Path | None, Path] | None = None
        self.asked: dict[str, int] = {}  # epochs asked for, by model
        jobs.changed.connect(self._on_job)
        jobs.event.connect(self._on_event)

    def __repr__(self) -> str:
        return f"Runs({', '.join(run.name for run in self.found) or 'none found'})"

    def of_folder(self, folder: Path) -> RunSummary | None:
        """The run found in this folder; None before it has been read, and where there is none."""
        return next((run for run in self.found if run.folder == folder), None)

    @property
    def table(self) -> "pd.DataFrame":
        """The runs found: run, started, preset, method, epochs, valid_loss, auroc, corrections, state, folder."""
        import pandas as pd

        columns = ("run", "started", "preset", "method", "epochs", "valid_loss", "auroc", "corrections", "state")
        rows = [
            (run.name, run.started, run.settings.preset, run.settings.method, run.epochs("student")[0], run.valid_loss,
             run.auroc, run.n_corrections, run.state, str(run.folder))
            for run in self.found
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=[*columns, "folder"])

    def progress(self) -> str:
        """'Teacher, epoch 3 of 16. Best so far: epoch 2 (validation loss 0.412). 1:05 so far, about 2 min left.'"""
        job = self._jobs.current
        job = job if job is not None and job.kind == "train" else None
        parts = []
        if job is not None and job.id != self._live_job:
            parts.append("Starting.")  # what `live` holds is of the training before
        elif self.live:
            network = list(self.live)[-1]
            curve = self.live[network]
            part = getattr(self._choices.settings, {"baseline": "teacher"}.get(network, network.split("-")[0]))
            asked = self.asked.get(network, part.epochs)
            parts.append(f"{in_words(network).capitalize()}, epoch {curve['epoch'][-1]:.0f} of {asked}.")
            if (best := self.best.get(network)) is not None and best - 1 < len(curve["epoch"]):
                parts.append(f"Best {'epoch:' if self.ended else 'so far: epoch'} {best}{_scores(curve, best - 1)}.")
            if self.ended:
                parts.append(ENDED[self.ended])
        if job is not None:
            left = "" if job.remaining is None else f", {about(job.remaining)} left"
            parts.append(f"{duration(job.elapsed)} so far{left}.")
        return " ".join(parts)

    # ---- what is on disk --------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Look at the disk again, in the background; `changed` follows."""
        folders = tuple(self.places())  # read there, from a value that does not change meanwhile
        self._reader.request("runs", lambda: scan(folders), self._take)

    def _take(self, found: list[RunSummary]) -> None:
        self.found = found
        self.changed.emit()

    def places(self) -> list[Path]:
        """Folders in which runs are looked for."""
        beside = self._project.work_folder
        places = [self.home()] if beside else []
        places += [beside] if beside else []
        places += [self.folder.parent] if self.folder else []
        return list(dict.fromkeys([*places, *self.added]))

    def home(self) -> Path:
        """Where new runs go. Asked of the session once for the same slides: looking at preferences may take a while."""
        beside = self._project.work_folder
        if self._home is None or self._home[0] != beside:
            self._home = beside, self._project.runs_folder
        return self._home[1]

    def add(self, folder: Path) -> None:
        """List this run (or what is in this folder) too."""
        if folder not in self.added:
            self.added.append(folder)
        self.look()

    def free_folder(self, name: str = RUN_NAME) -> Path:
        """A folder for a run that is still free."""
        return free_path(self._project.runs_folder, name, taken=self._promised)

    def promise_folder(self, name: str = RUN_NAME) -> Path:
        """The same, which no other training of this window will be given."""
        folder = self.free_folder(name)
        self._promised.add(folder)
        return folder

    # ---- what goes on -----------------------------------------------------------------------------------------------

    def expect(self, folder: Path) -> None:
        """The training that is started next writes to this folder."""
        self._next = folder

    def _on_job(self, job: Job) -> None:
        if job.kind != "train":
            return
        if job.id not in self._folders:
            self._folders[job.id], self._next = self._next, None
        if job.outcome is not None:
            folder = self._folders.pop(job.id)
            if job.id == self._live_job:
                self.ended = job.state
            if job.state == "done":
                self.trained_at = datetime.now()
                self.measured.clear()  # the training itself has been measured
            if folder is not None:
                self.look()

    def _begin(self, job: Job) -> None:
        self.folder = self._folders.get(job.id)
        self._live_job = job.id
        self.live, self.best, self.asked, self.ended = {}, {}, {}, ""

    def _on_event(self, job: Job, event: Any) -> None:
        if job.kind != "train":
            return
        if job.id != self._live_job:
            self._begin(job)
            self._recall()
            self.curves_changed.emit()
        if isinstance(event, EpochEnd):
            row = {"epoch": float(event.epoch)}
            row |= {name if name == "loss" else f"loss_{name}": value for name, value in event.losses.items()}
            row |= event.metrics
            append(self.live, event.network, row)
            self.asked[event.network] = event.epochs
            if event.best:
                self.best[event.network] = event.epoch
            self.curves_changed.emit()

    def _recall(self) -> None:
        """A training that goes on: show the epochs it had before."""
        folder, job = self.folder, self._live_job
        if folder is None:
            return

        def take(curves: Curves) -> None:
            if job != self._live_job:
                return
            # What came meanwhile is in the file too, or comes after it.
            for model, curve in self.live.items():
                first = curve.get("epoch", [1.0])[0]
                before = curves.get(model, {})
                kept = sum(epoch < first for epoch in before.get("epoch", ()))
                merged: Curve = {}
                for name in {**before, **curve}:
                    earlier = before.get(name, [math.nan] * kept)[:kept]
                    merged[name] = [*earlier, *curve.get(name, [math.nan] * len(curve["epoch"]))]
                curves[model] = merged
            self.live = curves
            self.curves_changed.emit()

        self._reader.request(("curves", job), lambda: read_curves(folder), take)


def _scores(curve: Curve, index: int) -> str:
    said = [
        f"{name} {curve[column][index]:{form}}"
        for column, name, form in (("valid_loss", "validation loss", ".3f"), ("valid_auroc", "AUROC", ".2f"))
        if index < len(curve.get(column, ())) and not math.isnan(curve[column][index])
    ]
    return f" ({', '.join(said)})" if said else ""
