"""Figures of the colon experiment, from its `scores/` and `history/`."""

from pathlib import Path

import numpy as np

from napari_distill2label.core.metrics import ECE_BINS
from napari_distill2label.slides.cutting import cut
from napari_distill2label.slides.registry import open_slide
from napari_distill2label.store.cohort import Cohort

from .figures import COLOURS, new_figure, save

READINGS = {"grid": "On the 18 × 18 grid", "nucleus": "Centred on the nuclei"}
SHOWN = ("recommended", "student")  # whose patches the montage shows: the first there is
BINS, EACH, PATCH_PX = 5, 8, 27  # of the montage: ranges of score, patches of each


def draw_figures(out: Path) -> None:
    """`figure3.png`, `reliability.png` and `figure4-*.png`, as far as there is something to draw."""
    _losses(out)
    _reliability(out)
    for kind in READINGS:
        _montage(out, kind)


def _read(out: Path, folder: str, kind: str, model: str) -> list[Path]:
    """Files of all folds and seeds; their names end in fold and seed, and some models' in a number as well."""
    found = sorted((out / folder).glob(f"{kind}-{model}-*"))
    return [path for path in found if path.stem.rsplit("-", 2)[0] == f"{kind}-{model}"]


def _test_patches(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file of `scores/`, of its test slides."""
    with np.load(path, allow_pickle=False) as file:
        chosen = file["split"] == "test"
        return {name: file[name][chosen] for name in file.files}


def _losses(out: Path) -> None:
    """Figure 3: the four terms of the student's loss over epochs, mean over folds and seeds."""
    import pandas as pd

    kinds = [kind for kind in READINGS if _read(out, "history", kind, "student")]
    if not kinds:
        return
    figure, axes = new_figure(len(kinds))
    for axis, kind in zip(axes, kinds, strict=True):
        history = pd.concat(pd.read_csv(path) for path in _read(out, "history", kind, "student"))
        mean = history.groupby("epoch").mean()
        terms = [name for name in map(str, mean) if name == "loss" or name.startswith("loss_")]
        for colour, name in zip((COLOURS[-1], *COLOURS), terms, strict=False):
            label = name.removeprefix("loss_") if name != "loss" else "total, eq. (5)"
            axis.plot(mean.index, mean[name], color=colour, label=label, lw=2 if name == "loss" else 1.3)
        axis.set(xlabel="epoch", ylabel="loss on the training slides", title=READINGS[kind], ylim=(0, None))
        axis.legend(frameon=False, fontsize=8)
    save(figure, out / "figure3.png")


def _reliability(out: Path) -> None:
    """How often patches of a score are positive, pooled over folds and seeds."""
    models = ("mil", "teacher", "student", "recommended", "supervised")
    kinds = [kind for kind in READINGS if any(_read(out, "scores", kind, model) for model in models)]
    if not kinds:
        return
    figure, axes = new_figure(len(kinds))
    for axis, kind in zip(axes, kinds, strict=True):
        axis.plot([0, 1], [0, 1], color="0.7", lw=1)
        for model, colour in zip(models, COLOURS, strict=False):
            files = [_test_patches(path) for path in _read(out, "scores", kind, model)]
            if not files:
                continue
            score = np.concatenate([file["score"] for file in files])
            truth = np.concatenate([file["truth"] for file in files]) > 0
            index = np.minimum((score * ECE_BINS).astype(int), ECE_BINS - 1)
            filled = [b for b in range(ECE_BINS) if (index == b).sum() >= 20]
            axis.plot(
                [score[index == b].mean() for b in filled],
                [truth[index == b].mean() for b in filled],
                "o-", color=colour, label=model, ms=3.5, lw=1.3,
            )  # fmt: skip
        axis.set(
            xlabel="score of a patch",
            ylabel="share of positive patches",
            title=READINGS[kind],
            xlim=(0, 1),
            ylim=(0, 1),
        )
        axis.legend(frameon=False, fontsize=8)
    save(figure, out / "reliability.png")


def _montage(out: Path, kind: str) -> None:
    """Figure 4: test patches of the first fold by true class and score. It shows pixels of the images: keep it private.

    Which patches of a class and a range of scores are shown is drawn by lot.
    """
    files = next((found for model in SHOWN if (found := _read(out, "scores", kind, model))), None)
    if not files:
        return
    patches = _test_patches(files[0])
    index = np.minimum((patches["score"] * BINS).astype(int), BINS - 1)
    paths = {slide.slide_id: slide.path for slide in Cohort.read(out / "cohort.csv")}
    draw = np.random.default_rng(0)
    figure, axes = new_figure(1, 2, width=7.2, height=1.15)
    for axis, (positive, title) in zip(axes, ((True, "an epithelial nucleus"), (False, "none")), strict=True):
        cell, field = PATCH_PX + 1, EACH // 2 * (PATCH_PX + 1) + 6  # two rows of patches per range of scores
        sheet = np.full((2 * cell, BINS * field, 3), 255, np.uint8)
        for column in range(BINS):
            of_range = np.flatnonzero((index == column) & ((patches["truth"] > 0) == positive))
            for place, chosen in enumerate(draw.permutation(of_range)[:EACH]):
                with open_slide(paths[str(patches["slide"][chosen])]) as slide:
                    pixels = cut(slide, patches["corner"][chosen][None], PATCH_PX, PATCH_PX)[0]
                top, left = place % 2 * cell, column * field + place // 2 * cell
                sheet[top : top + PATCH_PX, left : left + PATCH_PX] = pixels.transpose(1, 2, 0)
        axis.imshow(sheet)
        axis.set_title(f"truth: {title}", fontsize=9)
        axis.set_yticks([])
        axis.set_xticks([c * field + field / 2 - 4 for c in range(BINS)])
        axis.set_xticklabels([f"score {c / BINS:.1f}–{(c + 1) / BINS:.1f}" for c in range(BINS)], fontsize=7)
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
    save(figure, out / f"figure4-{kind}.png")
