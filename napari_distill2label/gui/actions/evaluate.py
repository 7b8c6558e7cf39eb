"""What is predicted against a truth, beside the window. Apart from the verbs that train, which know no truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import SettingsError
from ..project.loaded_model import metrics_frame
from ..project.project import PathLike
from ..runner.draining import then

if TYPE_CHECKING:
    import pandas as pd

    from ...store.cohort import CohortSlide
    from ...workflow.commands.compare import TruthComparison
    from ..runner.jobs import Job, Work
    from ..session import Session


def why_not_compare(session: "Session") -> str | None:
    """What is missing for a comparison with a truth; None when it can start."""
    return None if session._maps() else "Predict first: what is predicted is compared with the truth."


def compare_with_truth(
    session: "Session",
    truth: PathLike,
    *,
    missing_truth: str = "negative",
    label_map: Mapping[str, str] | None = None,
    wait: bool = True,
) -> "TruthComparison | Job":
    """Compare what the chosen model predicted, at the threshold shown, with a truth; see `workflow.commands.compare`.

    Slides that the model's run learnt from are accounted for apart.
    """
    if reason := why_not_compare(session):
        raise SettingsError(reason)
    maps, threshold = session._maps(), session.threshold
    rows = [row for row in session.cohort if row.slide_id in {patch_map.slide_id for patch_map in maps}]
    run = session.model.path if session.model is not None else None

    def work() -> "Work":
        from ...workflow.commands.compare import compare

        learnt = yield from _learnt(run, rows)
        return (
            yield from compare(
                maps, truth, threshold=threshold, missing_truth=missing_truth, label_map=label_map, learnt=learnt
            )
        )

    return session._run("assess", "Comparing with the truth", work, lambda found: None, wait)


def _learnt(model: Path | None, rows: "list[CohortSlide]") -> "Work":
    """Ids of the slides that a run (or the run of a bundle) learnt from."""
    from ...core.events import Progress, Task
    from ...store.learnt import LearntSlides
    from ...store.run import Run

    run = next((folder for folder in (model, model and model.parent) if folder and Run.is_run(folder)), None)
    if run is None:
        return set()
    learnt, found = LearntSlides.of(Run.open(run)), set()
    for done, row in enumerate(rows):
        yield Progress(Task.COMPARE_WITH_TRAINING, done, len(rows))
        if learnt.reason(row):
            found.add(row.slide_id)
    return found


class Evaluation:
    """The verb `evaluate`, mixed into `Session`."""

    model: Any
    cohort: Any
    settings: Any

    def evaluate(
        self,
        truth: PathLike,
        *,
        centres: PathLike | None = None,
        split: str = "test",
        missing_truth: str = "negative",
        coverage: float = 0.5,
        label_map: Mapping[str, str] | None = None,
        device: str | None = None,
        encoder: PathLike | None = None,
        features: PathLike | None = None,
        trust: bool = False,
        wait: bool = True,
    ) -> "pd.DataFrame | Job":
        """Compare every model of the run with the truth: a table with a row per model and level.

        Columns: model, level (bag, instance, …), accuracy, f1, auroc, auprc, prevalence, ece, n; see
        `napari_distill2label.evaluate`.
        """
        if self.model is None or not self.model.is_run:
            raise SettingsError("Train first, or load a run: what is evaluated is a run's models.")
        run, cohort, device = self.model.path, self.cohort, device or self.settings.device
        how = {
            "centres": centres, "split": split, "missing_truth": missing_truth, "coverage": coverage,
            "label_map": label_map, "encoder": encoder, "features": features,
        }  # fmt: skip

        def work() -> "Work":
            from ...workflow.commands.evaluate import evaluate

            return then(evaluate(run, cohort, truth, device=device, trust=trust, **how), metrics_frame)

        return self._run("evaluate", "Evaluating", work, lambda table: None, wait)
