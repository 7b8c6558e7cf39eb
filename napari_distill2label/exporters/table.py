"""Table of patches as CSV: a row per scored patch, for pandas, R or a spreadsheet."""

import csv
from collections.abc import Generator, Iterable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from ..core.events import Progress, Task
from ..store.files.atomic import Writing, atomic_path
from ..store.maps.patch_map import PatchMap
from ..store.tables.csv_table import escape_formula

FLOAT_FORMAT = "%.6g"  # six digits hold what a float32 of a network can express


def write_table(
    path: str | Path,
    patch_map: PatchMap,
    threshold: float | None = None,
    corrections: np.ndarray | None = None,
    writing: Writing = atomic_path,
) -> Generator[Progress, None, Path]:
    """Write `patch_map.table(…)` piece by piece; its docstring lists the columns (x, y, minx, miny: level-0 px).

    A generator of its progress; closing it leaves no file.
    """
    done, total = 0, int(patch_map.scored.sum())
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for columns in patch_map.iter_columns(threshold, corrections):
            if done == 0:
                file.write(_line(columns))
            file.writelines(_lines(columns))
            done += len(columns["label"])
            yield Progress(Task.WRITE, done, total, patch_map.slide_id)
    return Path(path)


def _lines(columns: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield the rows of some columns as lines of CSV."""
    kinds, cells = zip(*map(_formatted, columns.values()), strict=True)
    return map((",".join(kinds) + "\n").__mod__, zip(*cells, strict=True))


def _formatted(column: np.ndarray) -> tuple[str, list[Any]]:
    """Return how a cell is formatted, and the cells. A number that is not known (NaN) is an empty cell."""
    cells = column.tolist()
    if column.dtype.kind in "iu":
        return "%d", cells
    if column.dtype.kind != "f":
        quoted = {text: _line([escape_formula(text)])[:-1] for text in dict.fromkeys(cells)}
        return "%s", [quoted[text] for text in cells]
    if np.isnan(column).any():
        return "%s", ["" if value != value else FLOAT_FORMAT % value for value in cells]
    return FLOAT_FORMAT, cells


def _line(cells: Iterable[str]) -> str:
    """Return a line of CSV, with quotes where a cell needs them."""
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
