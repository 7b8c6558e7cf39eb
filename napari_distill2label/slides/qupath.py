"""Objects that QuPath exports as GeoJSON: annotations, detections and cells, with their classes.

The reader accepts the files of QuPath 0.2 to 0.6 and of other tools: a FeatureCollection, a list of Features, one
Feature, a bare geometry, or a hierarchy with nested children, as text or compressed (`.geojson.gz`). Coordinates are
(x, y) in level-0 pixels; whole numbers are the corners of pixels.
"""

import codecs
import gzip
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import shape

from ..core.classes import RGB
from ..core.errors import CohortError
from ..core.foreign_files import refuse_special_file
from ..core.paths import METADATA, slide_in
from .json_text import JsonText

SUFFIXES = (".geojson", ".geojson.gz", ".json", ".json.gz")
IGNORED = "ignore"  # begin of QuPath's class `Ignore*`; QuPath ignores objects of this class
MAX_BYTES = 2**30  # of a file after decompression
SMALL, MOST_PACKED = 2**26, 100  # bytes, or times its size, that a packed file may unpack to: text has 30 times
MAX_COORDINATE = 1e8  # px: no slide is that large

# `object_type` of QuPath 0.3; QuPath 0.2 has the name of a Java class in `id`.
_KINDS = {
    "PathAnnotationObject": "annotation",
    "PathDetectionObject": "detection",
    "PathCellObject": "cell",
    "PathTileObject": "tile",
    "TMACoreObject": "tmaCore",
    "tma_core": "tmaCore",
    "PathRootObject": "root",
}
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, eq=False)
class QuPathObject:
    """One object of QuPath.

    Attributes
    ----------
    kind
        annotation (also for any unknown kind, as in QuPath), detection, cell, tile, tmaCore or root.
    name
        Name of its class; '' for none. A derived class has all parts: "Tumor: Positive".
    geometry
        Geometry of the object; None if it has none.
    nucleus
        Geometry of the nucleus, for a cell that has one.
    identity
        Its id in the file; '' for none.
    properties
        What the file says of it besides, as it stands there.
    """

    kind: str
    name: str
    geometry: shapely.Geometry | None
    nucleus: shapely.Geometry | None = None
    identity: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)

    @property
    def measurements(self) -> dict[str, float]:
        """Return its measurements by name: an object from QuPath 0.4 on, before a list of names and values."""
        found = self.properties.get("measurements") or {}
        if isinstance(found, list):
            found = {each.get("name"): each.get("value") for each in found if isinstance(each, dict)}
        if not isinstance(found, dict):
            return {}
        return {str(name): number for name, value in found.items() if (number := _number(value)) is not None}

    @property
    def class_colour(self) -> RGB | None:
        """Return the colour of its class, a list from QuPath 0.4 on and a number before; None if it has none."""
        said = self.properties.get("classification")
        return _colour(said) if isinstance(said, dict) else None

    @property
    def colour(self) -> RGB | None:
        """Return its own colour, if it has one that is not its class's."""
        return _colour(self.properties)

    @property
    def is_ignored(self) -> bool:
        """Does its class say that it is to be left aside?"""
        return self.name.casefold().startswith(IGNORED)

    @property
    def points(self) -> np.ndarray:
        """Return (n, 2) float (x, y): the points of a Point, a MultiPoint or a collection; none for an outline."""
        points = [part for part in _parts(self.geometry) if part.geom_type == "Point"]
        coordinates: np.ndarray = shapely.get_coordinates(points)
        return coordinates.reshape(-1, 2)

    @property
    def area(self) -> shapely.Geometry | None:
        """Return the polygons of an outline, with holes, as one valid geometry; None for points and lines."""
        polygons = [part for part in _parts(self.geometry) if part.geom_type == "Polygon"]
        area = _union(polygons)
        return None if area.is_empty else area

    @property
    def centre(self) -> tuple[float, float] | None:
        """Return (x, y) inside an outline (the nucleus of a cell); None for points and lines."""
        outline = self.area if self.nucleus is None else _union(_parts(self.nucleus))
        if outline is None or outline.is_empty:
            return None
        centre = outline.centroid
        if not outline.intersects(centre):
            centre = outline.representative_point()
        return centre.x, centre.y


def iter_objects(path: str | Path) -> Iterator[QuPathObject]:
    """Yield the objects of a file, children after their parents, without the root of a hierarchy.

    They are read one by one: memory does not grow with their number. `CohortError`, in one line with the file's name,
    if it cannot be read.
    """
    path = Path(path)
    try:
        with _open_text(path) as text:
            features = (feature for part in JsonText(text).parts("features") for feature in _features(part))
            for number, feature in enumerate(features, 1):
                thing = _object(feature, number)
                if thing.kind != "root":
                    yield thing
    except FileNotFoundError:
        raise CohortError(f"{path}: no such file") from None
    except RecursionError:
        raise CohortError(f"{path}: not a GeoJSON file of QuPath objects: nested too deeply") from None
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise CohortError(f"{path}: not a GeoJSON file of QuPath objects: {_line(error)}") from None


def object_name(path: str | Path) -> str:
    """Return the name of a GeoJSON file without its suffixes: the name of its slide."""
    name = Path(path).name
    suffix = next((each for each in sorted(SUFFIXES, key=len)[::-1] if name.lower().endswith(each)), "")
    return name[: len(name) - len(suffix)].removesuffix(".ome")


def slide_of_geojson(path: str | Path) -> str | None:
    """Return the slide that a GeoJSON file of this program is of, as it says itself; None if it does not say."""
    try:
        with _open_text(Path(path)) as text:
            return slide_in(JsonText(text).member("provenance", "features"))
    except (OSError, EOFError, zlib.error, ValueError, RecursionError):
        return None


def find_files(folder: str | Path) -> list[Path]:
    """Return the GeoJSON files of a folder, sorted by name; `.json` files only if there is no other."""
    files = sorted(file for file in Path(folder).iterdir() if file.is_file() and not file.name.startswith("."))
    named = [file for file in files if file.name.lower().endswith((".geojson", ".geojson.gz"))]
    described = [file for file in files if not file.name.lower().endswith(METADATA)]
    return named or [file for file in described if file.name.lower().endswith((".json", ".json.gz"))]


@contextmanager
def _open_text(path: Path) -> Iterator[Callable[[int], str]]:
    """Yield a function that reads so many characters of a file, compressed or not, and '' at its end."""
    refuse_special_file(path)
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
        file.seek(0)
        with gzip.GzipFile(fileobj=file) if packed else file as content:
            most = min(max(SMALL, MOST_PACKED * path.stat().st_size), MAX_BYTES) if packed else MAX_BYTES
            decoder, size = codecs.getincrementaldecoder("utf-8-sig")(), 0

            def read(n: int) -> str:
                nonlocal size
                text = ""
                while not text and (data := content.read(n)):
                    size += len(data)
                    if size > most:
                        raise ValueError(f"it is larger than {most >> 20} MB")
                    text = decoder.decode(data)
                return text or decoder.decode(b"", final=True)

            yield read


def _features(data: Any) -> Iterator[dict[str, Any]]:
    """Yield features (dicts with a `geometry`), children after parents; in a loop, because they may nest deeply."""
    waiting = [data]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(reversed(part))
            continue
        if not isinstance(part, dict):
            raise ValueError(f"{str(part)[:40]!r} is no object")
        if isinstance(part.get("features"), list):
            waiting.append(part["features"])
        elif isinstance(part.get("root"), dict):  # a hierarchy
            waiting.append(part["root"])
        elif "geometry" in part or part.get("type") == "Feature":
            yield part
            properties = _properties(part)
            waiting.append(properties.get("childObjects") or properties.get("children") or [])
        elif "coordinates" in part or "geometries" in part:
            yield {"geometry": part}
        else:
            raise ValueError("it has no features")


def _object(feature: dict[str, Any], number: int) -> QuPathObject:
    """Return the object of a feature. `ValueError` with its number in the file if it is not an object."""
    properties = _properties(feature)
    kind = next((properties[key] for key in ("objectType", "object_type", "type") if properties.get(key)), None)
    if kind is None and str(feature.get("id")) in _KINDS:
        kind = feature["id"]
    try:
        name = _class_name(properties.get("classification"))
        geometry, nucleus = _geometry(feature.get("geometry")), _geometry(feature.get("nucleusGeometry"))
    except (ValueError, shapely.errors.ShapelyError) as error:
        raise ValueError(f"object {number}: {_line(error)}") from None
    except (TypeError, LookupError, AttributeError, ArithmeticError):  # for example numbers in place of lists
        raise ValueError(f"object {number}: its geometry is no GeoJSON") from None
    kind = _KINDS.get(str(kind), str(kind or "annotation"))
    identity = feature.get("id")
    identity = identity if isinstance(identity, str) and identity not in _KINDS else ""
    return QuPathObject(kind, name, geometry, nucleus, identity, properties)


def _properties(feature: dict[str, Any]) -> dict[str, Any]:
    properties = feature.get("properties")
    return properties if isinstance(properties, dict) else {}


def _class_name(classification: Any) -> str:
    """Return the class of `{"name": "Tumor: Positive"}`, `{"names": ["Tumor", "Positive"]}` (from 0.4 on) or a text."""
    if isinstance(classification, dict):
        classification = classification.get("names") or classification.get("name")
    if isinstance(classification, list):
        classification = ": ".join(str(name).strip() for name in classification)
    if classification is not None and not isinstance(classification, str):
        raise ValueError(f"its class is {str(classification)[:40]!r}, not a name")
    return (classification or "").strip()


def _geometry(data: Any) -> shapely.Geometry | None:
    if not data:
        return None
    if not isinstance(data, dict):
        raise ValueError("its geometry is no GeoJSON")
    geometry = shapely.force_2d(shape(data))
    coordinates = shapely.get_coordinates(geometry)
    if not (np.abs(coordinates) <= MAX_COORDINATE).all():  # nor is NaN
        raise ValueError("a coordinate is not a number, or lies beyond any slide")
    return None if geometry.is_empty else geometry


def _parts(geometry: shapely.Geometry | None) -> list[shapely.Geometry]:
    """Return points, lines and polygons of a geometry, also of nested collections."""
    parts = [] if geometry is None else [geometry]
    while any(hasattr(part, "geoms") for part in parts):
        parts = shapely.get_parts(parts).tolist()
    return parts


def _union(polygons: list[shapely.Geometry]) -> shapely.Geometry:
    """Return a valid union. The inside of an outline that crosses itself follows the even-odd rule."""
    if len(polygons) == 1 and polygons[0].geom_type == "Polygon" and polygons[0].is_valid:
        return polygons[0]
    valid = [polygon if polygon.is_valid else shapely.make_valid(polygon) for polygon in polygons]
    polygons = [part for geometry in valid for part in _parts(geometry) if part.geom_type == "Polygon"]
    return shapely.union_all(polygons)


def _colour(said: Mapping[str, Any]) -> RGB | None:
    """Return `color`, or `colorRGB`: 0xAARRGGBB as a signed number."""
    colour, packed = said.get("color"), said.get("colorRGB")
    try:
        if colour is None and packed is not None:
            colour = (int(packed) & 0xFFFFFF).to_bytes(3, "big")
        red, green, blue = (int(part) % 256 for part in colour)  # type: ignore[union-attr]  # none is a TypeError
    except (TypeError, ValueError, OverflowError):
        return None
    return red, green, blue


def _number(value: Any) -> float | None:
    """Return a finite number; None for anything else: QuPath writes what it does not know as "NaN"."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
