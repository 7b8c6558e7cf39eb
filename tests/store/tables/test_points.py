import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from napari_distill2label.core.bag import UNLABELLED
from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.label_map import class_of_labels
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.store.tables.points import Points, check_labels, find_for_slide, label_patches, read_points

CLASSES = ("normal", "tumour", "stroma")


def class_of_patches(found, patches, classes, corrections, label_map=None, coverage=0.5):
    """The classes that marks give to patches, as a truth or as corrections."""
    index = class_of_labels(found.named, classes, label_map, "the points")
    if corrections:
        check_labels(index, classes, label_map, "the points")
    return label_patches(found, patches, index, len(classes), corrections, coverage).classes


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
        ("slide_id,x,y,label\nb,,,\na,,,t\n", "line 3: slide 'a' has the label 't' and no position: give x and y"),
        ("slide_id,x,y,label,class\na,,,,t\n", "line 2: slide 'a' has the label 't' and no position: give x and y"),
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
    for name in ("b.geojson", "b.geojson.gz"):
        (tmp_path / name).write_bytes(b"[]")
        with pytest.raises(CohortError, match=r"b\.(ome\.)?geojson.* and .*b\.[a-z.]+ are both of slide 'b'"):
            read_points(tmp_path, labelled=True)
        (tmp_path / name).unlink()
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match=r"holds no .geojson, .xml, .csv or .parquet file"):
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
    """The rule, patch by patch: a point in one of its pixels, the first of which reaches from -.5 to .5."""
    result = []
    for y, x in grid.corners:
        inside = [
            label for (py, px), label in zip(found.coordinates, found.labels, strict=True)
            if x <= px + 0.5 < x + grid.side and y <= py + 0.5 < y + grid.side
        ]  # fmt: skip
        indices = [CLASSES.index(label) for label in inside if label in CLASSES]
        positive = [index for index in indices if index]
        result.append(
            max(set(positive), key=lambda i: (positive.count(i), -i)) if positive else 0 if indices else UNLABELLED
        )
    return result


@pytest.mark.parametrize(("side", "stride"), [(10, 10), (10, 3), (10, 4), (7, 12), (8, 8), (1, 1)])
@pytest.mark.parametrize("origin", [(0, 0), (3, -2), (-4, 6)])
def test_a_patch_is_positive_if_a_positive_point_falls_inside_its_box(side, stride, origin):
    if min(origin) < -side / 2:
        origin = (0, 5)
    grid = PatchGrid.over((60, 71), PatchSettings(size_px=side, stride_px=stride), origin=origin)
    rng = np.random.default_rng(side * stride)
    grid = grid.with_tissue(rng.random(grid.shape) < 0.8)
    coordinates = rng.random((40, 2)) * (60, 71)
    coordinates[:20] = np.round(coordinates[:20])  # also on the borders of boxes
    labels = rng.choice(["normal", "tumour", "stroma", "other"], 40)
    found = Points(coordinates, labels.astype(object))
    assert class_of_patches(found, grid, CLASSES, corrections=False).tolist() == by_definition(found, grid)


def test_boxes_are_half_open():
    grid = PatchGrid.over((40, 40), PatchSettings(size_px=10))
    at = points((0, 0, "tumour"), (9.49, 19.49, "tumour"), (9.5, 19.5, "normal"), (39.4, 39.4, "stroma"))
    classes = class_of_patches(at, grid, CLASSES, corrections=True).reshape(4, 4)
    expected = np.full((4, 4), UNLABELLED)
    expected[0, 0] = expected[0, 1] = 1
    expected[1, 2], expected[3, 3] = 0, 2
    assert (classes == expected).all()


@pytest.mark.parametrize(("patch_px", "stride_px"), [(10, 10), (27, 14), (9, 4), (8, 8)])
def test_a_correction_is_of_the_patch_that_the_window_shows_there(patch_px, stride_px):
    grid = PatchGrid.over((80, 90), PatchSettings(size_px=patch_px, stride_px=stride_px), origin=(3, 2))
    for y, x in np.random.default_rng(0).integers((3 + patch_px, 2 + patch_px), (60, 70), (40, 2)).tolist():
        classes = class_of_patches(points((y, x, "tumour")), grid, CLASSES, corrections=True).reshape(grid.shape)
        assert np.argwhere(classes == 1).tolist() == grid.cells_at(np.array([[y, x]])).tolist()


def test_between_patches_that_do_not_touch_a_correction_is_of_none():
    grid = PatchGrid.over((8, 44), PatchSettings(size_px=8, stride_px=12))
    at = {x: class_of_patches(points((3, x, "tumour")), grid, CLASSES, corrections=True) for x in (7, 8, 11, 12)}
    assert {x: np.flatnonzero(found == 1).tolist() for x, found in at.items()} == {7: [0], 8: [], 11: [], 12: [1]}


@pytest.mark.parametrize(("patch_px", "stride_px"), [(10, 10), (10, 5), (27, 9), (9, 4), (8, 12)])
def test_a_correction_at_the_centre_of_a_patch_is_of_that_patch_alone(patch_px, stride_px):
    grid = PatchGrid.over((80, 90), PatchSettings(size_px=patch_px, stride_px=stride_px), origin=(3, 2))
    corners = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1).reshape(-1, 2) * grid.stride
    for number, (y, x) in enumerate(corners + grid.origin + (grid.side - 1) / 2):
        classes = class_of_patches(points((y, x, "tumour")), grid, CLASSES, corrections=True)
        assert np.flatnonzero(classes != UNLABELLED).tolist() == [number]
    overlap = class_of_patches(points((40, 40, "tumour")), grid, CLASSES, corrections=False) == 1
    assert (overlap.sum() > 1) == (stride_px <= patch_px / 2)


def test_points_outside_the_grid_count_nowhere():
    grid = PatchGrid.over((40, 40), PatchSettings(size_px=10), origin=(5, 5))
    at = points((0, 0, "tumour"), (4.4, 20, "tumour"), (500, 20, "tumour"), (-3, -3, "tumour"))
    assert set(class_of_patches(at, grid, CLASSES, corrections=False)) == {UNLABELLED}
    assert set(class_of_patches(points(), grid, CLASSES, corrections=False)) == {UNLABELLED}


def test_of_several_positive_classes_the_one_with_most_points_counts():
    grid = PatchGrid.over((10, 10), PatchSettings(size_px=10))
    at = points((1, 1, "tumour"), (2, 2, "stroma"), (3, 3, "stroma"), *[(4, 4, "normal")] * 9)
    assert class_of_patches(at, grid, CLASSES, corrections=True).tolist() == [2]


def test_a_label_that_is_no_class_says_nothing_in_truth_and_is_an_error_in_corrections():
    grid = PatchGrid.over((10, 20), PatchSettings(size_px=10))
    at = points((1, 1, "fibroblast"), (1, 2, ""), (1, 11, "fibroblast"), (1, 12, "normal"))
    assert class_of_patches(at, grid, CLASSES, corrections=False).tolist() == [UNLABELLED, 0]
    with pytest.raises(
        CohortError, match=r"unknown label 'fibroblast'\. The classes are normal, tumour, stroma\. .*label_map"
    ):
        class_of_patches(at, grid, CLASSES, corrections=True)
    for label_map, expected in (({"fibroblast": "stroma"}, [2, 2]), ({"*": "normal"}, [0, 0])):
        for corrections in (True, False):
            assert class_of_patches(at, grid, CLASSES, corrections, label_map).tolist() == expected
    assert class_of_patches(at, grid, CLASSES, True, {"fibroblast": ""}).tolist() == [UNLABELLED, 0]


def test_a_label_that_is_nearly_a_class_is_an_error():
    grid = PatchGrid.over((10, 10), PatchSettings(size_px=10))
    for corrections in (True, False):
        with pytest.raises(CohortError, match=r"label_map=\{'Tumor': 'tumour'\}"):
            class_of_patches(points((1, 1, "Tumor")), grid, CLASSES, corrections)


def test_patches_on_points_take_the_label_within_one_pixel():
    centres = PatchPoints.at(
        np.array([[10.5, 20.5], [30, 30], [50, 50], [70, 70]]), (100, 100), PatchSettings(size_px=9)
    )
    at = points(
        (10.5, 20.5, "tumour"),  # its centre was rounded to (11, 21)
        (30, 31, "stroma"),  # exactly 1 px away
        (50, 51.01, "tumour"),  # just more
        (70.9, 70, "tumour"), (70.2, 70, "normal"),  # the nearer one
    )  # fmt: skip
    assert class_of_patches(at, centres, CLASSES, corrections=True).tolist() == [1, 2, UNLABELLED, 0]
    assert class_of_patches(points(), centres, CLASSES, corrections=False).tolist() == [UNLABELLED] * 4


def test_at_a_centre_is_what_is_nearest_whatever_its_class():
    centres = PatchPoints.at(np.array([[10, 10]]), (50, 50), PatchSettings(size_px=9))
    assert class_of_patches(points((10, 10.2, "x"), (10, 10.8, "tumour")), centres, CLASSES, False).tolist() == [
        UNLABELLED
    ]


# ---- boxes that lie on no lattice ------------------------------------------------------------------------------------


def boxes_at(corners, side=10, shape=(60, 71)):
    return PatchPoints(shape, np.array(corners).reshape(-1, 2) + side // 2, side, side, boxes=True)


@pytest.mark.parametrize("side", [7, 10])
def test_boxes_are_labelled_by_what_lies_in_them_wherever_they_lie(side):
    rng = np.random.default_rng(side)
    boxes = boxes_at(rng.integers(-3, 60, (50, 2)), side)
    coordinates = rng.random((60, 2)) * (60, 71)
    coordinates[:30] = np.round(coordinates[:30])
    found = Points(coordinates, rng.choice(["normal", "tumour", "stroma", "other"], 60).astype(object))
    assert class_of_patches(found, boxes, CLASSES, corrections=False).tolist() == by_definition(found, boxes)


def test_a_correction_is_of_the_box_whose_middle_is_nearest():
    boxes = boxes_at([[0, 0], [0, 3], [30, 30]])
    found = points((5, 4.4, "tumour"), (5, 8.4, "stroma"), (5, 25, "normal"))
    assert class_of_patches(found, boxes, CLASSES, corrections=True).tolist() == [1, 2, UNLABELLED]
    assert class_of_patches(points(), boxes, CLASSES, corrections=True).tolist() == [UNLABELLED] * 3


def test_boxes_are_told_from_centres_in_what_is_kept():
    from napari_distill2label.core.geometry import patches_from_json

    for patches in (boxes_at([[0, 0]]), PatchPoints((60, 71), np.array([[5, 5]]), 10, 10)):
        again = patches_from_json(patches.to_json(), patches.centres)
        assert again.boxes == patches.boxes
    assert "boxes" not in patches.to_json()  # maps of former versions still fit


# ---- areas -----------------------------------------------------------------------------------------------------------


def outline(x0, y0, x1, y1, hole=None):
    rings = [[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]]
    if hole:
        rings += outline(*hole)["coordinates"]
    return {"type": "Polygon", "coordinates": rings}


@pytest.fixture
def marks(tmp_path):
    """`marks((geometry, class name), …)` -> the `Points` of a GeoJSON file with these annotations."""

    def make(*items, **properties):
        path = tmp_path / "s.geojson"
        features = [feature(geometry, name) for geometry, name in items]
        for one in features:
            one["properties"] |= properties
        path.write_text(json.dumps(features))
        return read_points(path, labelled=True)["s"]

    return make


GRID = PatchGrid.over((40, 40), PatchSettings(size_px=10))


def on_grid(found, **how):
    return class_of_patches(found, GRID, CLASSES, corrections=False, **how).reshape(4, 4)


@pytest.mark.parametrize("corrections", [True, False])
def test_an_area_labels_the_patches_it_covers_by_half(marks, corrections):
    found = class_of_patches(marks((outline(5, 0, 24.9, 20), "tumour")), GRID, CLASSES, corrections).reshape(4, 4)
    expected = np.full((4, 4), UNLABELLED)
    expected[:2, :2] = 1  # the first column by exactly a half, the third by 49 %
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("coverage", "columns"), [(0.01, 3), (0.49, 3), (0.5, 2), (0.51, 1), (1, 1)])
def test_the_share_is_a_setting(marks, coverage, columns):
    found = on_grid(marks((outline(5, 0, 24.9, 40), "tumour")), coverage=coverage)
    assert (found == 1).sum() == 4 * columns


def test_what_is_in_a_hole_is_not_in_the_area(marks):
    found = on_grid(marks((outline(0, 0, 40, 40, hole=(10, 10, 30, 30)), "tumour")))
    assert (found == 1).sum() == 12
    assert set(found[1:3, 1:3].ravel()) == {UNLABELLED}


def test_findings_count_together_and_the_one_that_covers_most_names_the_patch(marks):
    found = on_grid(marks((outline(0, 0, 3, 10), "tumour"), (outline(3, 0, 7, 10), "stroma")))
    assert found[0, 0] == 2
    within = on_grid(marks((outline(0, 0, 40, 40), "tumour"), (outline(0, 0, 20, 20), "stroma")))
    assert (within == 2).sum() == 4  # of areas that cover as much the smaller one
    assert (within == 1).sum() == 12


def test_negative_areas(marks):
    found = on_grid(
        marks((outline(0, 0, 40, 40), "normal"), (outline(0, 0, 10, 6), "tumour"), (outline(20, 0, 30, 4), "tumour"))
    )
    assert found[0].tolist() == [1, 0, 0, 0]  # a finding of more than half comes first, one of less does not count


def test_overlapping_areas_of_one_class_count_once(marks):
    found = on_grid(marks((outline(0, 0, 4, 10), "tumour"), (outline(0, 0, 4, 10), "tumour")))
    assert found[0, 0] == UNLABELLED


def test_ignored_areas_are_nobodys(marks):
    at = marks((outline(0, 0, 40, 10), "tumour"), (outline(0, 0, 14, 40), "Ignore*"))
    found = label_patches(at, GRID, {"tumour": 1}, 3)
    assert found.classes.reshape(4, 4)[0].tolist() == [UNLABELLED, 1, 1, 1]
    assert found.unclear.reshape(4, 4)[:, 0].all()
    assert found.unclear.sum() == 4


def test_ignored_points_and_cells_make_their_patches_unclear(marks):
    at = marks((point_at(5, 5), "Ignore*"), (point_at(15, 5), "Ignore*"), (point_at(15, 6), "tumour"))
    assert at.ignored.tolist() == [[4.5, 4.5], [4.5, 14.5]]
    found = label_patches(at, GRID, {"tumour": 1}, 3)
    assert found.classes.reshape(4, 4)[0].tolist() == [UNLABELLED, 1, UNLABELLED, UNLABELLED]
    assert np.flatnonzero(found.unclear).tolist() == [0]
    assert found.tally.ignored == 2
    assert not found.tally.is_unusable
    cell = marks((outline(10, 10, 20, 20), "Ignore*"), objectType="cell")
    assert cell.areas == ()
    found = label_patches(cell, GRID, {}, 3)
    assert np.flatnonzero(found.unclear).tolist() == [5]
    assert found.tally.is_unusable  # it is not that nothing was found
    boxes = label_patches(cell, boxes_at([[0, 0], [10, 10]]), {}, 3)
    assert boxes.unclear.tolist() == [False, True]
    centred = PatchPoints.at(np.array([[14, 14], [30, 30]]), (40, 40), PatchSettings(size_px=9))
    both = replace(cell, coordinates=np.array([[14.9, 14.9]]), labels=np.array(["tumour"], object))
    assert label_patches(both, centred, {"tumour": 1}, 3).classes.tolist() == [UNLABELLED, UNLABELLED]


def point_at(x, y):
    return {"type": "Point", "coordinates": [x, y]}


def test_marks_of_no_class_make_patches_unclear_where_no_class_is_known(marks):
    at = marks(
        (outline(0, 0, 20, 10), "uncertain"), (point_at(15, 5), "normal"), (outline(20, 0, 24, 10), "uncertain"),
        (outline(0, 20, 10, 30), None), (point_at(35, 35), "x"), (outline(30, 0, 40, 10), "tumour"),
        (point_at(35, 5), "x"),
    )  # fmt: skip
    index = {"uncertain": UNLABELLED, "": UNLABELLED, "x": UNLABELLED, "normal": 0, "tumour": 1}
    found = label_patches(at, GRID, index, 3)
    assert found.classes.reshape(4, 4)[0].tolist() == [UNLABELLED, 0, UNLABELLED, 1]
    assert np.flatnonzero(found.unclear).tolist() == [0, 8, 15]  # of the third patch less than half is uncertain


def test_areas_of_no_class_say_nothing(marks):
    at = marks((outline(0, 0, 40, 40), None), (outline(0, 0, 40, 40), "Region*"), (outline(0, 0, 20, 20), "tumour: a"))
    assert (on_grid(at) == 1).sum() == 4
    tally = label_patches(at, GRID, {"": UNLABELLED, "Region*": UNLABELLED, "tumour: a": 1}, 3).tally
    assert tally.no_class == {"": 1, "Region*": 1}
    assert tally.areas == {"tumour: a": 1}


def test_how_many_patches_each_area_touches_and_which_label_none(marks):
    at = marks(
        (outline(0, 0, 40, 40), "tumour"), (outline(12, 12, 14, 14), "tumour"), (outline(1, 1, 4, 4), "normal"),
        (outline(28, 28, 32, 32), "other"), (outline(0, 30, 4, 40), "other"), (outline(4, 30, 6, 40), "other"),
    )  # fmt: skip
    tally = label_patches(at, GRID, {"tumour": 1, "normal": 0, "other": 2}, 3).tally
    assert tally.touched == {("tumour", 16): 1, ("tumour", 1): 1, ("normal", 1): 1, ("other", 4): 1, ("other", 1): 2}
    assert tally.too_small.total() == 2  # the drop of normal, and what lies on a corner of four patches
    assert (tally.areas.total(), tally.counted) == (6, 4)
    assert tally.too_small == {"normal": 1, "other": 1}  # two narrow ones together cover more than half


def test_areas_of_boxes_and_of_centred_patches(marks):
    at = marks((outline(0, 0, 20, 20), "tumour"), ({"type": "Point", "coordinates": [15.5, 15.5]}, "normal"))
    boxes = boxes_at([[0, 0], [5, 12], [15, 15], [30, 30]])
    assert class_of_patches(at, boxes, CLASSES, corrections=False).tolist() == [1, 1, 0, UNLABELLED]
    centred = PatchPoints.at(np.array([[5, 5], [15, 15], [30, 30]]), (60, 71), PatchSettings(size_px=9))
    assert class_of_patches(at, centred, CLASSES, corrections=False).tolist() == [1, 0, UNLABELLED]


def test_points_and_areas_together(marks):
    def at_x(x):
        return {"type": "Point", "coordinates": [x, 5]}

    at = marks((outline(0, 0, 20, 10), "tumour"), (at_x(5), "normal"), (at_x(15), "stroma"), (at_x(25), "normal"))
    assert on_grid(at)[0].tolist() == [1, 2, 0, UNLABELLED]
    corrected = class_of_patches(at, GRID, CLASSES, corrections=True).reshape(4, 4)
    assert corrected[0].tolist() == [0, 2, 0, UNLABELLED]  # what is said of the very patch comes first


# ---- what QuPath exports ---------------------------------------------------------------------------------------------


def test_a_multipoint_is_all_its_points(marks):
    at = marks(({"type": "MultiPoint", "coordinates": [[10.5, 10.5], [20.5, 30.5]]}, "tumour"))
    assert at.coordinates.tolist() == [[10, 10], [30, 20]]
    assert at.labels.tolist() == ["tumour"] * 2


def test_detections_and_cells_are_of_one_place_in_truth(marks, tmp_path):
    at = marks((outline(10, 10, 20, 20), "tumour"), objectType="detection")
    assert at.coordinates.tolist() == [[14.5, 14.5]]
    assert at.areas == ()
    cell = feature(outline(0, 0, 20, 20), "tumour") | {"nucleusGeometry": outline(2, 4, 4, 6)}
    cell["properties"]["objectType"] = "cell"
    (tmp_path / "c.geojson").write_text(json.dumps(cell))
    for labelled in (True, False):
        assert read_points(tmp_path / "c.geojson", labelled)["c"].coordinates.tolist() == [[4.5, 2.5]]
    assert len(marks((outline(10, 10, 20, 20), "tumour"), objectType="tile").areas) == 1


def test_an_annotation_round_detections_is_no_centre(tmp_path):
    nucleus = feature(outline(0, 0, 4, 4))
    nucleus["properties"]["objectType"] = "detection"
    path = tmp_path / "s.geojson"
    path.write_text(json.dumps([feature(outline(0, 0, 100, 100), "Region*"), nucleus]))
    assert read_points(path)["s"].coordinates.tolist() == [[1.5, 1.5]]
    path.write_text(json.dumps([feature(outline(0, 0, 4, 4)), feature(outline(0, 0, 4, 4), "Ignore*")]))
    assert len(read_points(path)["s"]) == 1  # other tools say nothing of the kind of an outline


def test_objects_without_a_place_are_counted(marks):
    at = marks((None, "tumour"), ({"type": "LineString", "coordinates": [[0, 0], [9, 9]]}, "tumour"))
    assert (len(at), at.areas, at.n_placeless) == (0, (), 2)


def test_a_slide_without_any_mark_is_said_to_be_so(tmp_path):
    (tmp_path / "a.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    assert len(read_points(tmp_path / "a.geojson", labelled=True)["a"]) == 0
    (tmp_path / "t.csv").write_text("slide_id,x,y,label\na,,,\nb,1,2,tumour\n")
    found = read_points(tmp_path / "t.csv", labelled=True)
    assert {name: len(one) for name, one in found.items()} == {"a": 0, "b": 1}
    with pytest.raises(CohortError, match="no position"):
        read_points(tmp_path / "t.csv")


@pytest.mark.parametrize("header", ["slide_id,x,y,label,class", "Slide_ID,X,Y,Label,Class"])
def test_a_table_may_say_what_class_a_label_is_of(tmp_path, header):
    (tmp_path / "t.csv").write_text(f"{header}\na,1,1,lymphocyte,normal\na,11,1,tumour,\n")
    assert read_points(tmp_path / "t.csv")["a"].labels.tolist() == ["lymphocyte", "tumour"]
    found = read_points(tmp_path / "t.csv", labelled=True)["a"]
    assert found.labels.tolist() == ["lymphocyte", "tumour"]
    assert found.class_names.tolist() == ["normal", "tumour"]
    assert on_grid(found)[0].tolist() == [0, 1, UNLABELLED, UNLABELLED]


def test_slides_are_found_by_what_their_files_are_called():
    kept = {"a": 1, "b.svs": 2, "c.1": 3, "d_e-ae3f5b": 4}
    assert [find_for_slide(kept, name) for name in ("a", "b", "b.svs", "c.1", "c", "x")] == [1, 2, 2, 3, None, None]


@pytest.mark.parametrize(("one", "other"), [("a", "a.svs"), ("a.svs", "a.tif"), ("a", "a.ome.tif"), ("a", "a.SVS")])
def test_two_truths_of_one_slide_are_an_error(tmp_path, one, other):
    with pytest.raises(CohortError, match=r"^(1 and 2|2 and 1) are both of slide 'a': keep one of them$"):
        find_for_slide({one: 1, other: 2, "b": 3}, "a")
    assert find_for_slide({one: 1, other: 2, "b": 3}, "b") == 3
    for name in (one, other):
        (tmp_path / f"{name}.geojson").write_text(json.dumps([feature(POINT, "tumour")]))
    with pytest.raises(CohortError, match=r"a\S*\.geojson and \S*a\S*\.geojson are both of slide 'a'"):
        find_for_slide(read_points(tmp_path, labelled=True), "a")


def test_the_tally_says_what_became_of_points():
    tissue = np.ones((4, 4), bool)
    tissue[0, 0] = False
    at = points(
        (5, 5, "tumour"), (15, 15, "tumour"), (15, 25, "x"), (15, 25, ""), (90_000, 5, "tumour"), (-9, 5, "normal")
    )
    index = {"tumour": 1, "normal": 0, "x": UNLABELLED, "": UNLABELLED}
    tally = label_patches(at, GRID.with_tissue(tissue), index, 3).tally
    assert tally.points == {"tumour": 1}
    assert tally.elsewhere == {"tumour": 1}
    assert tally.outside == {"tumour": 1, "normal": 1}
    assert tally.no_class == {"x": 1, "": 1}
    assert tally.counted == 1
    centred = PatchPoints.at(np.array([[15, 15]]), (40, 40), PatchSettings(size_px=9))
    tally = label_patches(at, centred, index, 3).tally
    assert (tally.points, tally.elsewhere) == ({"tumour": 1}, {"tumour": 1})
    assert (tally + tally).points == Counter({"tumour": 2})


def test_points_as_far_as_numbers_go(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("slide_id,x,y,label\na,1e308,-1e308,tumour\na,5,5,tumour\n")
    found = read_points(path, labelled=True)["a"]
    assert on_grid(found)[0].tolist() == [1, UNLABELLED, UNLABELLED, UNLABELLED]
