"""Draw `docs/images/dense_map.png` anew: python docs/make_dense_picture.py [RUN]

A drawn slide, its patches' labels as `predict` gives them, and the student's probability at every pixel. RUN is the
folder of a run trained on the drawn cohort (as for make_screenshots.py); without it one is trained first.
"""

import argparse
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
from make_screenshots import IMAGES, train_run
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.patches import Rectangle
from PIL import Image

from napari_distill2label.core.classes import palette
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.inference.dense import DenseScorer, dense_grid
from napari_distill2label.slides.patches import place_patches
from napari_distill2label.slides.registry import open_slide
from napari_distill2label.slides.slide import Slide
from napari_distill2label.slides.synthetic import MPP, SyntheticSlide, draw_slide
from napari_distill2label.store.bundle import Bundle
from napari_distill2label.workflow.commands.predict import find_model

SHAPE, SEED = (432, 432), 7  # a slide that no run has seen
STRIDE = 1


def probabilities(bundle: Bundle, slide: Slide, grid: PatchGrid) -> np.ndarray:
    """(rows, cols) of the finding, NaN where no tissue."""
    values, scorer = np.full(grid.shape, np.nan, np.float32), DenseScorer(bundle)
    for block in grid.blocks(scorer.patches_per_block):
        values[block.window][block.scored] = scorer(slide, grid, block)["probability"][:, 1]
    return values


def draw(bundle: Bundle, drawn: SyntheticSlide, slide: Slide) -> plt.Figure:
    cells = bundle.config.patches
    patches = place_patches(slide, cells)
    dense = place_patches(slide, cells.model_copy(update={"stride_px": STRIDE}), make_grid=dense_grid)
    negative, positive = (np.array(colour) / 255 for colour in palette(2))
    figure, axes = plt.subplots(1, 3, figsize=(13.2, 4.45), layout="constrained")
    titles = ("Tumour nuclei (truth, not used)", "A label per patch", f"Dense map, stride {STRIDE} px")
    for axis, title in zip(axes, titles, strict=True):
        axis.imshow(drawn.image)
        axis.set_title(title, fontsize=12)
        axis.set(xticks=[], yticks=[], xlim=(-0.5, SHAPE[1] - 0.5), ylim=(SHAPE[0] - 0.5, -0.5))
    y, x = drawn.centres[drawn.kinds == "tumour"].T
    axes[0].plot(x, y, "o", ms=4.5, mfc="none", mec="black", mew=1.1)
    _scale_bar(axes[0])
    labels = probabilities(bundle, slide, patches)
    for (row, col), value in np.ndenumerate(labels):
        if np.isfinite(value):
            corner = patches.corners_of(np.array([[row, col]]))[0][::-1] - 0.5
            face = (*positive, 0.5) if value >= 0.5 else (*negative, 0.3)
            axes[1].add_patch(Rectangle(corner, patches.stride, patches.stride, fc=face, ec="white", lw=0.4))
    values = probabilities(bundle, slide, dense)
    top, left = dense.first_centre - dense.stride / 2
    bottom, right = (top, left) + np.array(dense.shape) * dense.stride
    shown = axes[2].imshow(values, cmap=_veil(), vmin=0, vmax=1, extent=(left, right, bottom, top))
    figure.colorbar(shown, ax=axes[2], fraction=0.046, pad=0.02).set_label("probability of tumour")
    return figure


def _veil() -> ListedColormap:
    """Viridis, more transparent the lower the value; what is not scored (NaN) is left as it is."""
    colours = plt.get_cmap("viridis")(np.linspace(0, 1, 256))
    colours[:, 3] = 0.78 * np.clip(np.linspace(0, 3.2, 256), 0.12, 1)
    return ListedColormap(colours).with_extremes(bad=(0, 0, 0, 0))


def _scale_bar(axis: plt.Axes) -> None:
    length = 50 / MPP
    axis.add_patch(Rectangle((SHAPE[1] - length - 14, SHAPE[0] - 18), length, 5, color="black"))
    axis.text(SHAPE[1] - 14 - length / 2, SHAPE[0] - 22, "50 µm", ha="center", va="bottom", fontsize=9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="run folder of the demo")
    given = parser.parse_args()
    matplotlib.use("agg")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = find_model(given.run or train_run(folder), "student", "cpu")
        drawn = draw_slide(SEED, True, SHAPE)
        Image.fromarray(drawn.image).save(folder / "slide.png")
        with open_slide(folder / "slide.png", MPP) as slide:
            figure = draw(bundle, drawn, slide)
        IMAGES.mkdir(exist_ok=True)
        figure.savefig(IMAGES / "dense_map.png", dpi=95)
        print(IMAGES / "dense_map.png")


if __name__ == "__main__":
    main()
