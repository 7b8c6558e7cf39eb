"""Marks on slides, from CSV or GeoJSON: centres to cut patches at, a user's corrections, and the ground truth.

Points are (y, x) in 0-based level-0 pixels, by slide; areas are outlines. Only `evaluate` and `compare` read a ground
truth.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeGuard, TypeVar

import numpy as np

from ...core.bag import UNLABELLED
from ...core.errors import CohortError
from ...core.geometry import PatchGrid, PatchPoints
from ...core.label_map import COVERAGE, is_left_out
from ...core.messages import Remedy
from ...core.paths import slide_name
from ...core.text import printable
from ...slides.label_mask import is_label_image, read_label_mask, scale_to
from ...slides.registry import SUFFIXES
from ..files.safe_names import safe_name
from .mark_table import Row, find_tables, read_rows

if TYPE_CHECKING:
    import shapely

    from ...slides.qupath import QuPathObject

CENTRE_OF_PIXEL = 0.5  # px: QuPath's coordinates start at the corner of the first pixel, ours at its centre
CENTRE_TOLERANCE = 1.0  # px between a patch's centre and the point that is meant by it
OME = (".tif", ".tiff", ".zarr")  # before which `.ome` is a part of the suffix, as in `slide_name`
ROUNDING = 1e-9  # of shares of areas
IGNORED = UNLABELLED - 1  # an area that QuPath ignores
DETECTED = ("detection", "cell")  # objects of QuPath that mark one place; an annotation covers an area
Found = TypeVar("Found")


class Area(NamedTuple):
    """An outline with a label: `outline` is valid, in (x, y), pixel corners being whole numbers.

    `label` is None for an area that QuPath ignores: what is true there is not known. `shape` is that of the picture
    which `outline` is drawn on, if this is a label image, perhaps a reduced one; None: level 0.
    """

    outline: "shapely.Geometry"
    label: str | None
    shape: tuple[int, int] | None = None

    def at_level_0(self, slide_shape: tuple[int, int]) -> "Area":
        """Return the area in level-0 pixels. `CohortError` if its picture cannot be of such a slide."""
        if self.shape is None:
            return self
        from shapely.affinity import scale

        y, x = scale_to("the label image", self.shape, slide_shape)
        return Area(scale(self.outline, x, y, origin=(0, 0)), self.label)


@dataclass(frozen=True, eq=False)
class Points:
    """The marks on one slide: points and areas.

    Attributes
    ----------
    coordinates
        (n, 2) float (y, x).
    labels
        (n,) str, '' where none is given.
    areas
        Outlines of regions; none where the points are centres of patches.
    classes
        (n,) str: the class of the model that each label stands for, if a table gives it; None: the label itself.
    n_placeless
        Objects of the file without a place that could be used (lines, no geometry).
    ignored
        (m, 2) float (y, x) of points that QuPath ignores: what is true there is not known.
    source
        Where all this was read, for messages.
    """

    coordinates: np.ndarray
    labels: np.ndarray
    areas: tuple[Area, ...] = ()
    classes: np.ndarray | None = None
    n_placeless: int = 0
    ignored: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    source: str = ""

    def __len__(self) -> int:
        return len(self.coordinates)

    @property
    def class_names(self) -> np.ndarray:
        """(n,) str: the class of each point."""
        return self.labels if self.classes is None else np.where(self.classes == "", self.labels, self.classes)

    @property
    def named(self) -> set[str]:
        """The classes of all points and areas, '' for a mark without one."""
        return {*self.class_names.tolist(), *(area.label for area in self.areas if area.label is not None)}


def read_points(path: str | os.PathLike[str], labelled: bool = False) -> dict[str, Points]:
    """Marks by slide id, from CSV or Parquet (`mark_table`), or from annotations.

    Annotations are GeoJSON of QuPath, XML of ASAP or ImageScope, or a label image; the file's name is the slide id,
    unless the file says which slide it is of. A folder holds one file per slide: GeoJSON or XML, else tables.
    `CohortError` says what does not fit.

    Without `labelled` they are centres of patches: an outline counts by its centre, a cell by that of its nucleus; an
    annotation drawn round detections is no centre. With `labelled` they say what is there: points, detections and
    cells are of one place, the outline of an annotation or a tile is an area. Then a slide may have no mark: its file
    is empty, or its row has no position, and that is said of it.
    """
    path = Path(path)
    if path.is_dir() and not is_label_image(path):
        from ...slides.annotations import find_files

        if not (files := find_files(path) or find_tables(path)):
            raise CohortError(f"{path}: holds no .geojson, .xml, .csv or .parquet file")
        found = [(file, read_points(file, labelled)) for file in files]
        one_each([(slide_id, file) for file, by_slide in found for slide_id in by_slide])
        return {slide_id: points for _, by_slide in found for slide_id, points in by_slide.items()}
    if is_label_image(path):
        return _read_label_image(path, labelled)
    if path.name.lower().endswith((".geojson", ".json", ".gz", ".xml")):
        return _read_annotations(path, labelled)
    return _read_table(path, labelled)


def one_each(named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """File by the name of its slide. `CohortError` where two files are of one slide: which of them is right?"""
    files: dict[str, Path] = {}
    for name, file in named:
        if (other := files.setdefault(name, file)) != file:
            raise _two_of_one(name, other, file)
    return files


def find_for_slide(by_slide: Mapping[str, Found], slide_id: str) -> Found | None:
    """Return the entry of a slide, by its id or by the name of a file of it (`S-1.svs.geojson`); None if missing.

    QuPath names what it exports after the image, with the image's suffix. `CohortError` where there are several.
    """
    names = [name for name in _names_of(slide_id) if name in by_slide]
    if len(names) > 1:
        raise _two_of_one(slide_id, *(getattr(by_slide[name], "source", by_slide[name]) for name in names[:2]))
    if names:
        return by_slide[names[0]]
    images = (name for name in by_slide if Path(name).suffix.lower() in SUFFIXES)  # however the suffix is written
    return next((by_slide[name] for name in images if slide_name(name) == slide_id), None)


def _names_of(slide_id: str) -> Iterable[str]:
    """The slide's id, as a file's name too, and with the suffixes of images."""
    suffixes = (*SUFFIXES, *(f".ome{suffix}" for suffix in OME))
    written = (change(suffix) for suffix in suffixes for change in (str.lower, str.upper))
    return dict.fromkeys((slide_id, printable(slide_id), safe_name(slide_id), *(slide_id + each for each in written)))


def _two_of_one(slide_id: str, one: object, other: object) -> CohortError:
    return CohortError(f"{one} and {other} are both of slide {slide_id[:40]!r}: keep one of them")


def _read_table(path: Path, labelled: bool) -> dict[str, Points]:
    """Points and boxes by slide from a table."""
    by_slide: dict[str, list[Row]] = {}
    for row in read_rows(path, labelled):
        by_slide.setdefault(row.slide_id, []).append(row)
    return {
        slide_id: _points(rows, labelled, f"{path} (slide_id {slide_id[:40]!r})") for slide_id, rows in by_slide.items()
    }


def _points(rows: list[Row], labelled: bool, source: str) -> Points:
    """The marks of a slide. A patch that is centred on a point is meant by it, any other by its box."""
    boxes = [row for row in rows if row.point is None and row.box is not None]
    coordinates = [row.point for row in rows if row.point is not None]
    areas: tuple[Area, ...] = ()
    corners = np.array([row.box for row in boxes], float).reshape(-1, 2, 2)
    rows = [row for row in rows if row.point is not None]
    if not labelled:
        coordinates += [(y, x) for x, y in (corners.mean(axis=1) - CENTRE_OF_PIXEL).tolist()]
        rows += boxes
    elif boxes:
        import shapely

        outlines = shapely.box(*corners.reshape(-1, 4).T)
        areas = tuple(Area(outline, row.class_name or row.label) for outline, row in zip(outlines, boxes, strict=True))
    labels, classes = (np.array([row[column] for row in rows], dtype=object) for column in (1, 2))
    at = np.array(coordinates, float).reshape(-1, 2)
    return Points(at, labels, areas, classes if any(classes) else None, source=source)


def _read_annotations(path: Path, labelled: bool) -> dict[str, Points]:
    from ...slides.annotations import object_name, read_objects

    objects = read_objects(path)
    points = marks_of(objects) if labelled else _centres(objects)
    if not labelled and not len(points):
        raise CohortError(f"{path}: holds no object that could be the centre of a patch")
    return {object_name(path): replace(points, source=str(path))}


def _read_label_image(path: Path, labelled: bool) -> dict[str, Points]:
    from ...slides.annotations import object_name
    from ...slides.regions import areas_of

    if not labelled:
        raise CohortError(f"{path}: a label image has areas, and centres of patches are points")
    mask = read_label_mask(path)
    height, width = mask.pixels.shape
    marks = marks_of(areas_of(mask, path))
    areas = tuple(area._replace(shape=(height, width)) for area in marks.areas)
    return {object_name(path): replace(marks, areas=areas, source=str(path))}


def _centres(objects: list["QuPathObject"]) -> Points:
    found: list[tuple[float, float, str]] = []
    detected = any(thing.kind in DETECTED for thing in objects)
    for thing in objects:
        if thing.is_ignored:
            continue
        found += [(x, y, thing.name) for x, y in thing.points.tolist()]
        drawn_round_them = detected and thing.kind not in DETECTED
        if not drawn_round_them and (centre := thing.centre) is not None:
            found.append((*centre, thing.name))
    return _from_qupath(found)


def marks_of(objects: Iterable["QuPathObject"]) -> Points:
    """Return what objects say is there: points, detections and cells of one place, other outlines of an area."""
    found: list[tuple[float, float, str]] = []
    ignored: list[tuple[float, float]] = []
    areas, placeless = [], 0
    for thing in objects:
        points, area = thing.points.tolist(), thing.area
        if thing.kind in DETECTED and (centre := thing.centre) is not None:
            points, area = [*points, centre], None
        placeless += area is None and not points
        if thing.is_ignored:
            ignored += points
        else:
            found += [(x, y, thing.name) for x, y in points]
        if area is not None:
            areas.append(Area(area, None if thing.is_ignored else thing.name))
    return replace(_from_qupath(found), areas=tuple(areas), n_placeless=placeless, ignored=_at(ignored))


def _from_qupath(found: list[tuple[float, float, str]]) -> Points:
    return Points(_at([point[:2] for point in found]), np.array([name for *_, name in found], dtype=object))


def _at(points: Sequence[Sequence[float]]) -> np.ndarray:
    """(n, 2) float (y, x) from centres of pixels, of (x, y) from the corner of the first pixel."""
    return np.array(points, float).reshape(-1, 2)[:, ::-1] - CENTRE_OF_PIXEL


# ---- what marks make of patches --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tally:
    """How marks were used: numbers of points and of areas by label.

    Attributes
    ----------
    points, areas
        Of a class of the model, and on a patch.
    touched
        How many of `areas` there are by label and by the number of patches that they share pixels with.
    too_small
        Those of `areas` that cover no patch by enough, so that they label none.
    elsewhere
        Of a class, in the slide, but on no scored patch.
    outside
        Of a class, and outside of the slide.
    no_class
        Of no class of the model; '' where an object has no class at all.
    placeless
        Objects without a place that could be used.
    ignored
        Points that QuPath ignores.
    """

    points: Counter[str] = field(default_factory=Counter)
    areas: Counter[str] = field(default_factory=Counter)
    touched: Counter[tuple[str, int]] = field(default_factory=Counter)
    too_small: Counter[str] = field(default_factory=Counter)
    elsewhere: Counter[str] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)
    no_class: Counter[str] = field(default_factory=Counter)
    placeless: int = 0
    ignored: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def counted(self) -> int:
        """The number of marks that label a patch."""
        return self.points.total() + self.areas.total() - self.too_small.total()

    @property
    def is_unusable(self) -> bool:
        """Whether there are marks and none of them can be used. Then unmarked patches are unknown, too."""
        usable = self.counted + self.elsewhere.total() + self.no_class.total() - self.no_class[""]
        return not usable and bool(self.outside.total() + self.no_class[""] + self.placeless + self.ignored)


class PatchLabels(NamedTuple):
    """Labels of the scored patches of a slide, made from marks.

    Attributes
    ----------
    classes
        (n,) int64, `UNLABELLED` where no mark applies.
    unclear
        (n,) bool: of no class, but a mark that is of none, or that QuPath ignores, lies in the patch or covers it: so
        nothing can be concluded from there being no finding.
    tally
        What became of the marks.
    """

    classes: np.ndarray
    unclear: np.ndarray
    tally: Tally


def is_centred(patches: PatchGrid | PatchPoints) -> TypeGuard[PatchPoints]:
    """Whether patches are centred on chosen points, so that only marks at a centre apply to a patch."""
    return isinstance(patches, PatchPoints) and not patches.boxes


def check_labels(
    index: Mapping[str, int], classes: Sequence[str], label_map: Mapping[str, str] | None, source: object
) -> None:
    """`CohortError` for a label that is no class and that `label_map` does not leave out."""
    unknown = sorted(
        label for label, i in index.items() if label and i == UNLABELLED and not is_left_out(label, label_map or {})
    )
    if unknown:
        label = unknown[0][:40]
        raise CohortError(
            f"unknown label {label!r}. The classes are {', '.join(classes)}. Say which it is.",
            file=source,
            remedy=Remedy(
                "set", "inputs.label_map", {label: classes[0]}, Remedy("clear", "inputs.label_map", {label: ""})
            ),
        )


def label_patches(
    points: Points,
    patches: PatchGrid | PatchPoints,
    index: Mapping[str, int],
    n_classes: int,
    own_patch: bool = False,
    coverage: float = COVERAGE,
) -> PatchLabels:
    """Label the scored patches of a slide from marks.

    A point speaks of the patches whose box holds it: positive if one of a finding is among them (of several findings
    the one with most points), negative if only others are. With `own_patch` it speaks of the one patch that it is
    meant for: whose cell holds it. Of patches that are centred on points, the nearest point within 1 px of the centre
    speaks.

    An area speaks of the patches it covers: positive if findings cover a share of at least `coverage` (of several the
    one that covers most, the smaller area of equals), else negative if an area of the negative class does. An area that
    is the very box of a patch is meant for this patch: what boxes of its neighbours say does not count there, and with
    `own_patch` it speaks of no other.

    Points and areas together: a finding is a finding whoever says so; of patches centred on points, and with
    `own_patch`, points come first.

    Marks of no class, and what QuPath ignores, make patches unclear (`PatchLabels`) in the same ways.

    Parameters
    ----------
    index
        Of the class of each of the labels, `UNLABELLED` for those that are no class (`core.label_map`).
    """
    centred = is_centred(patches)
    coordinates = np.concatenate([points.coordinates, points.ignored])
    at = np.array([*(index[name] for name in points.class_names), *[UNLABELLED] * len(points.ignored)], np.int64)
    outside: np.ndarray = np.any((coordinates < -1) | (coordinates > patches.slide_shape), axis=1)
    of_class = (at != UNLABELLED) & ~outside
    hit = np.zeros(len(at), bool)
    if isinstance(patches, PatchPoints) and centred:  # a point of no class is what is at a centre, too
        by_points, hit[~outside] = _classes_at_centres(coordinates[~outside], at[~outside], patches)
        unclear = np.zeros(len(by_points), bool)
    else:
        votes, hit[of_class] = _vote(coordinates[of_class], at[of_class], patches, n_classes, own_patch)
        by_points = _winning_class(votes)
        others = coordinates[(at == UNLABELLED) & ~outside]
        unclear = np.any(_vote(others, np.zeros(len(others), np.int64), patches, 1, own_patch)[0], axis=1)
    own = slice(len(points))
    tally = _tally(points, at[own], outside[own], hit[own]) + Tally(ignored=len(points.ignored))
    if not points.areas:
        return PatchLabels(by_points, unclear & (by_points == UNLABELLED), tally)
    areas = [area.at_level_0(patches.slide_shape) for area in points.areas]
    by_areas, covered, of_areas = _classes_of_areas(areas, patches, index, n_classes, own_patch, coverage)
    first, second = (by_points, by_areas) if centred or own_patch else _findings_first(by_points, by_areas)
    classes = np.where(first != UNLABELLED, first, second)
    return PatchLabels(classes, (unclear | covered) & (classes == UNLABELLED), tally + of_areas)


def _cells_as_patches(patches: PatchGrid | PatchPoints) -> PatchGrid | PatchPoints:
    """Return the cells of a grid whose patches overlap, as patches: what is said of a cell is meant for its patch."""
    if not isinstance(patches, PatchGrid) or patches.stride >= patches.side:
        return patches
    return replace(patches, side=patches.cell_side, origin=patches.cell_origin)


def _findings_first(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The findings of both, those of `one` before; and what is known besides."""
    findings = np.where(one > 0, one, np.where(other > 0, other, UNLABELLED))
    return findings, np.maximum(one, other)


def _tally(points: Points, at: np.ndarray, outside: np.ndarray, hit: np.ndarray) -> Tally:
    no_class = at == UNLABELLED
    on_patch, elsewhere, beyond, others = (
        Counter(points.class_names[chosen].tolist())
        for chosen in (~no_class & hit, ~no_class & ~outside & ~hit, ~no_class & outside, no_class)
    )
    return Tally(on_patch, elsewhere=elsewhere, outside=beyond, no_class=others, placeless=points.n_placeless)


def _classes_at_centres(coordinates: np.ndarray, at: np.ndarray, patches: PatchPoints) -> tuple[np.ndarray, np.ndarray]:
    """The class at each centre, and which points are at one."""
    from scipy.spatial import cKDTree

    result, hit = np.full(len(patches.centres), UNLABELLED, np.int64), np.zeros(len(coordinates), bool)
    if len(coordinates):
        distance, nearest = cKDTree(coordinates).query(patches.centres)
        near = distance <= CENTRE_TOLERANCE
        result[near] = at[nearest[near]]
        hit[nearest[near]] = True
    return result, hit


def _winning_class(votes: np.ndarray) -> np.ndarray:
    """(n, C) votes of points -> (n,) class."""
    positive = votes[:, 1:]
    result = np.where(positive.any(axis=1), positive.argmax(axis=1) + 1, 0)
    return np.where(votes.any(axis=1), result, UNLABELLED)


def _vote(
    coordinates: np.ndarray, at: np.ndarray, patches: PatchGrid | PatchPoints, n_classes: int, own_patch: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(n, C) votes in the scored patches, and which points voted."""
    if isinstance(patches, PatchGrid):
        return _vote_on_grid(coordinates, at, patches, n_classes, own_patch)
    return _vote_in_boxes(coordinates, at, patches, n_classes, own_patch)


def _vote_on_grid(
    coordinates: np.ndarray, at: np.ndarray, grid: PatchGrid, n_classes: int, own_patch: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(n, C) votes in the scored patches, and which points voted.

    Every point votes in the boxes (side × side, half-open) that hold it; they overlap where stride < side. With
    `own_patch` only in that whose cell, the stride × stride square about its centre, holds it.
    """
    votes, hit = np.zeros((*grid.shape, n_classes), np.int64), np.zeros(len(coordinates), bool)
    offset = coordinates + CENTRE_OF_PIXEL - grid.origin  # from the corner of the first pixel
    reach = -(-grid.side // grid.stride)  # how many boxes can hold one point, along an axis
    last = np.floor(offset / grid.stride).astype(np.int64)
    own = grid.cells_at(coordinates)
    for back in [None] if own_patch else np.ndindex(reach, reach):
        cell = own if back is None else last - back
        within = offset - cell * grid.stride
        inside = ((within >= 0) & (within < grid.side) & (cell >= 0) & (cell < grid.shape)).all(axis=1)
        np.add.at(votes, (*cell[inside].T, at[inside]), 1)
        hit[inside] |= grid.scored[tuple(cell[inside].T)]
    return votes[grid.scored], hit


def _vote_in_boxes(
    coordinates: np.ndarray, at: np.ndarray, patches: PatchPoints, n_classes: int, own_patch: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`_vote_on_grid` for boxes that lie on no lattice; with `own_patch` in the box whose middle is nearest."""
    from scipy.spatial import cKDTree

    votes, hit = np.zeros((len(patches.centres), n_classes), np.int64), np.zeros(len(coordinates), bool)
    if not len(coordinates) or not len(votes):
        return votes, hit
    corners = patches.corners
    from_corner = coordinates + CENTRE_OF_PIXEL
    around = cKDTree(corners + patches.side / 2).query_ball_point(from_corner, patches.side / 2, p=np.inf)
    point = np.repeat(np.arange(len(coordinates)), [len(boxes) for boxes in around])
    box = np.array([one for boxes in around for one in boxes], np.int64)
    offset = from_corner[point] - corners[box]
    inside = ((offset >= 0) & (offset < patches.side)).all(axis=1)
    point, box, offset = point[inside], box[inside], offset[inside]
    if own_patch:
        away = ((offset - patches.side / 2) ** 2).sum(axis=1)
        order = np.lexsort((away, point))
        point, first = np.unique(point[order], return_index=True)
        box = box[order][first]
    np.add.at(votes, (box, at[point]), 1)
    hit[point] = True
    return votes, hit


def _classes_of_areas(
    areas: Sequence[Area],
    patches: PatchGrid | PatchPoints,
    index: Mapping[str, int],
    n_classes: int,
    own_patch: bool,
    coverage: float,
) -> tuple[np.ndarray, np.ndarray, Tally]:
    """(n,) class by the areas that cover a patch, (n,) bool: do those of no class, or ignored, cover it; tally."""
    from .areas import find_boxes, find_overlaps

    at = np.array([IGNORED if area.label is None else index[area.label] for area in areas])
    meant = _cells_as_patches(patches) if own_patch else patches
    boxes = np.where(at >= 0, find_boxes([area.outline for area in areas], patches), -1)
    own = boxes >= 0
    drawn = [area for area, is_box in zip(areas, own, strict=True) if not is_box]
    classes, shares, unclear = _cover(drawn, at[~own], meant, n_classes, coverage)
    has_box = np.isin(np.arange(len(classes)), boxes)
    if not own_patch and own.any() and not has_box.all():
        rest = np.flatnonzero(~has_box)
        classes[rest], shares[rest], unclear[rest] = _cover(areas, at, patches, n_classes, coverage, rest)
    by_box = np.full(len(classes), UNLABELLED)
    np.maximum.at(by_box, boxes[own], at[own])
    classes = np.where(by_box > 0, by_box, np.maximum(by_box, classes))
    shares[boxes[own], at[own]] = 1
    tally = Tally()
    met = find_overlaps([area.outline for area in areas], patches)
    for area, known, (on, in_slide) in zip(areas, at.tolist(), met, strict=True):
        if area.label is None:
            continue
        if known == UNLABELLED:
            tally.no_class[area.label] += 1
        elif not len(on):
            (tally.elsewhere if in_slide else tally.outside)[area.label] += 1
        else:
            tally.areas[area.label] += 1
            tally.touched[area.label, len(on)] += 1
            covers = (shares[on, known] >= coverage - ROUNDING) | (classes[on] == known)
            tally.too_small[area.label] += int(not covers.any())
    return classes, unclear, tally


def _cover(
    areas: Sequence[Area],
    at: np.ndarray,
    patches: PatchGrid | PatchPoints,
    n_classes: int,
    coverage: float,
    which: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) class, (n, C) shares covered, (n,) bool unclear, of the scored patches or of those at indices `which`."""
    import shapely

    from .areas import covered_shares

    which = np.arange(len(patches.corners)) if which is None else which

    def outline(of: int) -> shapely.Geometry:
        return shapely.union_all([area.outline for area, known in zip(areas, at.tolist(), strict=True) if known == of])

    ignored = outline(IGNORED)
    outlines = [shapely.difference(outline(known), ignored) for known in range(n_classes)]
    shares = np.stack([covered_shares(each, patches, which) for each in outlines], axis=1)
    by_size = np.argsort([each.area for each in outlines[1:]], kind="stable") + 1  # the smaller is within the larger
    most = by_size[shares[:, by_size].round(9).argmax(axis=1)]
    enough = coverage - ROUNDING
    positive = shares[:, 1:].max(axis=1) >= enough
    together = np.flatnonzero(~positive & (shares[:, 1:].sum(axis=1) >= enough))  # unless they overlap
    positive[together] = covered_shares(shapely.union_all(outlines[1:]), patches, which[together]) >= enough
    classes = np.where(positive, most, np.where(shares[:, 0] >= enough, 0, UNLABELLED))
    unclear = covered_shares(shapely.union_all([ignored, outline(UNLABELLED)]), patches, which) >= enough
    return classes, shares, unclear
