"""Summaries of `results.csv` as Markdown: what `docs/reproduction.md` includes."""

from collections.abc import Iterable, Sequence

import numpy as np


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [f"| {' | '.join(header)} |", "|" + "|".join(["---"] + ["---:"] * (len(header) - 1)) + "|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows]) + "\n"


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean of independent values and half the width of its 95 % Student's t interval (nan below two values)."""
    from scipy.stats import t

    known = np.asarray(values, float)
    if len(known) < 2:
        return float(known.mean()), float("nan")
    half = t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
    return float(known.mean()), float(half)


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation without the leading zeros, as papers print it; "–" for no values."""
    known = np.asarray(values, float)
    if not len(known):
        return "–"
    text = short(float(known.mean()))
    return text if len(known) < 2 else f"{text} ± {short(float(known.std(ddof=1)))}"


def short(value: float, digits: int = 3) -> str:
    """.912, −.012: a number of size 1 or less as papers print it."""
    text = f"{value:.{digits}f}".replace("-", "−")
    return text.replace("0.", ".", 1) if abs(value) < 1 and text.lstrip("−").startswith("0.") else text


def compared(differences: Sequence[float]) -> tuple[str, tuple[float, float]]:
    """Mean of paired differences with its 95 % t interval, as text, and the interval (nan for one); "–" for none."""
    if not len(differences):
        return "–", (float("nan"), float("nan"))
    mean, half = mean_interval(differences)
    text = f"{'+' if mean >= 0 else ''}{short(mean)}"
    if np.isfinite(half):
        text += f" [{short(mean - half)}, {short(mean + half)}]"
    return text, (mean - half, mean + half)
