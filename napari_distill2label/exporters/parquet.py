"""Table of patches as Parquet: the columns of the CSV with their types, for pandas, Arrow, R, DuckDB and Spark."""

import json
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import MissingDependencyError
from ..core.events import Progress, Task
from ..store.files.atomic import Writing, atomic_path
from ..store.maps.patch_map import PatchMap
from .provenance import provenance


def write_parquet(
    path: str | Path,
    patch_map: PatchMap,
    threshold: float,
    corrections: np.ndarray | None = None,
    writing: Writing = atomic_path,
) -> Generator[Progress, None, Path]:
    """Write `patch_map.table(…)` piece by piece: a generator of its progress. Closing it leaves no file.

    The file's metadata has the provenance under `distill2label`. `MissingDependencyError` without pyarrow.
    """
    parquet, arrow = _import_pyarrow(path)
    corrected = None if corrections is None else int((corrections >= 0).sum())
    about = json.dumps(provenance(patch_map, threshold, corrected), ensure_ascii=False)
    writer, done, total = None, 0, int(patch_map.scored.sum())
    with writing(path) as temporary:
        try:
            for columns in patch_map.iter_columns(threshold, corrections):
                table = arrow.table(dict(columns))
                if writer is None:
                    schema = table.schema.with_metadata({**(table.schema.metadata or {}), b"distill2label": about})
                    writer = parquet.ParquetWriter(temporary, schema, compression="zstd")
                writer.write_table(table.cast(writer.schema))
                done += table.num_rows
                yield Progress(Task.WRITE, done, total, patch_map.slide_id)
        finally:
            if writer is not None:
                writer.close()
    return Path(path)


def write_columns(
    path: str | Path, columns: Mapping[str, Sequence[Any]], about: Mapping[str, Any], writing: Writing = atomic_path
) -> Path:
    """Write columns of texts or numbers, None for an empty cell; `about` under `distill2label`, as above."""
    parquet, arrow = _import_pyarrow(path)
    table = arrow.table({name: _of_one_type(cells) for name, cells in columns.items()})
    with writing(path) as temporary:
        parquet.write_table(
            table.replace_schema_metadata({"distill2label": json.dumps(about, ensure_ascii=False)}), temporary,
            compression="zstd",
        )  # fmt: skip
    return Path(path)


def _of_one_type(cells: Sequence[Any]) -> list[Any]:
    """Return the cells of a column; all as texts if some of them are."""
    if not any(isinstance(cell, str) for cell in cells):
        return list(cells)
    return [cell if cell is None or isinstance(cell, str) else f"{cell:.15g}" for cell in cells]


def _import_pyarrow(path: str | Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingDependencyError(f"{path}: needs pyarrow: pip install 'napari-distill2label[parquet]'") from None
    return parquet, pyarrow
