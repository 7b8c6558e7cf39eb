"""Parquet against the table itself, read by pyarrow alone."""

import json

import numpy as np
import pytest

from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.exporters import parquet as exporters_parquet
from napari_distill2label.exporters.objects import TablePlan
from napari_distill2label.exporters.parquet import write_columns, write_parquet

parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet was NOT tested: pyarrow is not installed")


@pytest.mark.parametrize("points", [False, True])
def test_the_columns_are_those_of_the_table(new_map, tmp_path, points):
    patches = (
        PatchPoints.at([[20, 20], [40, 40], [60, 20]], (80, 80), PatchSettings(size_px=10))
        if points
        else PatchGrid.over((900, 60), PatchSettings(size_px=10))  # more than one band
    )
    patch_map = new_map(patches, classes=("normal", 'tu"m,\n=é'))
    corrections = np.full(patches.shape, -1, np.int8)
    corrections[(0,) * len(patches.shape)] = 1
    path = drain(write_parquet(tmp_path / "a.parquet", patch_map, 0.5, corrections))
    table, expected = parquet.read_table(path), patch_map.table(0.5, corrections)
    assert table.column_names == list(expected.columns)
    for name in table.column_names:
        assert table[name].to_pylist() == expected[name].tolist(), name
    assert str(table.schema.field("prob_normal").type) == "float"
    assert str(table.schema.field("minx").type) == "int64"
    about = json.loads(table.schema.metadata[b"distill2label"])
    assert (about["threshold"], about["corrected_patches"], about["slide_id"]) == (0.5, 1, "slide 1")


def test_a_map_without_scored_patches_has_no_rows(new_map, tmp_path):
    patch_map = new_map(PatchGrid.over((20, 20), PatchSettings(size_px=10)).with_tissue(np.eye(2, dtype=bool)))
    assert len(parquet.read_table(drain(write_parquet(tmp_path / "a.parquet", patch_map, 0.5)))) == 2


@pytest.mark.parametrize("pieces", [1, 3])
def test_pieces_of_columns(tmp_path, monkeypatch, pieces):
    monkeypatch.setattr(exporters_parquet, "ROWS", 2)
    columns = {"slide_id": ["s"] * 3, "a": [1.5, None, 2], "b": ["x", "3", None], "c": [1, 2, None]}
    plan = TablePlan({"slide_id": str, "a": float, "b": str, "c": int}, 3)
    split = [{name: cells[i::pieces] for name, cells in columns.items()} for i in range(pieces)]
    path = drain(write_columns(tmp_path / "a.parquet", "s", split, plan, {"converted_from": "é.csv"}))
    table = parquet.read_table(path)
    assert table.to_pydict() == columns
    assert [str(field.type) for field in table.schema] == ["string", "double", "string", "int64"]
    assert json.loads(table.schema.metadata[b"distill2label"]) == {"converted_from": "é.csv"}
    empty = drain(write_columns(tmp_path / "b.parquet", "s", [], plan, {}))
    assert parquet.read_table(empty).column_names == list(columns)
