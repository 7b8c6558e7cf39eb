"""A random sample of new slides: draw it, walk through it, measure the model by it, and re-calibrate the model. No Qt.

What it is for stands in `core.recalibration`. The slides are those that are predicted and that the model has not learnt
from. While a patch of the sample is shown, what the model says is hidden: a person is to say what they see.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import Distill2LabelError, SettingsError
from ...core.paths import PathLike, free_path
from ...core.recalibration import FEWEST, Recalibration
from ..canvas.canvas import Canvas
from ..messages import reason_of
from ..project.corrections import Corrections
from ..project.loaded_model import LoadedModel, opened, run_of
from ..project.project import Project
from ..project.random_sample import RandomSample
from ..runner.jobs import Job, JobQueue, Work
from . import requirements

if TYPE_CHECKING:
    from ...store.maps.patch_map import PatchMap
    from ...store.sample import Sample

STEM = "sample"
ALL_LEARNT = "The model has learnt from all of these slides. Predict slides that are new to it: a sample is of those."
NO_PATCH = "No patch of a random sample is shown. Draw a sample first."
PROMISE_OVER = " What was promised of negative slides holds for the former model alone: use ‘Promise…’ again."


class SampleActions:
    """The way through a random sample."""

    def __init__(
        self,
        project: Project,
        sample: RandomSample,
        corrections: Corrections,
        canvas: Canvas,
        jobs: JobQueue,
        use_model: Callable[[LoadedModel], None],
    ) -> None:
        self._project, self._sample, self._canvas = project, sample, canvas
        self._jobs, self._use_model = jobs, use_model
        project.events.shown.connect(self._frame_if_none)
        canvas.predictions.updated.connect(self._frame_if_none)
        corrections.changed.connect(self._frame_if_none)  # new patches of a slide take the frame away
        project.events.network.connect(self.stop_sampling)
        project.events.model.connect(self.stop_sampling)
        project.cohort_closing.connect(self._close)

    # ---- the sample -----------------------------------------------------------------------------------------------

    def draw_sample(
        self, count: int = 50, out: PathLike | None = None, *, seed: int = 0, wait: bool = True
    ) -> Path | Job:
        """Draw patches at random from the predicted slides that the model has not learnt from, and show the first.

        `out`: the CSV that gets them; None: beside the slides, under a name that is free.
        """
        maps = self._maps()
        path = self._default_path() if out is None else Path(out).absolute()

        def work() -> Work:
            from ...store.sample import read_sample
            from ...workflow.commands.recalibrate import draw_sample

            new = yield from self._new(maps)
            yield from draw_sample(new, path, count, seed=seed)
            return path, read_sample(path), tuple(own.slide_id for own in new)

        def done(drawn: "tuple[Path, Sample, tuple[str, ...]]") -> str:
            self._begin(*drawn)
            return f"{len(drawn[1].patches)} patches of {len(drawn[2])} slides are drawn: {path.name}"

        return self._jobs.run("sample", "Drawing a random sample", work, done, wait=wait, result=lambda drawn: drawn[0])

    def open_sample(self, path: PathLike, *, wait: bool = True) -> Path | Job:
        """Go on with a sample that was drawn before.

        Labels go into its file, unless that has columns of somebody else: then into a new one beside the slides.
        """
        maps, given = self._maps(), Path(path).absolute()
        another = self._default_path()

        def work() -> Work:
            from ...store.sample import is_own, read_sample, write_sample

            sample = read_sample(given)
            new = yield from self._new(maps)
            path = given if is_own(given) else write_sample(another, sample)
            return path, sample, tuple(own.slide_id for own in new)

        return self._jobs.run(
            "sample", "Opening a random sample", work, lambda read: self._begin(*read), wait=wait,
            result=lambda read: read[0],
        )  # fmt: skip

    def _begin(self, path: Path, sample: "Sample", slide_ids: tuple[str, ...]) -> None:
        self.save()  # labels of the one before
        self._sample.begin(path, sample, slide_ids)
        if self._sample.n_labelled < len(sample.patches):
            self.go_to_sampled(self._sample.n_labelled)

    def _default_path(self) -> Path:
        table = self._project.cohort_path
        folder = self._project.work_folder or Path.home()
        return free_path(folder, f"{table.stem}_{STEM}" if table else STEM, ".csv")

    def _maps(self) -> "list[PatchMap]":
        if missing := requirements.sample(self._project):
            raise SettingsError(missing.problem)
        return self._project.maps()

    def _new(self, maps: "list[PatchMap]") -> Work:
        """Return the maps of slides that the model has not learnt from. Model and slides are those of now."""
        from ...core.events import Progress, Task
        from ...store.learnt import LearntSlides

        model, rows = self._project.model, {row.slide_id: row for row in self._project.cohort}

        def work() -> Work:
            new, run = list(maps), None if model is None else run_of(model.origin)
            if run is not None:
                learnt, new = LearntSlides.of(run), []
                for done, own in enumerate(maps):
                    yield Progress(Task.COMPARE_WITH_TRAINING, done, len(maps))
                    if learnt.reason(rows[own.slide_id]) is None:
                        new.append(own)
            if not new:
                raise SettingsError(ALL_LEARNT)
            return new

        return work()

    # ---- from patch to patch ----------------------------------------------------------------------------------------

    def go_to_sampled(self, position: int) -> None:
        """Show a patch of the sample to be labelled: one with a label, or the first without."""
        if not self._sample.patches:
            raise SettingsError(NO_PATCH)
        self._sample.go_to(position)
        self._canvas.display.set_blind(True)
        current = self._sample.current
        if current is not None and self._project.shown != current.slide_id:
            self._canvas.slide_view.show(current.slide_id, wait=False)
        self._frame()

    def _frame_if_none(self) -> None:
        if self._canvas.corrections.framed is None:
            self._frame()

    def label_sampled(self, label: str) -> None:
        """Say what the shown patch of the sample is ("a;b": both), and go on to the next."""
        sample, known = self._sample, self._project.model
        if sample.position is None or known is None:
            raise SettingsError(NO_PATCH)
        parts = [part.strip() for part in label.split(";")]
        if unknown := [part for part in parts if part not in known.classes]:
            raise SettingsError(f"there is no class {unknown[0]!r}: the classes are {', '.join(known.classes)}")
        sample.label(label)
        sample.save_soon(self._not_written)
        if sample.position + 1 < len(sample.patches):
            self.go_to_sampled(sample.position + 1)
        else:
            self.stop_sampling()

    def label_with(self, number: int) -> None:
        """Say that the shown patch of the sample is of the model's class 1, 2, …"""
        classes = () if self._project.model is None else self._project.model.classes
        if not 0 < number <= len(classes):
            raise SettingsError(f"there is no class {number}: the classes are {', '.join(classes)}")
        self.label_sampled(classes[number - 1])

    def stop_sampling(self) -> None:
        """Label no more for now; what the model says is seen again."""
        self._sample.go_to(None)
        self._canvas.display.set_blind(False)

    def is_sampling(self) -> bool:
        """Is the framed patch the one of the sample that is to be labelled?"""
        current, framed = self._sample.current, self._canvas.corrections.framed
        return current is not None and framed is not None and framed == (current.slide_id, self._cell())

    def _cell(self) -> tuple[int, ...] | None:
        """The cell of the shown patch of the sample, in the prediction of its slide."""
        from ...store.corrections import cells_of

        current = self._sample.current
        patch_map = None if current is None else self._project.map_of(current.slide_id)
        if current is None or patch_map is None:
            return None
        return cells_of(patch_map.patches, np.array([[current.y, current.x]]))[0]

    def _frame(self) -> None:
        """Frame the patch, as soon as its slide and the prediction of it are there."""
        current, view = self._sample.current, self._canvas.predictions.view
        if current is None or view is None or self._project.shown != current.slide_id or self.is_sampling():
            return
        if (cell := self._cell()) is not None:
            self._canvas.corrections.center_on(cell)
            self._sample.changed.emit()

    def save(self) -> None:
        """Write what the file does not hold yet, now; what stands against it is told."""
        try:
            self._sample.flush()
        except (Distill2LabelError, OSError) as error:
            self._not_written(error)

    def _close(self) -> None:
        self.save()
        self.stop_sampling()
        self._sample.clear()

    def _not_written(self, error: Exception) -> None:
        self._project.tell(f"The labels of the sample are not saved. {reason_of(error)}")

    # ---- what it says -----------------------------------------------------------------------------------------------

    def measure_sample(self, *, wait: bool = True) -> Recalibration | Job:
        """Measure the model by the labelled patches; nothing is changed."""
        return self._measure(None, wait)

    def recalibrate(self, out: PathLike | None = None, *, wait: bool = True) -> Recalibration | Job:
        """Write the model with the bias that the sample gives it into a folder (None: a free one), and load that.

        The model that was there stays as it is. Slides are to be predicted again, and a promise is over.
        """
        model = self._project.model
        name = f"{model.path.name}_recalibrated" if model is not None else "recalibrated"
        folder = self._project.work_folder or Path.home()
        return self._measure(free_path(folder, name, "") if out is None else Path(out).absolute(), wait)

    def _measure(self, out: Path | None, wait: bool) -> Recalibration | Job:
        sample, path = self._sample, self._sample.path
        maps = {own.slide_id: own for own in self._maps()}
        if path is None or sample.n_labelled < FEWEST:
            raise SettingsError(f"Label {FEWEST} patches of a random sample first: {sample.n_labelled} are.")
        chosen = [maps[slide_id] for slide_id in sample.slide_ids if slide_id in maps]
        threshold = self._project.threshold
        sample.flush()

        def work() -> Work:
            from ...workflow.commands.recalibrate import recalibrate

            report = yield from recalibrate(chosen, path, out, threshold=threshold)
            return report, (None if out is None else (yield from opened(out)))

        def done(found: "tuple[Recalibration, LoadedModel | None]") -> str:
            report, model = found
            sample.set_report(report)
            return str(report) if model is None else self._take(model)

        title = "Measuring by the sample" if out is None else "Re-calibrating"
        return self._jobs.run("sample", title, work, done, wait=wait, result=lambda found: found[0])

    def _take(self, model: LoadedModel) -> str:
        """Predict with the re-calibrated model from now on."""
        project, former = self._project, self._project.model
        promised = project.promise is not None
        self._use_model(model if former is None else replace(model, run=former.origin))
        text = f"The re-calibrated model ‘{model.path.name}’ is loaded. Predict the slides again with it."
        text += PROMISE_OVER if promised else ""
        project.tell(text)
        return text
