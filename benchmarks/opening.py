"""From a slide's file to its first pixels in a real napari window, whatever its size.

`python -m benchmarks.opening` (on Linux without a screen: `xvfb-run -a` before it). Each slide is opened through the
session of the dock widget, and counted until the canvas has been drawn. A small slide is opened before all others:
what napari does once per window is not of the slide.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .goals import Goal, figure
from .pyramids import pyramid

ROUNDS = 5


def measure(sides: Sequence[int] = (4096, 16_384, 65_536)) -> Iterator[str]:
    """Yield a line per slide, and the ratio of the largest to the smallest."""
    seconds = {side: [] for side in sides}
    _first_pixels(pyramid(min(sides)))
    for _ in range(ROUNDS):
        for side in sides:
            seconds[side].append(_first_pixels(pyramid(side)))
    medians = {side: float(np.median(seconds[side])) for side in sides}
    for side in sides:
        yield figure(f"{side} px, from the file to the first pixels", seconds[side], "s", Goal(1, "s"))
    yield f"{max(sides)} px / {min(sides)} px: {medians[max(sides)] / medians[min(sides)]:.2f}"


def _first_pixels(path: Path) -> float:
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_distill2label.gui import get_session

    viewer = napari.Viewer()
    session = get_session(viewer)
    QApplication.processEvents()
    start = time.perf_counter()
    session.add_slides(path)
    session.show(next(iter(session.cohort)).slide_id)
    QApplication.processEvents()
    viewer.screenshot(canvas_only=True, flash=False)  # waits for the canvas to be drawn
    taken = time.perf_counter() - start
    viewer.close()
    return taken


if __name__ == "__main__":
    for line in measure():
        print(line, flush=True)
