"""Training: start it, go on with it, with corrections, on a few slides first; features beforehand. No Qt."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import CohortError, Distill2LabelError, SettingsError
from ...core.inputs import Compute, Inputs
from ...core.paths import PathLike
from ...core.progress import Part, training_parts
from ...core.settings import PatchSettings, Settings
from ...mil.memory import retain_freed_memory
from ...store.cohort import Cohort
from ...workflow.quick_trial import trial_settings
from ..messages import message_of
from ..project.corrections import Corrections
from ..project.drawn_regions import DrawnRegions
from ..project.estimate import TimingSample
from ..project.loaded_model import LoadedModel, of_run, run_at
from ..project.project import Project
from ..project.runs import RUN_NAME, Runs
from ..project.tissue import Tissue
from ..project.training_choices import TrainingChoices
from ..runner.draining import then
from ..runner.fallback import less_memory, on_cpu
from ..runner.jobs import Failure, Job, JobQueue, RetryOffer, Work
from ..runner.reader import BackgroundReader
from . import requirements
from .log import ActionLog, recorded
from .quick_trial import FOLDER, TITLE, about_trained

if TYPE_CHECKING:
    from ...store.run import Run

MEASURE = "estimate"  # the kind of job that measures how long a training takes


class TrainActions:
    """Trains networks on the labelled slides. `use_model` takes what comes of it."""

    def __init__(
        self,
        project: Project,
        choices: TrainingChoices,
        corrections: Corrections,
        tissue: Tissue,
        regions: DrawnRegions,
        runs: Runs,
        jobs: JobQueue,
        reader: BackgroundReader,
        log: ActionLog,
        use_model: Callable[[LoadedModel], None],
    ) -> None:
        self._project, self._choices, self._corrections, self._tissue = project, choices, corrections, tissue
        self._regions = regions
        self._runs, self._jobs, self._reader, self.log, self._use_model = runs, jobs, reader, log, use_model

    @recorded
    def train(
        self,
        out: PathLike | None = None,
        settings: Settings | None = None,
        *,
        baseline: bool = False,
        quick_trial: bool = False,
        inputs: Inputs = Inputs(),
        slides: str | Iterable[str] | None = None,
        resume: bool = False,
        wait: bool = True,
    ) -> "Run | Job":
        """Train teacher and student on the labelled slides; see `napari_distill2label.train`.

        Parameters
        ----------
        out
            The run folder; None: a free one in `runs_folder`.
        settings
            None: those of the panel.
        quick_trial
            Train on a few slides, to see the whole way before a long training.
        inputs
            Without an encoder, features, or regions of tissue, those of the session count (`encoder`,
            `feature_folder`, the masks in use); without region labels, the drawn regions.
        slides
            Ids of those to train on; None: all.
        wait
            False: return the `Job`.
        """
        project, choices = self._project, self._choices
        if missing := requirements.train(project, choices, inputs):
            raise CohortError(missing.problem)
        cohort, classes = project.cohort, project.classes
        settings = settings or choices.settings_with(inputs.encoder.path)
        if slides is not None:
            slides = [slides] if isinstance(slides, str) else list(slides)
            cohort = cohort.with_slides(project.row(slide_id) for slide_id in slides)
        inputs = choices.complete(inputs, settings)
        settings = trial_settings(settings) if quick_trial else settings
        out = Path(out) if out else self._runs.promise_folder(FOLDER if quick_trial else RUN_NAME)
        if inputs.tissue is None and not resume:  # a run goes on with the masks it was started with
            inputs = replace(inputs, tissue=self._tissue.in_use())
        if inputs.region_labels is None and not resume:
            inputs = replace(inputs, region_labels=self._regions.in_use())
        if project.preferences().keep_freed_memory:
            retain_freed_memory()
        again = partial(
            self.train, baseline=baseline, quick_trial=quick_trial, inputs=inputs, slides=slides, wait=False
        )  # fmt: skip

        def work() -> Work:
            from ...workflow.commands.train import train

            trained = train(
                cohort, out, settings, classes=classes, baseline=baseline, inputs=inputs, quick_trial=quick_trial,
                resume=resume,
            )  # fmt: skip
            return then(trained, lambda run: (run, of_run(run)))

        def retry(outcome: Failure) -> RetryOffer:
            text, smaller = less_memory(settings) if outcome.out_of_memory else ("Try again", settings)
            begun = (out / "settings.json").exists()
            if begun and smaller.model_copy(update={"device": settings.device}) != settings:
                return RetryOffer(text, lambda: again(None, smaller))
            return RetryOffer(text, lambda: again(out, smaller, resume=begun))

        title = TITLE if quick_trial else "Training"
        return self._start(title, out, work, training_parts(settings, baseline), retry, wait)

    @recorded
    def resume(
        self, run: "PathLike | Run", settings: Settings | None = None, *, inputs: Inputs = Inputs(), wait: bool = True
    ) -> "Run | Job":
        """Go on with a run that was stopped, after its last whole epoch, on its own slides and labels.

        `settings` may differ from the run's in epochs and device; None: the run's own. Of `inputs`, encoder and
        features may have moved. `BundleError` if it is no run.
        """
        folder = Path(run if isinstance(run, str | os.PathLike) else run.folder)
        config, cohort = self._reader.wait_for(lambda: run_at(folder))
        chosen = settings or config.settings
        encoder = self._choices.with_trust(inputs.encoder, config.encoder.path if config.encoder else None)
        inputs = replace(inputs, encoder=encoder)

        def work() -> Work:
            from ...workflow.commands.train import train

            trained = train(cohort, folder, settings, inputs=inputs, resume=True)
            return then(trained, lambda run: (run, of_run(run)))

        def retry(outcome: Failure) -> RetryOffer:
            cpu = on_cpu(chosen) if outcome.out_of_memory else None
            text, again = ("Resume on the processor (CPU)", cpu) if cpu else ("Try again", settings)
            return RetryOffer(text, lambda: self.resume(folder, again, inputs=inputs, wait=False))

        return self._start("Training", folder, work, training_parts(chosen, config.baseline), retry, wait)

    def retrain(self, *, wait: bool = True) -> "Run | Job":
        """Train a student (and its teacher) that takes the corrections as known; they are named in bundle and card."""
        if missing := requirements.retrain(self._project, self._choices, self._corrections):
            raise SettingsError(missing.problem)
        try:
            path = self._corrections.save()
        except OSError as error:
            raise Distill2LabelError(f"the corrections could not be written: {message_of(error)}") from None
        return self.train(inputs=Inputs(corrections=path), wait=wait)

    def quick_trial(self) -> "Run | Job":
        """Train on a few slides, into a folder of its own, to see the whole way before a long training."""
        return self.train(quick_trial=True, wait=False)

    def measure_time(self, baseline: bool = False) -> Job:
        """Train on a few slides for some ten seconds, to tell how long all will take; nothing is kept."""
        project, choices = self._project, self._choices
        cohort, classes, settings = project.cohort, project.classes, choices.settings
        inputs = choices.complete(Inputs(tissue=self._tissue.in_use()), settings)

        def work() -> Work:
            from ...workflow.estimate import estimate as trial

            timing = yield from trial(cohort, settings, classes=classes, baseline=baseline, inputs=inputs)
            return TimingSample(timing, settings, "measured just now on a few slides", is_trial=True)

        def done(measured: TimingSample) -> None:
            self._runs.measured.insert(0, measured)

        return self._jobs.start(MEASURE, "Measuring how long training takes", work, done)

    def extract_features(
        self,
        out: PathLike | None = None,
        grid: PatchSettings | None = None,
        *,
        formats: Sequence[str] = ("zarr",),
        inputs: Inputs = Inputs(),
        compute: Compute | None = None,
        wait: bool = True,
    ) -> "list[Path] | Job":
        """Compute the features of all slides with a frozen encoder, once; see `napari_distill2label.extract_features`.

        Training, predicting and live training take them from there. Without an encoder or regions of tissue, the
        session's encoder and the masks in use count. `out` None: a folder `features` in `runs_folder`; `grid` None:
        that of the settings where they are on features, else the encoder's own; `compute` None: on the device of the
        panel.
        """
        project, choices = self._project, self._choices
        encoder = inputs.encoder.path or choices.encoder
        if not len(project.cohort):
            raise CohortError("Add slides first.")
        if encoder is None:
            raise SettingsError("Choose a frozen encoder first: its ONNX file.")
        cohort, out = project.cohort, Path(out) if out else choices.own_feature_folder
        settings = choices.settings_with(encoder)
        if grid is None and settings.architecture.encoder == "features":
            grid = settings.patches  # else a training would not find its patches there
        compute = compute or Compute(settings.device)
        tissue = self._tissue.in_use() if inputs.tissue is None else inputs.tissue
        encoder_in_use = choices.with_trust(replace(inputs.encoder, path=encoder))
        inputs = replace(inputs, encoder=encoder_in_use, tissue=tissue)

        def work() -> Work:
            from ...workflow.commands.extract_features import extract_features

            return extract_features(cohort, out, grid, formats=formats, inputs=inputs, compute=compute)

        table, chosen = project.cohort_path, choices.encoder

        def done(files: list[Path]) -> None:
            if project.cohort_path == table and choices.encoder == chosen:  # else the user went on to something else
                choices.use_features(out, encoder)

        kept = "Finished slides are saved. Click the same button again to continue."
        parts = slide_parts(cohort)
        return self._jobs.run("features", "Computing features", work, done, wait=wait, parts=parts, kept=kept)

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _start(
        self, title: str, folder: Path, work: Callable[[], Work], parts: Sequence[Part], retry: Any, wait: bool
    ) -> "Run | Job":
        if (trial := self._jobs.of_kind(MEASURE)) is not None:  # nobody waits for it any more
            self._jobs.cancel(trial)
        self._runs.expect(folder)

        return self._jobs.run(
            "train", title, work, self.take_run, wait=wait, result=lambda value: value[0], parts=parts, retry=retry
        )

    def take_run(self, value: "tuple[Run, LoadedModel]") -> str:
        """Predict with a run that was trained; return what there is to say of it."""
        run, model = value
        self._use_model(model)
        return about_trained(run)


def slide_parts(cohort: Cohort) -> tuple[Part, ...]:
    """The parts of a job that goes from slide to slide."""
    return tuple(Part(row.slide_id) for row in cohort)
