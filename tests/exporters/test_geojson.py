"""GeoJSON as QuPath reads it: by shapely, and by a validator written after QuPath's own type adapters."""

import numpy as np
import pytest
from shapely.geometry import box, shape

from napari_distill2label.core.classes import palette
from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.exporters.formats import write
from napari_distill2label.exporters.geojson import write_geojson
from napari_distill2label.store.maps.patch_map import PatchMap


@pytest.fixture
def qupath(qupath_features):
    """Features of a file of patches: boxes that RFC 7946 would have, too."""

    def read(path):
        features = qupath_features(path, "tile", "detection")
        for feature in features:
            assert {"classification", "measurements"} <= feature["properties"].keys()
            assert "color" in feature["properties"]["classification"]
            (ring,) = feature["geometry"]["coordinates"]
            assert len(ring) == 5
            assert shape(feature["geometry"]).exterior.is_ccw
        return features

    return read


def test_tiles_of_a_grid(tmp_path, new_map, qupath):
    grid = PatchGrid.over((200, 320), PatchSettings(size_px=27, stride_px=20), origin=(4, -6))
    grid = grid.with_tissue(np.random.default_rng(0).random(grid.shape) > 0.3)
    patch_map = new_map(grid, classes=("normal", 'Tumör "G2"'))
    (path,) = write(patch_map, tmp_path, ["geojson"])
    assert path.name == "slide 1.geojson"
    features, table = qupath(path), patch_map.table()
    assert len(features) == len(table) == grid.scored.sum()
    for feature, row in zip(features, table.to_dict("records"), strict=True):
        x, y = row["minx"], row["miny"]  # (x, y), the patch's box even where it reaches over the slide
        assert shape(feature["geometry"]).equals(box(x, y, x + 27, y + 27))
        properties = feature["properties"]
        assert properties["objectType"] == "tile"
        index = patch_map.classes.index(row["label"])
        assert properties["classification"] == {"name": row["label"], "color": list(palette(2)[index])}
        measurements = properties["measurements"]
        assert list(measurements) == ["prob_normal", 'prob_Tumör "G2"', "attention"]
        assert measurements["prob_normal"] == pytest.approx(row["prob_normal"], rel=1e-5)
        assert measurements["attention"] == pytest.approx(row["attention"], rel=1e-5)
    again = drain(write_geojson(tmp_path / "again.geojson", patch_map))
    assert again.read_bytes() == path.read_bytes()


def test_detections_around_points(tmp_path, new_map, qupath):
    centres = [[20, 30], [80, 90], [80, 90], [0, 149]]  # two at one place have two ids
    points = PatchPoints.at(centres, (120, 150), PatchSettings(size_px=27))
    (path,) = write(new_map(points), tmp_path, ["qupath"])
    features = qupath(path)
    assert [feature["properties"]["objectType"] for feature in features] == ["detection"] * 4
    assert features[0]["geometry"]["coordinates"][0][0] == [30 - 13, 20 - 13]


def test_several_classes_and_corrections(tmp_path, qupath):
    grid = PatchGrid.over((20, 30), PatchSettings(size_px=10))
    patch_map = PatchMap.create(None, grid, ("normal", "a", "b"), SlideInfo("s"), multi_label=True)
    (block,) = grid.blocks(100)
    probability = np.array([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.9, 0.9], [0, 0, 0.9], [0, 0, 0], [0, 0, 0]])
    patch_map.write(block, probability, probability, probability[:, 0])
    patch_map.finish()
    corrections = np.full(grid.shape, -1, np.int8)
    corrections[1, 2] = 2
    features = qupath(drain(write_geojson(tmp_path / "s.geojson", patch_map, 0.5, corrections)))
    found = [feature["properties"]["classification"] for feature in features]
    colours = [list(colour) for colour in palette(3)]
    assert found == [
        {"name": "normal", "color": colours[0]},
        {"name": "a", "color": colours[1]},
        {"names": ["a", "b"], "color": colours[1]},
        {"name": "b", "color": colours[2]},
        {"name": "normal", "color": colours[0]},
        {"name": "b", "color": colours[2]},
    ]
    sources = [feature["properties"]["metadata"]["source"] for feature in features]
    assert sources == ["model"] * 5 + ["corrected"]


def test_a_map_without_attention_has_no_nan(tmp_path, qupath):
    grid = PatchGrid.over((20, 30), PatchSettings(size_px=10))
    patch_map = PatchMap.create(None, grid, ("n", "p"), SlideInfo("s"))
    assert qupath(drain(write_geojson(tmp_path / "empty.geojson", patch_map))) == []
    (block,) = grid.blocks(100)
    patch_map.write(block, np.full((6, 2), 0.5), np.zeros((6, 2)), np.zeros(6))
    assert (
        "attention"
        not in qupath(drain(write_geojson(tmp_path / "s.geojson", patch_map)))[0]["properties"]["measurements"]
    )


def test_the_palette():
    for count in (2, 3, 8, 30):
        colours = palette(count)
        assert len(set(colours)) == count
        assert colours[:2] == palette(2)
        assert all(0 <= value <= 255 for colour in colours for value in colour)
