"""Rows of tables of marks: points, boxes of patches, or both."""

from pathlib import Path

import pytest

from napari_distill2label.core.errors import CohortError
from napari_distill2label.store.tables.mark_table import is_table, read_rows
from napari_distill2label.store.tables.points import read_points


def rows(tmp_path, text, **how):
    path = tmp_path / "S-1.csv"
    path.write_text(text)
    return list(read_rows(path, **how))


def test_points_boxes_and_both(tmp_path):
    (point,) = rows(tmp_path, "slide_id,x,y,label\na,1.5,2,t\n")
    assert (point.slide_id, point.point, point.box, point.label) == ("a", (2, 1.5), None, "t")
    (box,) = rows(tmp_path, "minx,miny,width,height,label,prob_t\n10,20,5,6,t,.5\n")
    assert (box.slide_id, box.point, box.box, box.cells["prob_t"]) == ("S-1", None, (10, 20, 15, 26), ".5")
    (both,) = rows(tmp_path, "MinX,miny,width,height,x,y\n10,20,5,5,12,22\n")
    assert (both.point, both.box) == ((22, 12), (10, 20, 15, 25))


def test_a_box_is_an_area_or_the_centre_of_a_patch(tmp_path):
    path = tmp_path / "S-1.csv"
    path.write_text("minx,miny,width,height,label\n10,20,4,4,t\n")
    (area,) = read_points(path, labelled=True)["S-1"].areas
    assert (area.label, area.outline.bounds) == ("t", (10, 20, 14, 24))
    assert read_points(path)["S-1"].coordinates.tolist() == [[21.5, 11.5]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide_id,minx,miny,width\na,1,2,3\n", "has no column 'x'"),
        ("minx,miny,width,height\n1,2,0,3\n", "line 2: slide 'S-1' has a box without an area"),
        ("minx,miny,width,height\n1,2,,3\n", "is no position"),
        ("minx,miny,width,height\n1,2,inf,3\n", "not a finite number"),
        ("minx,miny,width,height,label\n,,,,t\n", "the label 't' and no position"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_plain_line(tmp_path, text, message):
    with pytest.raises(CohortError, match=rf"^[^\n]*S-1\.csv: [^\n]*{message}[^\n]*$"):
        rows(tmp_path, text, labelled="label" in text)


def test_tables_by_name():
    assert [is_table(Path(name)) for name in ("a.csv", "a.PARQUET", "a.geojson")] == [True, True, False]
