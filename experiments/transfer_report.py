"""`transfer.csv` and `transfer.md` from the cells of the transfer experiment."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_distill2label.core.evaluation import Evaluation, SlideResult, draw_cases, interval
from napari_distill2label.store.files.atomic import write_text

from .tables import markdown, short, spread

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "baseline"
CEILING = "supervised"
NETWORKS = {
    BASELINE: "plain MIL",
    "teacher": "teacher",
    "student": "recommended student",
    "paper-teacher": "paper's teacher",
    "paper-student": "paper's student",
    CEILING: "ceiling (patch truth, same context)",
}
SETS = {"colon": "colon", "consep": "CoNSeP", "glas": "GlaS"}
KINDS = {"nucleus": "27 px around nuclei", "grid": "27 px on a grid", "encoder": "features of a frozen MobileNet"}
# Column -> level and metric of `core.evaluation`.
FIGURES = {
    "accuracy": ("patch", "accuracy"),
    "f1": ("patch", "f1"),
    "auroc": ("patch", "auroc"),
    "ece": ("patch", "ece"),
    "called": ("negative_slides", "called"),
    "slides_right": ("slide", "accuracy"),
    "slide_ece": ("slide", "ece"),
}
HEAD = ("accuracy", "F1", "AUROC", "ECE", "called", "slides right", "ECE of slides")
OF_SLIDES = ("slides_right", "slide_ece")
DRAWS = 1000


@dataclass(frozen=True)
class Measured:
    """What one network says of one set, in one cell."""

    about: dict[str, Any]
    set: str
    network: str
    evaluation: Evaluation


def read_cells(folder: Path) -> list[Measured]:
    """Read all cells of an experiment's folder."""
    found = []
    for path in sorted((folder / "cells").glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        about = json.loads(str(arrays.pop("about")))
        for key in dict.fromkeys(name.rsplit("/", 1)[0] for name in arrays):
            name, network = key.split("/")
            found.append(Measured(about, name, network, _evaluation(arrays, key)))
    return found


def _evaluation(arrays: dict[str, np.ndarray], key: str) -> Evaluation:
    ends = np.cumsum(arrays[f"{key}/size"])[:-1]
    truths, scores = (np.split(arrays[f"{key}/{name}"], ends) for name in ("truth", "score"))
    columns = [arrays[f"{key}/{name}"].tolist() for name in ("slide", "case", "positive", "probability")]
    far = [None if np.isnan(value) else value for value in arrays[f"{key}/unlikeness"].tolist()]
    slides = [SlideResult(*row, unlikeness=own) for *row, own in zip(*columns, truths, scores, far, strict=True)]
    return Evaluation(slides, float(arrays[f"{key}/threshold"]))


def rows_of(measured: Iterable[Measured]) -> "pd.DataFrame":
    """Return a row for each set, network, seed and fold."""
    import pandas as pd

    rows = []
    for own in measured:
        figures = own.evaluation.metrics()
        row = {
            "train": own.about["train"], "set": own.set, "patches": own.about["patches"], "network": own.network,
            "seed": own.about["seed"], "fold": own.about["fold"],
        }  # fmt: skip
        for column, (level, name) in FIGURES.items():
            row[column] = None if own.network == CEILING and column in OF_SLIDES else figures[level][name]
        is_student = own.network == "student"
        row |= {
            "threshold": own.evaluation.threshold,
            "prior": own.about.get("prior") if is_student else None,
            "true_prior": own.about.get("true_prior") if is_student else None,
            "unlike": unlike_share(own.evaluation),
            "set_share": figures["patch_positive_slides"]["prevalence"],
            "n_patches": figures["patch"]["n"], "n_slides": figures["slide"]["n"], "seconds": own.about["seconds"],
        }  # fmt: skip
        rows.append(row)
    order = list(NETWORKS)
    frame = pd.DataFrame(rows)
    frame["order"] = [order.index(name) if name in order else len(order) for name in frame.network]
    keys = ["train", "patches", "set", "seed", "fold", "order"]
    return frame.sort_values(keys).drop(columns="order").reset_index(drop=True)


def unlike_share(evaluation: Evaluation) -> float | None:
    """Return the share of the slides that are marked as unlike the training slides. None: that is not known."""
    known = [slide.unlikeness for slide in evaluation.slides if slide.unlikeness is not None]
    return float(np.mean([own > 1 for own in known])) if known else None


def differences(measured: Sequence[Measured], network: str, draws: int = DRAWS) -> dict[str, tuple[float, Any]]:
    """Return by figure the mean over cells of `network` − plain MIL, and its 95 % interval, None where there is none.

    Cases are drawn with replacement; a figure that is made of one case in some cell has no interval. Both networks have
    the same draws (pairs), and so have all cells that are measured on the same slides.
    """
    by_cell: dict[tuple[int, int], dict[str, Evaluation]] = {}
    for own in measured:
        by_cell.setdefault((own.about["seed"], own.about["fold"]), {})[own.network] = own.evaluation
    pairs = [cell for cell in by_cell.values() if {network, BASELINE} <= set(cell)]
    of_cells: dict[str, list[tuple[float, np.ndarray]]] = {column: [] for column in FIGURES}
    for cell in pairs:
        cases = cell[network].cases
        weights = np.concatenate([np.ones((1, len(cases))), draw_cases(len(cases), draws, seed_of(cases))])
        one, other = (cell[name].figures(weights) for name in (network, BASELINE))
        for column, (level, name) in FIGURES.items():
            difference = one[level][name] - other[level][name]
            drawn = difference[1:] if cell[network].n_cases(level) > 1 else np.full(draws, np.nan)
            of_cells[column].append((float(difference[0]), drawn))
    return {
        column: (float(np.mean([own for own, _ in found])), interval(np.mean([drawn for _, drawn in found], 0)))
        for column, found in of_cells.items()
        if found
    }


def seed_of(cases: Sequence[str]) -> int:
    """Return a number that is the same for the same cases, so that cells with the same test slides draw the same."""
    return sum((index + 1) * sum(map(ord, case)) for index, case in enumerate(cases)) % 2**31


def write_report(folder: Path) -> Path:
    """Write `transfer.csv` and `transfer.md`; returns the path of the latter."""
    measured = read_cells(folder)
    frame = rows_of(measured)
    write_text(folder / "transfer.csv", frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    parts = []
    for (train, patches, name), own in frame.groupby(["train", "patches", "set"], sort=False):
        cells = [
            each
            for each in measured
            if (each.about["train"], each.about["patches"], each.set) == (train, patches, name)
        ]
        parts.append(_table(str(train), str(patches), str(name), own, cells))
    return write_text(folder / "transfer.md", "\n".join(parts))


def _table(train: str, patches: str, name: str, frame: "pd.DataFrame", cells: Sequence[Measured]) -> str:
    where = f"{SETS[train]}, held-out fold" if train == name else f"{SETS[train]} → {SETS[name]}"
    done = frame[["fold", "seed"]].drop_duplicates()
    trained = ", ".join(
        f"fold {fold} (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, sorted(seeds)))})"
        for fold, seeds in done.groupby("fold").seed
    )
    rows, against = [], []
    for network, title in NETWORKS.items():
        own = frame[frame.network == network]
        if not len(own):
            continue
        rows.append([title, str(len(own)), *(spread(own[column].dropna()) for column in FIGURES)])
        if network != BASELINE:
            found = differences(cells, network)
            against.append([title, *(_difference(found, column, network) for column in FIGURES)])
    student = frame[frame.network == "student"]
    priors = "; ".join(
        f"{row.prior:.2f} for {row.true_prior:.2f}" for row in student[student.prior.notna()].itertuples()
    )
    unlike = student.unlike.dropna()
    marked = f" Marked as unlike the training slides: {unlike.mean():.0%} of these." if len(unlike) else ""
    prior = (
        f"Share of positive patches in positive slides, estimated for true in the training slides: {priors}; true in "
        f"these slides {short(float(frame.set_share.mean()), 2)}."
        if priors
        else ""
    )
    seconds = frame.groupby("network").seconds.mean().get("student")
    cost = (
        ""
        if seconds is None or np.isnan(seconds)
        else f" {seconds / 60:.0f} minutes of one processor core per training of all networks."
    )
    return (
        f"## {where}: {KINDS[patches]}\n\n{trained}. {prior}{marked}{cost}\n\n"
        f"{markdown(('network', 'cells', *HEAD), rows)}\n"
        "Minus plain MIL, with 95 % intervals (pairs; cases are drawn with replacement: images of colon and CoNSeP, "
        "patients of GlaS):\n\n"
        f"{markdown(('network', *HEAD), against)}"
    )


def _difference(found: dict[str, tuple[float, Any]], column: str, network: str) -> str:
    if column not in found or (network == CEILING and column in OF_SLIDES):
        return "–"
    mean, limits = found[column]
    text = f"{'+' if mean >= 0 else ''}{short(mean)}"
    return text if limits is None else f"{text} [{short(limits[0])}, {short(limits[1])}]"
