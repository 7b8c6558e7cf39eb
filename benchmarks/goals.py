"""Measured figures beside their goals, with a verdict that is computed and not typed."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

VERDICTS = "D2L_VERDICTS"  # environment: the path of a file that gets a line of JSON for each verdict


@dataclass(frozen=True)
class Goal:
    """A figure is good if it is at most `limit`, or at least where `at_least`."""

    limit: float
    unit: str = ""
    at_least: bool = False

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{self.unit and ' '}{self.unit}"

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def verdict(self, values: Sequence[float] | np.ndarray) -> str:
        """Judge the median of rounds: met, missed, or missed where a quarter of the rounds meets the goal."""
        low, middle, high = np.percentile(values, (25, 50, 75))
        if self.is_met(middle):
            return "met"
        return "missed, within the spread" if self.is_met(high if self.at_least else low) else "missed"


def judged(text: str, goal: Goal, values: Sequence[float] | np.ndarray) -> str:
    """Return `text` with the goal and the verdict on `values`, which is also appended to the file `VERDICTS`."""
    verdict = goal.verdict(values)
    line = f"{text}, goal {goal}: {verdict}"
    if path := os.environ.get(VERDICTS):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"line": line, "verdict": verdict}) + "\n")
    return line


def figure(what: str, values: Sequence[float] | np.ndarray, unit: str = "", goal: Goal | None = None) -> str:
    """Return a line: what was measured, the median of rounds with its quartiles, the goal and the verdict."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    spread = f" ({_number(low)}–{_number(high)})" if np.size(values) > 1 else ""
    text = f"{what}: {_number(middle)}{unit and ' '}{unit}{spread}"
    return text if goal is None else judged(text, goal, values)


def _number(value: float) -> str:
    """Three digits that count, and no exponent between a thousandth and a million."""
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
