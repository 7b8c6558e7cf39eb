"""Tissue drawn by hand: areas in GeoJSON, as QuPath exports them, in level-0 pixels (x, y)."""

from pathlib import Path

import numpy as np
import shapely

from ..core.errors import CohortError
from ..core.geometry import PatchGrid
from .outlines import mask_of
from .qupath import read_objects
from .tissue_mask import TissueMask


def tissue_from_geojson(path: str | Path, grid: PatchGrid) -> np.ndarray:
    """(rows, cols) bool: the cells whose patch's centre lies in (or on) a polygon.

    Polygons and MultiPolygons count, holes are holes; lines and points are passed over. See `read_regions`.

    Raises
    ------
    CohortError
        The file is missing, is no GeoJSON, or holds no polygon.
    """
    centres = grid.corners_of(np.indices(grid.shape).reshape(2, -1).T) + grid.side / 2
    return inside(read_regions(path), centres).reshape(grid.shape)


def mask_from_geojson(path: str | Path, slide_shape: tuple[int, int], like: TissueMask | None = None) -> TissueMask:
    """The polygons of a file as a mask, at the place of `like` or at most 2048 px long; errors as above."""
    return mask_of(read_regions(path), like or TissueMask.blank(slide_shape))


def inside(regions: shapely.Geometry, points: np.ndarray) -> np.ndarray:
    """(n,) bool: which of the points (n, 2) (y, x), pixel *corners* being whole numbers, lie in or on the regions."""
    shapely.prepare(regions)
    return shapely.intersects_xy(regions, points[:, 1], points[:, 0])


def read_regions(path: str | Path) -> shapely.Geometry:
    """All polygons of a GeoJSON file, whatever their class, less those that QuPath ignores (class `Ignore*`).

    Errors as `tissue_from_geojson`.
    """
    outlines = [(area, thing.is_ignored) for thing in read_objects(path) if (area := thing.area) is not None]
    tissue = shapely.union_all([area for area, ignored in outlines if not ignored])
    if tissue.is_empty:
        raise CohortError(f"{path}: no polygon in it: draw the tissue in QuPath and export it as GeoJSON")
    left = shapely.difference(tissue, shapely.union_all([area for area, ignored in outlines if ignored]))
    if left.is_empty:
        raise CohortError(f"{path}: all of its polygons are covered by areas of a class `Ignore*`: nothing is left")
    return left
