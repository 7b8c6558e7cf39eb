"""The live loop: label a slide, and a few seconds later its patches are coloured again. No Qt.

`LiveTraining` listens to the slides of a project. A change of a label restarts a short wait, after which the networks
are trained on features in memory (`workflow.live`), one job among others; a change meanwhile cancels it.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from ...core.errors import SettingsError
from ...core.events import Event, ItemDone
from ...core.inputs import Inputs
from ...core.paths import PathLike
from ...core.presets import live_settings
from ...core.progress import training_parts
from ..project.corrections import Corrections
from ..project.project import LIVE as NETWORK
from ..project.project import Project
from ..project.runs import Runs
from ..project.training_choices import TrainingChoices
from ..runner.debounce import Debounce
from ..runner.draining import then
from ..runner.jobs import Failure, Job, JobQueue, RetryOffer, Work
from . import requirements
from .requirements import Requirement

if TYPE_CHECKING:
    from ...store.maps.patch_map import PatchMap
    from ...workflow.live import LiveFeatures, LiveResult

OFF = "Off: switch on to see labels take effect within seconds."
TRAINING, QUEUED = "Training…", "Waiting for the work before it to end…"
NO_FEATURES = "Live needs features of the slides: compute them with a frozen encoder, or choose their folder."


class LiveTraining:
    """Trains again after each change of a label, while it is `enabled`.

    Attributes
    ----------
    result
        What the last trial came to; None before the first.
    status
        What goes on, for people.
    """

    changed = Signal()

    def __init__(
        self,
        project: Project,
        choices: TrainingChoices,
        corrections: Corrections,
        runs: Runs,
        jobs: JobQueue,
        take_run: Callable[[Any], Any],
        has_window: bool,
    ) -> None:
        """`take_run` uses a run (and its `LoadedModel`) to predict with from then on."""
        self._project, self._choices, self._corrections = project, choices, corrections
        self._runs, self._jobs, self._take_run = runs, jobs, take_run
        self._has_window = has_window
        self.result: LiveResult | None = None
        self.status = OFF
        self._enabled = False
        self._features: LiveFeatures | None = None
        self._read_for: Any = None  # the slides that `_features` were read for
        self._job: Job | None = None  # the trial in hand
        self._reading: Job | None = None
        self._computed: Job | None = None  # the last job that computed features
        self._asked_at = 0.0  # when the label was changed that is trained for now
        self._wanted: Any = None  # the labels of the last trial, or of the one in hand
        self._soon = Debounce(self._train, 0)
        project.events.cohort.connect(self._on_change)
        choices.changed.connect(self._on_change)
        jobs.changed.connect(self._on_job)
        jobs.event.connect(self._on_event)

    # ---- what the user does ---------------------------------------------------------------------------------------

    @property
    def enabled(self) -> bool:
        """Is every change of a label followed by a training?"""
        return self._enabled

    @enabled.setter
    def enabled(self, on: bool) -> None:
        if on == self._enabled:
            return
        self._enabled = bool(on)
        self._wanted = None
        if on:
            self._ask(delay=0)
        else:
            self._stop()
            if self._reading is not None:
                self._jobs.cancel(self._reading)
            self._say(OFF)

    @property
    def busy(self) -> bool:
        """Is a change still to be shown?"""
        return self._soon.waits or any(job is not None and job.is_running for job in (self._job, self._reading))

    def requirement(self) -> Requirement | None:
        """What is missing; None when it can train."""
        if not len(self._project.cohort):
            return Requirement("Add slides first.", 1)
        if self.feature_folder is None:
            return Requirement(NO_FEATURES, 2)
        return requirements.train(self._project, self._choices, Inputs(features=self.feature_folder))

    @property
    def feature_folder(self) -> Path | None:
        """Where the features are: what the session names, else what the model's run was trained on."""
        if self._choices.feature_folder is not None:
            return self._choices.feature_folder
        return self._project.model.features if self._project.model is not None else None

    def update(self) -> None:
        """Train now, whether or not anything has changed."""
        self._wanted = None
        self._ask(delay=0)

    def save_as_run(self, out: PathLike | None = None, *, wait: bool = True) -> Any:
        """Write the last trial's models as a run (None: a free folder in `runs_folder`), and go on with that.

        Returns the `Run`; with `wait` False, the `Job`. `SettingsError` before the first trial.
        """
        project, result = self._project, self.result
        if result is None:
            raise SettingsError("There is no model to save yet. Switch on Live training and label slides.")
        folder = Path(out) if out else self._runs.promise_folder()

        def work() -> Work:
            from ...workflow.live import save_as_run
            from ..project.loaded_model import of_run

            return then(save_as_run(result, folder), lambda run: (run, of_run(run)))

        def done(value: Any) -> None:
            maps = [found[NETWORK] for found in project.predictions.values() if NETWORK in found]
            self._take_run(value)
            project.take_maps(maps)  # still to be looked at, under the network `live`
            self._say(f"Saved as the run ‘{folder.name}’. Click Predict in step 3 to use it.")

        def saved(value: Any) -> Any:
            return value[0]

        return self._jobs.run("keep", "Saving the model as a run", work, done, wait=wait, result=saved)

    def take(self, maps: "list[PatchMap]") -> None:
        """Show what a trial says of slides."""
        self._project.take_maps(maps, network=NETWORK)

    def shutdown(self) -> None:
        """Stop, and say nothing any more. Idempotent."""
        self._enabled = False
        self._stop()

    # ---- waiting for the last change ------------------------------------------------------------------------------

    def _labels(self) -> Any:
        cohort = self._project.cohort
        rows = tuple((row.slide_id, row.label, row.split, row.path, row.mpp, row.case_id) for row in cohort)
        return rows, self._project.classes, self.feature_folder, self._choices.settings.bag

    def _on_change(self) -> None:
        if self._enabled and self._labels() != self._wanted:
            self._ask(self._project.preferences().live_delay_ms)

    def _ask(self, delay: int) -> None:
        """Train after `delay` ms, unless something changes before; what is trained for now is no longer wanted."""
        self._stop()
        self._asked_at, self._wanted = time.monotonic(), self._labels()
        if missing := self.requirement():
            self._say(missing.problem)
        elif self._has_window and delay:
            self._say("Waiting for more changes…")
            self._soon.start(delay)
        else:
            self._train()

    def _stop(self) -> None:
        self._soon.stop()
        job, self._job = self._job, None
        if job is not None and job.is_running:
            self._jobs.cancel(job)

    # ---- training -------------------------------------------------------------------------------------------------

    def _train(self) -> None:
        """One trial; before the first one, and for new slides, features are read, which no change of a label stops."""
        if self._reading is not None and self._reading.is_running:
            return
        folder, cohort, known_features = self.feature_folder, self._project.cohort, self._features
        slides = (folder, frozenset((row.slide_id, row.path, row.mpp) for row in cohort))
        if known_features is None or self._read_for != slides:
            self._read(slides, known_features)
            return
        shown, corrected = self._project.shown, self._corrected()
        settings = live_settings(bag=self._choices.settings.bag)

        def work() -> Work:
            from ...workflow.live import live

            return live(known_features, cohort, settings=settings, known=corrected, first=shown)

        def retry(outcome: Any) -> RetryOffer:
            return RetryOffer("Try again", self.update)

        self._say(TRAINING if self._jobs.current is None else QUEUED)
        parts = training_parts(settings)
        self._job = self._start("live", "Live training", work, self._done, parts=parts, retry=retry)

    def _read(self, slides: Any, known: "LiveFeatures | None") -> None:
        cohort, folder = self._project.cohort, slides[0]

        def work() -> Work:
            from ...workflow.live import read_features

            return read_features(cohort, folder, known)

        def done(features: "LiveFeatures") -> None:
            self._features, self._read_for = features, slides
            if self._enabled:
                self._ask(delay=0)

        self._say("Reading the features of the slides…")
        self._reading = self._start("live", "Reading features", work, done)

    def _start(self, *what: Any, **how: Any) -> Job | None:
        """Start a job; None if it is over already, as without a window."""
        job = self._jobs.start(*what, **how)
        return job if job.is_running else None

    def _corrected(self) -> dict[str, Any]:
        """Corrected patches of each labelled slide that has some."""
        rows = self._project.cohort.labelled
        found = {row.slide_id: self._corrections.known(row.slide_id) for row in rows}
        return {slide_id: known for slide_id, known in found.items() if known is not None}

    # ---- what comes of it -----------------------------------------------------------------------------------------

    def _on_event(self, job: Job, event: Event) -> None:
        """The slide on the canvas comes first: it is coloured before the others are done."""
        if job.kind == "live" and isinstance(event, ItemDone) and self._enabled:
            self.take([event.result])

    def _done(self, result: "LiveResult") -> None:
        self.result = result
        if not self._enabled:
            return
        self.take(result.maps)
        slides = len(result.cohort)
        taken = time.monotonic() - self._asked_at
        self._say(f"Up to date: trained on {slides} labelled slides in {taken:.1f} s.{self._left_out()}")

    def _left_out(self) -> str:
        """Which slides have no features, in words; "" if all have some."""
        there = self._features.slides if self._features is not None else ()
        missing = [row.slide_id for row in self._project.cohort if row.slide_id not in there]
        if not missing:
            return ""
        who = f"{missing[0]} has" if len(missing) == 1 else f"{len(missing)} slides have"
        return f" {who} no features yet: compute them with the button above."

    def _on_job(self, job: Job) -> None:
        if job.kind == "features" and job.state == "done" and job is not self._computed:
            self._computed = job
            self._features = self._read_for = None  # there are more, or others
            if self._reading is not None:
                self._jobs.cancel(self._reading)  # it would go on with those before
            if self._enabled:
                self.update()
        if job.kind != "live" or not self._enabled:
            return
        if job is self._job and job.state == "running" and self.status == QUEUED:
            self._say(TRAINING)
        elif isinstance(job.outcome, Failure):
            self._say(f"Failed: {job.outcome.message}")
        elif job.state == "cancelled" and job in (self._job, self._reading):  # by the user, and not for a newer change
            self._say("Stopped: the next change of a label starts it again.")

    def _say(self, status: str) -> None:
        if status != self.status:
            self.status = status
        self.changed.emit()
