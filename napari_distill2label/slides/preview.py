"""A short look at a slide: a small picture, its size and the µm/px its file states."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import Distill2LabelError
from ..core.geometry import Mpp
from .registry import open_slide

if TYPE_CHECKING:
    from .slide import Slide

SIDE = 64  # px; longer side of a picture: sharp at twice the height of a table's row
MOST_PX = 8192**2  # px; a file without small levels is not read whole for a picture, if it is larger


@dataclass(frozen=True, eq=False)
class SlidePreview:
    """What a short look at a slide's file tells.

    Attributes
    ----------
    picture
        (h, w, 3) uint8, at most 64 px on its longer side; None where reading it would take long.
    shape
        (height, width) of level 0; None if the file cannot be read.
    mpp
        (y, x) µm/px the file states; None where it does not.
    reason
        Why the file cannot be read; "" if it can.
    """

    picture: np.ndarray | None = None
    shape: tuple[int, int] | None = None
    mpp: Mpp | None = None
    reason: str = ""


def read_preview(path: str | Path) -> SlidePreview:
    """Open a slide and have a short look at it. Any thread may call; a file that cannot be read is an answer too."""
    try:
        with open_slide(path) as slide:
            return SlidePreview(_picture(slide), slide.shape, slide.mpp)
    except Distill2LabelError as error:
        return SlidePreview(reason=str(error))


def _picture(slide: "Slide") -> np.ndarray | None:
    from PIL import Image

    large = [index for index, shape in enumerate(slide.level_shapes) if max(shape) >= SIDE]
    level = large[-1] if large else 0
    base = level if not slide.computed[level] else slide.computed.index(True) - 1
    if np.prod(slide.level_shapes[base], dtype=float) > MOST_PX:
        return None
    image = Image.fromarray(slide.read(level, 0, 0, *slide.level_shapes[level]))
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(image)
