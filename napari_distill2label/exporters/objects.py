"""Objects on a slide (areas, points, boxes of patches) for other programs: GeoJSON of QuPath, tables, places.

GeoJSON holds all of them. A table has a row for each point and each square box, with measurements and texts as columns
(`store.tables.mark_table` reads it back). What a format cannot hold is counted: `Left`. Objects are taken one by one,
so that memory does not grow with their number; label images are drawn by `drawn_labels`.
"""

import json
import math
import uuid
from array import array
from collections import Counter
from collections.abc import Container, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import shapely

from ..core.errors import SlideError
from ..core.events import Progress, Task
from ..core.geometry import PatchPoints
from ..slides.qupath import QuPathObject
from ..store.files.atomic import Writing, atomic_path
from ..store.tables.csv_table import escape_formula, format_table
from ..store.tables.mark_table import BOX, KNOWN, POINT, Row
from .geojson import NAMESPACE

T = TypeVar("T")
AT_ONCE = 1000  # objects between two events: .05 to .15 s
HALF = 0.5  # px: outlines count from the corner of the first pixel, points of tables from its centre
DRAWN = ("colour", "isLocked", "isMissing")  # how QuPath shows an object, not what is there
STRUCTURE = ("objectType", "object_type", "type", "classification", "childObjects", "children", "measurements",
             "metadata", "color", "colorRGB")  # fmt: skip


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


def pieces_of(objects: Iterable[T]) -> Iterator[list[T]]:
    """Yield objects in lists, between which there is an event."""
    objects = iter(objects)
    while piece := list(islice(objects, AT_ONCE)):
        yield piece


def write_objects(
    path: str | Path,
    objects: Iterable[QuPathObject],
    about: Mapping[str, Any],
    name: str = "",
    writing: Writing = atomic_path,
) -> Generator[Progress, None, Path]:
    """Write objects as a FeatureCollection; those without an id get one that is the same each time.

    A generator of its progress; closing it leaves no file.
    """
    done = 0
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'{{"type":"FeatureCollection","provenance":{_json(about)},"features":[')
        for piece in pieces_of(objects):
            for thing in piece:
                file.write(("\n" if done == 0 else ",\n") + _feature(thing, f"{name}/{done}"))
                done += 1
            yield Progress(Task.WRITE, done, None, name)
        file.write("\n]}\n")
    return Path(path)


def _feature(thing: QuPathObject, name: str) -> str:
    """Return an object as QuPath 0.4 and later write it, whichever version or program it is of."""
    said = {key: value for key, value in thing.properties.items() if key not in STRUCTURE}
    if thing.name:
        said["classification"] = _classification(thing)
    if (colour := thing.colour) is not None:
        said["color"] = list(colour)
    if measured := thing.measurements:
        said["measurements"] = measured
    identity, texts = _identity(thing, name), dict(_texts_of(thing))
    if thing.identity and identity != thing.identity:
        texts.setdefault("id", thing.identity)
    if texts:
        said["metadata"] = texts
    nucleus = "" if thing.nucleus is None else f',"nucleusGeometry":{_geometry(thing.nucleus)}'
    return (
        f'{{"type":"Feature","id":{_json(identity)},"geometry":{_geometry(thing.geometry)}{nucleus},'
        f'"properties":{_json({"objectType": thing.kind, **said})}}}'
    )


def _identity(thing: QuPathObject, name: str) -> str:
    """Return the id of an object if QuPath can read it, a UUID; else one that is the same each time."""
    with suppress(ValueError):
        return str(uuid.UUID(thing.identity))
    return str(uuid.uuid5(NAMESPACE, name))


def _classification(thing: QuPathObject) -> dict[str, Any]:
    said = thing.properties.get("classification")
    names = said.get("names") if isinstance(said, dict) else None
    named: dict[str, Any] = {"name": thing.name}
    if isinstance(names, list) and len(names) > 1:
        named = {"names": list(map(str, names))}
    return named if (colour := thing.class_colour) is None else {**named, "color": list(colour)}


def _texts_of(thing: QuPathObject) -> Iterator[tuple[str, str]]:
    metadata = thing.properties.get("metadata")
    for key, value in (metadata if isinstance(metadata, dict) else {}).items():
        yield str(key), value if isinstance(value, str) else _json(value)


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


def boxes_of(places: np.ndarray, side: int, centred: bool) -> Iterator[QuPathObject]:
    """Yield the patches with corners (n, 2) (y, x) as objects without a class: tiles, or detections about a point."""
    kind = "detection" if centred else "tile"
    for start in range(0, len(places), AT_ONCE):
        low = places[start : start + AT_ONCE, ::-1].astype(float)
        yield from (QuPathObject(kind, "", outline) for outline in shapely.box(*low.T, *(low + side).T).tolist())


def places_of(
    objects: Iterable[QuPathObject], slide_shape: tuple[int, int] | None, name: str = ""
) -> Generator[Progress, None, tuple[PatchPoints, Left]]:
    """Return the square boxes of objects as places of patches, in their order. A generator of its progress.

    `SlideError` if there is none, or they are of several sizes or not of whole pixels.
    """
    left, found, sides, about_points = Left(), array("d"), set[float](), False
    for piece in pieces_of(objects):
        for thing in piece:
            box = box_of(thing)
            if box is None or box[2] - box[0] != box[3] - box[1]:
                left.marks[kind_of(thing)] += 1
                continue
            found.extend((box[1], box[0]))
            sides.add(box[2] - box[0])
            about_points |= thing.kind == "detection"
            left.details["class"] += bool(thing.name)
            left.details["measurements"] += bool(thing.measurements)
        yield Progress(Task.READ_MARKS, len(found) // 2, None, name)
    if len(sides) != 1:
        said = f"patches of {len(sides)} sizes ({', '.join(f'{side:g}' for side in sorted(sides)[:4])} px)"
        raise SlideError(f"has {said if sides else 'no square box'}: places of patches are squares of one size")
    corners = np.frombuffer(found).reshape(-1, 2)
    if (corners != np.floor(corners)).any() or (side := sides.pop()) != int(side):
        raise SlideError("has boxes that do not lie on whole pixels, as patches do")
    side = int(side)
    shape = slide_shape or tuple((corners.max(axis=0) + side).astype(int).tolist())
    centres = corners.astype(np.int64) + side // 2
    return PatchPoints(shape, centres, side, side, boxes=not about_points), left


# ---- tables ---------------------------------------------------------------------------------------------------------


@dataclass
class TablePlan:
    """What a table of objects will hold, found by going through them once.

    Attributes
    ----------
    columns
        Of each, by name: the kind of its cells (`int`, `float`; `str` if some are texts). Cells may be missing.
    n_rows
        A row for each point and each box.
    """

    columns: dict[str, type]
    n_rows: int = 0
    left: Left = field(default_factory=Left)


def plan_table(slide_id: str, objects: Iterable[QuPathObject]) -> Generator[Progress, None, TablePlan]:
    """Return what the table of some objects will hold. A generator of its progress."""
    left, kinds, n = Left(), dict[str, type](), 0
    for piece in pieces_of(objects):
        for row in _rows_of(slide_id, piece, left):
            n += 1
            for name, value in row.items():
                if (known := kinds.get(name)) is not str and value is not None:
                    kind = type(value)
                    kinds[name] = kind if known is None or kind is known or kind is str else float
        yield Progress(Task.READ_MARKS, n, None, slide_id)
    first = [name for name in KNOWN if name in kinds] or ["slide_id", *POINT, "label"]
    return TablePlan({name: kinds.get(name, str) for name in (*first, *kinds)}, n, left)


def columns_of(slide_id: str, objects: Iterable[QuPathObject], plan: TablePlan) -> Iterator[dict[str, list[Any]]]:
    """Yield columns by name for some rows at a time, of the kinds that are planned; an empty cell is None."""
    for piece in pieces_of(objects):
        rows = list(_rows_of(slide_id, piece, Left()))
        yield {name: [_of_kind(row.get(name), kind) for row in rows] for name, kind in plan.columns.items()}


def _of_kind(value: Any, kind: type) -> Any:
    return f"{value:.15g}" if kind is str and value is not None and not isinstance(value, str) else value


def _rows_of(slide_id: str, objects: Iterable[QuPathObject], left: Left) -> Iterator[dict[str, Any]]:
    for thing in objects:
        details = _details_of(thing, left)
        for place in _places_in_rows(thing, left):
            yield {"slide_id": slide_id, **place, "label": thing.name, **details}


def _places_in_rows(thing: QuPathObject, left: Left) -> Iterator[dict[str, float]]:
    """Yield the columns of the places of an object. What is no point and no box is left out."""
    points = thing.points
    yield from ({"x": x - HALF, "y": y - HALF} for x, y in points.tolist())
    box = None if thing.is_ignored else box_of(thing)
    if box is not None:
        x0, y0, x1, y1 = box
        place = dict(zip(BOX, (x0, y0, x1 - x0, y1 - y0), strict=True))
        if thing.kind == "detection":  # a patch about a point
            place |= {"x": x0 + (x1 - x0) // 2, "y": y0 + (y1 - y0) // 2}
        yield place
    elif thing.area is not None or not len(points):
        left.marks[kind_of(thing)] += 1


def kind_of(thing: QuPathObject) -> str:
    """Return what an object is, as a plain name."""
    if thing.is_ignored:
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


def write_csv(
    path: str | Path,
    slide_id: str,
    pieces: Iterable[Mapping[str, Sequence[Any]]],
    plan: TablePlan,
    writing: Writing = atomic_path,
) -> Generator[Progress, None, Path]:
    """Write pieces of columns as CSV. Numbers have as many digits as they need; texts are harmless in a spreadsheet.

    A generator of its progress; closing it leaves no file.
    """
    done = 0
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(format_table([[*map(escape_formula, plan.columns)]]))
        for columns in pieces:
            rows = [list(map(_cell, row)) for row in zip(*columns.values(), strict=True)]
            file.write(format_table(rows))
            done += len(rows)
            yield Progress(Task.WRITE, done, plan.n_rows, slide_id)
    return Path(path)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return escape_formula(value) if isinstance(value, str) else f"{value:.15g}"


# ---- rows of tables -------------------------------------------------------------------------------------------------


def is_number(text: str) -> bool:
    """Whether the text of a cell is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def objects_of_rows(rows: Iterable[Row], texts: Container[str]) -> Iterator[QuPathObject]:
    """Yield an object for each row of a table that has a place: a point, or the box of a patch.

    Further columns are measurements; those of `texts` are texts of its metadata.
    """
    for row in rows:
        if row.point is None and row.box is None:
            continue
        said = {name: text for name, text in row.cells.items() if text and name not in KNOWN}
        measured = {name: float(text) for name, text in said.items() if name not in texts}
        described = {name: text for name, text in said.items() if name in texts}
        if row.class_name and row.label not in ("", row.class_name):
            described["label"] = row.label
        properties = {key: value for key, value in (("measurements", measured), ("metadata", described)) if value}
        if row.box is not None:
            kind, geometry = "tile" if row.point is None else "detection", shapely.box(*row.box)
        else:
            assert row.point is not None
            kind, geometry = "annotation", shapely.Point(row.point[1] + HALF, row.point[0] + HALF)
        yield QuPathObject(kind, row.class_name or row.label, geometry, properties=properties)
