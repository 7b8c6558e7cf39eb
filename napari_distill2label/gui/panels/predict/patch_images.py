"""The pixels of single patches, with some of what lies around them. No Qt: read in the background."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ....slides.registry import open_slide
from ....store.maps.patch_map_view import Cell, PatchMapView, Ranking

if TYPE_CHECKING:
    from ....slides.slide import Slide

MARGIN = 0.5  # of the patch's side, shown around it: a nucleus is judged by its neighbours
OUTSIDE = 255  # grey value beyond the slide's border


@dataclass(frozen=True, eq=False)
class Picture:
    """A patch and what lies around it.

    Attributes
    ----------
    cell
        Which patch.
    pixels
        (px, px, 3) uint8, `MARGIN` included.
    """

    cell: Cell
    pixels: np.ndarray


def convincing(
    path: str | Path, mpp: float | None, view: PatchMapView, by: Ranking, finding: int, n: int, px: int
) -> tuple[list[Picture], list[Picture]]:
    """The `n` most and the `n` least convincing patches of a slide, each first the one that is so the most.

    `SlideError` if the slide cannot be read.
    """
    with open_slide(path, mpp) as slide:
        most, least = (
            [picture(slide, view, cell, px) for cell in view.ranked(by, finding, n, least=is_least)]
            for is_least in (False, True)
        )
    return most, least


def picture(slide: "Slide", view: PatchMapView, cell: Cell, px: int) -> Picture:
    """One patch at about `px` screen pixels."""
    side = view.patches.side
    margin = round(side * MARGIN)
    y, x = view.corner(cell)
    return Picture(cell, region(slide, y - margin, x - margin, side + 2 * margin, px))


def region(slide: "Slide", y: int, x: int, side: int, px: int) -> np.ndarray:
    """(px, px, 3) uint8 of a square in level-0 px, from the coarsest level that has the detail; white outside."""
    level = max((i for i, down in enumerate(slide.downsamples) if down <= max(1.0, side / px)), default=0)
    down = slide.downsamples[level]
    size = max(1, round(side / down))
    top, left = math.floor(y / down), math.floor(x / down)
    height, width = slide.level_shapes[level]
    box = np.full((size, size, 3), OUTSIDE, np.uint8)
    y0, x0, y1, x1 = max(0, top), max(0, left), min(height, top + size), min(width, left + size)
    if y1 > y0 and x1 > x0:
        box[y0 - top : y1 - top, x0 - left : x1 - left] = slide.read(level, y0, x0, y1 - y0, x1 - x0)
    from PIL import Image

    return np.asarray(Image.fromarray(box).resize((px, px), Image.Resampling.BICUBIC))
