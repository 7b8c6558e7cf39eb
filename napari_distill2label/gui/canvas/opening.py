"""Opening a slide for the canvas, in a thread in the background. No Qt."""

from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import SlideError
from ...slides import registry

if TYPE_CHECKING:
    from ...slides.slide import Slide


def opened_slide(path: Path | str, mpp: float | None = None) -> "Slide":
    """The slide, its coarsest level in memory: that is what napari draws first, in the thread of the window.

    `SlideError` if it cannot be opened.
    """
    import dask.array as da

    slide = registry.open_slide(path, mpp)
    height, width = slide.level_shapes[-1]
    try:
        pixels = slide.read(len(slide.level_shapes) - 1, 0, 0, height, width)
    except SlideError:  # damaged in part: the canvas shows what can be read
        return slide
    slide.levels[-1] = da.from_array(pixels, pixels.shape)
    return slide
