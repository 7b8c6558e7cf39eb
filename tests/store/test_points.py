import json

import numpy as np
import pytest

from napari_distill2label.core.bag import UNKNOWN
from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import GridSettings
from napari_distill2label.store.points import Points, class_of_patches, read_points

CLASSES = ("normal", "tumour", "stroma")


def points(*items):
    """Points from (y, x, label)."""
    return Points(
        np.array([item[:2] for item in items], float).reshape(-1, 2), np.array([item[2] for item in items], object)
    )


def test_csv_points_by_slide(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text("slide_id,x,y,label\na,1.5,2,tumour\nb ß,3,4,normal\na,5,6,\n", "utf-8")
    found = read_points(path, labelled=True)
    assert list(found) == ["a", "b ß"]
    assert found["a"].coordinates.tolist() == [[2, 1.5], [6, 5]]  # (y, x)
    assert found["a"].labels.tolist() == ["tumour", ""]
    assert len(found["b ß"]) == 1
    assert read_points(path)["a"].labels.tolist() == ["tumour", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("slide_id,x,y\na,1,2\n", "has no column 'label'"),
        ("slide_id,x,y,label\na,one,2,t\n", "'one', '2' is no position .*'a'"),
        ("slide_id,x,y,label\na,nan,2,t\n", "not a finite number"),
        ("slide_id,x,y,label\na,1e999,2,t\n", "not a finite number"),
    ],
)
def test_a_points_table_that_cannot_be_used_is_one_plain_line(tmp_path, text, message):
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(CohortError, match=rf"^[^\n]*points\.csv: [^\n]*{message}[^\n]*$"):
        read_points(path, labelled=True)


def feature(geometry, name=None):
    properties = {} if name is None else {"classification": {"name": name}}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


SQUARE = {"type": "Polygon", "coordinates": [[[10, 20], [14, 20], [14, 26], [10, 26], [10, 20]]]}
POINT = {"type": "Point", "coordinates": [3.5, 7.5]}


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_geojson_of_qupath(tmp_path, bom):
    path = tmp_path / "slide 1.geojson"
    data = {"type": "FeatureCollection", "features": [feature(SQUARE, "tumour"), feature(POINT)]}
    path.write_text(bom + json.dumps(data), "utf-8")
    found = read_points(path)
    # QuPath's (3.5, 7.5) is the middle of the pixel (3, 7)
    assert found["slide 1"].coordinates.tolist() == [[22.5, 11.5], [7, 3]]
    assert found["slide 1"].labels.tolist() == ["tumour", ""]


def test_a_folder_of_geojson_files_holds_one_slide_each(tmp_path):
    for name in ("a", "b.ome"):
        (tmp_path / f"{name}.geojson").write_text(json.dumps([feature(POINT)]))
    assert set(read_points(tmp_path)) == {"a", "b"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match=r"holds no \.geojson file"):
        read_points(tmp_path / "empty")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "3", '[{"geometry": null}]', '[{"geometry": {"type": "Blob"}}]', "[1]"]
)
def test_geojson_that_is_none_is_one_plain_line(tmp_path, text):
    path = tmp_path / "a.geojson"
    path.write_text(text)
    with pytest.raises(CohortError, match=r"^[^\n]*a\.geojson: [^\n]*$"):
        read_points(path)


def test_a_missing_file(tmp_path):
    for name in ("no.geojson", "no.csv"):
        with pytest.raises(CohortError, match="no such file"):
            read_points(tmp_path / name)


def by_definition(found, grid):
    """The rule, patch by patch: a point inside minx <= x < minx + width, miny <= y < miny + height."""
    result = []
    for y, x in grid.corners:
        inside = [
            label for (py, px), label in zip(found.coordinates, found.labels, strict=True)
            if x <= px < x + grid.side and y <= py < y + grid.side
        ]  # fmt: skip
        indices = [CLASSES.index(label) if label in CLASSES else 0 for label in inside]
        positive = [index for index in indices if index]
        result.append(
            max(set(positive), key=lambda i: (positive.count(i), -i)) if positive else 0 if indices else UNKNOWN
        )
    return result


@pytest.mark.parametrize(("side", "stride"), [(10, 10), (10, 3), (10, 4), (7, 12), (8, 8), (1, 1)])
@pytest.mark.parametrize("origin", [(0, 0), (3, -2), (-4, 6)])
def test_a_patch_is_positive_if_a_positive_point_falls_inside_its_box(side, stride, origin):
    if min(origin) < -side / 2:
        origin = (0, 5)
    grid = PatchGrid.over((60, 71), GridSettings(patch_px=side, stride_px=stride), origin=origin)
    rng = np.random.default_rng(side * stride)
    grid = grid.with_tissue(rng.random(grid.shape) < 0.8)
    coordinates = rng.random((40, 2)) * (60, 71)
    coordinates[:20] = np.round(coordinates[:20])  # also on the borders of boxes
    labels = rng.choice(["normal", "tumour", "stroma", "other"], 40)
    found = Points(coordinates, labels.astype(object))
    assert class_of_patches(found, grid, CLASSES, corrections=False).tolist() == by_definition(found, grid)


def test_boxes_are_half_open():
    grid = PatchGrid.over((40, 40), GridSettings(patch_px=10))
    at = points((0, 0, "tumour"), (9.99, 19.99, "tumour"), (10, 20, "normal"), (39.9, 39.9, "stroma"))
    classes = class_of_patches(at, grid, CLASSES, corrections=True).reshape(4, 4)
    expected = np.full((4, 4), UNKNOWN)
    expected[0, 0] = expected[0, 1] = 1
    expected[1, 2], expected[3, 3] = 0, 2
    assert (classes == expected).all()


@pytest.mark.parametrize(("patch_px", "stride_px"), [(10, 10), (10, 5), (27, 9), (9, 4), (8, 12)])
def test_a_correction_at_the_centre_of_a_patch_is_of_that_patch_alone(patch_px, stride_px):
    grid = PatchGrid.over((80, 90), GridSettings(patch_px=patch_px, stride_px=stride_px), origin=(3, 2))
    corners = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1).reshape(-1, 2) * grid.stride
    for number, (y, x) in enumerate(corners + grid.origin + (grid.side - 1) / 2):
        classes = class_of_patches(points((y, x, "tumour")), grid, CLASSES, corrections=True)
        assert np.flatnonzero(classes != UNKNOWN).tolist() == [number]
    overlap = class_of_patches(points((40, 40, "tumour")), grid, CLASSES, corrections=False) == 1
    assert (overlap.sum() > 1) == (stride_px <= patch_px / 2)


def test_points_outside_the_grid_count_nowhere():
    grid = PatchGrid.over((40, 40), GridSettings(patch_px=10), origin=(5, 5))
    at = points((0, 0, "tumour"), (4.9, 20, "tumour"), (500, 20, "tumour"), (-3, -3, "tumour"))
    assert set(class_of_patches(at, grid, CLASSES, corrections=False)) == {UNKNOWN}
    assert set(class_of_patches(points(), grid, CLASSES, corrections=False)) == {UNKNOWN}


def test_of_several_positive_classes_the_one_with_most_points_counts():
    grid = PatchGrid.over((10, 10), GridSettings(patch_px=10))
    at = points((1, 1, "tumour"), (2, 2, "stroma"), (3, 3, "stroma"), *[(4, 4, "normal")] * 9)
    assert class_of_patches(at, grid, CLASSES, corrections=True).tolist() == [2]


def test_a_label_that_is_no_class_is_negative_in_truth_and_an_error_in_corrections():
    grid = PatchGrid.over((10, 10), GridSettings(patch_px=10))
    at = points((1, 1, "fibroblast"))
    assert class_of_patches(at, grid, CLASSES, corrections=False).tolist() == [0]
    with pytest.raises(CohortError, match="unknown label 'fibroblast': the classes are normal, tumour, stroma"):
        class_of_patches(at, grid, CLASSES, corrections=True)


def test_patches_on_points_take_the_label_within_one_pixel():
    centres = PatchPoints.at(
        np.array([[10.5, 20.5], [30, 30], [50, 50], [70, 70]]), (100, 100), GridSettings(patch_px=9)
    )
    at = points(
        (10.5, 20.5, "tumour"),  # its centre was rounded to (11, 21)
        (30, 31, "stroma"),  # exactly 1 px away
        (50, 51.01, "tumour"),  # just more
        (70.9, 70, "tumour"), (70.2, 70, "normal"),  # the nearer one
    )  # fmt: skip
    assert class_of_patches(at, centres, CLASSES, corrections=True).tolist() == [1, 2, UNKNOWN, 0]
    assert class_of_patches(points(), centres, CLASSES, corrections=False).tolist() == [UNKNOWN] * 4
