"""Cells and pixels, whatever the grid."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from napari_distill2label.core.geometry import PatchGrid, PatchPoints, patches_from_json

SIDES = st.integers(1, 600)


@st.composite
def grids(draw):
    side, stride = draw(SIDES), draw(SIDES)
    rows, cols = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    origin = tuple(draw(st.integers(-(side // 2), 1000)) for _ in range(2))
    shape = (origin[0] + rows * stride + side, origin[1] + cols * stride + side)
    tissue = draw(st.none() | arrays.arrays(bool, (rows, cols)))
    return PatchGrid(shape, side, stride, origin, draw(st.integers(1, 4096)), 0.5, rows, cols, tissue)


@given(grids())
def test_a_cell_holds_the_centre_of_its_own_patch(grid):
    cells = np.argwhere(grid.scored)
    np.testing.assert_array_equal(grid.cells_at(grid.corners_of(cells) + (grid.side - 1) / 2), cells)


@given(grids(), st.lists(st.tuples(st.integers(-2000, 30_000), st.integers(-2000, 30_000)), min_size=1))
def test_a_pixel_lies_in_the_square_of_its_cell(grid, pixels):
    """Which reaches half a stride from the centre of the patch; a pixel belongs to one cell alone."""
    pixels = np.array(pixels)
    centres = grid.corners_of(grid.cells_at(pixels)) + (grid.side - 1) / 2
    assert (-grid.stride <= 2 * (pixels - centres)).all()
    assert (2 * (pixels - centres) < grid.stride).all()


@given(grids(), st.integers(1, 500))
def test_blocks_cover_every_scored_patch_once(grid, patches_per_block):
    scored, corners = np.zeros(grid.shape, int), []
    for block in grid.blocks(patches_per_block):
        scored[block.window] += block.scored
        corners.append(block.corners)
    np.testing.assert_array_equal(scored, grid.scored)
    found = np.concatenate(corners) if corners else np.zeros((0, 2), int)
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, grid.corners.tolist()))


@given(grids())
def test_a_grid_comes_back_from_json(grid):
    again = patches_from_json(json.loads(json.dumps(grid.to_json())), grid.tissue)
    assert again.to_json() == grid.to_json()
    np.testing.assert_array_equal(again.scored, grid.scored)


@given(SIDES, arrays.arrays(np.int64, st.tuples(st.integers(0, 30), st.just(2)), elements=st.integers(0, 2**40)))
def test_points_come_back_from_json(side, centres):
    points = PatchPoints((2**40, 2**40), centres, side, side)
    again = patches_from_json(json.loads(json.dumps(points.to_json())), points.centres)
    assert again.to_json() == points.to_json()
    np.testing.assert_array_equal(again.corners, points.corners)
