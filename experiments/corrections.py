"""What a random sample of labelled patches is worth on slides that a network has not seen.

The slides are those of the cells of `transfer`. Of their patches a sample is drawn at random and labelled by the ground
truth, as a person would; the bias that follows (`core.recalibration`) is applied to all other patches. 200 draws.
"""

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import Event, Progress, Task
from napari_distill2label.core.metrics import expected_calibration_error
from napari_distill2label.core.paths import PathLike
from napari_distill2label.core.recalibration import fit_bias, lower_bound, patch_logit, probability
from napari_distill2label.mil.pu_learning import best_f1_threshold
from napari_distill2label.store.files.atomic import write_text

from .tables import markdown, short
from .transfer_report import KINDS, SETS, Measured, read_cells

DRAWS = 200
SIZES = (30, 50, 100)
NETWORK = "student"


@dataclass(frozen=True)
class Worth:
    """What samples of one size are worth: means over draws, of one cell.

    Attributes
    ----------
    ece, ece_after, ece_worst
        Of the other patches, before and after; after, the 90 % quantile over draws.
    f1, f1_after
        Before, at the network's own threshold; after, at the one with the best expected F1.
    better
        Share of the draws in which the ECE is lower after.
    recall, bound
        Of the positive patches, at the network's own threshold; the mean lower bound.
    missed
        Share of the draws in which the recall is below its bound: at most 5 % by design.
    """

    train: str
    set: str
    patches: str
    fold: int
    seed: int
    size: int
    share: float
    ece: float
    ece_after: float
    ece_worst: float
    better: float
    f1: float
    f1_after: float
    recall: float
    bound: float
    missed: float


def corrections(data: PathLike, out: PathLike, *, quick: bool = False) -> Generator[Event, None, Path]:
    """Draw random samples, and measure the bias and the bound that follow.

    Parameters
    ----------
    data
        The folder of a `transfer` experiment.
    out
        Gets `corrections.csv`, a row for each cell and size, and `corrections.md`.
    quick
        Five draws in place of 200.

    Returns the path of `corrections.md`.
    """
    cells = [own for own in read_cells(Path(data)) if own.network == NETWORK]
    if not cells:
        raise SettingsError(f"{data}: holds no student of an experiment 'transfer'")
    found = []
    for done, own in enumerate(cells):
        yield Progress(Task.RUN_EXPERIMENT, done, len(cells))
        for size in SIZES:
            found.append(measure(own, size, 5 if quick else DRAWS))
    return _write(found, Path(out))


def measure(own: Measured, size: int, draws: int, seed: int = 0) -> Worth:
    """Measure samples of one size in one cell; see `Worth`."""
    slides = [slide for slide in own.evaluation.slides if len(slide.truth)]
    slide = np.concatenate([np.full(len(each.truth), each.score) for each in slides])
    before = np.concatenate([each.patch_score for each in slides]).astype(float)
    truth = np.concatenate([each.truth for each in slides])
    logit = patch_logit(slide, before)
    called = before >= own.evaluation.threshold
    recall, random = float(called[truth].mean()), np.random.default_rng(seed)
    rows = []
    for _ in range(draws):
        chosen = np.zeros(len(truth), bool)
        chosen[random.choice(len(truth), min(size, len(truth) // 2), replace=False)] = True
        bias = fit_bias(slide[chosen], logit[chosen], truth[chosen])
        after, rest = probability(slide, logit, bias), ~chosen
        positive = int(truth[chosen].sum())
        bound = lower_bound(int(called[chosen & truth].sum()), positive) if positive else 0.0
        rows.append((
            expected_calibration_error(truth[rest], before[rest]),
            expected_calibration_error(truth[rest], after[rest]),
            _f1(truth[rest], called[rest]),
            _f1(truth[rest], after[rest] >= best_f1_threshold(after)),
            bound,
        ))  # fmt: skip
    ece, ece_after, f1, f1_after, bounds = np.array(rows).T
    about = own.about
    return Worth(
        about["train"], own.set, about["patches"], about["fold"], about["seed"], size, float(truth.mean()),
        float(ece.mean()), float(ece_after.mean()), float(np.quantile(ece_after, 0.9)),
        float((ece_after < ece).mean()), float(f1.mean()), float(f1_after.mean()), recall, float(bounds.mean()),
        float((bounds > recall).mean()),
    )  # fmt: skip


def _f1(truth: np.ndarray, called: np.ndarray) -> float:
    return float(2 * (truth & called).sum() / max(1, truth.sum() + called.sum()))


def _write(found: Sequence[Worth], out: Path) -> Path:
    import pandas as pd

    frame = pd.DataFrame([asdict(own) for own in found])
    write_text(out / "corrections.csv", frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    rows = []
    for (train, name, patches, size), own in frame.groupby(["train", "set", "patches", "size"], sort=False):
        where = f"{SETS[train]}, held-out fold" if train == name else f"{SETS[train]} → {SETS[name]}"
        mean = own.mean(numeric_only=True)
        rows.append([
            f"{where}: {KINDS[patches]}", str(size), str(len(own)),
            *(short(float(mean[column])) for column in ("ece", "ece_after", "ece_worst")), f"{mean.better:.0%}",
            *(short(float(mean[column])) for column in ("f1", "f1_after", "recall", "bound")), f"{mean.missed:.1%}",
        ])  # fmt: skip
    head = (
        "slides", "sample", "cells", "ECE before", "after", "after, 90 % of draws", "better", "F1 before", "after",
        "recall", "its bound", "bound missed",
    )  # fmt: skip
    text = (
        f"Recommended student; {DRAWS} random samples per cell, means over cells. ECE and F1 are of the patches that "
        "were not drawn; F1 after the bias is at the threshold with the best expected F1.\n\n"
    )
    return write_text(out / "corrections.md", text + markdown(head, rows))
