"""H&E-like slides that we draw, with known truth: for the demo, napari's sample data and the tests."""

from .cohort import FORMATS, write_cohort, write_image
from .drawing import KINDS, MPP, SyntheticSlide, draw_slide

__all__ = ["FORMATS", "KINDS", "MPP", "SyntheticSlide", "draw_slide", "write_cohort", "write_image"]
