"""What the steps of work are counted in, so that no number of the window stands alone."""

from ...core.events import EpochEnd, Progress

UNITS = {  # of a phase that has this word in it; the first that fits
    "validation": "slides", "epoch": "steps", "predicting": "patches", "features of": "patches", "slides": "slides",
    "exporting": "slides", "calibrating": "slides", "answers": "steps", "features": "slides", "patches": "slides",
}  # fmt: skip


def unit_of(event: Progress) -> str:
    """'patches' for "predicting slide_000"; '' where nobody knows what its steps are."""
    if isinstance(event, EpochEnd):
        return "epochs"
    return next((unit for word, unit in UNITS.items() if word in event.phase), "")
