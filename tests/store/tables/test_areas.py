"""Shares of patches that areas cover, against counting pixels."""

import numpy as np
import pytest
import shapely

from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.store.tables import areas
from napari_distill2label.store.tables.areas import covered_shares, find_overlaps

SHAPE = (90, 120)


def by_pixels(area, patches, fine=8):
    """The same by looking at `fine`² places of each pixel of a patch that lies in the slide."""
    shares = []
    for y, x in patches.corners:
        ys, xs = (
            np.arange(max(0, at) * fine, min(at + patches.side, size) * fine) / fine + 0.5 / fine
            for at, size in zip((y, x), patches.slide_shape, strict=True)
        )
        xx, yy = np.meshgrid(xs, ys)
        shares.append(shapely.intersects_xy(area, xx, yy).mean())
    return np.array(shares)


@pytest.mark.parametrize(("side", "stride", "origin"), [(10, 10, (0, 0)), (12, 5, (-6, 3)), (7, 20, (2, -3))])
def test_against_pixels(side, stride, origin):
    grid = PatchGrid.over(SHAPE, PatchSettings(size_px=side, stride_px=stride), origin=origin)
    grid = grid.with_tissue(np.random.default_rng(0).random(grid.shape) < 0.8)
    donut = shapely.Point(60.2, 41.7).buffer(33).difference(shapely.Point(57, 40).buffer(12))
    area = donut | shapely.box(100, 70, 200, 200) | shapely.Polygon([(0, 0), (25, 3), (4, 30)])
    found = covered_shares(area, grid)
    assert found.shape == (grid.scored.sum(),)
    np.testing.assert_allclose(found, by_pixels(area, grid), atol=0.015)
    assert {0.0, 1.0} < set(found.tolist())


@pytest.mark.parametrize("few", [0, 10, 10**6])
def test_outlines_of_any_length(monkeypatch, few):
    """Cut into parts or not, alone or beside others."""
    monkeypatch.setattr(areas, "FEW_POINTS", few)
    grid = PatchGrid.over(SHAPE, PatchSettings(size_px=5, stride_px=3))
    area = shapely.Point(60.2, 41.7).buffer(33, 50) - shapely.box(55, 0, 66, 90) | shapely.box(56.3, 2, 61, 88)
    np.testing.assert_allclose(covered_shares(area, grid), by_pixels(area, grid), atol=0.03)
    which = np.array([7, 400, 3])
    assert np.array_equal(covered_shares(area, grid, which), covered_shares(area, grid)[which])


def test_patches_at_any_place():
    points = PatchPoints.at(np.random.default_rng(1).random((200, 2)) * SHAPE, SHAPE, PatchSettings(size_px=9))
    area = shapely.Point(60, 45).buffer(30)
    np.testing.assert_allclose(covered_shares(area, points), by_pixels(area, points), atol=0.015)


def test_a_patch_over_the_border_counts_by_its_part_in_the_slide():
    grid = PatchGrid(slide_shape=(30, 30), side=20, stride=20, origin=(-10, -10), patch_px=20, rows=2, cols=2)
    assert covered_shares(shapely.box(-50, -50, 10, 50), grid).tolist() == [1, 0, 1, 0]


def test_nothing_and_everything():
    grid = PatchGrid.over(SHAPE, PatchSettings(size_px=10))
    assert not covered_shares(shapely.GeometryCollection(), grid).any()
    assert (covered_shares(shapely.box(-1, -1, 500, 500), grid) == 1).all()
    none = grid.with_tissue(np.zeros(grid.shape, bool))
    assert covered_shares(shapely.box(0, 0, 9, 9), none).shape == (0,)


def test_what_areas_meet():
    grid = PatchGrid.over((40, 40), PatchSettings(size_px=10))
    tissue = np.zeros((4, 4), bool)
    tissue[0, 0] = True
    outlines = [shapely.box(5, 5, 6, 6), shapely.box(25, 25, 26, 26), shapely.box(50, 50, 60, 60)]
    found = find_overlaps(outlines, grid.with_tissue(tissue))
    assert [(on.tolist(), here) for on, here in found] == [([0], True), ([], True), ([], False)]
    outlines = [shapely.box(10, 10, 20, 20), shapely.box(9, 9, 21, 11), shapely.box(40, 40, 50, 50)]
    assert [on.tolist() for on, _ in find_overlaps(outlines, grid)] == [[5], [0, 1, 2, 4, 5, 6], []]  # no corners
