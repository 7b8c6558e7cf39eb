"""The truth as mask images, in the coding of the program's own masks."""

import numpy as np
import pytest
from PIL import Image

from napari_distill2label.core.bag import UNKNOWN
from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.workflow.truth import MaskTruth, read_truth

CLASSES = ("normal", "tumour", "stroma")
# 2 × 3 cells of 4 px on 8 × 12 px.
GRID = PatchGrid(slide_shape=(8, 12), side=4, stride=4, patch_px=4, rows=2, cols=3)


@pytest.fixture
def folder(tmp_path):
    mask = np.zeros((8, 12), np.uint8)
    mask[:4, :4] = 1
    mask[0, :4] = 2  # 4 px of tumour, 12 of normal
    mask[:4, 4:8] = 2
    mask[:4, 8:10], mask[:4, 10:12] = 3, 1  # as much of both: the finding wins
    mask[4:, 0] = 3  # the rest of this cell is unknown
    Image.fromarray(mask).save(tmp_path / "a.png")
    return tmp_path


def test_a_patch_has_the_class_of_most_of_its_known_pixels(folder):
    truth = read_truth(folder)
    assert "a" in truth
    assert "b" not in truth
    assert truth.of("a", GRID, CLASSES).tolist() == [0, 1, 2, 2, UNKNOWN, UNKNOWN]
    assert truth.of("b", GRID, CLASSES).tolist() == [UNKNOWN] * 6


def test_only_scored_patches_are_asked(folder):
    tissue = np.array([[False, True, False], [True, False, False]])
    assert read_truth(folder).of("a", GRID.with_tissue(tissue), CLASSES).tolist() == [1, 2]


def test_a_patch_at_a_point_has_the_class_of_its_pixel(folder):
    points = PatchPoints((8, 12), np.array([[0, 0], [2, 2], [5, 5]]), side=3, patch_px=3)
    assert read_truth(folder).of("a", points, CLASSES).tolist() == [1, 0, UNKNOWN]


def test_patches_over_the_border_count_their_pixels_inside(folder):
    grid = PatchGrid(slide_shape=(8, 12), side=4, stride=4, origin=(-2, -2), patch_px=4, rows=1, cols=1)
    assert read_truth(folder).of("a", grid, CLASSES).tolist() == [1]  # 2 px of tumour above 2 of normal


@pytest.mark.parametrize(("value", "size"), [(9, (8, 12)), (1, (8, 11))])
def test_a_mask_of_another_slide_or_coding_is_one_line(tmp_path, value, size):
    Image.fromarray(np.full(size, value, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(CohortError, match=r"a\.png"):
        read_truth(tmp_path).of("a", GRID, CLASSES)


def test_a_folder_without_masks_is_one_line(tmp_path):
    with pytest.raises(CohortError, match="no mask image"):
        read_truth(tmp_path)


def test_the_files_of_our_own_export_are_found(tmp_path):
    (tmp_path / "slide 1.ome.tif").touch()
    truth = read_truth(tmp_path)
    assert isinstance(truth, MaskTruth)
    assert "slide 1" in truth
