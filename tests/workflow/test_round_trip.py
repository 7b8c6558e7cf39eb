"""What is exported comes back as the same labels at the same places."""

import shutil

import numpy as np
import pytest

from napari_distill2label.core.bag import UNLABELLED
from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.paths import COHORT_SUMMARY, METADATA
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
    found = Corrections(path).of("S-1", patches, CLASSES)
    np.testing.assert_array_equal(found, made.to_labels()[patches.scored].astype(int) - 1)


@pytest.mark.parametrize("form", ["ome-tiff", "ome-zarr", "ome-zarr-0.4", "mask-png"])
@pytest.mark.parametrize("place", ["grid", "gaps", "points"])
def test_masks_as_ground_truth(tmp_path, form, place):
    patches = PLACES[place]()
    made = finished(patches, (0.5, 0.25))
    (path,) = write(made, tmp_path, [form])
    truth = read_truth(path)
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


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_says_which_slide_it_is_of(tmp_path, form):
    """Its name does not decide: neither a part of it, nor a name of another slide."""
    made = finished(grid_of(32, 32))
    (path,) = write(made, tmp_path, [form])
    beside = path.with_name(path.name + METADATA)
    for name in ("S-2", "S-1_old"):
        renamed = tmp_path / name / f"{name}{''.join(path.suffixes[-2:]) if form.startswith('ome') else path.suffix}"
        renamed.parent.mkdir()
        (shutil.copytree if path.is_dir() else shutil.copy)(path, renamed)
        if beside.exists():
            shutil.copy(beside, renamed.with_name(renamed.name + METADATA))
        for source in (renamed, renamed.parent):
            if source.is_dir() and form in ("ome-tiff", "ome-zarr", "ome-zarr-0.4", "mask-png"):
                truth = read_truth(source)  # corrections are no folder of masks
                assert ("S-1" in truth, "S-2" in truth) == (True, False)
            else:
                corrections = Corrections(source)
                assert ("S-1" in corrections, "S-2" in corrections) == (True, False)


def test_all_exports_of_a_slide_in_one_folder(tmp_path):
    """Which of two files is right is not guessed; a picture of labels, and a map of probabilities, are no mask."""
    made = finished(grid_of(32, 32))
    write(made, tmp_path, ["png", "mask-png", "probability"])
    assert read_truth(tmp_path).files.keys() == {"S-1"}
    write(made, tmp_path, ["ome-tiff"])
    with pytest.raises(CohortError, match="are both of slide 'S-1': keep one of them"):
        read_truth(tmp_path)
    write(made, tmp_path, ["geojson", "regions"])
    with pytest.raises(CohortError, match="are both of slide 'S-1': keep one of them"):
        read_truth(tmp_path)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_folder_of_tables(tmp_path, kind):
    patches = grid_of(32, 32)
    made = finished(patches)
    write(made, tmp_path, [kind])
    other = tmp_path / "others.csv"
    other.write_text("slide_id,x,y,label\nS-2,5,6,tumour\nS-3,7,8,normal\n")
    (tmp_path / COHORT_SUMMARY).write_text("slide_id,model\nS-1,m\n")
    for marks in (read_truth(tmp_path), Corrections(tmp_path)):
        assert all(slide in marks for slide in ("S-1", "S-2", "S-3"))
        found = marks.of("S-1", patches, CLASSES)
        np.testing.assert_array_equal(found, made.to_labels()[patches.scored].astype(int) - 1)
    other.write_text("slide_id,x,y,label\nS-1,5,6,tumour\n")
    with pytest.raises(CohortError, match="are both of slide 'S-1': keep one of them"):
        read_truth(tmp_path)
