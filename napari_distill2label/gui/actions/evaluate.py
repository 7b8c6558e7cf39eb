"""What is predicted against a ground truth. Apart from the actions that train, which know no truth. No Qt."""

from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import SettingsError
from ...core.inputs import Compute, Inputs
from ...core.paths import PathLike
from ..project.loaded_model import metrics_frame, run_of
from ..project.project import Project
from ..project.training_choices import TrainingChoices
from ..runner.draining import then
from ..runner.jobs import Job, JobQueue, Work
from . import requirements

if TYPE_CHECKING:
    import pandas as pd

    from ...store.cohort import CohortSlide
    from ...workflow.commands.compare import TruthComparison


class EvaluateActions:
    """Compares predictions and models with a truth."""

    def __init__(self, project: Project, choices: TrainingChoices, jobs: JobQueue) -> None:
        self._project, self._choices, self._jobs = project, choices, jobs

    def compare_with_truth(
        self,
        truth: PathLike,
        *,
        missing_truth: str = "negative",
        inputs: Inputs = Inputs(),
        wait: bool = True,
    ) -> "TruthComparison | Job":
        """Compare what the chosen network predicted, at the threshold shown, with a truth.

        See `workflow.commands.compare`. Slides that the model's run learnt from are accounted for apart.
        """
        project = self._project
        if missing := requirements.compare(project):
            raise SettingsError(missing.problem)
        maps, threshold = project.maps(), project.threshold
        rows = [row for row in project.cohort if row.slide_id in {patch_map.slide_id for patch_map in maps}]
        run = project.model.origin if project.model is not None else None

        def work() -> Work:
            from ...workflow.commands.compare import compare

            learnt = yield from _learnt(run, rows)
            return (
                yield from compare(
                    maps, truth, threshold=threshold, missing_truth=missing_truth, inputs=inputs, learnt=learnt
                )
            )

        return self._jobs.run("assess", "Comparing with the truth", work, wait=wait)

    def evaluate(
        self,
        truth: PathLike,
        *,
        split: str = "test",
        missing_truth: str = "negative",
        inputs: Inputs = Inputs(),
        compute: Compute | None = None,
        wait: bool = True,
    ) -> "pd.DataFrame | Job":
        """Compare every model of the run with the truth: a table with a row per model and level.

        `compute` None: on the device of the panel.

        Columns: model, level (slide, patch, …), accuracy, f1, auroc, auprc, prevalence, ece, n; see
        `napari_distill2label.evaluate`.
        """
        model = self._project.model
        if model is None or not model.is_run:
            raise SettingsError("Train first, or load a run: what is evaluated is a run's models.")
        cohort, compute = self._project.cohort, compute or Compute(self._choices.settings.device)

        def work() -> Work:
            from ...workflow.commands.evaluate import evaluate

            work = evaluate(
                model.path, cohort, truth, split=split, missing_truth=missing_truth, inputs=inputs, compute=compute
            )
            return then(work, metrics_frame)

        return self._jobs.run("evaluate", "Evaluating", work, wait=wait)


def _learnt(model: Path | None, rows: "list[CohortSlide]") -> Work:
    """Ids of the slides that a run (or the run of a bundle) learnt from."""
    from ...core.events import Progress, Task
    from ...store.learnt import LearntSlides

    if (run := run_of(model)) is None:
        return set()
    learnt, found = LearntSlides.of(run), set()
    for done, row in enumerate(rows):
        yield Progress(Task.COMPARE_WITH_TRAINING, done, len(rows))
        if learnt.reason(row):
            found.add(row.slide_id)
    return found
