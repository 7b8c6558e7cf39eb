"""What is worked out before a training, in the background: advice, numbers, where it would go. No Qt."""

from dataclasses import dataclass, field
from pathlib import Path

from ...core.paths import free_path
from ...core.settings import Settings
from ...store.cohort import Cohort
from ...store.splits import with_splits
from ...workflow.advice import training_advice, training_problem
from ..messages import message_of, text_of
from ..project.runs import RUN_NAME
from .scales import Known, read_scales


@dataclass(frozen=True)
class TrainingCheck:
    """What was worked out of a cohort and settings in the background."""

    blocker: str | None = None
    warnings: list[str] = field(default_factory=list)
    n_slides: int = 0
    scales: Known = field(default_factory=dict)
    folder: str = ""  # where a new run would go


def check_training(cohort: Cohort, settings: Settings, known: Known, home: Path) -> TrainingCheck:
    """Advice, numbers and a free folder. Opens slides whose µm/px is not known yet; called in a thread."""
    folder = str(free_path(home, RUN_NAME))
    if (problem := training_problem(cohort, settings)) is not None:
        blocker = message_of(problem)
        return TrainingCheck(blocker, scales=known, folder=folder)
    split = with_splits(cohort, settings.split, settings.seed, settings.bag)
    rows = [*split.in_split("train"), *split.in_split("valid")]
    known = read_scales(rows, known)
    scales = {row.slide_id: known[row.path] for row in rows if row.path in known}
    return TrainingCheck(
        None, [text_of(notice) for notice in training_advice(cohort, settings, scales)], len(rows), known, folder
    )


def resumed_settings(own: Settings, panel: Settings) -> Settings:
    """Settings to go on with a run: its own, on the panel's device; its epochs too where nothing else differs."""
    parts = ("teacher", "oof", "student")

    def with_epochs(settings: Settings, other: Settings) -> Settings:
        update = {part: getattr(settings, part).model_copy(update={"epochs": getattr(other, part).epochs})
                  for part in parts}  # fmt: skip
        return settings.model_copy(update={**update, "device": other.device})

    if with_epochs(own, panel).model_dump() == panel.model_dump():
        return panel
    return own.model_copy(update={"device": panel.device})
