"""Objects on a slide as tables, places and pixels, and what each of these cannot hold."""

import numpy as np
import pytest
import shapely

from napari_distill2label.core.errors import SlideError
from napari_distill2label.exporters.objects import (
    DrawnLabels,
    box_of,
    boxes_of,
    format_columns,
    objects_of_rows,
    places_of,
    table_of,
    values_of,
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
    columns, left = table_of("S-1", objects)
    assert not +left.marks
    assert not +left.details
    path = tmp_path / "t.csv"
    path.write_text(format_columns(columns), "utf-8")
    box, both, point = objects_of_rows(read_rows(path, others=True))
    assert (box.kind, box.name, box_of(box), box.measurements) == ("tile", "tumour", (10, 20, 42, 52), {"prob": 0.25})
    assert box.properties["metadata"] == {"source": "model"}
    assert (both.kind, box_of(both), both.properties["metadata"]) == ("detection", (10, 20, 42, 52), {"name": "=1+1"})
    assert (point.kind, point.name, point.geometry) == ("annotation", 'ü "x", y', shapely.Point(3.5, 7.5))


def test_tables_count_what_they_cannot_hold():
    line = shapely.LineString([(0, 0), (5, 5)])
    objects = [thing(RING), thing(line), thing(None), thing(BOX, "Ignore*"), thing(shapely.Point(1, 1), x=3, what=[1])]
    columns, left = table_of("S-1", objects)
    assert left.marks == {"areas": 1, "lines": 1, "objects without a place": 1, "ignored objects": 1}
    assert left.details == {"property 'x'": 1, "property 'what'": 1}
    assert len(columns["x"]) == 1


def test_places_are_squares_of_one_size():
    corners = np.array([[20, 10], [3, 7]])
    patches, left = places_of(boxes_of(corners, 32, False), (100, 100))
    assert patches.corners.tolist() == corners.tolist()
    assert (patches.side, patches.boxes, patches.slide_shape) == (32, True, (100, 100))
    assert not +left.marks
    assert places_of(boxes_of(corners, 27, True), None)[0].boxes is False
    for objects, message in (
        ([thing(RING)], "no square box"),
        ([thing(BOX), thing(shapely.box(0, 0, 5, 5))], "of 2 sizes"),
        ([thing(shapely.box(0.5, 0, 5.5, 5))], "whole pixels"),
    ):
        with pytest.raises(SlideError, match=message):
            places_of(objects, None)


@pytest.mark.parametrize("n", [3, 300])
def test_pixels_have_the_value_of_the_smallest_area_on_them(n):
    rng = np.random.default_rng(0)
    objects = [thing(RING, "ring"), thing(shapely.box(5, 5, 15, 15), "box")]
    objects += [thing(shapely.Point(*rng.uniform(0, 80, 2)).buffer(9), f"disc {i}") for i in range(n)]
    values = values_of(objects)
    drawn = DrawnLabels(objects, values, (70, 90))
    assert drawn.dtype == (np.uint8 if n < 200 else np.uint16)
    ys, xs = np.arange(-2, 72), np.arange(3, 92, 2)
    found = drawn.at(ys, xs)
    expected = np.zeros_like(found)
    for one in sorted(objects, key=lambda one: -one.geometry.area):
        inside = shapely.contains_xy(one.geometry, *np.meshgrid(xs + 0.5, ys + 0.5))
        expected[inside] = values[one.name]
    expected[(ys < 0) | (ys >= 70)] = 0
    expected[:, xs >= 90] = 0
    np.testing.assert_array_equal(found, expected)
    assert drawn.left.marks["areas under an area of another class"] > 0


def test_pixels_count_what_they_cannot_hold():
    objects = [thing(shapely.Point(1, 1)), thing(shapely.box(200, 0, 210, 9)), thing(BOX, measurements={"m": 1})]
    left = DrawnLabels(objects, values_of(objects), (70, 90)).left
    assert +left.marks == {"points": 1, "areas outside of the slide": 1}
    assert +left.details == {"measurements": 1}
