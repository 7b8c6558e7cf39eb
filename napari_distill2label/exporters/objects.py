"""Objects on a slide (areas, points, boxes of patches) for other programs: GeoJSON of QuPath, tables, label images.

GeoJSON holds all of them. A table has a row for each point and each square box, with measurements and texts as columns
(`store.tables.mark_table` reads it back); a label image has one value per pixel. Each function returns, beside what it
makes, what its format cannot hold: `Left`.
"""

import json
import math
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from ..core.errors import SlideError
from ..core.geometry import PatchPoints
from ..slides.qupath import QuPathObject
from ..slides.regions import inside_at
from ..store.files.atomic import Writing, atomic_path
from ..store.tables.csv_table import escape_formula, format_table
from ..store.tables.mark_table import BOX, KNOWN, POINT
from .geojson import NAMESPACE

HALF = 0.5  # px: outlines count from the corner of the first pixel, points of tables from its centre
DRAWN = ("color", "colour", "isLocked", "isMissing")  # how QuPath shows an object, not what is there
STRUCTURE = ("objectType", "object_type", "type", "classification", "childObjects", "children", "measurements",
             "metadata")  # fmt: skip
IGNORED = "Ignore*"


@dataclass
class Left:
    """What a format cannot hold, counted by what it is.

    Attributes
    ----------
    marks
        Marks that are missing in the result: areas, points, lines.
    details
        What is missing of the marks that are there: measurements, texts.
    """

    marks: Counter[str] = field(default_factory=Counter)
    details: Counter[str] = field(default_factory=Counter)


# ---- GeoJSON --------------------------------------------------------------------------------------------------------


def write_objects(
    path: str | Path,
    objects: Iterable[QuPathObject],
    about: Mapping[str, Any],
    name: str = "",
    writing: Writing = atomic_path,
) -> Path:
    """Write objects as a FeatureCollection; those without an id get one that is the same each time."""
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'{{"type":"FeatureCollection","provenance":{_json(about)},"features":[')
        for number, thing in enumerate(objects):
            file.write(("\n" if number == 0 else ",\n") + _feature(thing, f"{name}/{number}"))
        file.write("\n]}\n")
    return Path(path)


def _feature(thing: QuPathObject, name: str) -> str:
    said = {key: value for key, value in thing.properties.items() if key not in STRUCTURE}
    classification = thing.properties.get("classification")
    if thing.name:
        said["classification"] = classification if isinstance(classification, dict) else {"name": thing.name}
    if measured := thing.measurements:
        said["measurements"] = measured
    if metadata := thing.properties.get("metadata"):
        said["metadata"] = metadata
    nucleus = "" if thing.nucleus is None else f',"nucleusGeometry":{_geometry(thing.nucleus)}'
    identity = thing.identity or str(uuid.uuid5(NAMESPACE, name))
    return (
        f'{{"type":"Feature","id":{_json(identity)},"geometry":{_geometry(thing.geometry)}{nucleus},'
        f'"properties":{_json({"objectType": thing.kind, **said})}}}'
    )


def _geometry(geometry: shapely.Geometry | None) -> str:
    return "null" if geometry is None else str(shapely.to_geojson(geometry))


def _json(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


# ---- boxes ----------------------------------------------------------------------------------------------------------


def box_of(thing: QuPathObject) -> tuple[float, float, float, float] | None:
    """Return the box (x0, y0, x1, y1) that the outline of an object is; None if it is something else."""
    outline = thing.geometry
    if outline is None or outline.geom_type != "Polygon" or thing.nucleus is not None:
        return None
    x0, y0, x1, y1 = outline.bounds
    return (x0, y0, x1, y1) if outline.area == (x1 - x0) * (y1 - y0) > 0 else None


def boxes_of(places: np.ndarray, side: int, centred: bool) -> list[QuPathObject]:
    """Return the patches with corners (n, 2) (y, x) as objects without a class: tiles, or detections about a point."""
    low = places[:, ::-1].astype(float)
    kind = "detection" if centred else "tile"
    return [QuPathObject(kind, "", outline) for outline in shapely.box(*low.T, *(low + side).T).tolist()]


def places_of(objects: Sequence[QuPathObject], slide_shape: tuple[int, int] | None) -> tuple[PatchPoints, Left]:
    """Return the square boxes of objects as places of patches, in their order.

    `SlideError` if there is none, or they are of several sizes or not of whole pixels.
    """
    left, boxes = Left(), []
    for thing in objects:
        box = box_of(thing)
        if box is None or box[2] - box[0] != box[3] - box[1]:
            left.marks[_kind_of(thing)] += 1
            continue
        boxes.append(box)
        left.details["class"] += bool(thing.name)
        left.details["measurements"] += bool(thing.measurements)
    sides = {box[2] - box[0] for box in boxes}
    if len(sides) != 1:
        said = f"patches of {len(sides)} sizes ({', '.join(f'{side:g}' for side in sorted(sides)[:4])} px)"
        raise SlideError(f"has {said if sides else 'no square box'}: places of patches are squares of one size")
    corners = np.array(boxes)[:, 1::-1]
    if (corners != np.floor(corners)).any() or (side := sides.pop()) != int(side):
        raise SlideError("has boxes that do not lie on whole pixels, as patches do")
    side = int(side)
    shape = slide_shape or tuple((corners.max(axis=0) + side).astype(int).tolist())
    centres = corners.astype(np.int64) + side // 2
    return PatchPoints(shape, centres, side, side, boxes=all(thing.kind != "detection" for thing in objects)), left


# ---- tables ---------------------------------------------------------------------------------------------------------


def table_of(slide_id: str, objects: Iterable[QuPathObject]) -> tuple[dict[str, list[Any]], Left]:
    """Return columns by name, with a row for each point and each box; an empty cell is None."""
    left = Left()
    rows: list[dict[str, Any]] = []
    for thing in objects:
        details = _details_of(thing, left)
        for place in _places_in_rows(thing, left):
            rows.append({"slide_id": slide_id, **place, "label": thing.name, **details})
    there = dict.fromkeys(key for row in rows for key in row)
    first = [name for name in KNOWN if name in there] or ["slide_id", *POINT, "label"]
    names = [*first, *(name for name in there if name not in first)]
    return {name: [row.get(name) for row in rows] for name in names}, left


def _places_in_rows(thing: QuPathObject, left: Left) -> Iterator[dict[str, float]]:
    """Yield the columns of the places of an object. What is no point and no box is left out."""
    points = thing.points
    yield from ({"x": x - HALF, "y": y - HALF} for x, y in points.tolist())
    box = None if thing.name.casefold().startswith("ignore") else box_of(thing)
    if box is not None:
        x0, y0, x1, y1 = box
        place = dict(zip(BOX, (x0, y0, x1 - x0, y1 - y0), strict=True))
        if thing.kind == "detection":  # a patch about a point
            place |= {"x": x0 + (x1 - x0) // 2, "y": y0 + (y1 - y0) // 2}
        yield place
    elif thing.area is not None or not len(points):
        left.marks[_kind_of(thing)] += 1


def _kind_of(thing: QuPathObject) -> str:
    if thing.name.casefold().startswith("ignore"):
        return "ignored objects"
    if thing.area is not None:
        return "cells with a nucleus" if thing.nucleus is not None else "areas"
    if len(thing.points):
        return "points"
    return "lines" if thing.geometry is not None else "objects without a place"


def _details_of(thing: QuPathObject, left: Left) -> dict[str, Any]:
    """Return measurements and texts of an object by name. Others are left out."""
    said: dict[str, Any] = dict(thing.measurements)
    metadata = thing.properties.get("metadata")
    texts = metadata if isinstance(metadata, dict) else {}
    for name, value in (*thing.properties.items(), *texts.items()):
        if name in (*DRAWN, *STRUCTURE) or value in (None, ""):
            continue
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            said.setdefault(name, value)
        else:
            left.details[f"property {name!r}"] += 1
    for name in said.keys() & {*KNOWN}:
        left.details[f"property {name!r}"] += 1
        del said[name]
    return said


def format_columns(columns: Mapping[str, Sequence[Any]]) -> str:
    """Return columns as CSV. Numbers have as many digits as they need; texts are harmless in a spreadsheet."""
    rows = zip(*columns.values(), strict=True)
    return format_table([[*map(escape_formula, columns)], *(list(map(_cell, row)) for row in rows)])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return escape_formula(value) if isinstance(value, str) else f"{value:.15g}"


# ---- label images ---------------------------------------------------------------------------------------------------


class DrawnLabels:
    """Areas as pixels of the slide: a pixel has the value of the area that its centre lies in, of several the smallest.

    It is lazy: a region costs only what it holds.

    Parameters
    ----------
    objects
        Their areas count; a class that QuPath ignores is a class as any other.
    values
        Of the classes, from 1 on.
    shape
        (height, width) of the slide's level 0.

    Attributes
    ----------
    left
        What is no area, or lies outside of the slide, or under an area of another class.
    """

    def __init__(self, objects: Iterable[QuPathObject], values: Mapping[str, int], shape: tuple[int, int]) -> None:
        self.shape, self.left = shape, Left()
        self.dtype = np.dtype(np.min_scalar_type(max(values.values(), default=0)))
        whole = shapely.box(0, 0, shape[1], shape[0])
        found: list[tuple[float, int, shapely.Geometry]] = []
        for thing in objects:
            area = thing.area
            if area is None or thing.nucleus is not None or len(thing.points):
                self.left.marks[_kind_of(thing)] += 1
            elif not area.intersects(whole):
                self.left.marks["areas outside of the slide"] += 1
            self.left.details["measurements"] += bool(thing.measurements)
            if area is not None:
                found.append((area.area, values[thing.name], area))
        found.sort(key=lambda one: -one[0])
        self._areas = [area for *_, area in found]
        self._values = np.array([value for _, value, _ in found], np.int64)
        self._tree = shapely.STRtree(self._areas)
        self.left.marks["areas under an area of another class"] += self._hidden()

    def _hidden(self) -> int:
        """How many areas an area of another class covers in part."""
        lower, upper = self._tree.query(self._areas, predicate="intersects")
        other = (lower < upper) & (self._values[lower] != self._values[upper])
        lower, upper = lower[other], upper[other]
        areas = np.array(self._areas, object)
        shared = shapely.area(shapely.intersection(areas[lower], areas[upper])) > 0
        return len(np.unique(lower[shared]))

    def at(self, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
        """(len(ys), len(xs)) values of the pixels in ascending rows and columns; 0 outside of the slide."""
        out = np.zeros((len(ys), len(xs)), self.dtype)
        if not len(self._areas):
            return out
        rows, cols = ys + HALF, xs + HALF
        here = np.sort(self._tree.query(shapely.box(cols[0], rows[0], cols[-1], rows[-1])))
        for index in here.tolist():
            area = self._areas[index]
            x0, y0, x1, y1 = area.bounds
            (top, bottom), (first, last) = np.searchsorted(rows, (y0, y1)), np.searchsorted(cols, (x0, x1))
            part = out[top:bottom, first:last]
            if not part.size:
                continue
            if area.area == (x1 - x0) * (y1 - y0):
                part[...] = self._values[index]
            else:
                part[inside_at(area, rows[top:bottom], cols[first:last])] = self._values[index]
        out[(ys < 0) | (ys >= self.shape[0])] = 0
        out[:, (xs < 0) | (xs >= self.shape[1])] = 0
        return out


def values_of(objects: Iterable[QuPathObject]) -> dict[str, int]:
    """Return a value for each class of areas, from 1 on, in the order of their names."""
    names = sorted({thing.name for thing in objects if thing.area is not None})
    return {name: value for value, name in enumerate(names, 1)}


def objects_of_rows(rows: Iterable[Any]) -> Iterator[QuPathObject]:
    """Yield an object for each row of a table (`mark_table.Row`) that has a place: a point, or the box of a patch.

    Further columns of numbers are measurements, others texts of its metadata.
    """
    rows = [row for row in rows if row.point is not None or row.box is not None]
    names = [name for name in (rows[0].cells if rows else ()) if name not in KNOWN]
    numbers = {name for name in names if all(_is_number(row.cells[name]) for row in rows if row.cells[name])}
    for row in rows:
        said = {name: row.cells[name] for name in names if row.cells[name]}
        measured = {name: float(text) for name, text in said.items() if name in numbers}
        texts = {name: text for name, text in said.items() if name not in numbers}
        if row.class_name and row.label not in ("", row.class_name):
            texts["label"] = row.label
        properties = {key: value for key, value in (("measurements", measured), ("metadata", texts)) if value}
        if row.box is not None:
            kind, geometry = "tile" if row.point is None else "detection", shapely.box(*row.box)
        else:
            kind, geometry = "annotation", shapely.Point(row.point[1] + HALF, row.point[0] + HALF)
        yield QuPathObject(kind, row.class_name or row.label, geometry, properties=properties)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
