"""Annotations of ASAP and of Aperio's ImageScope: XML files of outlines and points, as objects of QuPath.

Coordinates are (x, y) in level-0 pixels, whole numbers being the corners of pixels, as in QuPath. ASAP's objects have
the class of their group (`PartOfGroup`), ImageScope's that of their layer (its `Name`), else their own text.
"""

import math
from collections.abc import Iterable, Iterator
from xml.etree import ElementTree

import numpy as np
import shapely

from .backends.xml import check_xml
from .qupath import QuPathObject

ASAP, IMAGESCOPE = "ASAP_Annotations", "Annotations"  # the root of either file
NO_GROUP = "none"
EXCLUSION = "exclusion"  # ASAP's usual group for what is left out of an area: what is true there is not said
ELLIPSE_POINTS = 64
# `Type` of a region of ImageScope. Others are arrows, rulers and text.
FREEHAND, RECTANGLE, ELLIPSE, POINTER = "0", "1", "2", "3"


def read_annotations(data: bytes) -> list[QuPathObject]:
    """Return the objects of an XML file. `ValueError` for XML of another kind, or a coordinate that is no number."""
    check_xml(data)
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise ValueError(f"no XML ({error})") from None
    if root.tag == ASAP:
        return list(_asap(root))
    if root.tag == IMAGESCOPE:
        return list(_imagescope(root))
    raise ValueError(f"its root is <{str(root.tag)[:40]}>, neither ASAP's <{ASAP}> nor ImageScope's <{IMAGESCOPE}>")


def _asap(root: ElementTree.Element) -> Iterator[QuPathObject]:
    for number, annotation in enumerate(root.iter("Annotation"), 1):
        places = sorted(annotation.iter("Coordinate"), key=lambda one: _number(one.get("Order", "0"), number))
        points = [(_number(one.get("X"), number), _number(one.get("Y"), number)) for one in places]
        name = (annotation.get("PartOfGroup") or "").strip()
        name = "" if name.lower() == NO_GROUP else "Ignore*" if name.lower() == EXCLUSION else name
        kind = (annotation.get("Type") or "").lower()
        if kind in ("dot", "pointset"):
            yield QuPathObject("annotation", name, shapely.MultiPoint(points) if points else None)
        elif kind in ("polygon", "spline", "rectangle"):
            yield QuPathObject("annotation", name, _outline(points))
        else:  # a measurement
            yield QuPathObject("annotation", name, None)


def _imagescope(root: ElementTree.Element) -> Iterator[QuPathObject]:
    number = 0
    for layer in root.iter("Annotation"):
        name = (layer.get("Name") or "").strip()
        areas: dict[str, list[shapely.Geometry]] = {}
        holes: list[shapely.Geometry] = []
        for region in layer.iter("Region"):
            number += 1
            own = name or (region.get("Text") or "").strip()
            points = [(_number(v.get("X"), number), _number(v.get("Y"), number)) for v in region.iter("Vertex")]
            geometry = _shape(region.get("Type", FREEHAND), points)
            if geometry is None or geometry.geom_type == "Point":
                yield QuPathObject("annotation", own, geometry)
            elif region.get("NegativeROA") == "1":
                holes.append(geometry)
            else:
                areas.setdefault(own, []).append(geometry)
        for own, outlines in areas.items():
            yield from (QuPathObject("annotation", own, _without(outline, holes)) for outline in outlines)


def _shape(kind: str, points: list[tuple[float, float]]) -> shapely.Geometry | None:
    """Return the geometry of a region of ImageScope; None for rulers and the like."""
    if kind == POINTER and points:
        return shapely.Point(points[0])
    if kind in (RECTANGLE, ELLIPSE) and len(points) >= 2:
        x, y = np.array(points).T
        box = shapely.box(x.min(), y.min(), x.max(), y.max())
        return _ellipse(*box.bounds) if kind == ELLIPSE else box
    return _outline(points) if kind == FREEHAND else None


def _ellipse(x0: float, y0: float, x1: float, y1: float) -> shapely.Geometry | None:
    angle = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS, endpoint=False)
    middle, radius = ((x0 + x1) / 2, (y0 + y1) / 2), ((x1 - x0) / 2, (y1 - y0) / 2)
    points = np.stack([middle[0] + radius[0] * np.cos(angle), middle[1] + radius[1] * np.sin(angle)], 1)
    return _outline(points.tolist())


def _outline(points: Iterable[Iterable[float]]) -> shapely.Geometry | None:
    points = [tuple(point) for point in points]
    return shapely.Polygon(points) if len(set(points)) >= 3 else None


def _without(outline: shapely.Geometry, holes: list[shapely.Geometry]) -> shapely.Geometry | None:
    """Return an outline without the holes of its layer (`NegativeROA`)."""
    if not holes:
        return outline
    valid = [part if part.is_valid else shapely.make_valid(part) for part in (outline, *holes)]
    left = shapely.difference(valid[0], shapely.union_all(valid[1:]))
    return None if left.is_empty else left


def _number(text: str | None, number: int) -> float:
    try:
        value = float((text or "").replace(",", "."))  # ASAP writes the decimal sign of the system
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"object {number}: {str(text)[:40]!r} is no coordinate")
    return value
