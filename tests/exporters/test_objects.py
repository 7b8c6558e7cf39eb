"""Objects on a slide as tables, places and pixels, and what each of these cannot hold."""

import numpy as np
import pytest
import shapely

from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.events import drain
from napari_distill2label.exporters.objects import (
    box_of,
    boxes_of,
    columns_of,
    objects_of_rows,
    places_of,
    plan_table,
    write_csv,
)
from napari_distill2label.slides.qupath import QuPathObject
from napari_distill2label.store.tables.mark_table import read_rows

BOX = shapely.box(10, 20, 42, 52)
RING = shapely.box(0, 0, 30, 30).difference(shapely.box(10, 10, 20, 20))


def thing(geometry, label="a", kind="tile", **properties):
    return QuPathObject(kind, label, geometry, properties=properties)


def test_a_box_is_a_rectangle_along_the_axes():
    assert box_of(thing(BOX)) == (10, 20, 42, 52)
    for other in (RING, shapely.Point(1, 2), None, shapely.Polygon([(0, 0), (9, 1), (8, 9), (1, 8)])):
        assert box_of(thing(other)) is None


def test_tables_hold_points_and_boxes_with_what_is_said_of_them(tmp_path):
    objects = [
        thing(BOX, "tumour", measurements={"prob": 0.25}, metadata={"source": "model"}),
        thing(BOX, "tumour", "detection", name="=1+1"),
        thing(shapely.Point(3.5, 7.5), 'ü "x", y', "annotation", color=[1, 2, 3], isLocked=True),
    ]
    plan = drain(plan_table("S-1", objects))
    assert not +plan.left.marks
    assert not +plan.left.details
    assert plan.n_rows == 3
    path = drain(write_csv(tmp_path / "t.csv", "S-1", columns_of("S-1", objects, plan), plan))
    box, both, point = objects_of_rows(read_rows(path, others=True), {"source", "name"})
    assert (box.kind, box.name, box_of(box), box.measurements) == ("tile", "tumour", (10, 20, 42, 52), {"prob": 0.25})
    assert box.properties["metadata"] == {"source": "model"}
    assert (both.kind, box_of(both), both.properties["metadata"]) == ("detection", (10, 20, 42, 52), {"name": "=1+1"})
    assert (point.kind, point.name, point.geometry) == ("annotation", 'ü "x", y', shapely.Point(3.5, 7.5))


def test_tables_count_what_they_cannot_hold():
    line = shapely.LineString([(0, 0), (5, 5)])
    objects = [thing(RING), thing(line), thing(None), thing(BOX, "Ignore*"), thing(shapely.Point(1, 1), x=3, what=[1])]
    plan = drain(plan_table("S-1", objects))
    left = plan.left
    assert left.marks == {"areas": 1, "lines": 1, "objects without a place": 1, "ignored objects": 1}
    assert left.details == {"property 'x'": 1, "property 'what'": 1}
    assert [columns["x"] for columns in columns_of("S-1", objects, plan)] == [[0.5]]


def test_places_are_squares_of_one_size():
    corners = np.array([[20, 10], [3, 7]])
    patches, left = drain(places_of(boxes_of(corners, 32, False), (100, 100)))
    assert patches.corners.tolist() == corners.tolist()
    assert (patches.side, patches.boxes, patches.slide_shape) == (32, True, (100, 100))
    assert not +left.marks
    assert drain(places_of(boxes_of(corners, 27, True), None))[0].boxes is False
    for objects, message in (
        ([thing(RING)], "no square box"),
        ([thing(BOX), thing(shapely.box(0, 0, 5, 5))], "of 2 sizes"),
        ([thing(shapely.box(0.5, 0, 5.5, 5))], "whole pixels"),
    ):
        with pytest.raises(SlideError, match=message):
            drain(places_of(objects, None))


def test_a_column_has_one_kind(tmp_path):
    """Numbers beside texts are texts, whole ones beside others are floats."""
    said = ({"a": 1, "b": 1}, {"a": 2.5, "b": "x"}, {"a": 3})
    objects = [thing(shapely.Point(1, 1), **each) for each in said]
    plan = drain(plan_table("S-1", objects))
    assert {name: plan.columns[name] for name in "ab"} == {"a": float, "b": str}
    (columns,) = columns_of("S-1", objects, plan)
    assert (columns["a"], columns["b"]) == ([1, 2.5, 3], ["1", "x", None])
