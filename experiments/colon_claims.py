"""Differences between rows of the colon experiment, paired by fold, with intervals and a verdict."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .tables import compared, markdown, short
from .variants import VARIANTS

if TYPE_CHECKING:
    import pandas as pd

METRICS = {"accuracy": "accuracy", "f1": "F1", "auroc": "AUROC"}
CLAIMS = (
    ("VAT makes the teacher better than plain MIL", "teacher", "mil"),
    ("distillation makes the student better than its teacher", "student", "teacher"),
    ("the student is better than plain MIL", "student", "mil"),
    ("a student of plain MIL, without VAT, is better than plain MIL", "student-no-vat", "mil"),
    ("`recommended` is better than the paper's student", "recommended", "student"),
    ("the supervised ceiling is better than `recommended`", "supervised", "recommended"),
)
# Of what the paper does not give, the rows among which slide labels can choose.
OPEN_CHOICES = {
    "teacher": (
        "teacher",
        *(f"teacher-{name}" for name in ("noise-0.2", "noise-1", "keep-0.1", "keep-any", "delta-5")),
    ),
    "student": ("student", "student-sum", "student-tau-1", "student-tau-5"),
}


def claims_of(frame: "pd.DataFrame") -> Iterator[str]:
    """Markdown: the claims, what each single choice is worth, and the claims at the settings that bags choose."""
    if claims := [row for claim in CLAIMS if (row := _claim(frame, *claim))]:
        yield (
            "Claims, paired by fold and seed: mean difference with its 95 % t interval over folds. A claim *holds* or "
            "*fails* where the interval of AUROC leaves out 0. Folds are taken for independent, though their training "
            "slides overlap: the true intervals are wider.\n"
        )
        yield markdown(("claim", *METRICS.values(), "verdict (AUROC)"), claims)
    if choices := list(_single_choices(frame)):
        yield "Rows that differ from another in one choice: mean difference to that row, same folds and seeds.\n"
        yield markdown(("row", "against", "loss of validation slides", *METRICS.values()), choices)
    if best := list(_best_by_bags(frame)):
        yield (
            "The paper's claims at the settings, of those it does not give, with the lowest mean cross entropy of the "
            "validation slides: chosen by slide labels alone, each network by itself. Students are those of `teacher`, "
            "whichever teacher was chosen.\n"
        )
        yield markdown(("claim", *METRICS.values(), "verdict (AUROC)"), best)


def values_of(frame: "pd.DataFrame", model: str, level: str, metric: str, threshold: str = "") -> "pd.Series":
    """A metric of a model, by fold and seed."""
    chosen = (frame.model == model) & (frame.level == level) & (frame.metric == metric) & (frame.threshold == threshold)
    return frame[chosen].set_index(["fold", "seed"]).value


def threshold_of(metric: str) -> str:
    """Which of a metric's rows the claims are about: those at 0.5, where it needs a threshold."""
    return "0.5" if metric in ("accuracy", "f1") else ""


def gain(
    frame: "pd.DataFrame", better: str, worse: str, metric: str, level: str = "patch", threshold: str | None = None
) -> "pd.Series":
    """By fold: mean over the seeds that both models have of the one's metric minus the other's."""
    threshold = threshold_of(metric) if threshold is None else threshold
    one, other = (values_of(frame, model, level, metric, threshold) for model in (better, worse))
    return (one - other).dropna().groupby("fold").mean()


def _claim(frame: "pd.DataFrame", claim: str, better: str, worse: str) -> list[str]:
    """A row of the table of claims; [] where a model is not there."""
    gains = {metric: gain(frame, better, worse, metric) for metric in METRICS}
    if not len(gains["auroc"]):
        return []
    _, (low, high) = compared(gains["auroc"])
    verdict = "holds" if low > 0 else "fails" if high < 0 else "does not show"
    return [claim, *(compared(values)[0] for values in gains.values()), verdict]


def _single_choices(frame: "pd.DataFrame") -> Iterator[list[str]]:
    for variant in VARIANTS.values():
        for name in variant.models.values() if variant.against else ():
            gains = {metric: gain(frame, name, variant.against, metric) for metric in METRICS}
            if len(gains["auroc"]):
                loss = gain(frame, name, variant.against, "loss", "valid")
                yield [name, variant.against, *(compared(values)[0] for values in (loss, *gains.values()))]


def _best_by_bags(frame: "pd.DataFrame") -> Iterator[list[str]]:
    for network, worse in (("teacher", "mil"), ("student", "teacher")):
        losses = validation_losses(frame, OPEN_CHOICES[network])
        if losses.shape[1] > 1 and len(losses):
            means = losses.mean().sort_values()
            best, each = means.index[0], ", ".join(f"{row} {short(loss)}" for row, loss in means.items())
            claim = f"`{best}` is better than `{worse}` (losses of {len(losses)} trainings each: {each})"
            if row := _claim(frame, claim, best, worse):
                yield row


def validation_losses(frame: "pd.DataFrame", rows: Sequence[str]) -> "pd.DataFrame":
    """Cross entropy of the validation slides: a column per row there is, on the folds and seeds that all have."""
    import pandas as pd

    losses = {row: values_of(frame, row, "valid", "loss") for row in rows}
    return pd.DataFrame({row: values for row, values in losses.items() if len(values)}).dropna()
