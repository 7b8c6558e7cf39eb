"""Regions of tissue: GeoJSON (as QuPath exports it) and polygons (x, y) to masks and back, in level-0 pixels.

Masks become polygons and back exactly: outlines run along the borders of the mask's squares.
"""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from scipy import ndimage

from ..core.errors import CohortError
from ..core.events import Progress, Task, drain
from ..core.geometry import PatchGrid
from .annotations import read_objects
from .label_mask import LabelMask, is_label_image, read_label_mask, scale_to
from .qupath import QuPathObject
from .tiled_labels import TILES_PER_EVENT
from .tissue_mask import TissueMask

MOST_CELLS = 2**26  # of a label image, where neighbouring rows and columns that are equal count once
ROWS_PER_EVENT = 64  # of cells of a label image


def polygons_from_mask(mask: TissueMask) -> list[shapely.Polygon]:
    """Return the tissue as polygons (x, y) with holes, in level-0 pixels: one for each connected component.

    Squares that touch only in a corner are not connected. `mask_from_polygons` restores the same mask.
    """
    outlines, _ = trace_components(mask.mask, mask.edges(0), mask.edges(1))
    return shapely.get_parts(outlines).tolist()  # type: ignore[no-any-return]  # shapely has no types


def trace_components(mask: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> tuple[list[shapely.Geometry], np.ndarray]:
    """Return the outline of every connected component of a mask, and the components.

    Parameters
    ----------
    mask
        (R, C) bool.
    rows, cols
        (R + 1,) and (C + 1,): borders of its rows and columns in level-0 pixels, ascending.

    Returns
    -------
    outlines
        Polygons or multi-polygons (x, y) with holes, valid. Squares that touch only in a corner are not connected. A
        component whose squares have no area has an empty outline.
    components
        (R, C) int32: 0 outside the mask, else 1 + the index of its outline.
    """
    components, count = ndimage.label(mask)
    rings: list[list[np.ndarray]] = [[] for _ in range(count)]
    for ring, component in _rings(mask, components):
        rings[component - 1].append(np.column_stack([cols[ring[:, 1]], rows[ring[:, 0]]]))
    # Rings come from the top down, and the outline of a component reaches higher than its holes.
    polygons = [shapely.Polygon(shell, holes) for shell, *holes in rings]
    return [_valid(polygon) for polygon in polygons], components


def _valid(polygon: shapely.Polygon) -> shapely.Geometry:
    """Return the area of a polygon. A ring that meets itself in a corner is invalid; `make_valid` has the same area.

    Squares at the border that are cut to nothing leave lines, which `make_valid` puts beside the polygons.
    """
    if polygon.is_valid:
        return polygon
    parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(polygon)))
    areas = [part for part in parts if part.area > 0]
    return areas[0] if len(areas) == 1 else shapely.MultiPolygon(areas)


def mask_from_polygons(regions: shapely.Geometry, like: TissueMask) -> TissueMask:
    """Return a mask shaped as `like`: a square is tissue if its centre lies in the regions (x, y), a valid geometry."""
    y, x = ((edges[1:] + edges[:-1]) / 2 for edges in (like.edges(0), like.edges(1)))
    return like.with_mask(inside_at(regions, y, x), source="regions")


def inside_at(regions: shapely.Geometry, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """(R, C) bool: which points of a lattice, ascending `ys` (R,) and `xs` (C,), lie in a valid geometry (x, y)."""
    points, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(regions)), return_index=True)
    (x0, y0), (x1, y1) = points[:-1].T, points[1:].T
    top, bottom = np.searchsorted(ys, np.minimum(y0, y1)), np.searchsorted(ys, np.maximum(y0, y1))
    sides = np.flatnonzero((ring[:-1] == ring[1:]) & (top < bottom))
    # Rows of points cross each side of a ring; right of the crossing, inside becomes outside.
    crossed = (bottom - top)[sides]
    side = np.repeat(sides, crossed)
    row = np.arange(crossed.sum()) - np.repeat(np.cumsum(crossed) - crossed - top[sides], crossed)
    crossing = x0[side] + (ys[row] - y0[side]) * (x1 - x0)[side] / (y1 - y0)[side]
    turns = np.zeros((len(ys), len(xs) + 1), np.int32)
    np.add.at(turns, (row, np.searchsorted(xs, crossing)), 1)
    inside: np.ndarray = np.cumsum(turns[:, :-1], axis=1) % 2 == 1
    return inside


def _rings(mask: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Yield each outline from the top down: closed corners (n, 2) (row, col), and the label of its component."""
    row, col, south, east, piece = _corners(mask, labels)
    across = _partners(np.lexsort((east, col, row)))
    along = _partners(np.lexsort((south, row, col)))
    seen = np.zeros(len(row), bool)
    for first in range(len(row)):
        if seen[first]:
            continue
        ring, corner = [], first
        while not seen[corner]:
            other = across[corner]
            seen[corner] = seen[other] = True
            ring += [corner, other]
            corner = along[other]
        ring.append(first)
        yield np.column_stack([row[ring], col[ring]]), int(piece[first])


def _corners(mask: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (5, n) int: row, col, whether the outline goes down (else up), right (else left), label; sorted by row.

    Four squares meet in a corner, and one of them differs from its two neighbours. Two squares that touch only in the
    corner have a corner each.
    """
    inside, label = np.pad(mask, 1), np.pad(labels, 1)
    found = []
    for south in (0, 1):
        for east in (0, 1):
            own, beside, below, opposite = (
                (slice(v, v + mask.shape[0] + 1), slice(h, h + mask.shape[1] + 1))
                for v, h in ((south, east), (south, 1 - east), (1 - south, east), (1 - south, 1 - east))
            )
            out = inside[own] & ~inside[beside] & ~inside[below]
            dent = ~inside[own] & inside[beside] & inside[below] & inside[opposite]
            row, col = np.nonzero(out | dent)
            piece = np.where(out, label[own], label[beside])[row, col]
            found.append(np.stack([row, col, np.full_like(row, south), np.full_like(row, east), piece]))
    corners = np.concatenate(found, axis=1)
    return corners[:, np.argsort(corners[0], kind="stable")]


def _partners(order: np.ndarray) -> list[int]:
    """Return the other end of the line at each corner. In `order` along lines, both ends follow each other."""
    partners = np.empty(len(order), np.int64)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return partners.tolist()


def tissue_from_geojson(path: str | Path, grid: PatchGrid) -> np.ndarray:
    """Return the cells (rows, cols) bool whose patch's centre lies in (or on) a polygon.

    Polygons and MultiPolygons with their holes count; lines and points are ignored. See `read_regions`.

    Raises
    ------
    CohortError
        The file is missing, is not GeoJSON, or has no polygon.
    """
    centres = grid.corners_of(np.indices(grid.shape).reshape(2, -1).T) + grid.side / 2
    return points_inside(read_regions(path, grid.slide_shape), centres).reshape(grid.shape)


def mask_from_geojson(path: str | Path, slide_shape: tuple[int, int], like: TissueMask | None = None) -> TissueMask:
    """Return the polygons of a file as a mask, shaped as `like` or at most 2048 px long; errors as above."""
    return mask_from_polygons(read_regions(path, slide_shape), like or TissueMask.blank(slide_shape))


def points_inside(regions: shapely.Geometry, points: np.ndarray) -> np.ndarray:
    """Return (n,) bool: whether points (n, 2) (y, x) lie in or on the regions. Whole numbers are pixel *corners*."""
    shapely.prepare(regions)
    inside: np.ndarray = shapely.intersects_xy(regions, points[:, 1], points[:, 0])
    return inside


def read_regions(path: str | Path, slide_shape: tuple[int, int]) -> shapely.Geometry:
    """Return all polygons of a file of annotations of any class, less those that QuPath ignores (class `Ignore*`).

    Of a label image all pixels that are not 0. It raises the errors of `tissue_from_geojson`.
    """
    if is_label_image(path):
        mask = read_label_mask(path)
        objects = areas_of(mask, path, scale_to(path, mask.pixels.shape, slide_shape))
    else:
        objects = read_objects(path)
    outlines = [(area, thing.is_ignored) for thing in objects if (area := thing.area) is not None]
    tissue = shapely.union_all([area for area, ignored in outlines if not ignored])
    if tissue.is_empty:
        raise CohortError(f"{path}: no polygon in it: draw the tissue in QuPath and export it as GeoJSON")
    left = shapely.difference(tissue, shapely.union_all([area for area, ignored in outlines if ignored]))
    if left.is_empty:
        raise CohortError(f"{path}: all of its polygons are covered by areas of a class `Ignore*`: nothing is left")
    return left


# ---- label images ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LabelAreas:
    """The areas of a label image: an annotation for every connected region of every value but 0.

    Attributes
    ----------
    rows, cols
        (R + 1,) and (C + 1,) int64: borders of its rows and columns of equal pixels, in its pixels.
    cells
        (R, C): the labels between them.
    """

    mask: LabelMask
    rows: np.ndarray
    cols: np.ndarray
    cells: np.ndarray

    def objects(self, scale: tuple[float, float] = (1.0, 1.0)) -> Iterator[QuPathObject]:
        """Yield them, value by value. The class of one is its value, or its name.

        `scale` is how many (y, x) px of the result a pixel is wide.
        """
        values = np.unique(self.cells)
        # Labels of instances are many and small: each is traced in its own box.
        numbers = np.searchsorted(values, self.cells).astype(np.int32)
        for number, box in enumerate(ndimage.find_objects(numbers + 1)):
            value = int(values[number])
            if value == 0 or box is None:
                continue
            rows, cols = (
                edges[part.start : part.stop + 1] * size
                for edges, part, size in zip((self.rows, self.cols), box, scale, strict=True)
            )
            outlines, _ = trace_components(numbers[box] == number, rows, cols)
            name, colour = self.mask.classes.get(value, str(value)), self.mask.colours.get(value)
            said = {} if colour is None else {"classification": {"name": name, "color": list(colour)}}
            yield from (QuPathObject("annotation", name, outline, properties=said) for outline in outlines)


def areas_of(mask: LabelMask, path: object, scale: tuple[float, float] = (1.0, 1.0)) -> list[QuPathObject]:
    """Return the areas of a label image, as `LabelAreas.objects` yields them; errors as of `find_areas`."""
    return list(drain(find_areas(mask, path)).objects(scale))


def find_areas(mask: LabelMask, path: object, name: str | None = None) -> Generator[Progress, None, LabelAreas]:
    """Return the areas of a label image. A generator of its progress, of the slide `name`. Nothing is lost.

    The image is read twice, tile by tile: to find where rows and columns differ, and what lies between.

    `CohortError` if it is too finely divided.
    """
    pixels = mask.pixels
    height, width = pixels.shape
    changes = np.zeros(height, bool), np.zeros(width, bool)  # whether a row, a column differs from the one before
    above = np.zeros(width, pixels.dtype)  # the last row of the tiles above
    beside = np.zeros(0, pixels.dtype)  # the last column of the tile to the left
    for number, (top, left, tile, _) in enumerate(pixels.tiles()):
        y, x = (slice(start, start + size) for start, size in zip((top, left), tile.shape, strict=True))
        if tile.strides != (0, 0):
            changes[0][top + 1 : y.stop] |= (tile[1:] != tile[:-1]).any(1)
            changes[1][left + 1 : x.stop] |= (tile[:, 1:] != tile[:, :-1]).any(0)
        if top:
            changes[0][top] |= bool((tile[0] != above[x]).any())
        if left:
            changes[1][left] |= bool((tile[:, 0] != beside).any())
        above[x], beside = tile[-1], tile[:, -1]
        if number % TILES_PER_EVENT == 0:
            yield Progress(Task.READ_MARKS, top, 2 * height, name)
    (rows, cols) = (np.concatenate([[0], np.flatnonzero(found), [len(found)]]) for found in changes)
    shape = len(rows) - 1, len(cols) - 1
    if math.prod(shape) > MOST_CELLS:
        raise CohortError(f"{path}: too finely divided to be areas ({shape[1]} × {shape[0]}): reduce it")
    cells = np.empty(shape, pixels.dtype)
    for start in range(0, shape[0], ROWS_PER_EVENT):
        part = slice(start, start + ROWS_PER_EVENT)
        cells[part] = pixels.at(rows[:-1][part], cols[:-1])
        yield Progress(Task.READ_MARKS, height + int(rows[start]), 2 * height, name)
    return LabelAreas(mask, rows, cols, cells)
