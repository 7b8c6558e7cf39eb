"""Columns of a Parquet file, as a table of texts: what pandas, R and Arrow save."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...core.errors import CohortError, MissingDependencyError
from ...core.paths import slide_in

AT_ONCE = 4096  # rows


def iter_parquet(path: Path, names: Sequence[str], others: bool = False) -> tuple[list[str], Iterator[dict[str, str]]]:
    """Return the columns of `names` that are there, however they are capitalised, and with `others` all others.

    And the cells of each row, by column, which are read piece by piece. A missing value or NaN is an empty text.
    `CohortError` for a file that is no Parquet; `MissingDependencyError` without pyarrow.
    """
    parquet = _import_parquet(path)
    with _errors(path), parquet.ParquetFile(path) as file:
        there = file.schema_arrow.names
    known = {name.strip().casefold(): name for name in there}
    wanted = {name: known[name] for name in names if name in known}
    if others:
        wanted |= {name: name for name in there if name not in wanted.values()}

    def rows() -> Iterator[dict[str, str]]:
        with _errors(path), parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(AT_ONCE, columns=list(wanted.values())):
                columns = [map(_cell, batch.column(name).to_pylist()) for name in wanted.values()]
                yield from (dict(zip(wanted, cells, strict=True)) for cells in zip(*columns, strict=True))

    return list(wanted), rows()


def slide_of_parquet(path: Path) -> str | None:
    """Return the slide that a table of ours names in its metadata; None if it names none."""
    from pyarrow import ArrowException

    try:
        return slide_in((_import_parquet(path).read_schema(path).metadata or {}).get(b"distill2label"))
    except (ArrowException, OSError):
        return None


def _import_parquet(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise MissingDependencyError(f"{path}: needs pyarrow: pip install 'napari-distill2label[parquet]'") from None
    return parquet


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """`CohortError` for a file that cannot be read."""
    from pyarrow import ArrowException

    try:
        yield
    except FileNotFoundError:
        raise CohortError(f"{path}: no such file") from None
    except (ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise CohortError(f"{path}: cannot be read as Parquet ({reason})") from None


def _cell(value: Any) -> str:
    """Return a value as the text that a CSV would have."""
    if value is None or value != value:  # NaN
        return ""
    return repr(value) if isinstance(value, float) else str(value).strip()
