import gzip
import json

import numpy as np
import pytest

from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.slides.regions import tissue_from_geojson

GRID = PatchGrid.over((60, 100), PatchSettings(size_px=10))


def box(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def feature(kind: str, coordinates: list) -> dict:
    return {"type": "Feature", "properties": {"objectType": "annotation"},
            "geometry": {"type": kind, "coordinates": coordinates}}  # fmt: skip


def test_centres_in_polygons_with_holes_are_tissue(tmp_path):
    features = [
        feature("Polygon", [box(20, 10, 70, 50), box(30, 20, 50, 30)]),
        feature("MultiPolygon", [[box(90, 0, 100, 10)], [box(0, 54, 4.9, 60)]]),
        feature("Point", [1, 1]),
    ]
    expected = np.zeros((6, 10), bool)
    expected[1:5, 2:7] = True
    expected[2, 3:5] = False
    expected[0, 9] = True  # the last box ends just left of its cell's centre (5, 55)
    for data in ({"type": "FeatureCollection", "features": features}, features):
        path = tmp_path / "Gewebe ß.geojson"
        path.write_text(json.dumps(data), encoding="utf-8")
        assert np.array_equal(tissue_from_geojson(path, GRID), expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "not a GeoJSON"), ('{"type": "FeatureCollection"}', "not a GeoJSON"), ("[1]", "not a GeoJSON"),
     ('{"type": "FeatureCollection", "features": []}', "no polygon"), ("x,y\n1,2", "not a GeoJSON")],
)  # fmt: skip
def test_what_is_no_region_is_said(tmp_path, text, said):
    path = tmp_path / "a.geojson"
    path.write_text(text)
    with pytest.raises(CohortError, match=rf"a\.geojson: {said}"):
        tissue_from_geojson(path, GRID)
    with pytest.raises(CohortError, match=r"b\.geojson: no such file"):
        tissue_from_geojson(tmp_path / "b.geojson", GRID)


def ignored(one: dict) -> dict:
    one["properties"]["classification"] = {"name": "Ignore*"}
    return one


def test_what_qupath_ignores_is_no_tissue(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(
        json.dumps([feature("Polygon", [box(0, 0, 50, 50)]), ignored(feature("Polygon", [box(0, 0, 20, 50)]))])
    )
    expected = np.zeros((6, 10), bool)
    expected[:5, 2:5] = True
    assert np.array_equal(tissue_from_geojson(path, GRID), expected)
    path.write_text(json.dumps([ignored(feature("Polygon", [box(0, 0, 50, 50)]))]))
    with pytest.raises(CohortError, match=r"a\.geojson: no polygon"):
        tissue_from_geojson(path, GRID)
    path.write_text(
        json.dumps([feature("Polygon", [box(0, 0, 9, 9)]), ignored(feature("Polygon", [box(0, 0, 50, 50)]))])
    )
    with pytest.raises(CohortError, match="nothing is left"):
        tissue_from_geojson(path, GRID)


def test_regions_may_be_nested_compressed_and_without_a_place(tmp_path):
    path = tmp_path / "a.geojson.gz"
    parent = feature("Point", [1, 1])
    parent["properties"]["childObjects"] = [feature("Polygon", [box(0, 0, 20, 20)])]
    nowhere = {"type": "Feature", "geometry": None, "properties": {}}
    path.write_bytes(gzip.compress(json.dumps({"type": "FeatureCollection", "features": [parent, nowhere]}).encode()))
    assert tissue_from_geojson(path, GRID).sum() == 4
