"""Objects of QuPath, as its versions and other tools write them."""

import gzip
import json

import pytest

from napari_distill2label.core.errors import CohortError
from napari_distill2label.slides.annotations import read_objects
from napari_distill2label.slides.qupath import find_files, object_name

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]]}
INNER = {"type": "Polygon", "coordinates": [[[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]]}


def feature(geometry=SQUARE, classification=None, **properties):
    if classification is not None:
        properties["classification"] = classification
    return {"type": "Feature", "geometry": geometry, "properties": properties}


@pytest.fixture
def read(tmp_path):
    """`read(data)` -> its objects; data as JSON."""

    def do(data, name="a.geojson"):
        path = tmp_path / name
        path.write_text(json.dumps(data), "utf-8")
        return read_objects(path)

    return do


@pytest.mark.parametrize(
    ("classification", "name"),
    [
        ({"name": "Tumor", "colorRGB": -3670016}, "Tumor"),
        ({"name": "Tumor: Positive"}, "Tumor: Positive"),
        ({"names": ["Tumor", "Positive"], "color": [1, 2, 3]}, "Tumor: Positive"),
        ({"names": ["Tumor"]}, "Tumor"),
        ("Tumor", "Tumor"),
        (["Tumor", "Positive"], "Tumor: Positive"),
        ({"name": " Tumör "}, "Tumör"),
        ({"name": None}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_classes(read, classification, name):
    (found,) = read([feature(classification=classification)])
    assert found.name == name
    (null,) = read([{"type": "Feature", "geometry": SQUARE, "properties": {"classification": None}}])
    assert null.name == ""


@pytest.mark.parametrize(
    ("extra", "kind"),
    [
        ({"properties": {"objectType": "detection"}}, "detection"),  # from 0.4 on
        ({"properties": {"object_type": "cell"}}, "cell"),  # 0.3
        ({"id": "PathDetectionObject", "properties": {}}, "detection"),  # 0.2
        ({"properties": {"type": "tile"}}, "tile"),
        ({"properties": {"object_type": "tma_core"}}, "tmaCore"),
        ({"id": "cc1a2b", "properties": {}}, "annotation"),
        ({"properties": None}, "annotation"),
        ({}, "annotation"),
    ],
)
def test_kinds(read, extra, kind):
    assert read([{"type": "Feature", "geometry": SQUARE, **extra}])[0].kind == kind


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda one: {"type": "FeatureCollection", "features": [one]},
        lambda one: {"features": [one]},
        lambda one: [one],
        lambda one: one,
        lambda one: [{"type": "FeatureCollection", "features": [one]}],
        lambda one: {"root": {"type": "Feature", "geometry": None,
                              "properties": {"objectType": "root", "childObjects": [one]}}},
        lambda one: feature(None, objectType="root", children=[one]),
    ],
)  # fmt: skip
def test_wrappings(read, wrapped):
    (found,) = read(wrapped(feature(classification="a")))
    assert (found.name, found.area.area) == ("a", 100)


def test_a_bare_geometry_and_nothing(read):
    assert read(SQUARE)[0].area.area == 100
    assert read({"type": "GeometryCollection", "geometries": [SQUARE]})[0].area.area == 100
    assert read({"type": "FeatureCollection", "features": []}) == []
    assert read([]) == []


def test_children_follow_their_parents(read):
    grandchild = feature(INNER, "c")
    child = feature(INNER, "b", childObjects=[grandchild])
    found = read([feature(SQUARE, "a", childObjects=[child]), feature(SQUARE, "d")])
    assert [one.name for one in found] == ["a", "b", "c", "d"]
    deep = feature(SQUARE, "0")
    for _ in range(150):
        deep = feature(SQUARE, "more", childObjects=[deep])
    assert len(read(deep)) == 151


def test_all_points_of_a_multipoint_and_of_collections(read):
    points = {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}
    nested = {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [5, 6, 0]}, SQUARE]}
    both = {"type": "GeometryCollection", "geometries": [points, nested]}
    multi, collection = read([feature(points), feature(both)])
    assert multi.points.tolist() == [[1, 2], [3, 4]]
    assert multi.area is None
    assert multi.centre is None
    assert collection.points.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert collection.area.area == 100


def test_areas(read):
    donut = {"type": "Polygon", "coordinates": [SQUARE["coordinates"][0], INNER["coordinates"][0]]}
    far = [[[20, 0], [21, 0], [21, 1], [20, 1], [20, 0]]]
    many = {"type": "MultiPolygon", "coordinates": [donut["coordinates"], far]}
    bow_tie = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}
    ellipse = SQUARE | {"isEllipse": True, "plane": {"c": -1, "z": 0, "t": 0}}
    line = {"type": "LineString", "coordinates": [[0, 0], [5, 5]]}
    found = read([feature(one) for one in (donut, many, bow_tie, ellipse, line, None)])
    assert [one.area and one.area.area for one in found] == [96, 97, 50, 100, None, None]
    assert [len(one.points) for one in found] == [0] * 6


def test_the_centre_is_that_of_the_nucleus_and_lies_inside(read):
    horseshoe = {"type": "Polygon", "coordinates": [
        [[0, 0], [30, 0], [30, 30], [28, 30], [28, 2], [2, 2], [2, 30], [0, 30], [0, 0]]
    ]}  # fmt: skip
    cell = feature(SQUARE, objectType="cell") | {"nucleusGeometry": INNER}
    own, of_cell, without = read([feature(horseshoe), cell, cell | {"nucleusGeometry": None}])
    x, y = own.centre
    assert (x <= 2 or x >= 28) or y <= 2
    assert of_cell.centre == (3, 3)
    assert without.centre == (5, 5)


@pytest.mark.parametrize(("name", "ignored"), [("Ignore*", True), ("Ignore", True), ("ignore*: x", True), ("a", False)])
def test_ignored_classes(read, name, ignored):
    assert read([feature(classification=name)])[0].is_ignored == ignored


def test_compressed(tmp_path):
    path = tmp_path / "slide 1.geojson.gz"
    path.write_bytes(gzip.compress(json.dumps([feature(classification="ä")]).encode()))
    assert read_objects(path)[0].name == "ä"
    assert object_name(path) == "slide 1"


def test_names_and_files(tmp_path):
    assert object_name("x/S-1.ome.geojson") == "S-1"
    assert object_name("S-1.svs.geojson") == "S-1.svs"
    assert object_name("S.1.JSON") == "S.1"
    for name in ("b.json", "._a.geojson", "x.txt"):
        (tmp_path / name).touch()
    assert [file.name for file in find_files(tmp_path)] == ["b.json"]
    for name in ("z.geojson", "a.geojson.gz"):
        (tmp_path / name).touch()
    assert [file.name for file in find_files(tmp_path)] == ["a.geojson.gz", "z.geojson"]


def test_nan_among_measurements_is_read(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text('[{"geometry": null, "properties": {"measurements": {"x": NaN, "y": -Infinity}}}]')
    assert read_objects(path)[0].geometry is None


BROKEN = {
    "empty": b"",
    "cut": b'{"type": "FeatureCollection", "features": [',
    "number": b"3",
    "text in a list": b'["a"]',
    "no features": b'{"type": "FeatureCollection"}',
    "UTF-16": "[]".encode("utf-16"),
    "Latin-1": b'{"type": "\xfc"}',
    "NUL": bytes(64),
    "cut gzip": gzip.compress(b"[]" * 5000)[:30],
    "no gzip": b"\x1f\x8b" + b"x" * 40,
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"features":' * 100_000,
    "deep geometry": b'{"type":"GeometryCollection","geometries":[' * 900 + b"]}" * 900,
    "huge integer": b'[{"geometry":{"type":"Point","coordinates":[1' + b"0" * 5000 + b",1]}}]",
    "large integer": b'[{"geometry":{"type":"Point","coordinates":[1' + b"0" * 400 + b",1]}}]",
    "infinity": b'[{"geometry":{"type":"Point","coordinates":[1e999,1]}}]',
    "beyond": b'[{"geometry":{"type":"Point","coordinates":[1e30,1]}}]',
    "NaN": b'[{"geometry":{"type":"Point","coordinates":[NaN,1]}}]',
    "two points": b'[{"geometry":{"type":"Polygon","coordinates":[[[1,1],[2,2]]]}}]',
    "text": b'[{"geometry":{"type":"Point","coordinates":["x","y"]}}]',
    "ragged": b'[{"geometry":{"type":"Polygon","coordinates":[[[1,1],[2],[3,3]]]}}]',
    "one number": b'[{"geometry":{"type":"Point","coordinates":[1]}}]',
    "an object": b'[{"geometry":{"type":"Point","coordinates":{"a":1}}}]',
    "null inside": b'[{"geometry":{"type":"MultiPoint","coordinates":[[1,2],null]}}]',
    "null geometry": b'[{"geometry":{"type":"GeometryCollection","geometries":[null]}}]',
    "no type": b'[{"geometry":{"coordinates":[1,2]}}]',
    "type a number": b'[{"geometry":{"type":5,"coordinates":[1,2]}}]',
    "unknown type": b'[{"geometry":{"type":"Blob","coordinates":[1,2]}}]',
    "geometry a text": b'[{"geometry":"x"}]',
    "class a number": b'[{"geometry":null,"properties":{"classification":3}}]',
    "children a number": b'[{"geometry":null,"properties":{"childObjects":3}}]',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_read_is_one_line_with_the_file(tmp_path, content):
    path = tmp_path / "Größe 1.geojson"
    path.write_bytes(content)
    with pytest.raises(CohortError) as caught:
        read_objects(path)
    assert str(caught.value).startswith(f"{path}: not a GeoJSON file of QuPath objects: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 250


def test_a_missing_file(tmp_path):
    with pytest.raises(CohortError, match=r"a\.geojson: no such file"):
        read_objects(tmp_path / "a.geojson")


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    from napari_distill2label.slides import qupath

    monkeypatch.setattr(qupath, "MAX_BYTES", 2**20)
    path = tmp_path / "a.geojson.gz"
    path.write_bytes(gzip.compress(b" " * 2**22 + b"[]"))
    with pytest.raises(CohortError, match="larger than 1 MB"):
        read_objects(path)
    monkeypatch.undo()
    assert read_objects(path) == []
    monkeypatch.setattr(qupath, "SMALL", 2**20)  # it unpacks to a thousand times its size
    with pytest.raises(CohortError, match="larger than 1 MB"):
        read_objects(path)
