"""Label images as areas: exactly their pixels, on level 0 whatever they are reduced by."""

import numpy as np
import pytest
import shapely
import tifffile
import zarr
from PIL import Image

from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.slides import regions
from napari_distill2label.slides.label_mask import LabelMask
from napari_distill2label.slides.regions import areas_of, tissue_from_geojson
from napari_distill2label.slides.tiled_labels import TiledLabels
from napari_distill2label.store.tables.points import label_patches, read_points


def tiled(labels, tile):
    """Labels that are decoded in tiles, as those of a file."""

    def decode(row, col):
        return labels[row * tile[0] : (row + 1) * tile[0], col * tile[1] : (col + 1) * tile[1]]

    return TiledLabels(labels.shape, labels.dtype, tile, decode)


@pytest.mark.parametrize("tile", [(1, 2), (3, 3), (1024, 1024)])
def test_areas_are_the_pixels(tile):
    rng = np.random.default_rng(0)
    for _ in range(20):
        small = rng.integers(0, 4, rng.integers(1, 6, 2)).astype(np.uint8)
        labels = np.repeat(np.repeat(small, rng.integers(1, 5), 0), rng.integers(1, 5), 1)
        found = areas_of(LabelMask(tiled(labels, tile), None, {2: "two"}), "a")
        ys, xs = np.indices(labels.shape).reshape(2, -1) + 0.5
        drawn = np.zeros(labels.size, int)
        for thing in found:
            drawn += shapely.contains_xy(thing.geometry, xs, ys) * {"1": 1, "two": 2, "3": 3}[thing.name]
        np.testing.assert_array_equal(drawn.reshape(labels.shape), labels)
        assert sum(thing.geometry.area for thing in found) == (labels > 0).sum()


def write_as(kind, folder, labels):
    if kind == "zarr":
        group = zarr.open_group(folder / "S-1.ome.zarr", mode="w")
        group.create_array("0", data=labels)
        image = {"axes": [{"name": name} for name in "yx"], "datasets": [{"path": "0"}]}
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
        return folder / "S-1.ome.zarr"
    path = folder / f"S-1.{kind}"
    if kind == "png":
        Image.fromarray(labels).save(path)
    else:
        tifffile.imwrite(path, labels)
    return path


@pytest.mark.parametrize("kind", ["zarr", "png", "tif"])
@pytest.mark.parametrize("reduced", [1, 4])
def test_they_are_corrections_and_tissue(tmp_path, kind, reduced):
    grid = PatchGrid.over((160, 240), PatchSettings(size_px=40))
    cells = np.array([[0, 1, 2, 0, 0, 0], [1, 1, 0, 0, 0, 2], [0] * 6, [2, 0, 0, 0, 0, 1]], np.uint8)
    labels = np.repeat(np.repeat(cells, 40, 0), 40, 1)[::reduced, ::reduced]
    path = write_as(kind, tmp_path, np.ascontiguousarray(labels))
    (points,) = read_points(path, labelled=True).values()
    assert points.named == {"1", "2"}
    found = label_patches(points, grid, {"1": 0, "2": 1}, 2, own_patch=True).classes
    np.testing.assert_array_equal(found.reshape(grid.shape), cells.astype(int) - 1)
    np.testing.assert_array_equal(tissue_from_geojson(path, grid), cells > 0)
    assert set(read_points(path, labelled=True)) == {"S-1"}


def test_one_of_another_slide_is_refused(tmp_path):
    path = write_as("png", tmp_path, np.ones((100, 100), np.uint8))
    grid = PatchGrid.over((160, 240), PatchSettings(size_px=40))
    (points,) = read_points(path, labelled=True).values()
    for use in (
        lambda: tissue_from_geojson(path, grid),
        lambda: label_patches(points, grid, {"1": 0}, 2),
    ):
        with pytest.raises(CohortError, match="100 × 100 px, its slide is 240 × 160 px"):
            use()
    with pytest.raises(CohortError, match="centres of patches are points"):
        read_points(path)


def test_too_many_regions_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(regions, "MOST_CELLS", 9)
    path = write_as("png", tmp_path, np.eye(4, dtype=np.uint8))
    with pytest.raises(CohortError, match="too finely divided"):
        read_points(path, labelled=True)
