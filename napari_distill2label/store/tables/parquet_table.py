"""Columns of a Parquet file, as a table of texts: what pandas, R and Arrow save."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.errors import CohortError, MissingDependencyError


def read_parquet(path: Path, names: Sequence[str], others: bool = False) -> dict[str, list[str]]:
    """Return those columns of `names` that are there, however they are capitalised, and with `others` all others.

    A missing value or NaN is an empty text. `CohortError` for a file that is no Parquet; `MissingDependencyError`
    without pyarrow.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MissingDependencyError(f"{path}: needs pyarrow: pip install 'napari-distill2label[parquet]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            known = {name.strip().casefold(): name for name in file.schema_arrow.names}
            wanted = {name: known[name] for name in names if name in known}
            if others:
                wanted |= {name: name for name in file.schema_arrow.names if name not in wanted.values()}
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
