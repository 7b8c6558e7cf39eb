"""Tissue drawn by hand: polygons in GeoJSON, as QuPath exports them, in level-0 pixels (x, y)."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import shape

from ..core.errors import CohortError
from ..core.geometry import PatchGrid
from .outlines import mask_of
from .tissue_mask import TissueMask


def tissue_from_geojson(path: str | Path, grid: PatchGrid) -> np.ndarray:
    """(rows, cols) bool: the cells whose patch's centre lies in (or on) a polygon.

    Polygons and MultiPolygons count, holes are holes; lines and points are passed over.

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
    """The union of all polygons of a GeoJSON file; errors as `tissue_from_geojson`."""
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
        polygons = [shapely.make_valid(shape(geometry)) for geometry in _polygons(data)]
    except FileNotFoundError:
        raise CohortError(f"{path}: no such file: check the path of the tissue regions") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, shapely.errors.ShapelyError) as error:
        raise CohortError(f"{path}: not a GeoJSON file of regions: {str(error).splitlines()[0]}") from None
    if not polygons:
        raise CohortError(f"{path}: no polygon in it: draw the tissue in QuPath and export it as GeoJSON")
    return shapely.union_all(polygons)


def _polygons(data: Any) -> Iterator[Mapping[str, Any]]:
    """Polygon geometries of a FeatureCollection, a list of Features (older QuPath), a Feature or a geometry."""
    if isinstance(data, list):
        for part in data:
            yield from _polygons(part)
    elif data.get("type") == "FeatureCollection":
        yield from _polygons(data["features"])
    elif data.get("type") == "Feature":
        yield from _polygons(data["geometry"] or [])
    elif data.get("type") == "GeometryCollection":
        yield from _polygons(data["geometries"])
    elif data.get("type") in ("Polygon", "MultiPolygon"):
        yield data
