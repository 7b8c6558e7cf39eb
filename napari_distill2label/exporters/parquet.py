"""Table of patches as Parquet: the columns of the CSV with their types, for pandas, Arrow, R, DuckDB and Spark."""

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import MissingDependencyError
from ..core.events import Progress, Task
from ..store.files.atomic import Writing, atomic_path
from ..store.maps.labels import count_corrected
from ..store.maps.patch_map import PatchMap
from .objects import TablePlan
from .provenance import provenance

ROWS = 100_000  # of a group of rows


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
    corrected = count_corrected(corrections)
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
    path: str | Path,
    slide_id: str,
    pieces: Iterable[Mapping[str, Sequence[Any]]],
    plan: TablePlan,
    about: Mapping[str, Any],
    writing: Writing = atomic_path,
) -> Generator[Progress, None, Path]:
    """Write pieces of columns, None for an empty cell; `about` under `distill2label`, as above.

    A generator of its progress; closing it leaves no file.
    """
    parquet, arrow = _import_pyarrow(path)
    kinds = {int: arrow.int64(), float: arrow.float64(), str: arrow.string()}
    metadata = {"distill2label": json.dumps(about, ensure_ascii=False)}
    schema = arrow.schema({name: kinds[kind] for name, kind in plan.columns.items()}, metadata)
    done = 0
    with writing(path) as temporary, parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
        waiting: list[Any] = []
        for columns in pieces:
            waiting.append(arrow.table(dict(columns), schema))
            if sum(table.num_rows for table in waiting) >= ROWS:
                writer.write_table(arrow.concat_tables(waiting))
                waiting.clear()
            done += len(columns["slide_id"])
            yield Progress(Task.WRITE, done, plan.n_rows, slide_id)
        if waiting or not done:
            writer.write_table(arrow.concat_tables(waiting) if waiting else schema.empty_table())
    return Path(path)


def _import_pyarrow(path: str | Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingDependencyError(f"{path}: needs pyarrow: pip install 'napari-distill2label[parquet]'") from None
    return parquet, pyarrow
