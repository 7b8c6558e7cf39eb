"""What the window says of a quick trial (`workflow.quick_trial`), and where it puts one. No Qt."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...store.run import Run
    from ...store.run_summary import RunSummary

TITLE = "Quick trial"
FOLDER = "trial"


def about_run(run: "RunSummary") -> str:
    """What a quick trial is, and what it is not; "" of another run."""
    return _about(run.settings.student.epochs, run.n_train + run.n_valid) if run.quick_trial else ""


def about_trained(run: "Run") -> str:
    """The same of a run that has just been trained."""
    config = run.config
    return _about(config.settings.student.epochs, len(run.cohort.labelled)) if config.quick_trial else ""


def _about(epochs: int, n_slides: int) -> str:
    passes, slides = f"{epochs} epoch{'s' * (epochs != 1)}", f"{n_slides} slide{'s' * (n_slides != 1)}"
    return f"A quick trial: {passes} on {slides}. Use Train for a model to work with."
