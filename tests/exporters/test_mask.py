"""Placement to the pixel, against the definition worked out pixel by pixel."""

import numpy as np
import pytest

from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.exporters import mask as mask_module
from napari_distill2label.exporters.mask import ArrayPixels, Mask, iter_labels, pixels_shown


def by_definition(labels, grid):
    """A pixel belongs to the S-square centred on its patch that holds its centre; of S > P, to the patch alone."""
    out = np.zeros(grid.slide_shape, np.uint8)
    side = min(grid.side, grid.stride)
    for row, col in np.ndindex(grid.shape):
        spans = []
        for index, origin, size in zip((row, col), grid.origin, grid.slide_shape, strict=True):
            centre = origin + index * grid.stride + grid.side / 2  # in edge coordinates: pixel p covers p … p + 1
            low, high = centre - side / 2, centre + side / 2
            spans.append([p for p in range(size) if low <= p + 0.5 < high])
        out[np.ix_(*spans)] = labels[row, col]
    return out


CASES = [
    # slide, patch, stride, origin
    ((54, 81), 27, 27, (0, 0)),  # S = P, whole
    ((60, 70), 27, 27, (0, 0)),  # S = P, cells over the border
    ((60, 70), 10, 10, (-4, 3)),
    ((60, 70), 12, 8, (0, 0)),  # S < P, P − S even
    ((60, 70), 12, 7, (0, 0)),  # P − S odd
    ((61, 73), 11, 4, (5, -5)),
    ((61, 73), 9, 1, (2, 3)),  # a dense map
    ((60, 70), 10, 16, (0, 0)),  # S > P: gaps
    ((61, 73), 10, 17, (-5, 9)),
    ((61, 73), 7, 8, (3, 0)),
]


@pytest.mark.parametrize(("shape", "side", "stride", "origin"), CASES)
def test_cells_lie_on_their_patches(shape, side, stride, origin):
    grid = PatchGrid.over(shape, PatchSettings(size_px=side, stride_px=stride), origin=origin)
    labels = np.random.default_rng(0).integers(0, 4, grid.shape).astype(np.uint8)
    expected = by_definition(labels, grid)
    mask = Mask(labels, grid)
    np.testing.assert_array_equal(mask.region(0, 0, *shape), expected)
    np.testing.assert_array_equal(mask.region(13, 22, 30, 41), expected[13:43, 22:63])
    if stride <= side:  # the same cell as the geometry every room uses
        pixels = np.argwhere(np.ones(shape, bool))
        cells = grid.cells_at(pixels)
        inside = ((cells >= 0) & (cells < grid.shape)).all(axis=1)
        np.testing.assert_array_equal(expected[tuple(pixels[inside].T)], labels[tuple(cells[inside].T)])
        assert not expected[tuple(pixels[~inside].T)].any()


def test_cells_are_clipped_to_the_slide():
    grid = PatchGrid.over((55, 55), PatchSettings(size_px=20))
    assert grid.shape == (3, 3)
    region = Mask(np.full(grid.shape, 2, np.uint8), grid).region(-5, -5, 70, 70)
    assert (region[5:60, 5:60] == 2).all()
    assert region.sum() == 2 * 55 * 55


def test_by_hand():
    grid = PatchGrid.over((4, 9), PatchSettings(size_px=4, stride_px=3))
    assert grid.shape == (1, 3)
    row = Mask(np.array([[1, 2, 3]], np.uint8), grid).region(1, 0, 1, 9)[0]
    assert row.tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_points_take_the_nearest_centre_inside_their_boxes():
    shape, side = (60, 70), 9
    rng = np.random.default_rng(0)
    centres = np.concatenate([rng.random((40, 2)) * (59, 69), [[0, 0], [59, 69], [0, 69], [30, 30], [30, 30]]])
    points = PatchPoints.at(centres, shape, PatchSettings(size_px=side))
    labels = rng.integers(0, 4, points.shape).astype(np.uint8)
    labels[-2:] = 2, 3  # two at one place: the first
    expected = np.zeros(shape, np.uint8)
    nearest = np.full(shape, np.inf)
    for (cy, cx), (top, left), label in zip(points.centres, points.corners, labels, strict=True):
        if label:
            ys, xs = np.mgrid[max(top, 0) : min(top + side, shape[0]), max(left, 0) : min(left + side, shape[1])]
            distance = (ys - cy) ** 2 + (xs - cx) ** 2
            closer = distance < nearest[ys, xs]
            nearest[ys[closer], xs[closer]] = distance[closer]
            expected[ys[closer], xs[closer]] = label
    mask = Mask(labels, points)
    np.testing.assert_array_equal(mask.region(0, 0, *shape), expected)
    np.testing.assert_array_equal(mask.region(17, 5, 20, 31), expected[17:37, 5:36])
    ys, xs = np.arange(2, 60, 5), np.arange(1, 70, 4)
    np.testing.assert_array_equal(mask.at(ys, xs), expected[np.ix_(ys, xs)])
    assert mask.region(30, 30, 1, 1) == 2


def test_no_point_at_all():
    points = PatchPoints.at(np.zeros((0, 2)), (20, 20), PatchSettings(size_px=9))
    assert not Mask(np.zeros(0, np.uint8), points).region(0, 0, 20, 20).any()


@pytest.mark.parametrize("at_once", [1, 100, 10**6])
def test_labels_in_parts(monkeypatch, at_once):
    monkeypatch.setattr(mask_module, "PX_AT_ONCE", at_once)
    labels = np.random.default_rng(0).integers(0, 9, (40, 50)).astype(np.uint8)
    ys, xs = pixels_shown(0, 16, 4, 40), pixels_shown(0, 16, 4, 50)
    events = []
    work = iter_labels(ArrayPixels(labels), ys, xs)
    np.testing.assert_array_equal(drain(work, events.append), ArrayPixels(labels).at(ys, xs))
    assert (len(events) == 0) == (at_once == 10**6)
