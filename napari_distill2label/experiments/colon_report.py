"""Tables of the colon experiment, from `results.csv`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..store.files import write_text
from .colon_figures import READINGS, draw_figures
from .tables import compared, markdown, short, spread

if TYPE_CHECKING:
    import pandas as pd

PAPER = ("mil", "teacher", "student")
# Thiagarajan 2019, Table I, averages over its five folds: accuracy, F1, AUROC of single patches.
PUBLISHED = {"mil": (0.79, 0.61, 0.86), "teacher": (0.85, 0.73, 0.89), "student": (0.89, 0.80, 0.91)}
METRICS = {"accuracy": "accuracy", "f1": "F1", "auroc": "AUROC"}
CLAIMS = (
    ("VAT makes the teacher better than plain MIL", "teacher", "mil"),
    ("distillation makes the student better than its teacher", "student", "teacher"),
    ("the student is better than plain MIL", "student", "mil"),
    ("`default` is better than the paper's student", "default", "student"),
    ("the supervised ceiling is better than `default`", "supervised", "default"),
)


def write_report(frame: "pd.DataFrame", out: Path, n_slides: int) -> Path:
    """Write what the rows there are can show; returns the path of `colon.md`."""
    parts = [
        f"{n_slides} images; folds: {_count(frame, 'fold')}, seeds: {_count(frame, 'seed')}. Means over folds of means "
        "over seeds ± standard deviation over folds.\n"
    ]
    for kind, title in READINGS.items():
        own = frame[frame.patches == kind]
        if len(own):
            parts += [f"## {title}\n", *_tables(own)]
    draw_figures(out)
    return write_text(out / "colon.md", "\n".join(parts))


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
    yield "Whole slides (level `bag`).\n"
    yield _summary(frame, "bag", (("accuracy", "0.5"), ("f1", "0.5"), ("auroc", ""), ("auprc", ""), ("ece", "")))
    if "instance_nuclei" in set(frame.level):
        yield "Patches without a nucleus left out (level `instance_nuclei`).\n"
        columns = (("accuracy", "0.5"), ("f1", "0.5"), ("auroc", ""), ("accuracy", "bags"), ("f1", "bags"), ("ece", ""))
        yield _summary(frame, "instance_nuclei", columns)
    if claims := list(_claims(frame)):
        yield (
            "Claims, paired by fold: mean difference with its 95 % t interval. A claim *holds* or *fails* where the "
            "interval of AUROC leaves out 0. Folds are taken for independent, though their training slides "
            "overlap: the true intervals are wider.\n"
        )
        yield markdown(("claim", *METRICS.values(), "verdict (AUROC)"), claims)


def by_fold(frame: "pd.DataFrame", model: str, level: str, metric: str, threshold: str) -> "pd.Series":
    """A metric of a model by fold, each the mean over its seeds."""
    chosen = (frame.model == model) & (frame.level == level) & (frame.metric == metric) & (frame.threshold == threshold)
    return frame[chosen].groupby("fold").value.mean()


def _threshold(metric: str) -> str:
    return "0.5" if metric in ("accuracy", "f1") else ""


def _paper_form(frame: "pd.DataFrame") -> str:
    columns = {
        (metric, model): by_fold(frame, model, "instance", metric, _threshold(metric))
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
        "AUROC, positive slides": ("instance_positive_slides", "auroc"),
        "AUROC, per slide": ("instance_per_slide", "auroc"),
    }
    return _summary(frame, "instance", columns, other)


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


def _claims(frame: "pd.DataFrame") -> Iterator[list[str]]:
    for claim, better, worse in CLAIMS:
        if not {better, worse} <= set(frame.model):
            continue
        cells, verdict = [], ""
        for metric in METRICS:
            text, (low, high) = compared(_gain(frame, better, worse, metric))
            cells.append(text)
            verdict = "holds" if low > 0 else "fails" if high < 0 else "does not show"
        yield [claim, *cells, verdict]


def _gain(frame: "pd.DataFrame", better: str, worse: str, metric: str) -> "pd.Series":
    """By fold: mean over the seeds that both models have of the one's metric minus the other's."""
    chosen = frame[
        (frame.level == "instance") & (frame.metric == metric) & (frame.threshold == _threshold(metric))
    ].pivot(index=["fold", "seed"], columns="model", values="value")
    return (chosen[better] - chosen[worse]).dropna().groupby("fold").mean()
