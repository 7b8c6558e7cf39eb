"""CSV, there and back."""

import numpy as np
import pandas as pd

from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.exporters.formats import write
from napari_distill2label.exporters.table import write_table
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.store.tables.csv_table import read_table


def test_round_trip(tmp_path, new_map):
    grid = PatchGrid.over((3000, 90), PatchSettings(size_px=27), origin=(-3, 7))  # tall: written in two pieces
    grid = grid.with_tissue(np.random.default_rng(0).random(grid.shape) > 0.3)
    patch_map = new_map(grid, classes=("normal", "Tumör, G2"))
    (path,) = write(patch_map, tmp_path, ["csv"])
    assert path.name == "slide 1.csv"
    again, table = pd.read_csv(path), patch_map.table()
    assert list(again)[:4] == ["minx", "miny", "width", "height"]
    assert {"prob_normal", "prob_Tumör, G2"} <= set(again)
    pd.testing.assert_frame_equal(again, table, check_dtype=False, rtol=1e-5)
    assert b"\r" not in path.read_bytes()


def test_corrections_are_told_apart(tmp_path, new_map):
    grid = PatchGrid.over((60, 90), PatchSettings(size_px=30))
    corrections = np.full(grid.shape, -1, np.int8)
    corrections[0, 0] = 1
    (path,) = write(new_map(grid), tmp_path, ["table"], corrections=corrections)
    again = pd.read_csv(path)
    assert again.source.tolist() == ["corrected"] + ["model"] * 5
    assert again.label[0] == "tumour"


def test_nothing_scored_is_a_header(tmp_path):
    grid = PatchGrid.over((60, 90), PatchSettings(size_px=30))
    patch_map = PatchMap.create(None, grid, ("n", "p"), SlideInfo("s"))
    again = pd.read_csv(drain(write_table(tmp_path / "s.csv", patch_map)))
    assert len(again) == 0
    assert "prob_p" in again


def test_a_class_that_a_spreadsheet_would_compute(tmp_path, new_map):
    grid = PatchGrid.over((60, 90), PatchSettings(size_px=30))
    patch_map = new_map(grid, classes=("-normal", "=1+1"))
    (path,) = write(patch_map, tmp_path, ["csv"])
    cells = [cell for line in path.read_text().splitlines()[1:] for cell in line.split(",")]
    assert {cell for cell in cells if cell[:1] == "'"} <= {"'=1+1", "'-normal"}
    assert not any(cell[:1] in "=+@" for cell in cells if cell)
    assert any(cell.startswith("-") for cell in cells)  # logits: numbers stay numbers
    assert [row["label"] for row in read_table(path, ())] == patch_map.table()["label"].tolist()
