"""What the steps of work are counted in, so that no number of the window stands alone."""

from ...core.events import EpochEnd, Progress

UNITS = {  # of a phase that has this word in it; the first that fits, those before the name of a slide first
    "predicting": "patches", "features of": "patches", "exporting": "slides", "validation": "slides",
    "epoch": "steps", "slides": "slides", "calibrating": "slides", "answers": "steps", "features": "slides",
    "patches": "slides",
}  # fmt: skip


def unit_of(event: Progress) -> str:
    """'patches' for "predicting slide_000"; '' where nobody knows what its steps are."""
    if isinstance(event, EpochEnd):
        return "epochs"
    return next((unit for word, unit in UNITS.items() if word in event.phase), "")
