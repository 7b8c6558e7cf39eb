"""Annotations of ASAP and of Aperio's ImageScope: XML files of outlines and points, as objects of QuPath.

Coordinates are (x, y) in level-0 pixels, whole numbers being the corners of pixels, as in QuPath. ASAP's objects have
the class of their group (`PartOfGroup`), ImageScope's that of their layer (its `Name`), else their own text.

A file is read piece by piece and no tree is built of it: memory does not grow with the number of objects. A layer of
ImageScope says anywhere what is left out of all its areas, so its file is read twice.
"""

import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from xml.parsers import expat

import numpy as np
import shapely

from .backends.xml import DEEPEST, BadXmlError
from .qupath import QuPathObject

ASAP, IMAGESCOPE = "ASAP_Annotations", "Annotations"  # the root of either file
NO_GROUP = "none"
EXCLUSION = "exclusion"  # ASAP's usual group for what is left out of an area: what is true there is not said
ELLIPSE_POINTS = 64
# `Type` of a region of ImageScope. Others are arrows, rulers and text.
FREEHAND, RECTANGLE, ELLIPSE, POINTER = "0", "1", "2", "3"
PIECE = 2**20  # bytes that are parsed at once
LONGEST = 2**24  # bytes of a tag
MOST_POINTS = 5_000_000  # of an outline

Attributes = Mapping[str, str]


@dataclass
class _Drawn:
    """An object of a file: its attributes, those of its layer and their number, and its points."""

    number: int
    attributes: Attributes
    layer: Attributes = field(default_factory=dict)
    layer_number: int = 0
    points: "array[float]" = field(default_factory=lambda: array("d"))  # x, y, x, y …
    order: "array[float]" = field(default_factory=lambda: array("d"))

    def add(self, x: str | None, y: str | None, order: str | None = None) -> None:
        if len(self.order) == MOST_POINTS:
            raise ValueError(f"object {self.number}: it has more than {MOST_POINTS} points")
        self.points.extend((_number(x, self.number), _number(y, self.number)))
        self.order.append(len(self.order) if order is None else _number(order, self.number))

    @property
    def at(self) -> np.ndarray:
        """(n, 2) (x, y) in their order."""
        points = np.frombuffer(self.points).reshape(-1, 2) if self.points else np.empty((0, 2))
        return points[np.argsort(np.frombuffer(self.order), kind="stable")] if self.points else points


def iter_annotations(path: Path) -> Iterator[QuPathObject]:
    """Yield the objects of an XML file. `ValueError` for XML of another kind, or a coordinate that is no number."""
    root = _root_of(path)
    if root == ASAP:
        yield from map(_of_asap, _drawn(path, "Annotation", "", "Coordinate"))
    elif root == IMAGESCOPE:
        yield from _imagescope(path)
    else:
        raise ValueError(f"its root is <{root[:40]}>, neither ASAP's <{ASAP}> nor ImageScope's <{IMAGESCOPE}>")


# ---- parsing --------------------------------------------------------------------------------------------------------


def _root_of(path: Path) -> str:
    """Return the name of the first element."""
    found: list[str] = []
    for _ in _parse(path, lambda name, _: found.append(name), lambda _: None):
        if found:
            break
    return found[0]


def _drawn(path: Path, element: str, layer: str, point: str) -> Iterator[_Drawn]:
    """Yield the objects of a file: elements of a name, with the points and the layer (an element around them) of each.

    A `layer` of '': there are none.
    """
    finished: list[_Drawn] = []
    now: list[_Drawn] = []
    layers: list[Attributes] = [{}]
    number = 0

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal number
        if name == element:
            number += 1
            now[:] = [_Drawn(number, attributes, layers[-1], len(layers))]
        elif name == point and now:
            now[0].add(attributes.get("X"), attributes.get("Y"), attributes.get("Order"))
        elif layer and name == layer:
            layers.append(attributes)

    def end(name: str) -> None:
        if name == element:
            finished.extend(now)
            now.clear()

    for _ in _parse(path, begin, end):
        yield from finished
        finished.clear()


def _parse(path: Path, begin: Callable[[str, dict[str, str]], object], end: Callable[[str], object]) -> Iterator[None]:
    """Parse a file piece by piece, and yield after each. `ValueError` for what no program for slides writes."""
    depth = 0

    def deeper(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise BadXmlError(f"its XML is nested more than {DEEPEST} levels deep")
        begin(name, attributes)

    def higher(name: str) -> None:
        nonlocal depth
        depth -= 1
        end(name)

    def entity(*_: object) -> None:
        raise BadXmlError("its XML defines entities of its own")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.EntityDeclHandler = deeper, higher, entity
    try:
        with path.open("rb") as file:
            for piece in _pieces(file):
                parser.Parse(piece, not piece)
                if file.tell() - parser.CurrentByteIndex > LONGEST + PIECE:
                    raise BadXmlError(f"a tag in it is longer than {LONGEST >> 20} MB")
                yield
    except expat.ExpatError as error:
        raise ValueError(f"no XML ({error})") from None


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what a file holds, and nothing at its end."""
    while piece := file.read(PIECE):
        yield piece
    yield b""


# ---- objects --------------------------------------------------------------------------------------------------------


def _of_asap(drawn: _Drawn) -> QuPathObject:
    name = (drawn.attributes.get("PartOfGroup") or "").strip()
    name = "" if name.lower() == NO_GROUP else "Ignore*" if name.lower() == EXCLUSION else name
    kind, points = (drawn.attributes.get("Type") or "").lower(), drawn.at
    if kind in ("dot", "pointset"):
        return QuPathObject("annotation", name, shapely.MultiPoint(points) if len(points) else None)
    is_area = kind in ("polygon", "spline", "rectangle")
    return QuPathObject("annotation", name, _outline(points) if is_area else None)  # else a measurement


def _imagescope(path: Path) -> Iterator[QuPathObject]:
    holes: dict[int, list[shapely.Geometry]] = {}
    for drawn in _drawn(path, "Region", "Annotation", "Vertex"):
        if drawn.attributes.get("NegativeROA") == "1" and (hole := _area_of(drawn)) is not None:
            holes.setdefault(drawn.layer_number, []).append(hole)
    left_out = {layer: _LeftOut(outlines) for layer, outlines in holes.items()}
    for drawn in _drawn(path, "Region", "Annotation", "Vertex"):
        name = (drawn.layer.get("Name") or "").strip() or (drawn.attributes.get("Text") or "").strip()
        area, points = _area_of(drawn), drawn.at
        if area is None:
            is_point = drawn.attributes.get("Type") == POINTER and len(points)
            yield QuPathObject("annotation", name, shapely.Point(points[0]) if is_point else None)
        elif drawn.attributes.get("NegativeROA") != "1":
            holes_here = left_out.get(drawn.layer_number)
            yield QuPathObject("annotation", name, area if holes_here is None else holes_here.out_of(area))


def _area_of(drawn: _Drawn) -> shapely.Geometry | None:
    """Return the outline of a region of ImageScope; None for points, rulers and the like."""
    kind, points = drawn.attributes.get("Type", FREEHAND), drawn.at
    if kind in (RECTANGLE, ELLIPSE) and len(points) >= 2:
        box = shapely.box(*points.min(0), *points.max(0))
        return _ellipse(*box.bounds) if kind == ELLIPSE else box
    return _outline(points) if kind == FREEHAND else None


def _ellipse(x0: float, y0: float, x1: float, y1: float) -> shapely.Geometry | None:
    angle = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS, endpoint=False)
    middle, radius = ((x0 + x1) / 2, (y0 + y1) / 2), ((x1 - x0) / 2, (y1 - y0) / 2)
    return _outline(np.stack([middle[0] + radius[0] * np.cos(angle), middle[1] + radius[1] * np.sin(angle)], 1))


def _outline(points: np.ndarray) -> shapely.Geometry | None:
    return shapely.Polygon(points) if len(np.unique(points, axis=0)) >= 3 else None


class _LeftOut:
    """What the holes of a layer (`NegativeROA`) leave of its areas."""

    def __init__(self, holes: list[shapely.Geometry]) -> None:
        self._holes = np.array([_valid(hole) for hole in holes], object)
        self._tree = shapely.STRtree(self._holes)

    def out_of(self, area: shapely.Geometry) -> shapely.Geometry | None:
        """Return the area without the holes; itself where there are none, None if nothing is left."""
        valid = _valid(area)
        here = self._tree.query(valid, predicate="intersects")
        if not len(here):
            return area
        left = shapely.difference(valid, shapely.union_all(self._holes[here]))
        return None if left.is_empty else left


def _valid(outline: shapely.Geometry) -> shapely.Geometry:
    return outline if outline.is_valid else shapely.make_valid(outline)


def _number(text: str | None, number: int) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
        with suppress(ValueError):
            value = float((text or "").replace(",", "."))  # ASAP writes the decimal sign of the system
    if not math.isfinite(value):
        raise ValueError(f"object {number}: {str(text)[:40]!r} is no coordinate")
    return value
