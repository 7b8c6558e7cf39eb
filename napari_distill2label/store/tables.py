"""CSV tables from outside: read strictly, with one plain line for whatever is wrong with them."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.errors import CohortError


def read_table(
    path: str | os.PathLike[str], required: Sequence[str], aliases: Mapping[str, Sequence[str]] | None = None
) -> list[dict[str, str]]:
    """Rows of a CSV file as dicts of stripped strings, columns renamed by `aliases` (name -> others, any case).

    `CohortError` if the file is missing, empty, no CSV in UTF-8, has no row, or lacks a required column.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, strict=True))
    except FileNotFoundError:
        raise CohortError(f"{path}: no such file") from None
    except OSError as error:
        raise CohortError(f"{path}: cannot be read ({error.strerror})") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise CohortError(f"{path}: is not a CSV file in UTF-8 ({error})") from None
    if not rows:
        raise CohortError(f"{path}: is empty; it needs a header" + (f" with {', '.join(required)}" if required else ""))
    names = {**dict.fromkeys(required, ()), **(aliases or {})}
    known = {other.lower(): name for name, others in names.items() for other in (name, *others)}
    present = {cell.strip().lower() for cell in rows[0]}
    header = []
    for cell in map(str.strip, rows[0]):
        name = known.get(cell.lower(), cell)
        # Beside a 'slide_id' a 'slide' is another column.
        header.append(cell if cell.lower() != name and name in present else name)
    if missing := [name for name in required if name not in header]:
        raise CohortError(f"{path}: has no column {missing[0]!r}; its header is {', '.join(header)}")
    if repeated := [name for name in header if header.count(name) > 1]:
        raise CohortError(f"{path}: has the column {repeated[0]!r} twice")
    filled = [(line, row) for line, row in enumerate(rows[1:], 2) if any(cell.strip() for cell in row)]
    for line, row in filled:
        if len(row) != len(header):
            raise CohortError(f"{path}: line {line} has {len(row)} cells, the header has {len(header)}")
    if not filled:
        raise CohortError(f"{path}: has a header but no row")
    return [dict(zip(header, (cell.strip() for cell in row), strict=True)) for _, row in filled]
