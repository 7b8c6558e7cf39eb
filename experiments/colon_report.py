"""Tables of the colon experiment, from `results.csv`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_distill2label.store.files.atomic import write_text

from .colon_claims import METRICS, claims_of, threshold_of, values_of
from .colon_figures import READINGS, draw_figures
from .tables import markdown, short, spread
from .times import run_time

if TYPE_CHECKING:
    import pandas as pd

PAPER = ("mil", "teacher", "student")
# Thiagarajan 2019, Table I, averages over its five folds: accuracy, F1, AUROC of single patches.
PUBLISHED = {"mil": (0.79, 0.61, 0.86), "teacher": (0.85, 0.73, 0.89), "student": (0.89, 0.80, 0.91)}


def write_report(frame: "pd.DataFrame", out: Path, n_slides: int) -> Path:
    """Write what the rows there are can show; returns the path of `colon.md`."""
    parts = [
        f"{n_slides} images; folds: {_count(frame, 'fold')}, seeds: {_count(frame, 'seed')}. Means over folds of means "
        "over the seeds that a row has ± standard deviation over folds.\n",
        run_time(out),
    ]
    for kind, title in READINGS.items():
        own = frame[frame.patches == kind]
        if len(own):
            parts += [f"## {title}\n", *_tables(own)]
    draw_figures(out)
    return write_text(out / "colon.md", "\n".join(filter(None, parts)))


def _count(frame: "pd.DataFrame", column: str) -> str:
    values = sorted(set(frame[column]))
    return f"{len(values)} ({values[0]}–{values[-1]})" if len(values) > 1 else "1"


def _tables(frame: "pd.DataFrame") -> Iterator[str]:
    if set(PAPER) <= set(frame.model):
        yield "In the paper's form: instances, threshold 0.5, by fold.\n"
        yield _paper_form(frame)
    yield "All rows. `bags`: at the threshold chosen on the labels of training and validation slides.\n"
    yield _all_rows(frame)
    yield (
        "Cross entropy of the validation slides at the epoch taken, before a student is calibrated: the only number "
        "here that may choose a setting.\n"
    )
    yield _choices(frame)
    yield "Whole slides (level `slide`).\n"
    yield _summary(frame, "slide", (("accuracy", "0.5"), ("f1", "0.5"), ("auroc", ""), ("auprc", ""), ("ece", "")))
    if "patch_nuclei" in set(frame.level):
        yield "Patches without a nucleus left out (level `patch_nuclei`).\n"
        columns = (("accuracy", "0.5"), ("f1", "0.5"), ("auroc", ""), ("accuracy", "bags"), ("f1", "bags"), ("ece", ""))
        yield _summary(frame, "patch_nuclei", columns)
    if len(set(frame.seed)) > 1:
        yield "Over seeds: mean and standard deviation of the means over folds, and the range of single trainings.\n"
        yield _over_seeds(frame)
    yield from claims_of(frame)


def by_fold(frame: "pd.DataFrame", model: str, level: str, metric: str, threshold: str) -> "pd.Series":
    """A metric of a model by fold, each the mean over its seeds."""
    return values_of(frame, model, level, metric, threshold).groupby("fold").mean()


def _paper_form(frame: "pd.DataFrame") -> str:
    columns = {
        (metric, model): by_fold(frame, model, "patch", metric, threshold_of(metric))
        for metric in METRICS
        for model in PAPER
    }
    header = ["fold", *(f"{METRICS[metric]}: {model}" for metric, model in columns)]
    folds = sorted(set(frame.fold))
    rows = [[str(fold), *(short(values.get(fold, float("nan"))) for values in columns.values())] for fold in folds]
    rows.append(["average", *(spread(values) for values in columns.values())])
    published = [short(PUBLISHED[model][list(METRICS).index(metric)], 2) for metric, model in columns]
    return markdown(header, [*rows, ["published", *published]])


def _all_rows(frame: "pd.DataFrame") -> str:
    columns = (
        ("accuracy", "0.5"), ("f1", "0.5"), ("auroc", ""), ("accuracy", "bags"), ("f1", "bags"), ("auprc", ""),
        ("ece", ""),
    )  # fmt: skip
    other = {
        "AUROC, positive slides": ("patch_positive_slides", "auroc"),
        "AUROC, per slide": ("patch_mean_over_slides", "auroc"),
    }
    return _summary(frame, "patch", columns, other)


def _choices(frame: "pd.DataFrame") -> str:
    """What could choose between rows without truth: validation slides."""
    return _summary(frame, "valid", (("loss", ""),))


def _summary(
    frame: "pd.DataFrame",
    level: str,
    columns: Sequence[tuple[str, str]],
    others: dict[str, tuple[str, str]] | None = None,
) -> str:
    others = others or {}
    header = ["row", *(_title(*column) for column in columns), *others]
    rows = []
    for model in dict.fromkeys(frame.model):
        cells = [by_fold(frame, model, level, metric, threshold) for metric, threshold in columns]
        cells += [by_fold(frame, model, at, metric, "") for at, metric in others.values()]
        if any(len(values) for values in cells):
            rows.append([model, *map(spread, cells)])
    return markdown(header, rows)


def _title(metric: str, threshold: str) -> str:
    title = METRICS.get(metric, metric if metric == "loss" else metric.upper())
    return f"{title} (bags)" if threshold == "bags" else title


def _over_seeds(frame: "pd.DataFrame") -> str:
    rows = []
    for model in dict.fromkeys(frame.model):
        tables = [
            values_of(frame, model, "patch", metric, threshold_of(metric)).unstack("seed").dropna()
            for metric in METRICS
        ]
        seeds = tables[0].shape[1]
        if seeds > 1 and len(tables[0]):
            ranges = [f"{short(table.min().min())} to {short(table.max().max())}" for table in tables]
            means = [spread(table.mean()) for table in tables]
            rows.append([model, str(seeds), *(cell for pair in zip(means, ranges, strict=True) for cell in pair)])
    header = [title for metric in METRICS.values() for title in (metric, f"{metric}, single")]
    return markdown(["row", "seeds", *header], rows)
