"""Areas as pixels against shapely, also more of them than are compared at once."""

import numpy as np
import pytest
import shapely

from napari_distill2label.core.events import drain
from napari_distill2label.exporters import drawn_labels
from napari_distill2label.exporters.drawn_labels import draw_labels
from napari_distill2label.slides.qupath import QuPathObject

BOX = shapely.box(10, 20, 42, 52)
RING = shapely.box(0, 0, 30, 30).difference(shapely.box(10, 10, 20, 20))


def thing(geometry, label="a", **properties):
    return QuPathObject("tile", label, geometry, properties=properties)


@pytest.mark.parametrize("n", [3, 300])
def test_pixels_have_the_value_of_the_smallest_area_on_them(n, monkeypatch):
    rng = np.random.default_rng(0)
    objects = [thing(RING, "ring"), thing(shapely.box(5, 5, 15, 15), "box")]
    objects += [thing(shapely.Point(*rng.uniform(0, 80, 2)).buffer(9), f"disc {i}") for i in range(n)]
    monkeypatch.setattr(drawn_labels, "PER_BAND", 7)
    monkeypatch.setattr(drawn_labels, "IN_MEMORY", 1000)  # bytes: the outlines go to the disk
    ys, xs = np.arange(-2, 72), np.arange(3, 92, 2)
    with draw_labels((70, 90)) as drawn:
        drain(drawn.add(objects))
        found = np.concatenate([drawn.at(ys[:40], xs), drawn.at(ys[40:], xs)])
    assert drawn.dtype == (np.uint8 if n < 200 else np.uint16)
    values = {name: value for value, name in drawn.names.items()}
    assert list(values) == sorted(values)
    expected = np.zeros_like(found)
    for one in sorted(objects, key=lambda one: -one.geometry.area):
        inside = shapely.contains_xy(one.geometry, *np.meshgrid(xs + 0.5, ys + 0.5))
        expected[inside] = values[one.name]
    expected[(ys < 0) | (ys >= 70)] = 0
    expected[:, xs >= 90] = 0
    np.testing.assert_array_equal(found, expected)
    covered = {
        lower
        for lower, one in enumerate(objects)
        for upper, other in enumerate(objects)
        if one.name != other.name
        and (other.geometry.area, -upper) < (one.geometry.area, -lower)
        and one.geometry.intersection(other.geometry).area > 0
    }
    assert drawn.left.marks["areas under an area of another class"] == len(covered) > 0


def test_pixels_count_what_they_cannot_hold():
    objects = [thing(shapely.Point(1, 1)), thing(shapely.box(200, 0, 210, 9)), thing(BOX, measurements={"m": 1})]
    with draw_labels((70, 90)) as drawn:
        drain(drawn.add(objects))
    assert +drawn.left.marks == {"points": 1, "areas outside of the slide": 1}
    assert +drawn.left.details == {"measurements": 1}
