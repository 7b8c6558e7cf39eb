"""A patch in its context: half its own score, half the mean score of the patches around it.

Tissue is continuous: a patch's neighbours usually have its class, and their errors are nearly independent. The patches
around are the eight neighbours on a grid, and the nearest ones of patches at given points. Counting patches instead of
pixels fits any scale.
"""

import numpy as np

from .bag import Bag

AT_ONCE = 100_000  # points whose neighbours are gathered at a time
RING = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))


def smooth_points(values: np.ndarray, coordinates: np.ndarray, count: int) -> np.ndarray:
    """Return half of `values` (K, C) and half of their mean over the `count` nearest of `coordinates` (K, 2).

    Of fewer patches, over all others; a single patch keeps its values. float64.
    """
    values = np.asarray(values, np.float64)
    count = min(count, len(values) - 1)
    if count <= 0:
        return values
    from scipy.spatial import KDTree

    tree, smoothed = KDTree(coordinates), np.empty_like(values)
    for start in range(0, len(values), AT_ONCE):
        here = slice(start, start + AT_ONCE)
        _, nearest = tree.query(coordinates[here], count + 1)
        smoothed[here] = (values[here] + values[nearest[:, 1:]].mean(1)) / 2
    return smoothed


def smooth_bag(values: np.ndarray, bag: Bag, count: int) -> np.ndarray:
    """Return `smooth_points` of values (K, C) of the patches of a bag, each of its slides by itself."""
    return np.concatenate([smooth_points(values[own], bag.coordinates[own], count) for own in bag.slices])


def smooth_grid(values: np.ndarray, distance: int = 1) -> np.ndarray:
    """Return half of `values` (rows, cols, C) and half of their mean over the eight cells `distance` cells away.

    NaN is no patch: it takes no part, and stays. A patch with none around it keeps its values. float64.
    """
    values = np.asarray(values, np.float64)
    rows, cols = values.shape[:2]
    there = np.isfinite(values[..., 0])
    filled = np.where(there[..., None], values, 0.0)
    total, number = np.zeros_like(filled), np.zeros((rows, cols, 1))
    for y, x in RING:
        (to_y, from_y), (to_x, from_x) = _shifted(rows, y * distance), _shifted(cols, x * distance)
        total[to_y, to_x] += filled[from_y, from_x]
        number[to_y, to_x] += there[from_y, from_x, None]
    return np.where(number > 0, (values + total / np.maximum(number, 1)) / 2, values)


def _shifted(size: int, by: int) -> tuple[slice, slice]:
    """Return the cells of one axis that have a cell `by` cells on, and those cells."""
    by = max(-size, min(size, by))
    return slice(max(0, -by), size - max(0, by)), slice(max(0, by), size + min(0, by))
