"""A patch in its context, on a grid and at points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_distill2label.core.bag import Bag, bag_of_case
from napari_distill2label.core.context import smooth_bag, smooth_grid, smooth_points


def test_half_of_a_score_is_the_mean_of_the_nearest_patches():
    coordinates = np.stack(np.meshgrid(np.arange(3) * 27, np.arange(4) * 27, indexing="ij"), -1).reshape(-1, 2)
    scores = np.zeros((12, 2))
    scores[5, 1] = 8  # row 1, column 1
    shared = smooth_points(scores, coordinates, 4)[:, 1].reshape(3, 4)
    assert shared[1, 1] == 4
    assert shared[1, 2] == shared[0, 1] == shared[2, 1] == shared[1, 0] == 1  # an eighth each
    assert shared[0, 3] == 0
    assert (smooth_points(scores, coordinates, 0) == scores).all()
    assert (smooth_points(scores[:1], coordinates[:1], 4) == scores[:1]).all()
    assert smooth_points(scores[4:6], coordinates[4:6], 4)[:, 1].tolist() == [4, 4]  # each the other's only neighbour


def test_on_a_grid_the_context_is_the_eight_cells_around_at_the_distance():
    values = np.zeros((7, 7, 1))
    values[3, 3] = 16
    near, far = smooth_grid(values)[..., 0], smooth_grid(values, 2)[..., 0]
    assert near[3, 3] == far[3, 3] == 8
    assert near[2, 2] == near[3, 4] == 1
    assert far[1, 1] == 16 / 3 / 2  # in the corner three cells of the ring are there
    assert far[1, 3] == 16 / 5 / 2
    assert far[2, 2] == near[1, 1] == 0


def test_what_is_no_patch_takes_no_part_and_stays():
    values = np.ones((4, 5, 2))
    values[1, 1], values[2, 2] = np.nan, 9
    smoothed = smooth_grid(values)
    assert np.isnan(smoothed[1, 1]).all()
    assert np.isfinite(np.delete(smoothed.reshape(-1, 2), 6, 0)).all()
    assert smoothed[1, 2, 0] == (1 + (6 + 9) / 7) / 2
    alone = np.full((3, 3, 1), np.nan)
    alone[1, 1] = 5
    assert smooth_grid(alone)[1, 1] == 5


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(0, 2**31))
def test_context_never_leaves_the_range_of_the_values(rows, cols, distance, seed):
    values = np.random.default_rng(seed).normal(size=(rows, cols, 1))
    smoothed = smooth_grid(values, distance)
    assert smoothed.min() >= values.min() - 1e-12
    assert smoothed.max() <= values.max() + 1e-12


@pytest.mark.parametrize("count", [1, 8])
def test_many_points_are_smoothed_in_pieces_as_at_once(monkeypatch, count):
    rng = np.random.default_rng(0)
    values, coordinates = rng.normal(size=(500, 1)), rng.random((500, 2)) * 1000
    whole = smooth_points(values, coordinates, count)
    monkeypatch.setattr("napari_distill2label.core.context.AT_ONCE", 7)
    assert (smooth_points(values, coordinates, count) == whole).all()


def test_slides_of_a_case_are_in_no_context_of_each_other():
    """Their patches lie at the same places."""
    places = np.array([[0, 0], [0, 27]])
    slides = [Bag(name, np.zeros((2, 4), np.float32), places, (1,), case_id="P1") for name in "ab"]
    values = np.array([[1.0], [1.0], [9.0], [9.0]])
    assert (smooth_bag(values, bag_of_case(slides), 8) == values).all()
    assert (smooth_points(values, np.concatenate([places, places]), 8) != values).any()
