"""What can be done with a session: the verbs of `workflow`, run beside the window. Mixed into `Session`."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.classes import split_label
from ..core.errors import CohortError, SettingsError
from ..core.names import is_url
from ..core.settings import Settings
from .jobs import Job, Jobs, Work
from .models import LoadedModel, of_run, opened
from .slide_list import PathLike, SlideList

if TYPE_CHECKING:
    from ..store.patchmap import PatchMap
    from ..store.run import Run
    from .runs import Runs

RUN_NAME = "distill2label_run"


class Verbs(SlideList):
    """Training, predicting, exporting, and why not yet. The state it works on is `Session`'s."""

    jobs: Jobs
    model: LoadedModel | None
    role: str | None
    predictions: "dict[str, dict[str, PatchMap]]"
    threshold: float
    failures: dict[str, str]
    exported: list[Path]
    encoder: Path | None
    preset: str
    runs: "Runs"
    trusted: Path | None

    def why_not_train(self) -> str | None:
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
        if self.settings.model.encoder == "features" and self.encoder is None:
            return f"The preset {self.preset!r} needs a frozen encoder: choose its ONNX file."
        return None

    def why_not_predict(self) -> str | None:
        """What is missing for a prediction; None when it can start."""
        if self.model is None:
            return "Train first, or load a run or a model bundle."
        return None if len(self.cohort) else "Add slides first."

    def why_not_export(self) -> str | None:
        """What is missing for an export; None when it can start."""
        return None if self._maps() else "Predict first: there is nothing to export yet."

    def default_run_folder(self) -> Path:
        """A folder that is still free, beside the cohort or the first slide."""
        beside = self.cohort_path or next((row.path for row in self.cohort if not is_url(row.path)), None)
        folder = (beside.parent if beside else Path.home()) / RUN_NAME
        free, number = folder, 2
        while free.exists():
            free, number = folder.with_name(f"{folder.name}_{number}"), number + 1
        return free

    def train(
        self,
        out: PathLike | None = None,
        settings: Settings | None = None,
        *,
        baseline: bool = False,
        centres: PathLike | None = None,
        encoder: PathLike | None = None,
        corrections: PathLike | None = None,
        trust: bool = False,
        resume: bool = False,
        wait: bool = True,
    ) -> "Run | Job":
        """Train teacher and student on the labelled slides; see `napari_distill2label.train`.

        `out` is the run folder (None: a free one beside the slides), `settings` None those of the panel.
        """
        if reason := self.why_not_train():
            raise CohortError(reason)
        cohort, classes, settings = self.cohort, self.classes, settings or self.settings
        encoder = encoder or self.encoder
        out = Path(out) if out else self.default_run_folder()
        trust = trust or self._trusts(encoder)
        self.runs.expect(out)

        def work() -> Work:
            from ..workflow.train import train

            return _then(
                train(
                    cohort, out, settings, classes=classes, baseline=baseline, centres=centres, encoder=encoder,
                    corrections=corrections, trust=trust, resume=resume,
                ),
                lambda run: (run, of_run(run)),
            )  # fmt: skip

        def done(value: "tuple[Run, LoadedModel]") -> None:
            self._use_model(value[1])

        return self._run("train", "Training", work, done, wait, lambda value: value[0])

    def load_bundle(self, path: PathLike, *, wait: bool = True) -> LoadedModel | Job:
        """Load a run, or a model bundle, to predict with.

        A run brings its predictions, and its slides if there are none yet.
        """
        return self._run("load", "Loading the model", lambda: opened(Path(path)), self._use_model, wait)

    def predict(
        self,
        slides: str | Iterable[str] | None = None,
        *,
        role: str | None = None,
        centres: PathLike | None = None,
        tissue: PathLike | None = None,
        wait: bool = True,
    ) -> "list[PatchMap] | Job":
        """Label the patches of slides (ids; None: all). The results of a run's model are kept in its `predictions/`."""
        if reason := self.why_not_predict():
            raise SettingsError(reason)
        if role is not None:
            self.set_role(role)
        model, role, threshold = self.model, self.role, self.threshold
        ids = (
            [slides] if isinstance(slides, str) else [row.slide_id for row in self.cohort] if slides is None else slides
        )
        cohort = self.cohort.with_slides(self._row(slide_id) for slide_id in ids)
        device, trust = self.settings.device, self._trusts(model.encoder)

        def work() -> Work:
            from ..workflow.predict import predict

            # A run keeps patch maps itself; those of a bundle stay in memory until they are exported.
            return predict(
                model.path, cohort, model.path if model.is_run else None, role=role, threshold=threshold,
                centres=centres, tissue=tissue, formats=(), device=device, trust=trust,
            )  # fmt: skip

        for row in cohort:
            self.failures.pop(row.slide_id, None)
        return self._run("predict", "Predicting", work, lambda maps: None, wait)

    def export(
        self,
        out: PathLike,
        formats: Sequence[str] = ("ome-tiff", "geojson", "csv", "png"),
        *,
        slides: str | Iterable[str] | None = None,
        threshold: float | None = None,
        corrections: PathLike | None = None,
        wait: bool = True,
    ) -> list[Path] | Job:
        """Write what the current model said of slides (None: all predicted ones), at the threshold shown."""
        if reason := self.why_not_export():
            raise SettingsError(reason)
        maps = self._maps([slides] if isinstance(slides, str) else slides)
        threshold = self.threshold if threshold is None else threshold

        def work() -> Work:
            from ..workflow.export import export

            return export(maps, out, formats, threshold=threshold, corrections=corrections)

        def done(files: list[Path]) -> None:
            self.exported = list(files)

        return self._run("export", "Exporting", work, done, wait)

    def cancel(self) -> None:
        """Ask the running job to stop."""
        self.jobs.cancel()

    def _trusts(self, encoder: PathLike | None) -> bool:
        """Has the user said that this very file may be opened, though it can hold a program?"""
        return encoder is not None and Path(encoder) == self.trusted

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _run(
        self,
        kind: str,
        title: str,
        work: Callable[[], Work],
        done: Callable[[Any], None],
        wait: bool,
        result: Callable[[Any], Any] = lambda value: value,
    ) -> Any:
        job = self.jobs.start(kind, title, work, done)
        if not wait:
            return job
        value = self.jobs.wait(job).result()
        return None if value is None else result(value)

    def _maps(self, slide_ids: Iterable[str] | None = None) -> "list[PatchMap]":
        wanted = [row.slide_id for row in self.cohort] if slide_ids is None else list(slide_ids)
        found = [self.predictions.get(slide_id, {}).get(self.role or "") for slide_id in wanted]
        return [patch_map for patch_map in found if patch_map is not None]


def _then(work: Work, finish: Callable[[Any], Any]) -> Work:
    """The same work, its result changed by `finish`, still in the worker's thread."""
    return finish((yield from work))
