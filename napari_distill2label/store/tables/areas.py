"""The share of each patch that areas cover: outlines drawn in QuPath against the boxes of patches."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import shapely

from ...core.geometry import Patches

AT_ONCE = 32  # patches from which on it pays to cut an outline into parts
FEW_POINTS = 1000  # of an outline that is not worth cutting


def covered_shares(area: shapely.Geometry, patches: Patches, which: np.ndarray | None = None) -> np.ndarray:
    """(n,) float: the share of each scored patch (or of those at the indices `which`) in `area`, holes respected.

    `area` is a valid geometry in (x, y), pixel corners being whole numbers. Of a patch that reaches over the border
    the part within the slide counts, as its reflection shows nothing else.
    """
    corners = (patches.corners if which is None else patches.corners[which]).astype(float)
    low, high = np.maximum(corners, 0), np.minimum(corners + patches.side, patches.slide_shape)
    boxes = np.concatenate([low, high], axis=1)  # y0, x0, y1, x1
    sizes = (high - low).clip(0).prod(axis=1)
    covered = np.zeros(len(boxes))
    if len(boxes) and not area.is_empty:
        parts = shapely.get_parts(area)  # of a valid geometry they do not overlap
        small = shapely.get_num_coordinates(parts) <= FEW_POINTS
        _cover_each(parts[small], boxes, covered)
        for part in parts[~small]:
            _cover(part, boxes, np.arange(len(boxes)), covered)
    shares: np.ndarray = np.divide(covered, sizes, out=np.zeros(len(boxes)), where=sizes > 0)
    return shares


class Overlap(NamedTuple):
    """What an area lies on: the scored patches it shares pixels with (indices, ascending), and whether on the slide."""

    patches: np.ndarray
    in_slide: bool


def find_overlaps(areas: Sequence[shapely.Geometry], patches: Patches) -> list[Overlap]:
    """Return what each area lies on. A patch that an area touches along a side or in a corner is not among them."""
    corners = patches.corners[:, ::-1].astype(float)
    boxes = shapely.box(*corners.T, *(corners + patches.side).T)
    area, patch = shapely.STRtree(boxes).query(areas, predicate="intersects")
    shared = ~shapely.touches(boxes[patch], np.asarray(areas, object)[area])
    order = np.lexsort((patch[shared], area[shared]))
    area, patch = area[shared][order], patch[shared][order]
    parts = np.split(patch, np.searchsorted(area, np.arange(1, len(areas))))
    in_slide = shapely.intersects(areas, shapely.box(0, 0, patches.slide_shape[1], patches.slide_shape[0]))
    return [Overlap(on, bool(here)) for on, here in zip(parts, in_slide, strict=True)]


def find_boxes(areas: Sequence[shapely.Geometry], patches: Patches) -> np.ndarray:
    """(n,) int: the scored patch whose box an area is exactly; -1 for an area that is no patch's box."""
    outlines = np.asarray(areas, object)
    bounds = shapely.bounds(outlines)
    corners, order = np.unique(patches.corners[:, ::-1].astype(float), axis=0, return_index=True)
    found = np.full(len(areas), -1)
    square = (bounds[:, 2:] - bounds[:, :2] == patches.side).all(axis=1) & (shapely.area(outlines) == patches.side**2)
    both, which = np.unique(np.concatenate([corners, bounds[square, :2]]), axis=0, return_inverse=True)
    patch = np.full(len(both), -1)
    patch[which[: len(corners)]] = order
    found[square] = patch[which[len(corners) :]]
    return found


def _cover_each(parts: np.ndarray, boxes: np.ndarray, covered: np.ndarray) -> None:
    """Add the px of each box that simple outlines cover to `covered`."""
    shapes = shapely.box(boxes[:, 1], boxes[:, 0], boxes[:, 3], boxes[:, 2])
    box, part = shapely.STRtree(parts).query(shapes, predicate="intersects")
    np.add.at(covered, box, shapely.area(shapely.intersection(shapes[box], parts[part])))


def _cover(area: shapely.Geometry, boxes: np.ndarray, which: np.ndarray, covered: np.ndarray) -> None:
    """Add the covered px of boxes `which` to `covered`.

    Boxes wholly inside need no cutting. The others are halved, and the outline with them, so that an outline of
    100,000 points is not cut by every one of 100,000 boxes.
    """
    y0, x0, y1, x1 = boxes[which].T
    shapes = shapely.box(x0, y0, x1, y1)
    shapely.prepare(area)
    inside = shapely.contains_properly(area, shapes)
    covered[which[inside]] += ((y1 - y0) * (x1 - x0))[inside]
    rest = ~inside & shapely.intersects(area, shapes)
    if not rest.any():
        return
    which, shapes = which[rest], shapes[rest]
    if len(which) <= AT_ONCE:
        covered[which] += shapely.area(shapely.intersection(area, shapes))
        return
    extent = boxes[which, 2:].max(0) - boxes[which, :2].min(0)
    axis = int(extent[1] > extent[0])
    order = which[np.argsort(boxes[which, axis], kind="stable")]
    for half in (order[: len(order) // 2], order[len(order) // 2 :]):
        (top, left), (bottom, right) = boxes[half, :2].min(0), boxes[half, 2:].max(0)
        _cover(shapely.intersection(area, shapely.box(left, top, right, bottom)), boxes, half, covered)
