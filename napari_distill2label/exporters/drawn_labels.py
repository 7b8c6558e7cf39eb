"""Areas as pixels of a slide, for label images: drawn where they are asked for, and never all at once.

A million areas are kept as their boxes; the outlines of those that are no box go to a file, which is read where a
tile is drawn.
"""

import tempfile
from array import array
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import IO

import numpy as np
import shapely

from ..core.classes import RGB
from ..core.events import Progress, Task
from ..slides.qupath import QuPathObject
from ..slides.regions import inside_at
from .objects import HALF, Left, box_of, kind_of, pieces_of

IN_MEMORY = 2**26  # bytes of outlines; more go to the disk
PER_BAND = 4096  # areas that are compared with one another at once


class DrawnLabels:
    """A pixel has the value of the area that its centre lies in, of several the smallest. Values go from 1 on.

    Attributes
    ----------
    shape
        (height, width) of the slide's level 0.
    names, colours
        Of the values, in the order of the names; colours where an object says one. A class that QuPath ignores is a
        class as any other.
    left
        What is no area, or lies outside of the slide, or under an area of another class.
    """

    def __init__(self, shape: tuple[int, int], outlines: IO[bytes]) -> None:
        self.shape, self.left = shape, Left()
        self.names: dict[int, str] = {}
        self.colours: dict[int, RGB] = {}
        self._outlines = outlines
        self._places = array("q", [0])  # where outlines end in the file
        self._boxes, self._sizes, self._classes = array("d"), array("d"), array("i")
        self._numbers: dict[str, int] = {}
        self._shade_of: dict[str, RGB] = {}
        self._within: tuple[tuple[float, float], np.ndarray] = ((0.0, 0.0), np.empty(0, np.int64))

    def add(self, objects: Iterable[QuPathObject], name: str = "") -> Generator[Progress, None, None]:
        """Take the areas of all objects. A generator of its progress."""
        for piece in pieces_of(objects):
            for thing in piece:
                self._add(thing)
            yield Progress(Task.READ_MARKS, len(self._sizes), None, name)
        self._boxes_of = np.frombuffer(self._boxes).reshape(-1, 4)  # x0, y0, x1, y1
        sizes = np.frombuffer(self._sizes)
        self._rank = np.empty(len(sizes), np.int64)  # of the larger first
        self._rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
        self.names = dict(enumerate(sorted(self._numbers), 1))
        values = {name: value for value, name in self.names.items()}
        self.colours = {values[name]: colour for name, colour in self._shade_of.items()}
        self.dtype = np.dtype(np.min_scalar_type(len(values)))
        value_of = np.array([values[name] for name in self._numbers], np.int64)
        self._values = value_of[np.frombuffer(self._classes, np.intc)] if len(sizes) else np.empty(0, np.int64)
        yield from self._count_hidden(name)

    def _add(self, thing: QuPathObject) -> None:
        area, box = thing.area, box_of(thing)
        if area is None or thing.nucleus is not None or len(thing.points):
            self.left.marks[kind_of(thing)] += 1
        elif not area.intersects(shapely.box(0, 0, self.shape[1], self.shape[0])):
            self.left.marks["areas outside of the slide"] += 1
        self.left.details["measurements"] += bool(thing.measurements)
        if area is None:
            return
        self._numbers.setdefault(thing.name, len(self._numbers))
        if thing.name not in self._shade_of and (colour := thing.class_colour) is not None:
            self._shade_of[thing.name] = colour
        self._boxes.extend(area.bounds)
        self._sizes.append(area.area)
        self._classes.append(self._numbers[thing.name])
        written = 0 if box is not None else self._outlines.write(shapely.to_wkb(area))
        self._places.append(self._places[-1] + written)

    def _outline(self, index: int) -> shapely.Geometry:
        start, stop = self._places[index], self._places[index + 1]
        if start == stop:
            return shapely.box(*self._boxes_of[index])
        self._outlines.seek(start)
        return shapely.from_wkb(self._outlines.read(stop - start))

    def _count_hidden(self, name: str) -> Generator[Progress, None, None]:
        """Count the areas that a smaller one of another class covers in part."""
        boxes, n = self._boxes_of, len(self._boxes_of)
        tops = np.sort(boxes[:, 1])
        edges = [-np.inf, *np.unique(tops[PER_BAND::PER_BAND]), np.inf]
        hidden = np.zeros(n, bool)
        for top, bottom in pairwise(edges):
            here = np.flatnonzero((boxes[:, 1] < bottom) & (boxes[:, 3] > top))
            outlines = np.array([self._outline(index) for index in here.tolist()], object)
            one, other = shapely.STRtree(outlines).query(outlines, predicate="intersects")
            lower = (self._rank[here[one]] < self._rank[here[other]]) & (
                self._values[here[one]] != self._values[here[other]]
            )
            one, other = one[lower], other[lower]
            shared = shapely.area(shapely.intersection(outlines[one], outlines[other])) > 0
            hidden[here[one[shared]]] = True
            yield Progress(Task.READ_MARKS, n, n, name)
        self.left.marks["areas under an area of another class"] += int(hidden.sum())

    def at(self, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
        """(len(ys), len(xs)) values of the pixels in ascending rows and columns; 0 outside of the slide."""
        out = np.zeros((len(ys), len(xs)), self.dtype)
        if not len(self._values):
            return out
        rows, cols = ys + HALF, xs + HALF
        boxes = self._boxes_of
        band = float(rows[0]), float(rows[-1])
        if self._within[0] != band:  # tiles come row by row
            self._within = band, np.flatnonzero((boxes[:, 3] > band[0]) & (boxes[:, 1] <= band[1]))
        near = self._within[1]
        near = near[(boxes[near, 2] > cols[0]) & (boxes[near, 0] <= cols[-1])]
        for index in near[np.argsort(self._rank[near])].tolist():
            x0, y0, x1, y1 = boxes[index]
            (top, bottom), (left, right) = np.searchsorted(rows, (y0, y1)), np.searchsorted(cols, (x0, x1))
            part = out[top:bottom, left:right]
            if part.size and self._places[index] == self._places[index + 1]:
                part[...] = self._values[index]
            elif part.size:
                inside = inside_at(self._outline(index), rows[top:bottom], cols[left:right])
                part[inside] = self._values[index]
        out[(ys < 0) | (ys >= self.shape[0])] = 0
        out[:, (xs < 0) | (xs >= self.shape[1])] = 0
        return out


@contextmanager
def draw_labels(shape: tuple[int, int]) -> Iterator[DrawnLabels]:
    """Yield labels of a slide to which areas can be added, and remove their file at the end."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as outlines:
        yield DrawnLabels(shape, outlines)
