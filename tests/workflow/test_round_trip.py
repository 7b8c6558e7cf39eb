"""What is exported comes back as the same labels at the same places."""

import numpy as np
import pytest

from napari_distill2label.core.bag import UNLABELLED
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.exporters.formats import write
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.workflow.corrections import Corrections
from napari_distill2label.workflow.ground_truth import read_truth

CLASSES = ("normal", "tumour", "necrosis")
SHAPE = (305, 413)  # no multiple of any stride: patches reach over the border


def grid_of(side, stride, origin=(0, 0)):
    grid = PatchGrid.over(SHAPE, PatchSettings(size_px=side, stride_px=stride), origin=origin)
    tissue = np.random.default_rng(1).random(grid.shape) < 0.8
    return grid.with_tissue(tissue)


def points_apart():
    centres = np.argwhere(np.ones((6, 8), bool)) * 50 + np.random.default_rng(2).integers(13, 37, (48, 2))
    return PatchPoints.at(centres, SHAPE, PatchSettings(size_px=21))


PLACES = {
    "grid": lambda: grid_of(32, 32),
    "overlapping": lambda: grid_of(32, 20, (5, -3)),
    "odd": lambda: grid_of(27, 20, (-7, 4)),
    "gaps": lambda: grid_of(30, 41, (7, 2)),
    "points": points_apart,
}
FORMATS = ("ome-tiff", "ome-zarr", "ome-zarr-0.4", "mask-png", "geojson", "regions", "csv", "parquet")


def finished(patches, mpp=None, canvas_origin=(0, 0)):
    made = PatchMap.create(None, patches, CLASSES, SlideInfo("S-1", mpp=mpp, canvas_origin=canvas_origin))
    rng = np.random.default_rng(0)
    for block in patches.blocks(1000):
        probability = np.eye(3)[rng.integers(0, 3, int(block.scored.sum()))] * 0.8 + 0.2 / 3
        made.write(block, probability, np.log(probability), probability[:, 1])
    made.finish([0.3, 0.4, 0.3])
    return made


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize(("mpp", "origin"), [(None, (0, 0)), ((0.5, 0.25), (300, 500))])
def test_as_corrections(tmp_path, form, place, mpp, origin):
    patches = PLACES[place]()
    made = finished(patches, mpp, origin)
    (path,) = write(made, tmp_path, [form])
    named = path.rename(tmp_path / path.name.replace("_regions", "").replace("_mask", "").replace("_v0.4", ""))
    found = Corrections(named).of("S-1", patches, CLASSES)
    np.testing.assert_array_equal(found, made.to_labels()[patches.scored].astype(int) - 1)


@pytest.mark.parametrize("form", ["ome-tiff", "ome-zarr", "mask-png"])
@pytest.mark.parametrize("place", ["grid", "gaps", "points"])
def test_masks_as_ground_truth(tmp_path, form, place):
    patches = PLACES[place]()
    made = finished(patches, (0.5, 0.25))
    (path,) = write(made, tmp_path, [form])
    named = path.rename(tmp_path / path.name.replace("_mask", ""))
    truth = read_truth(named)
    truth.check(CLASSES, ["S-1"], False)
    np.testing.assert_array_equal(truth.of("S-1", patches, CLASSES), made.to_labels()[patches.scored].astype(int) - 1)
    assert UNLABELLED not in truth.of("S-1", patches, CLASSES)


@pytest.mark.parametrize("form", ["geojson", "csv", "parquet"])
@pytest.mark.parametrize("place", list(PLACES))
def test_patches_as_ground_truth(tmp_path, form, place):
    """Patches that overlap speak of themselves, not of their neighbours."""
    patches = PLACES[place]()
    made = finished(patches)
    (path,) = write(made, tmp_path, [form])
    np.testing.assert_array_equal(
        read_truth(path).of("S-1", patches, CLASSES), made.to_labels()[patches.scored].astype(int) - 1
    )


def test_some_overlapping_tiles(tmp_path):
    """As corrections they are of their own patches alone; as truth, areas that cover half of a patch label it."""
    patches = grid_of(32, 20)
    x, y = patches.corners[10, ::-1].tolist()
    path = tmp_path / "S-1.csv"
    path.write_text(f"minx,miny,width,height,label\n{x},{y},32,32,tumour\n")
    found = Corrections(path).of("S-1", patches, CLASSES)
    assert np.flatnonzero(found != UNLABELLED).tolist() == [10]
    assert found[10] == 1
    wider = np.flatnonzero(read_truth(path, coverage=0.35).of("S-1", patches, CLASSES) == 1)
    assert 10 in wider
    assert len(wider) > 1
