"""Merged regions, read with shapely alone, against the mask."""

import json

import numpy as np
import pytest
import shapely

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.exporters.mask import Mask
from napari_distill2label.exporters.merged_regions import RegionOptions, write_merged_regions
from napari_distill2label.store.tables.points import label_patches, read_points


@pytest.fixture
def write(tmp_path, new_map, qupath_features):
    """`write(patches, labels, …)` -> the features by class, as (shapely outline, measurements)."""

    def make(patches, labels, options=RegionOptions(), corrections=None, **about):
        patch_map = new_map(patches, labels, **about)
        path = drain(write_merged_regions(tmp_path / "a_regions.geojson", patch_map, 0.5, corrections, None, options))
        found = {}
        for one in qupath_features(path, "annotation"):
            entry = shapely.geometry.shape(one["geometry"]), one["properties"]["measurements"]
            found.setdefault(one["properties"]["classification"]["name"], []).append(entry)
        return found, json.loads(path.read_text("utf-8"))

    return make


def labels_like(patches, seed=0, count=2):
    return np.random.default_rng(seed).integers(0, count, patches.shape) + 1


@pytest.mark.parametrize(
    ("stride", "origin", "shape"),
    [(10, (0, 0), (95, 123)), (7, (-3, 2), (95, 123)), (6, (0, 0), (90, 90)), (13, (4, 0), (80, 99))],
)
def test_regions_are_the_mask_to_the_pixel(write, stride, origin, shape):
    grid = PatchGrid.over(shape, PatchSettings(size_px=10, stride_px=stride), origin=origin)
    tissue = np.random.default_rng(1).random(grid.shape) < 0.8
    labels = labels_like(grid) * tissue
    found, _ = write(grid.with_tissue(tissue), np.maximum(labels, 1))
    mask = Mask(np.where(tissue, np.maximum(labels, 1), 0), grid).region(0, 0, *shape)
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    for value, name in ((1, "normal"), (2, "tumour")):
        area = shapely.union_all([outline for outline, _ in found[name]])
        assert np.array_equal(shapely.contains_xy(area, x, y), mask == value)
        assert sum(measured["Patches"] for _, measured in found[name]) == (labels[tissue] == value).sum()


def test_holes_areas_and_mean_probabilities(write):
    grid = PatchGrid.over((50, 50), PatchSettings(size_px=10))
    labels = np.ones((5, 5), int)
    labels[1:4, 1:4] = 2
    labels[2, 2] = 1
    found, collection = write(grid, labels, slide=SlideInfo("slide 1", None, (0.5, 0.25)))
    ((ring, measured),) = found["tumour"]
    assert len(ring.interiors) == 1
    assert ring.area == 800
    assert measured["Patches"] == 8
    assert measured["Area mm^2"] == pytest.approx(800 * 0.125e-6)
    assert measured["Mean prob_tumour"] == pytest.approx(0.9)
    assert sorted(measured["Patches"] for _, measured in found["normal"]) == [1, 16]
    assert collection["provenance"]["threshold"] == 0.5
    assert collection["provenance"]["slide_mpp"] == [0.5, 0.25]


def test_corrections_lie_over_the_model(write):
    grid = PatchGrid.over((30, 30), PatchSettings(size_px=10))
    corrections = np.full((3, 3), -1, np.int8)
    corrections[0, 0] = 1
    found, collection = write(grid, np.ones((3, 3), int), corrections=corrections)
    assert [outline.bounds for outline, _ in found["tumour"]] == [(0, 0, 10, 10)]
    assert collection["provenance"]["corrected_patches"] == 1


def test_small_regions_are_left_out_and_corners_rounded(write):
    grid = PatchGrid.over((60, 60), PatchSettings(size_px=10))
    labels = np.ones((6, 6), int)
    labels[1:4, 1:4], labels[5, 5] = 2, 2
    found, _ = write(grid, labels, RegionOptions(minimum_mm2=200e-6), slide=SlideInfo("slide 1", None, (1, 1)))
    assert [outline.area for outline, _ in found["tumour"]] == [900]
    smooth, _ = write(grid, labels, RegionOptions(smooth=True), slide=SlideInfo("slide 1", None, (1, 1)))
    for (outline, measured), area in zip(
        sorted(smooth["tumour"], key=lambda one: -one[0].area), (900, 100), strict=True
    ):
        assert 0.9 * area < outline.area < area
        assert measured["Area mm^2"] == pytest.approx(outline.area / 1e6, rel=1e-3)
        assert len(outline.exterior.coords) > 8
    with pytest.raises(SettingsError, match="no pixel size"):
        write(grid, labels, RegionOptions(minimum_mm2=0.1))


def test_patches_around_points_are_merged_boxes(write):
    points = PatchPoints.at([[20, 20], [20, 28], [60, 60], [2, 2]], (80, 80), PatchSettings(size_px=10))
    found, _ = write(points, np.array([2, 2, 2, 1]))
    assert sorted((measured["Patches"], outline.area) for outline, measured in found["tumour"]) == [(1, 100), (2, 180)]
    assert [outline.bounds for outline, _ in found["normal"]] == [(0, 0, 7, 7)]  # clipped to the slide


def test_one_finding_after_the_other_where_several_can_be_present(write):
    grid = PatchGrid.over((20, 20), PatchSettings(size_px=10))
    found, _ = write(grid, np.array([[1, 2], [3, 3]]), classes=("normal", "a", 'b "é",\n='), multi_label=True)
    assert {name: [outline.area for outline, _ in each] for name, each in found.items()} == {
        "a": [100],
        'b "é",\n=': [200],
    }


@pytest.mark.parametrize("stride", [10, 7])
def test_read_again_they_label_the_same_patches(write, tmp_path, stride):
    """Out to QuPath and back as corrections. Cells of a stride below the side overlap less than the patches do."""
    grid = PatchGrid.over((200, 200), PatchSettings(size_px=10, stride_px=stride))
    labels = np.ones(grid.shape, int)
    labels[4:12, 3:9], labels[15, 15] = 2, 2
    write(grid, labels)
    points = read_points(tmp_path / "a_regions.geojson", labelled=True)["slide 1"]
    found = label_patches(points, grid, {"normal": 0, "tumour": 1}, 2).classes.reshape(grid.shape)
    if stride == 10:
        assert np.array_equal(found, labels - 1)
    else:
        assert np.array_equal(found[4:12, 3:9] > 0, np.ones((8, 6), bool))
    assert found.min() >= 0
