"""Table of patches as CSV: a row per scored patch, for pandas, R or a spreadsheet."""

from pathlib import Path

import numpy as np

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
) -> Path:
    """Write `patch_map.table(…)` piece by piece; its docstring lists the columns (x, y, minx, miny: level-0 px)."""
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        header = True
        for piece in patch_map.tables(threshold, corrections):
            piece["label"] = piece["label"].map(escape_formula)
            piece.to_csv(file, index=False, header=header, float_format=FLOAT_FORMAT, lineterminator="\n")
            header = False
    return Path(path)
