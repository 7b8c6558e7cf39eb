"""What can be done with a session: the verbs of `workflow`, run beside the window. Mixed into `Session`."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.classes import split_label
from ...core.errors import CohortError, OutputError, SettingsError
from ...core.progress import Part, training_parts
from ...core.settings import PatchSettings, Settings
from ...mil.memory import retain_freed_memory
from ...store.cohort import Cohort
from ..plugin.preferences import preferences
from ..project.loaded_model import LoadedModel, of_run, opened, run_at
from ..project.predicted import what_was_predicted
from ..project.project import PathLike, SlideList
from ..runner.draining import then
from ..runner.fallback import is_accelerator, less_memory, on_cpu
from ..runner.jobs import DependencyCancelled, Failure, Job, JobQueue, RetryOffer, Work
from . import quick_trial
from .estimate import call_off
from .log import recorded

if TYPE_CHECKING:
    from ...store.maps.patch_map import PatchMap
    from ...store.run import Run
    from ...workflow.tissue_regions import Tissue
    from ..canvas.display import Overlays
    from ..canvas.tissue_layer import TissueMasks
    from ..project.runs import Runs

RUN_NAME = "distill2label_run"


class Verbs(SlideList):
    """Training, predicting, exporting, and why not yet. The state it works on is `Session`'s."""

    jobs: JobQueue
    _use_model: Callable[[LoadedModel], None]
    overlays: "Overlays"
    model: LoadedModel | None
    network: str | None
    set_network: Callable[[str], None]
    predictions: "dict[str, dict[str, PatchMap]]"
    threshold: float
    failures: dict[str, str]
    exported: list[Path]
    encoder: Path | None
    feature_folder: Path | None
    preset: str
    _own_features: Path | None = None  # where features were computed last
    _promised: set[Path]
    tissue: "TissueMasks"
    runs: "Runs"
    trusted: Path | None
    why_not_encode: Callable[[Settings], str | None]

    def why_not_train(self, encoder: PathLike | None = None, features: PathLike | None = None) -> str | None:
        """What is missing for a training, in words; None when it can start."""
        names = [name for row in self.cohort.labelled for name in split_label(row.label)]
        if not len(self.cohort):
            return "Add slides first."
        if len(self.classes) < 2:
            return "Name the classes first, the negative one first."
        if unknown := [name for name in names if name not in self.classes]:
            return f"The label {unknown[0]!r} is none of the classes {', '.join(self.classes)}."
        if self.classes[0] not in names:
            return f"Label at least one slide {self.classes[0]!r}: the negative class."
        if len(set(names)) < 2:
            return f"Label at least one slide {' or '.join(repr(name) for name in self.classes[1:])}."
        has_features = encoder or features or self.encoder or self.feature_folder
        if self.settings.architecture.encoder == "features" and not has_features:
            return f"The kind of images {self.preset!r} needs a frozen encoder. Choose its ONNX file."
        if self.settings.architecture.encoder == "features" and self.encoder and not (encoder or features):
            return self.why_not_encode(self.settings)
        return None

    def why_not_predict(self) -> str | None:
        """What is missing for a prediction; None when it can start."""
        if self.model is None and self._model_to_come() is None:
            return "Train first, or load a run or a model bundle."
        return None if len(self.cohort) else "Add slides first."

    def why_not_export(self) -> str | None:
        """What is missing for an export; None when it can start."""
        return None if self._maps() else "Predict first: there is nothing to export yet."

    @property
    def runs_folder(self) -> Path:
        """The folder in which new runs are put: the preferred one, else `beside` the slides."""
        if preferred := preferences().runs_folder:
            return Path(preferred).expanduser()
        return self.beside or Path.home()

    def default_run_folder(self, name: str = RUN_NAME) -> Path:
        """A folder in `runs_folder` that is still free."""
        folder = self.runs_folder / name
        free, number = folder, 2
        while free.exists() or free in self._promised:
            free, number = folder.with_name(f"{folder.name}_{number}"), number + 1
        return free

    @property
    def own_feature_folder(self) -> Path:
        """Where features are put that are computed without a training."""
        return self.runs_folder / "features"

    @recorded
    def train(
        self,
        out: PathLike | None = None,
        settings: Settings | None = None,
        *,
        baseline: bool = False,
        centres: PathLike | None = None,
        encoder: PathLike | None = None,
        corrections: PathLike | None = None,
        features: PathLike | None = None,
        trust: bool = False,
        tissue: "Tissue | None" = None,
        slides: str | Iterable[str] | None = None,
        resume: bool = False,
        title: str = "Training",
        wait: bool = True,
    ) -> "Run | Job":
        """Train teacher and student on the labelled slides; see `napari_distill2label.train`.

        Parameters
        ----------
        out
            The run folder; None: a free one in `runs_folder`.
        settings
            None: those of the panel.
        encoder, features
            A frozen encoder's file, a folder of features; None: those of the session (`encoder`, `feature_folder`).
        wait
            False: return the `Job`.
        """
        if reason := self.why_not_train(encoder, features):
            raise CohortError(reason)
        cohort, classes, settings = self.cohort, self.classes, settings or self.settings_with(encoder)
        if slides is not None:
            slides = [slides] if isinstance(slides, str) else list(slides)
            cohort = cohort.with_slides(self._row(slide_id) for slide_id in slides)
        if settings.architecture.encoder == "features":
            encoder, features = encoder or self.encoder, features or self.feature_folder
        out = Path(out) if out else self.promised_folder()
        if tissue is None and not resume:  # a run goes on with the masks it was started with
            tissue = self.tissue.in_use()
        trust = trust or self._trusts(encoder)
        self.runs.expect(out)
        if preferences().keep_freed_memory:
            retain_freed_memory()
        how = {
            "baseline": baseline, "centres": centres, "encoder": encoder, "corrections": corrections,
            "features": features, "trust": trust, "tissue": tissue,
        }  # fmt: skip
        again = {**how, "slides": slides, "title": title, "wait": False}

        def work() -> Work:
            from ...workflow.commands.train import train

            return then(
                train(cohort, out, settings, classes=classes, resume=resume, **how), lambda run: (run, of_run(run))
            )

        def retry(outcome: Failure) -> RetryOffer:
            text, smaller = less_memory(settings) if outcome.out_of_memory else ("Try again", settings)
            begun = (out / "settings.json").exists()
            if begun and smaller.model_copy(update={"device": settings.device}) != settings:
                return RetryOffer(text, lambda: self.train(None, smaller, **again))
            return RetryOffer(text, lambda: self.train(out, smaller, **again, resume=begun))

        parts = training_parts(settings, baseline)
        return self._run("train", title, work, self._trained, wait, lambda value: value[0], parts, retry=retry)

    @recorded
    def resume(
        self, run: "PathLike | Run", settings: Settings | None = None, *, trust: bool = False, wait: bool = True
    ) -> "Run | Job":
        """Go on with a run that was stopped, after its last whole epoch, on its own slides and labels.

        `settings` may differ from the run's in epochs and device; None: the run's own. `BundleError` if it is no run.
        """
        folder = Path(getattr(run, "folder", run))
        config, cohort = self._reading(lambda: run_at(folder))
        chosen = settings or config.settings

        def work() -> Work:
            from ...workflow.commands.train import train

            trained = train(cohort, folder, settings, trust=trust, resume=True)
            return then(trained, lambda run: (run, of_run(run)))

        def retry(outcome: Failure) -> RetryOffer:
            cpu = on_cpu(chosen) if outcome.out_of_memory else None
            text, again = ("Resume on the processor (CPU)", cpu) if cpu else ("Try again", settings)
            return RetryOffer(text, lambda: self.resume(folder, again, trust=trust, wait=False))

        trust = trust or self._trusts(config.encoder and config.encoder.path)
        self.runs.expect(folder)
        parts = training_parts(chosen, config.baseline)
        return self._run("train", "Training", work, self._trained, wait, lambda value: value[0], parts, retry=retry)

    def extract_features(
        self,
        encoder: PathLike | None = None,
        out: PathLike | None = None,
        grid: PatchSettings | None = None,
        *,
        formats: Sequence[str] = ("zarr",),
        device: str | None = None,
        trust: bool = False,
        tissue: "Tissue | None" = None,
        wait: bool = True,
    ) -> "list[Path] | Job":
        """Compute the features of all slides with a frozen encoder, once; see `napari_distill2label.extract_features`.

        Training, predicting and the live loop take them from there. `encoder` None: the session's; `out` None: a folder
        `features` in `runs_folder`; `grid` None: that of the settings where they are on features, else the encoder's
        own; `tissue` None: the masks in use.
        """
        encoder = encoder or self.encoder
        if not len(self.cohort):
            raise CohortError("Add slides first.")
        if encoder is None:
            raise SettingsError("Choose a frozen encoder first: its ONNX file.")
        cohort, out = self.cohort, Path(out) if out else self.own_feature_folder
        settings = self.settings_with(encoder)
        if grid is None and settings.architecture.encoder == "features":
            grid = settings.patches  # else a training would not find its patches there
        device, trust = device or settings.device, trust or self._trusts(encoder)
        tissue = self.tissue.in_use() if tissue is None else tissue

        def work() -> Work:
            from ...workflow.commands.extract_features import extract_features

            return extract_features(
                cohort, encoder, out, grid, formats=formats, device=device, trust=trust, tissue=tissue
            )  # fmt: skip

        table, chosen = self.cohort_path, self.encoder

        def done(files: list[Path]) -> None:
            if self.cohort_path == table and self.encoder == chosen:  # else the user went on to something else
                self.feature_folder = self._own_features = out
                self.encoder = Path(encoder)

        kept = "Finished slides are saved. Click the same button again to continue."
        return self._run("features", "Computing features", work, done, wait, parts=_slides(cohort), kept=kept)

    def load_bundle(self, path: PathLike, *, wait: bool = True) -> LoadedModel | Job:
        """Load a run, or a model bundle, to predict with.

        A run brings its predictions, and its slides if there are none yet.
        """
        return self._run("load", "Loading the model", lambda: opened(Path(path).absolute()), self._use_model, wait)

    def reopen_model(self, path: Path, network: str | None, is_wanted: Callable[[], bool] = lambda: True) -> Job:
        """Load the model of the last time, its network of then, and what it predicted that is still true.

        `is_wanted` says at the end whether the slides it was loaded for are still there.
        """

        def done(model: LoadedModel) -> None:
            if not is_wanted():
                return
            self._use_model(model)
            if network in model.networks:
                self.set_network(network)
            told = f"Loaded again: {model.path.name}, {self.network}"
            self._tell(f"{told}, with predictions of {len(self.predictions)} slides" if self.predictions else told)

        return self._run("load", "Loading the model of the last time", lambda: opened(path), done, wait=False)

    @recorded
    def predict(
        self,
        slides: str | Iterable[str] | None = None,
        *,
        network: str | None = None,
        centres: PathLike | None = None,
        tissue: "Tissue | None" = None,
        dense_stride: int | None = None,
        device: str | None = None,
        encoder: PathLike | None = None,
        precision: str = "float32",
        allow_non_brightfield: bool = False,
        workers: int | None = None,
        scheduler: str | None = None,
        features: PathLike | None = None,
        trust: bool = False,
        wait: bool = True,
    ) -> "list[PatchMap] | Job":
        """Label the patches of slides (ids; None: all); see `napari_distill2label.predict`.

        The model is the session's; after a training or loading that has not ended yet, it is the one that comes of it.
        What a run's model says is kept in the run's `predictions/`. `wait` False: return the `Job`.
        """
        if reason := self.why_not_predict():
            raise SettingsError(reason)
        before = self._model_to_come()
        if network is not None and before is None:
            self.set_network(network)
        ids = [row.slide_id for row in self.cohort] if slides is None else slides
        ids = [ids] if isinstance(ids, str) else list(ids)
        cohort, threshold = self.cohort.with_slides(self._row(slide_id) for slide_id in ids), self.threshold
        tissue = self.tissue.in_use() if tissue is None else tissue
        device, chosen = device or self.settings.device, {}
        how = {
            "centres": centres, "tissue": tissue, "dense_stride": dense_stride, "encoder": encoder,
            "precision": precision, "allow_non_brightfield": allow_non_brightfield, "workers": workers,
            "scheduler": scheduler, "features": features, "trust": trust,
        }  # fmt: skip

        def prepare() -> None:
            if before is not None and before.state == "cancelled":
                raise DependencyCancelled(f"{before.title} was cancelled: there is no new model to predict with.")
            if before is not None and before.state != "done":
                raise SettingsError(f"{before.title} did not come to its end: there is no new model to predict with")
            if network is not None:
                self.set_network(network)
            own = self.network if self.network in self.model.networks else self.model.networks[-1]  # not `live`
            chosen.update(model=self.model, network=own)
            how["trust"] = trust or self._trusts(encoder or self.model.encoder)
            for row in cohort:
                self.failures.pop(row.slide_id, None)

        def work() -> Work:
            from ...workflow.commands.predict import predict

            model, own = chosen["model"], chosen["network"]
            # A run keeps patch maps itself; those of a bundle stay in memory until they are exported.
            return self.overlays.reading_along(predict(
                model.path, cohort, model.path if model.is_run else None, network=own, threshold=threshold, formats=(),
                device=device, **how,
            ))  # fmt: skip

        def retry(outcome: Failure) -> RetryOffer:
            on = "cpu" if outcome.out_of_memory and is_accelerator(device) else device
            text = "Try again on the processor (CPU)" if on != device else "Try again"
            return RetryOffer(text, lambda: self.predict(ids, network=network, device=on, **how, wait=False))

        def done(maps: "list[PatchMap]") -> str:
            return what_was_predicted(self, len(maps), ids)  # each map was taken as it came

        in_run = self.model.is_run if before is None else before.kind == "train"
        kept = "Finished slides are saved. Click Predict again to continue." if in_run else ""
        more = {"parts": _slides(cohort), "prepare": prepare, "retry": retry, "kept": kept}
        return self._run("predict", "Predicting", work, done, wait, **more)

    @recorded
    def export(
        self,
        out: PathLike,
        formats: Sequence[str] = ("ome-tiff", "geojson", "csv", "png"),
        *,
        slides: str | Iterable[str] | None = None,
        threshold: float | None = None,
        corrections: PathLike | None = None,
        overwrite: bool = False,
        wait: bool = True,
    ) -> list[Path] | Job:
        """Write what the current model said of slides (None: all predicted ones), at the threshold shown.

        `overwrite` replaces files that this program did not write, or that were changed since; without it they are an
        `OutputError`.
        """
        if reason := self.why_not_export():
            raise SettingsError(reason)
        maps = self._maps([slides] if isinstance(slides, str) else slides)
        threshold = self.threshold if threshold is None else threshold
        colours = dict(zip(self.classes, self.colours, strict=True))

        def work() -> Work:
            from ...workflow.commands.export import export

            return export(
                maps, out, formats, threshold=threshold, corrections=corrections, colours=colours, overwrite=overwrite
            )

        def retry(outcome: Failure) -> RetryOffer:
            again = {"slides": slides, "threshold": threshold, "corrections": corrections, "wait": False}
            in_the_way = isinstance(outcome.error, OutputError) and outcome.error.standing == "foreign"
            text = "Replace these files" if in_the_way else "Try again"
            return RetryOffer(text, lambda: self.export(out, formats, **again, overwrite=overwrite or in_the_way))

        def done(files: list[Path]) -> None:
            self.exported = list(files)

        return self._run("export", "Exporting", work, done, wait, retry=retry)

    def cancel(self, job: Job | None = None) -> None:
        """Ask a job (None: the one that computes) to stop."""
        self.jobs.cancel(job)

    def _trusts(self, encoder: PathLike | None) -> bool:
        """Has the user said that this very file may be opened, though it can hold a program?"""
        return encoder is not None and Path(encoder) == self.trusted

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _run(
        self,
        kind: str,
        title: str,
        work: Callable[[], Work],
        done: Callable[[Any], str | None],
        wait: bool,
        result: Callable[[Any], Any] = lambda value: value,
        parts: Sequence[Part] = (),
        **more: Any,
    ) -> Any:
        if kind == "train":
            call_off(self)
        job = self.jobs.start(kind, title, work, done, parts=parts, **more)
        if not wait:
            return job
        value = self.jobs.wait(job).result()
        return None if value is None else result(value)

    def _trained(self, value: "tuple[Run, LoadedModel]") -> str:
        run, model = value
        self._use_model(model)
        return quick_trial.about(run.folder, run.config.settings, len(run.cohort.labelled))

    def _model_to_come(self) -> Job | None:
        """The last job, running or waiting, that brings a model."""
        jobs = ([self.jobs.current] if self.jobs.current else []) + list(self.jobs.queue)
        return next((job for job in reversed(jobs) if job.kind in ("train", "load")), None)

    def promised_folder(self, name: str = RUN_NAME) -> Path:
        """A free folder for a run, which no other training of this session will be given."""
        folder = self.default_run_folder(name)
        self._promised.add(folder)
        return folder

    def _maps(self, slide_ids: Iterable[str] | None = None) -> "list[PatchMap]":
        wanted = [row.slide_id for row in self.cohort] if slide_ids is None else list(slide_ids)
        found = [self.predictions.get(slide_id, {}).get(self.network or "") for slide_id in wanted]
        return [patch_map for patch_map in found if patch_map is not None]


def _slides(cohort: Cohort) -> tuple[Part, ...]:
    """The parts of a job that goes from slide to slide."""
    return tuple(Part(row.slide_id) for row in cohort)
