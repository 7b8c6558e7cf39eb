"""What a step of the threshold slider costs, in a real napari window with the panels that follow it.

`python -m benchmarks.recolouring` (on Linux without a screen: `xvfb-run -a` before it). Counted is all that happens
before the canvas is drawn: labels, layer, texture, the counts beside the slider. The redraw is napari's, and given
beside it. Goals: 10,000 patches in 10 ms, 1,000,000 in 30 ms.
"""

import time
from collections.abc import Iterator, Sequence

import numpy as np

from napari_distill2label.core.slide_info import SlideInfo

from .goals import Goal, figure
from .pyramids import pyramid

SIDE = 16_384  # px of the slide
STEPS = 40  # of the slider
GOALS = {10_000: Goal(10, "ms"), 1_000_000: Goal(30, "ms")}


def measure(sizes: Sequence[int] = tuple(GOALS)) -> Iterator[str]:
    """Yield a line per number of patches."""
    for size in sizes:
        steps, redraw = _times(round(size**0.5))
        yield figure(f"{size:,} patches, a step, slowest {max(steps):.2f} ms", steps, "ms", GOALS.get(size))
        yield figure(f"{size:,} patches, the redraw after it", redraw, "ms")


def _times(edge: int) -> tuple[list[float], list[float]]:
    """Each step and each redraw in ms, for `edge` × `edge` patches."""
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_distill2label.gui import get_session
    from napari_distill2label.gui.panels.predict.panel import PredictPanel
    from napari_distill2label.gui.panels.predict.review_panel import ReviewPanel

    viewer = napari.Viewer()
    viewer.window.resize(1366, 900)
    session = get_session(viewer)
    panels = PredictPanel(session), ReviewPanel(session)
    for panel in panels:
        viewer.window.add_dock_widget(panel, tabify=True)
    session.add_slides(pyramid(SIDE))
    slide_id = session.cohort.slides[0].slide_id
    session.show(slide_id)
    while session.reader.busy or session.shown is None:
        QApplication.processEvents()
    session.project.network = "student"
    session.project.take_maps([_patch_map(slide_id, edge)])
    while session.reader.busy:
        QApplication.processEvents()
    viewer.screenshot(canvas_only=True, flash=False)
    steps, redraws = [], []
    for threshold in np.random.default_rng(0).permutation(STEPS) / STEPS:
        start = time.perf_counter()
        session.set_threshold(float(threshold))
        steps.append(1000 * (time.perf_counter() - start))
        start = time.perf_counter()
        viewer.screenshot(canvas_only=True, flash=False)  # waits for the canvas to be drawn
        redraws.append(1000 * (time.perf_counter() - start))
    session.shutdown()
    viewer.close()
    return steps[1:], redraws[1:]  # the first compiles shaders


def _patch_map(slide_id: str, edge: int):
    from napari_distill2label.core.geometry import PatchGrid
    from napari_distill2label.store.maps.patch_map import PatchMap

    px = SIDE // edge
    grid = PatchGrid((SIDE, SIDE), px, px, (0, 0), px, None, edge, edge)
    patch_map = PatchMap.create(None, grid, ("normal", "tumour"), SlideInfo(slide_id), model={"network": "student"})
    rng = np.random.default_rng(0)
    for block in grid.blocks(62_500):
        positive = rng.random(int(block.scored.sum()), np.float32)
        probability = np.stack([1 - positive, positive], -1)
        patch_map.write(block, probability, np.log(probability + 1e-6), positive)
    patch_map.finish([0.5, 0.5])
    return patch_map


if __name__ == "__main__":
    for line in measure():
        print(line, flush=True)
