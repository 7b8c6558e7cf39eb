"""What a user says of single patches: kept per slide as class indices, written as points. No Qt, no napari.

In the file a correction is the centre of its patch in level-0 pixels, so it stays true when a slide is cut otherwise.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.bag import UNLABELLED
from ..core.geometry import PatchGrid, PatchPoints
from .files.atomic import Writing, atomic_path, write_text
from .tables.csv_table import escape_formula
from .tables.points import CENTRE_TOLERANCE, Area, Points, is_centred, label_patches, read_points

Patches = PatchGrid | PatchPoints
HEADER = "slide_id,x,y,label"


@dataclass(eq=False)
class PlacedCorrections:
    """Corrections on the patches of a slide.

    Attributes
    ----------
    labels
        int8 of `patches.shape`: class index, −1 where nothing was said.
    patches, classes
        What `labels` refers to.
    """

    patches: Patches
    classes: tuple[str, ...]
    labels: np.ndarray

    def fits(self, patches: Patches, classes: tuple[str, ...]) -> bool:
        """Are they on these patches, of these classes?"""
        own = self.patches
        if classes != self.classes or type(own) is not type(patches) or own.shape != patches.shape:
            return False
        if own.to_json() != patches.to_json():
            return False
        if isinstance(own, PatchPoints):
            return isinstance(patches, PatchPoints) and np.array_equal(own.centres, patches.centres)
        return np.array_equal(own.scored, patches.scored)

    def points(self) -> Iterator[tuple[float, float, str]]:
        """(y, x) in level-0 px and label of each."""
        cells = np.argwhere(self.labels != UNLABELLED)
        if isinstance(self.patches, PatchGrid):
            centres = self.patches.corners_of(cells) + (self.patches.side - 1) / 2
        else:
            centres = self.patches.centres[cells[:, 0]]
        for cell, (y, x) in zip(cells, centres.tolist(), strict=True):
            yield y, x, self.classes[self.labels[tuple(cell)]]


class SlideCorrections:
    """The corrections of one slide.

    Attributes
    ----------
    placed
        Those on its patches; None before these are known.
    unmatched
        Label by (y, x) of those that lie on no patch, or name no class of the model. They are kept, and written again.
    areas
        Outlines of a file that wait for the patches they cover, or for a model that has their class.
    """

    def __init__(self) -> None:
        self.unmatched: dict[tuple[float, float], str] = {}
        self.areas: tuple[Area, ...] = ()
        self.placed: PlacedCorrections | None = None

    def __len__(self) -> int:
        patches = 0 if self.placed is None else int((self.placed.labels != UNLABELLED).sum())
        return len(self.unmatched) + len(self.areas) + patches

    def copy(self) -> "SlideCorrections":
        """As they are now; what is changed later is changed in one of the two."""
        copied = SlideCorrections()
        copied.unmatched, copied.areas = dict(self.unmatched), self.areas
        copied.placed = None if self.placed is None else replace(self.placed, labels=self.placed.labels.copy())
        return copied

    def align_to(self, patches: Patches, classes: tuple[str, ...]) -> PlacedCorrections:
        """Bring the corrections onto these patches, each to the one it lies in."""
        if self.placed is not None and self.placed.fits(patches, classes):
            return self.placed
        points = list(self.points())
        self.placed = PlacedCorrections(patches, tuple(classes), np.full(patches.shape, UNLABELLED, np.int8))
        self.unmatched = {}
        self.add(points)
        self._cover()
        return self.placed

    def add(self, points: Iterable[tuple[float, float, str]]) -> None:
        """More corrections; of two on one patch the later one counts."""
        points, placed = list(points), self.placed
        if placed is None or not points:
            self.unmatched |= {(y, x): label for y, x, label in points}
            return
        cells = cells_of(placed.patches, np.array([point[:2] for point in points], float))
        for point, cell in zip(points, cells, strict=True):
            if cell is None or point[2] not in placed.classes:
                self.unmatched[point[:2]] = point[2]
            else:
                placed.labels[cell] = placed.classes.index(point[2])

    def cover(self, areas: Iterable[Area]) -> None:
        """Areas speak of all patches they cover, but of those that a correction of their own has."""
        self.areas += tuple(area for area in areas if area.label)
        self._cover()

    def _cover(self) -> None:
        placed = self.placed
        here = () if placed is None else tuple(area for area in self.areas if area.label in placed.classes)
        if placed is None or not here:
            return
        marks = Points(np.empty((0, 2)), np.empty(0, object), here)
        index = {name: number for number, name in enumerate(placed.classes)}
        scored, labels = placed.patches.scored, placed.labels
        covered = label_patches(marks, placed.patches, index, len(placed.classes)).classes
        labels[scored] = np.where(labels[scored] == UNLABELLED, covered, labels[scored])
        self.areas = tuple(area for area in self.areas if area not in here)

    def points(self) -> Iterator[tuple[float, float, str]]:
        """(y, x) in level-0 px and label of each."""
        yield from ((y, x, label) for (y, x), label in self.unmatched.items())
        if self.placed is not None:
            yield from self.placed.points()


def cells_of(patches: Patches, points: np.ndarray) -> list[tuple[int, ...] | None]:
    """The scored patch that each point (n, 2) is on: a grid's cell, the nearest box that holds it, or the nearest
    centre within 1 px; else None.
    """
    if isinstance(patches, PatchGrid):
        cells = patches.cells_at(points)
        inside: np.ndarray = np.all((cells >= 0) & (cells < patches.shape), axis=1)
        scored = patches.scored
        return [
            (row, col) if ok and scored[row, col] else None
            for ok, (row, col) in zip(inside.tolist(), cells.tolist(), strict=True)
        ]
    from scipy.spatial import cKDTree

    if not len(patches.centres):
        return [None] * len(points)
    if is_centred(patches):
        middles, order, reach = patches.centres, 2.0, CENTRE_TOLERANCE
    else:
        middles, order, reach = patches.corners + (patches.side - 1) / 2, np.inf, patches.side / 2
    away, nearest = cKDTree(middles).query(points, p=order)
    return [(int(index),) if distance <= reach else None for distance, index in zip(away, nearest, strict=True)]


def read(path: Path) -> dict[str, Points]:
    """Corrections by slide id from a CSV `slide_id,x,y,label`, or GeoJSON of QuPath; a header alone holds none.

    `CohortError` if it is something else.
    """
    if path.is_file() and path.stat().st_size < 200 and path.read_text("utf-8-sig", "replace").strip() == HEADER:
        return {}
    return read_points(path, labelled=True)


def is_own(path: Path) -> bool:
    """Is it a table of corrections alone, as `write` makes it: could it be written again without loss?"""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return path.suffix.lower() == ".csv" and file.readline(200).strip() == HEADER
    except (OSError, ValueError):
        return False


def write(path: Path, slides: Mapping[str, SlideCorrections], writing: Writing = atomic_path) -> Path:
    """Write the file whole or not at all. `OSError` if it cannot be written, `OutputError` if it must not be."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER.split(","))
    for slide_id, corrections in slides.items():
        writer.writerows(
            (escape_formula(slide_id), f"{x:.10g}", f"{y:.10g}", escape_formula(label))
            for y, x, label in corrections.points()
        )
    return write_text(path, text.getvalue(), writing)
