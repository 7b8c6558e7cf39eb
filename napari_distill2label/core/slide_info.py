"""`SlideInfo`: which slide a result is of, and the scale at which it was read."""

from dataclasses import dataclass

from .geometry import Mpp


@dataclass(frozen=True)
class SlideInfo:
    """The slide that patches and predictions are of.

    Attributes
    ----------
    slide_id
        As in the cohort.
    path
        Its file, as a full path or a URL (`core.paths.canonical_path`). None: unknown.
    mpp
        (y, x) µm/px of level 0; None: unknown.
    mpp_from_user
        A user entered `mpp`: it is not from the file.
    canvas_origin
        (y, x) of level 0 on the canvas of the file, see `slides.slide.Slide`.
    """

    slide_id: str
    path: str | None = None
    mpp: Mpp | None = None
    mpp_from_user: bool = False
    canvas_origin: tuple[int, int] = (0, 0)
