"""Points on slides, from CSV or GeoJSON: centres to cut patches at, a user's corrections, and the truth.

All are kept as (y, x) in 0-based level-0 pixels, by slide. The truth is read here for `evaluate` alone.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.bag import UNKNOWN
from ..core.errors import CohortError
from ..core.geometry import PatchGrid, PatchPoints
from .tables import read_table

CENTRE_TOLERANCE = 1.0  # px between a patch's centre and the point that is meant by it


@dataclass(frozen=True, eq=False)
class Points:
    """Points of one slide: (n, 2) float (y, x), and a label each ('' where none is given)."""

    coordinates: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.coordinates)


def read_points(path: str | os.PathLike[str], labelled: bool = False) -> dict[str, Points]:
    """Points by slide id, from CSV (`slide_id,x,y[,label]`) or from a QuPath GeoJSON (slide id = the file's stem).

    GeoJSON features may be points or outlines, whose centroid is taken; the label is their classification's name.
    A folder of GeoJSON files holds one per slide. `CohortError` says what does not fit.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.geojson"))
        if not files:
            raise CohortError(f"{path}: holds no .geojson file")
        return {slide_id: points for file in files for slide_id, points in _read_geojson(file).items()}
    if path.suffix.lower() in (".geojson", ".json"):
        return _read_geojson(path)
    rows = read_table(path, ("slide_id", "x", "y", "label") if labelled else ("slide_id", "x", "y"))
    by_slide: dict[str, list[tuple[float, float, str]]] = {}
    for row in rows:
        try:
            y, x = float(row["y"]), float(row["x"])
        except ValueError:
            raise CohortError(
                f"{path}: {row['x']!r}, {row['y']!r} is no position (slide {row['slide_id']!r})"
            ) from None
        if not np.isfinite([y, x]).all():
            raise CohortError(f"{path}: slide {row['slide_id']!r} has a point that is not a finite number")
        by_slide.setdefault(row["slide_id"], []).append((y, x, row.get("label", "")))
    return {slide_id: _points(items) for slide_id, items in by_slide.items()}


def _points(items: list[tuple[float, float, str]]) -> Points:
    coordinates = np.array([item[:2] for item in items], float).reshape(-1, 2)
    return Points(coordinates, np.array([item[2] for item in items], dtype=object))


def _read_geojson(path: Path) -> dict[str, Points]:
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

    try:
        data = json.loads(path.read_text("utf-8-sig"))
        features = data["features"] if isinstance(data, dict) else data
        items = []
        for feature in features:
            centroid = shape(feature["geometry"]).centroid
            label = ((feature.get("properties") or {}).get("classification") or {}).get("name", "")
            # QuPath's coordinates start at the corner of the first pixel, ours at its centre.
            items.append((centroid.y - 0.5, centroid.x - 0.5, str(label)))
    except FileNotFoundError:
        raise CohortError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, ShapelyError) as error:
        raise CohortError(f"{path}: is no GeoJSON of QuPath objects ({error})") from None
    if not items:
        raise CohortError(f"{path}: holds no object")
    return {path.stem.removesuffix(".ome"): _points(items)}


def class_of_patches(
    points: Points, patches: PatchGrid | PatchPoints, classes: tuple[str, ...], corrections: bool
) -> np.ndarray:
    """(n,) int64: the class that labelled points give to the scored patches, `UNKNOWN` where they give none.

    Grid: a patch is positive if a point of a positive class falls inside its box (of several such classes, the one
    with most points), negative if only others do. PatchPoints: the nearest point within 1 px of the centre.
    `corrections` are said of single patches: a point speaks of the one patch whose cell it lies in, not of all that
    overlap there, and a label that is no class raises; elsewhere such a label counts as class 0.
    """
    unknown = sorted({label for label in points.labels if label not in classes})
    if unknown and corrections:
        raise CohortError(f"unknown label {unknown[0]!r}: the classes are {', '.join(classes)}")
    index = np.array([classes.index(label) if label in classes else 0 for label in points.labels], np.int64)
    if isinstance(patches, PatchPoints):
        return _nearest(points.coordinates, index, patches)
    return _inside_boxes(points.coordinates, index, patches, len(classes), own_cell=corrections)


def _nearest(coordinates: np.ndarray, index: np.ndarray, patches: PatchPoints) -> np.ndarray:
    from scipy.spatial import cKDTree

    result = np.full(len(patches.centres), UNKNOWN, np.int64)
    if len(coordinates):
        distance, nearest = cKDTree(coordinates).query(patches.centres)
        near = distance <= CENTRE_TOLERANCE
        result[near] = index[nearest[near]]
    return result


def _inside_boxes(
    coordinates: np.ndarray, index: np.ndarray, grid: PatchGrid, n_classes: int, own_cell: bool
) -> np.ndarray:
    """Every point votes in the boxes (side × side, half-open) that hold it; they overlap where stride < side.

    With `own_cell` only in that whose cell, the stride × stride square about its centre, holds it.
    """
    votes = np.zeros((*grid.shape, n_classes), np.int64)
    offset = coordinates - grid.origin
    reach = -(-grid.side // grid.stride)  # how many boxes can hold one point, along an axis
    last = np.floor(offset / grid.stride).astype(np.int64)
    own = np.floor((offset - (grid.side - grid.stride) / 2) / grid.stride).astype(np.int64)
    for back in [None] if own_cell else np.ndindex(reach, reach):
        cell = own if back is None else last - back
        inside = ((offset - cell * grid.stride < grid.side) & (cell >= 0) & (cell < grid.shape)).all(axis=1)
        np.add.at(votes, (*cell[inside].T, index[inside]), 1)
    votes = votes[grid.scored]
    positive = votes[:, 1:]
    result = np.where(positive.any(axis=1), positive.argmax(axis=1) + 1, 0)
    return np.where(votes.any(axis=1), result, UNKNOWN)
