"""Numbers of a slide against counting pixels of its mask."""

import numpy as np
import pandas as pd
import pytest

from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.exporters.mask import Mask
from napari_distill2label.exporters.slide_summary import summarise, write_cohort_summary


@pytest.mark.parametrize(("stride", "origin"), [(10, (0, 0)), (7, (-3, 2)), (13, (0, 4))])
def test_areas_are_those_of_the_mask(new_map, stride, origin):
    grid = PatchGrid.over((95, 123), PatchSettings(size_px=10, stride_px=stride), origin=origin)
    grid = grid.with_tissue(np.random.default_rng(1).random(grid.shape) < 0.8)
    patch_map = new_map(
        grid, slide=SlideInfo("slide 1", None, (0.5, 0.25)), model={"network": "student", "weights_sha256": "ab"}
    )
    corrections = np.full(grid.shape, -1, np.int8)
    corrections[tuple(np.argwhere(grid.scored)[0])] = 1
    found = summarise(patch_map, 0.5, corrections)
    labels = patch_map.to_labels(0.5, corrections=corrections)
    mask = Mask(labels, grid).region(0, 0, 95, 123)
    for value, own in enumerate(found.classes, 1):
        assert own.n_patches == (labels == value).sum()
        assert own.area_mm2 == pytest.approx((mask == value).sum() * 0.125e-6)
        assert own.share == pytest.approx((mask == value).sum() / (mask > 0).sum())
    assert found.positive.area_mm2 == pytest.approx(found.classes[1].area_mm2)
    assert (found.n_scored, found.n_corrected, found.threshold) == (grid.scored.sum(), 1, 0.5)
    assert [own.slide_probability for own in found.classes] == [0.3, 0.7]


def test_points_and_slides_without_a_scale_have_no_area(new_map):
    points = PatchPoints.at([[20, 20], [40, 40]], (80, 80), PatchSettings(size_px=10))
    found = summarise(new_map(points, slide=SlideInfo("slide 1", None, (0.5, 0.5))), 0.5)
    assert [(own.n_patches, own.area_mm2, own.share) for own in found.classes] == [(1, None, None)] * 2
    found = summarise(new_map(PatchGrid.over((20, 20), PatchSettings(size_px=10))), 0.5)
    assert [(own.area_mm2, own.share) for own in found.classes] == [(None, 0.5)] * 2


def test_a_patch_with_two_findings_is_positive_once(new_map):
    grid = PatchGrid.over((20, 20), PatchSettings(size_px=10))
    patch_map = new_map(
        grid,
        np.array([[1, 2], [3, 3]]),
        ("normal", "a", "b"),
        multi_label=True,
        slide=SlideInfo("slide 1", None, (1, 1)),
    )
    found = summarise(patch_map, 0.05)
    assert [own.n_patches for own in found.classes] == [0, 4, 4]
    assert found.positive.n_patches == 4
    assert found.positive.share == 1


def test_the_table_of_a_cohort(new_map, tmp_path):
    grid = PatchGrid.over((20, 20), PatchSettings(size_px=10))
    slides = [
        summarise(new_map(grid, slide=SlideInfo(name, None, mpp)), 0.5) for name, mpp in (("=a", (1, 1)), ("b", None))
    ]
    table = pd.read_csv(write_cohort_summary(tmp_path / "s.csv", slides, {"date": "2025-01-02"}))
    assert table["slide_id"].tolist() == ["'=a", "b"]
    assert table["patches_tumour"].tolist() == [2, 2]
    assert table["positive_mm2"].tolist()[0] == 200e-6
    assert np.isnan(table["positive_mm2"].tolist()[1])
    assert set(table["date"]) == {"2025-01-02"}


def test_the_table_says_how_far_a_slide_is_from_the_training_slides(make_patch_map, tmp_path):
    maps = [make_patch_map((20, 20), size_px=10) for _ in range(2)]
    maps[0].finish([0.5, 0.5], unlikeness=1.5)
    maps[1].finish([0.5, 0.5])
    table = pd.read_csv(write_cohort_summary(tmp_path / "s.csv", [summarise(own, 0.5) for own in maps], {}))
    assert table["unlikeness"].tolist()[0] == 1.5
    assert np.isnan(table["unlikeness"].tolist()[1])
