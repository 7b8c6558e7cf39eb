"""Predicting: load a model, label the patches of slides with it, compare the labels with a truth. No Qt."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import Distill2LabelError, SettingsError
from ...core.inputs import Compute, Inputs
from ...core.paths import PathLike
from ...store.cohort import Cohort
from ..canvas.canvas import Canvas
from ..messages import message_of
from ..project.corrections import Corrections
from ..project.loaded_model import LoadedModel, opened, run_of
from ..project.open_slides import OpenSlides, SlideSwap
from ..project.predicted import what_was_predicted
from ..project.previews import Previews
from ..project.project import Project
from ..project.table_file import TableFile
from ..project.tissue import Tissue
from ..project.training_choices import TrainingChoices
from ..runner.fallback import is_accelerator
from ..runner.jobs import DependencyCancelled, Failure, Job, JobQueue, RetryOffer, Work
from . import requirements
from .log import ActionLog, recorded
from .train import slide_parts

if TYPE_CHECKING:
    from ...core.promise import Promise
    from ...store.maps.patch_map import PatchMap


class PredictActions:
    """Loads models and predicts with them."""

    def __init__(
        self,
        project: Project,
        choices: TrainingChoices,
        corrections: Corrections,
        tissue: Tissue,
        previews: Previews,
        swap: SlideSwap,
        jobs: JobQueue,
        log: ActionLog,
        canvas: Canvas,
    ) -> None:
        self._project, self._choices, self._corrections, self._tissue = project, choices, corrections, tissue
        self._previews, self._swap, self._jobs, self.log, self._canvas = previews, swap, jobs, log, canvas

    # ---- the model ------------------------------------------------------------------------------------------------

    def load_model(self, path: PathLike, *, wait: bool = True) -> LoadedModel | Job:
        """Load a run, or a model bundle, to predict with.

        A run brings its predictions, and its slides if there are none yet.
        """
        folder = Path(path).absolute()
        return self._jobs.run("load", "Loading the model", lambda: opened(folder), self.use_model, wait=wait)

    def reopen_model(self, path: Path, network: str | None, is_wanted: Callable[[], bool] = lambda: True) -> Job:
        """Load the model of the last time, its network of then, and what it predicted that is still true.

        `is_wanted` says at the end whether the slides it was loaded for are still there.
        """
        project = self._project

        def done(model: LoadedModel) -> None:
            if not is_wanted():
                return
            threshold = project.threshold  # the one of the last time
            self.use_model(model)
            if network in model.networks:
                project.choose_network(network)
            project.set_threshold(threshold)
            told = f"Loaded again: {model.path.name}, {project.network}"
            count = len(project.predictions)
            project.tell(f"{told}, with predictions of {count} slides" if count else told)

        return self._jobs.start("load", "Loading the model of the last time", lambda: opened(path), done)

    def use_model(self, model: LoadedModel) -> None:
        """Predict with a model from now on; take its predictions, and its slides where there are none."""
        self._project.choose_model(model)
        for notice in model.notices:
            self._project.tell(notice)
        if model.cohort is not None and not len(self._project.cohort):
            self._take_slides(model.path, model.cohort)
        self._project.take_maps(model.maps)
        self._choices.suggest_encoder(model.encoder)

    def _take_slides(self, run: Path, cohort: Cohort) -> None:
        """The slides of a run, where there are none."""
        try:
            self._corrections.flush()  # corrections of slides that were taken off the list
        except OSError as error:
            told = "the slides of the run are not opened, for your corrections could not be written"
            self._project.tell(f"{told}: {message_of(error)}")
            return
        table = run / "cohort.csv"
        own = TableFile.now(table) if table.exists() else TableFile(table)
        self._swap.start(OpenSlides(cohort, cohort, own, run))
        with suppress(Distill2LabelError):  # the run may have been moved away from its slides: this is told
            self._canvas.slide_view.show(cohort.slides[0].slide_id, wait=False)

    # ---- predicting -----------------------------------------------------------------------------------------------

    @recorded
    def predict(
        self,
        slides: str | Iterable[str] | None = None,
        *,
        network: str | None = None,
        dense_stride: int | None = None,
        inputs: Inputs = Inputs(),
        compute: Compute | None = None,
        wait: bool = True,
    ) -> "list[PatchMap] | Job":
        """Label the patches of slides (ids; None: all); see `napari_distill2label.predict`.

        The model is the session's; after a training or loading that has not ended yet, it is the one that comes of it.
        What a run's model says is kept in the run's `predictions/`. Without regions of tissue, the masks in use count;
        an encoder that the user trusts is trusted. `compute` None: on the device of the panel. `wait` False: return the
        `Job`.
        """
        project, choices, before = self._project, self._choices, self._jobs.coming("train", "load")
        if missing := requirements.predict(project, before is not None):
            raise SettingsError(missing.problem)
        if network is not None and before is None:
            project.choose_network(network)
        ids = [row.slide_id for row in project.cohort] if slides is None else slides
        ids = [ids] if isinstance(ids, str) else list(ids)
        cohort, threshold = project.cohort.with_slides(project.row(slide_id) for slide_id in ids), project.threshold
        if inputs.tissue is None:
            inputs = replace(inputs, tissue=self._tissue.in_use())
        compute = compute or Compute(choices.settings.device)
        chosen: dict[str, Any] = {}

        def prepare() -> None:
            if before is not None and before.state == "cancelled":
                raise DependencyCancelled(f"{before.title} was cancelled: there is no new model to predict with.")
            if before is not None and before.state != "done":
                raise SettingsError(f"{before.title} did not come to its end: there is no new model to predict with")
            if (model := project.model) is None:  # it was loaded for slides that are gone, and not used
                raise DependencyCancelled("Other slides were opened meanwhile: there is no model to predict with.")
            if network is not None:
                project.choose_network(network)
            own = project.network if project.network in model.networks else model.networks[-1]  # not `live`
            encoder = choices.with_trust(inputs.encoder, model.encoder)
            chosen.update(model=model, network=own, inputs=replace(inputs, encoder=encoder))
            project.forgive(ids)

        def work() -> Work:
            from ...workflow.commands.predict import predict

            model, own = chosen["model"], chosen["network"]
            # A run keeps patch maps itself; those of a bundle stay in memory until they are exported.
            return self._canvas.predictions.with_live_view(predict(
                model.path, cohort, model.path if model.is_run else None, network=own, threshold=threshold,
                dense_stride=dense_stride, formats=(), inputs=chosen["inputs"], compute=compute,
            ))  # fmt: skip

        def retry(outcome: Failure) -> RetryOffer:
            on_cpu = outcome.out_of_memory and is_accelerator(compute.device)
            again = partial(
                self.predict, ids, network=network, dense_stride=dense_stride, inputs=inputs,
                compute=replace(compute, device="cpu") if on_cpu else compute, wait=False,
            )  # fmt: skip
            return RetryOffer("Try again on the processor (CPU)" if on_cpu else "Try again", again)

        def done(maps: "list[PatchMap]") -> str:
            return self.predicted_text(len(maps), ids)  # each map was taken as it came

        model = project.model
        in_run = before.kind == "train" if before is not None else model is not None and model.is_run
        kept = "Finished slides are saved. Click Predict again to continue." if in_run else ""
        return self._jobs.run(
            "predict", "Predicting", work, done, wait=wait, parts=slide_parts(cohort), prepare=prepare, retry=retry,
            kept=kept,
        )  # fmt: skip

    # ---- a threshold with a promise ---------------------------------------------------------------------------------

    def promise_threshold(self, share: float = 0.05, risk: float = 0.1, *, wait: bool = True) -> "Promise | Job":
        """Label patches so that, with probability 1 − `risk`, at most `share` of a new negative slide is a finding.

        The threshold rests on the slides with the negative label that are predicted, and that the run has not learnt
        from; `SettingsError` if they are too few. See `core.promise`.
        """
        project = self._project
        if missing := requirements.promise(project):
            raise SettingsError(missing.problem)
        negative, model, network = project.classes[0], project.model, project.network
        maps = {row.slide_id: found for row in project.cohort if (found := project.map_of(row.slide_id)) is not None}
        predicted = project.cohort.with_slides(row for row in project.cohort if row.slide_id in maps)

        def work() -> Work:
            from ...workflow.promise import PromiseRequest, new_negatives, promise_of_maps

            if (run := run_of(None if model is None else model.origin)) is None:
                raise SettingsError(
                    "The model's run is not there, so nobody knows which slides it has learnt from. Load the run."
                )
            rows = yield from new_negatives(predicted, negative, run)
            return promise_of_maps([(row, maps[row.slide_id]) for row in rows], PromiseRequest(share, risk))

        def done(promise: "Promise") -> str:
            if (project.model, project.network) != (model, network):
                return "The network was changed meanwhile, and a promise holds for one. Choose the promise again."
            project.keep_promise(promise)
            return str(promise)

        return self._jobs.run("promise", "Choosing a threshold", work, done, wait=wait)

    def predicted_text(self, n_predicted: int, slide_ids: Sequence[str]) -> str:
        """What came of predicting slides, in one line."""
        return what_was_predicted(self._project, self._previews, n_predicted, slide_ids)
