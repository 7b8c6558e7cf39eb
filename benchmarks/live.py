"""The live loop: from the key press that labels a slide to its new colours, in a real napari window.

`python -m benchmarks.live` (on Linux without a screen: `xvfb-run -a` before it). 100 slides of 1,000 patches with 1,280
features each, half of them labelled; then one label after the other is set, and counted until the layers of the slide
on the canvas show what came of it, and until all slides do. The features are drawn: a few hundred directions that all
patches share, with less and less in them, as those of a real encoder have, and noise. How long the window was not
answering meanwhile is told apart.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.mil.memory import retain_freed_memory
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.maps.feature_map import FeatureMap

from .goals import Goal, figure
from .window import Gaps, run_until

FEATURES, DIRECTIONS = 1280, 300
POSITIVE = 0.1  # share of the patches of positive slides that differ
PATCH = 32  # px; the slides are there to be shown


def draw(folder: Path, slides: int, patches: int) -> tuple[Cohort, dict[str, np.ndarray]]:
    """Slides, as small images, and their features; half of them positive. And which patches differ (K,) bool."""
    from PIL import Image

    rng = np.random.default_rng(0)
    shared = rng.normal(size=(DIRECTIONS, FEATURES)).astype(np.float32)
    shared *= (np.arange(1, DIRECTIONS + 1, dtype=np.float32) ** -0.5)[:, None]
    finding = rng.normal(size=DIRECTIONS).astype(np.float32) @ shared
    cols = int(np.ceil(patches**0.5))
    grid = PatchGrid.over((cols * PATCH,) * 2, PatchSettings(size_px=PATCH), (0.5, 0.5))
    grid = grid.with_tissue(np.arange(cols * cols).reshape(cols, cols) < patches)
    rows, truth = [], {}
    for number in range(slides):
        path = folder / f"slide_{number:03d}.png"
        Image.fromarray(rng.integers(180, 255, (cols * PATCH, cols * PATCH, 3), np.uint8)).save(path)
        found = FeatureMap.open_or_create(
            folder / "features" / f"{path.stem}.zarr", grid, FEATURES, {"encoder": "drawn"}
        )
        for block in grid.blocks(10**6):
            n = len(block.corners)
            values = rng.normal(size=(n, DIRECTIONS)).astype(np.float32) @ shared
            values += 0.3 * rng.normal(size=values.shape).astype(np.float32)
            differs = rng.random(n) < POSITIVE * (number % 2)
            values[differs] += finding
            found.write(block, values)
        truth[path.stem] = differs
        label = ("normal", "tumour")[number % 2] if number % 4 < 2 else None
        rows.append(CohortSlide(path.stem, path, label, path.stem, mpp=0.5))
    return Cohort(tuple(rows), ("normal", "tumour")), truth


def measure(slides: int = 100, patches: int = 1000, rounds: int = 5) -> Iterator[str]:
    retain_freed_memory()  # as `distill2label gui` does
    import napari

    from napari_distill2label.gui.canvas.layers import LABELS
    from napari_distill2label.gui.canvas.ownership import find, tags_of
    from napari_distill2label.gui.dock import DistillToLabel

    with tempfile.TemporaryDirectory(dir=Path.home()) as name:  # /tmp may be memory
        folder = Path(name)
        cohort, truth = draw(folder, slides, patches)
        table = cohort.write(folder / "cohort.csv")
        viewer = napari.Viewer()
        panel = DistillToLabel(viewer)
        viewer.window.add_dock_widget(panel, name="Distill to Label")
        session = panel.session
        session.read_cohort(table)
        session.feature_folder = folder / "features"
        session.show("slide_002")  # not labelled

        def coloured() -> str | None:
            """Which patch map the labels on the canvas are of."""
            return next(
                (tags_of(layer)["patch_map"] for layer in find(viewer, LABELS, "slide_002", model="live")), None
            )

        begun = time.perf_counter()
        session.live.enabled = True
        run_until(lambda: not session.live.busy and coloured())
        yield f"{slides} slides × {patches} patches × {FEATURES} features, {torch.get_num_threads()} thread(s)"
        yield f"features read and a first trial: {time.perf_counter() - begun:.1f} s"
        shown, everywhere, worst = [], [], []
        for number in range(rounds):
            before = coloured()
            gaps = Gaps()
            begun = time.perf_counter()
            session.set_label(f"slide_{4 * number + 2:03d}", "normal")
            run_until(lambda before=before: coloured() != before)
            shown.append(time.perf_counter() - begun)
            run_until(lambda: not session.live.busy)
            everywhere.append(time.perf_counter() - begun)
            worst.append(gaps.stop()[:, 0].max())
        status = session.live.status
        yield figure("from the key press to new colours", shown, "s", Goal(2, "s"))
        yield figure(f"until all {slides} slides have theirs ({status})", everywhere, "s")
        yield f"longest the window did not answer: {1000 * max(worst):.0f} ms"
        yield f"AUROC of the patches, of which the loop never sees a label: {_auroc(session, truth):.3f}"
        viewer.close()


def _auroc(session, truth: dict[str, np.ndarray]) -> float:
    from sklearn.metrics import roc_auc_score

    maps = {slide_id: found["live"] for slide_id, found in session.predictions.items()}
    score = [found.probability[found.patches.scored][:, 1] for found in maps.values()]
    return float(roc_auc_score(np.concatenate([truth[slide_id] for slide_id in maps]), np.concatenate(score)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__)
    parser.add_argument("--slides", type=int, default=100)
    parser.add_argument("--patches", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for line in measure(options.slides, options.patches, options.rounds):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
