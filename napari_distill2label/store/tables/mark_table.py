"""Marks on slides from a table, CSV or Parquet: a row for each point, or for each box of a patch.

Columns are `slide_id, x, y[, label[, class]]`, or `minx, miny, width, height` in place of `x, y`, as in the tables that
are exported. Points are 0-based level-0 pixels, boxes begin and end at corners of pixels. Without a `slide_id` all rows
are of one slide (`table_name`).
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ...core.errors import CohortError
from ...core.foreign_files import read_file
from ...core.paths import COHORT_SUMMARY, METADATA, slide_in, slide_name
from ...core.text import shown
from .csv_table import iter_table

POINT = ("x", "y")
BOX = ("minx", "miny", "width", "height")
KNOWN = ("slide_id", *POINT, *BOX, "label", "class")
NAMES: dict[str, tuple[str, ...]] = dict.fromkeys(KNOWN, ())  # in any case
PARQUET = ".parquet"
LARGEST_METADATA = 2**24  # bytes


class Row(NamedTuple):
    """A row: a point (y, x) or a box (x0, y0, x1, y1), or both (a patch that is centred on a point), or neither."""

    slide_id: str
    label: str
    class_name: str  # '' without a column `class`
    point: tuple[float, float] | None
    box: tuple[float, float, float, float] | None
    cells: Mapping[str, str]  # of all columns


def is_table(path: Path) -> bool:
    """Whether a file of this name is a table."""
    return path.suffix.lower() in (".csv", ".tsv", PARQUET)


def find_tables(folder: Path) -> list[Path]:
    """Return the tables of a folder, by name, but for the summary of a cohort."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and is_table(file))
    return [file for file in files if not file.name.startswith(".") and file.name != COHORT_SUMMARY]


def table_name(path: Path) -> str:
    """Return the slide of a table without a column `slide_id`: the one that its metadata name, else its own name."""
    if path.suffix.lower() == PARQUET:
        from .parquet_table import slide_of_parquet

        return slide_of_parquet(path) or slide_name(path)
    beside = path.with_name(path.name + METADATA)
    try:
        said = slide_in(read_file(beside, LARGEST_METADATA))
    except (OSError, ValueError):
        said = None
    return said or slide_name(path)


def read_rows(
    path: Path, labelled: bool = False, others: bool = False, slides: Collection[str] | None = None
) -> Iterator[Row]:
    """Yield the rows of a table, as they are read: memory does not grow with their number.

    `CohortError` if it is no table, lacks a column, or has a position that is no number.

    `labelled`: the column `label` is required, and a row without a position says that nothing was found on the slide.
    `others`: the cells of columns that are none of `KNOWN` are wanted, too. `slides`: ids of those whose rows are
    wanted; None: of all.
    """
    columns, rows = _open_parquet(path, others) if path.suffix.lower() == PARQUET else iter_table(path, NAMES)
    place = BOX if {*BOX} <= {*columns} and not {*columns} & {*POINT} else POINT
    for name in (*place, *(("label",) if labelled else ())):
        if name not in columns:
            raise CohortError(f"{path}: has no column {name!r}; its header is {shown(', '.join(columns), 500)}")
    named = "" if "slide_id" in columns else table_name(path)
    for line, cells in rows:
        slide_id = cells.get("slide_id", named)
        if slides is not None and slide_id not in slides:
            continue
        point, box = _numbers(path, slide_id, cells, POINT), _numbers(path, slide_id, cells, BOX)
        label, class_name = cells.get("label", ""), cells.get("class", "")
        if point is None and box is None:
            _check_without_place(path, line, slide_id, label or class_name, labelled)
        if box is not None and min(box[2:]) <= 0:
            raise CohortError(f"{path}: line {line}: slide {slide_id[:40]!r} has a box without an area")
        yield Row(
            slide_id,
            label,
            class_name,
            None if point is None else (point[1], point[0]),
            None if box is None else (box[0], box[1], box[0] + box[2], box[1] + box[3]),
            cells,
        )


def _check_without_place(path: Path, line: int, slide_id: str, said: str, labelled: bool) -> None:
    if not labelled:
        raise CohortError(f"{path}: '', '' is no position (slide {slide_id[:40]!r})")
    if said:
        raise CohortError(
            f"{path}: line {line}: slide {slide_id[:40]!r} has the label {said[:40]!r} and no position: "
            "give x and y; a row without any of the three says that nothing was found on the slide"
        )


def _numbers(path: Path, slide_id: str, cells: Mapping[str, str], names: Iterable[str]) -> list[float] | None:
    """Return the numbers of some columns; None if all of them are empty, or not there."""
    texts = [cells.get(name, "") for name in names]
    if not any(texts):
        return None
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        wrong = ", ".join(repr(text[:40]) for text in texts[::-1][:2][::-1])
        raise CohortError(f"{path}: {wrong} is no position (slide {slide_id[:40]!r})") from None
    if not all(map(math.isfinite, numbers)):
        raise CohortError(f"{path}: slide {slide_id[:40]!r} has a point that is not a finite number")
    return numbers


def _open_parquet(path: Path, others: bool) -> tuple[Iterable[str], Iterator[tuple[int, dict[str, str]]]]:
    from .parquet_table import iter_parquet

    columns, rows = iter_parquet(path, KNOWN, others)
    return columns, enumerate(rows, 1)
