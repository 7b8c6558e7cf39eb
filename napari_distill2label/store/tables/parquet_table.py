"""Columns of a Parquet file, as a table of texts: what pandas, R and Arrow save."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.errors import CohortError, MissingDependencyError
from ...core.text import shown


def read_parquet(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return columns by name, however it is capitalised; a missing value or NaN is an empty text.

    `CohortError` for a file that is no Parquet, or lacks a required column; `MissingDependencyError` without pyarrow.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MissingDependencyError(f"{path}: needs pyarrow: pip install 'napari-distill2label[parquet]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            there = {name.strip().casefold(): name for name in file.schema_arrow.names}
            if missing := [name for name in required if name not in there]:
                names = ", ".join(map(shown, file.schema_arrow.names))
                raise CohortError(f"{path}: has no column {missing[0]!r}; its columns are {shown(names, 500)}")
            wanted = {name: there[name] for name in (*required, *optional) if name in there}
            table = file.read(columns=list(wanted.values()))
    except FileNotFoundError:
        raise CohortError(f"{path}: no such file") from None
    except (ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise CohortError(f"{path}: cannot be read as Parquet ({reason})") from None
    return {name: [_cell(value) for value in table[column].to_pylist()] for name, column in wanted.items()}


def _cell(value: Any) -> str:
    """Return a value as the text that a CSV would have."""
    if value is None or value != value:  # NaN
        return ""
    return repr(value) if isinstance(value, float) else str(value).strip()
