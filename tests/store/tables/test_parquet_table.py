"""Points from Parquet are those of the same table as CSV."""

import numpy as np
import pandas as pd
import pytest

from napari_distill2label.core.errors import CohortError
from napari_distill2label.store.tables.parquet_table import iter_parquet
from napari_distill2label.store.tables.points import read_points

pytest.importorskip("pyarrow", reason="Parquet was NOT tested: pyarrow is not installed")

TABLE = pd.DataFrame(
    {
        "Slide_ID": ["a", "b", "a", "c"],
        "x": [1.25, 1e-7, 3.0, np.nan],
        "y": [2, 5, 1234567, None],
        "label": ["tumour", "é;x", None, ""],
    }
)


@pytest.mark.parametrize("labelled", [True, False])
def test_the_same_points_as_from_csv(tmp_path, labelled):
    table = TABLE if labelled else TABLE[:3]
    table.to_parquet(tmp_path / "t.parquet")
    table.to_csv(tmp_path / "t.csv", index=False)
    found, expected = (read_points(tmp_path / name, labelled) for name in ("t.parquet", "t.csv"))
    assert list(found) == list(expected) == (["a", "b", "c"] if labelled else ["a", "b"])
    for slide_id, points in expected.items():
        assert found[slide_id].coordinates.tolist() == points.coordinates.tolist()
        assert found[slide_id].labels.tolist() == points.labels.tolist()


def test_what_cannot_be_read_is_said(tmp_path):
    TABLE.drop(columns="x").to_parquet(tmp_path / "t.parquet")
    with pytest.raises(CohortError, match="has no column 'x'; its header is slide_id, y, label"):
        read_points(tmp_path / "t.parquet")
    (tmp_path / "b.parquet").write_text("slide_id,x,y")
    with pytest.raises(CohortError, match="cannot be read as Parquet"):
        read_points(tmp_path / "b.parquet")
    with pytest.raises(CohortError, match="no such file"):
        iter_parquet(tmp_path / "c.parquet", ("x",))
    TABLE.assign(x="here").to_parquet(tmp_path / "d.parquet")
    with pytest.raises(CohortError, match="is no position"):
        read_points(tmp_path / "d.parquet")
