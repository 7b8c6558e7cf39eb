"""Marks on slides as labels of patches: `convert` gives patches of a run, of a map or of an HDF5 file their classes."""

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from ..core.bag import UNLABELLED
from ..core.classes import RGB
from ..core.errors import CohortError, SlideError
from ..core.events import Event
from ..core.geometry import PatchGrid, PatchPoints
from ..core.label_map import COVERAGE
from ..core.notices import Notice, NoticeCode
from ..core.paths import PathLike
from ..exporters.objects import boxes_of
from ..slides.qupath import QuPathObject
from ..store.cohort import Cohort
from ..store.tables.points import Tally, find_for_slide, is_centred, label_patches, marks_of
from .corrections import check_coverage, describe_marks, unused_marks
from .slide_contents import SlideContents, files_of, read_contents, with_areas


@dataclass(frozen=True, eq=False)
class _Labelled:
    """Patches with a class each, `UNLABELLED` for none."""

    patches: PatchGrid | PatchPoints
    classes: np.ndarray
    names: list[str]
    colours: dict[str, RGB]

    def objects(self) -> Iterator[QuPathObject]:
        """Yield those that have a class."""
        known = np.flatnonzero(self.classes != UNLABELLED)
        boxes = boxes_of(self.patches.corners[known], self.patches.side, is_centred(self.patches))
        for box, index in zip(boxes, self.classes[known].tolist(), strict=True):
            name = self.names[index]
            said = {"name": name, **({"color": list(self.colours[name])} if name in self.colours else {})}
            yield replace(box, name=name, properties={"classification": said})


class TargetPatches:
    """Patches by slide, of a run, of patch maps, or of HDF5 files of places.

    Parameters
    ----------
    coverage
        Share of a patch that areas must cover to give it a class: that of the area that covers most.

    `CohortError` for a source that says nothing of where patches lie.
    """

    def __init__(self, source: PathLike, cohort: Cohort, coverage: float = COVERAGE) -> None:
        check_coverage(coverage)
        self.source, self.coverage = source, coverage
        self._by_slide: dict[str, PatchGrid | PatchPoints] = {}
        for path in files_of(source):
            with suppress(SlideError):  # a slide that is not among those that are given is not asked for
                for contents in read_contents(path, cohort):
                    if isinstance(contents, SlideContents):
                        if contents.patches is None:
                            raise CohortError(
                                f"{path}: says nothing of where patches lie, as runs, patch maps and HDF5 files of "
                                "places do"
                            )
                        self._by_slide[contents.slide_id] = contents.patches

    def label(self, contents: SlideContents) -> Generator[Event, None, SlideContents]:
        """Return the patches of a slide as objects, with the classes that its marks give them; no others.

        A generator of notices on how marks were used. `SlideError` if there are no patches of the slide.
        """
        patches = find_for_slide(self._by_slide, contents.slide_id)
        if patches is None:
            raise SlideError(f"{self.source}: has no patches of slide {contents.slide_id!r}")
        contents = yield from with_areas(contents)
        colours: dict[str, RGB] = {}
        marks = marks_of(_coloured(contents, colours))
        names = sorted(marks.named - {""})
        index = {"": UNLABELLED} | {name: number for number, name in enumerate(names, 1)}
        found = label_patches(marks, patches, index, len(names) + 1, coverage=self.coverage)
        yield from _notices(found.tally, found.classes, names, contents.slide_id)
        labelled = _Labelled(patches, found.classes, ["", *names], colours)
        return replace(contents, objects=labelled.objects)


def _coloured(contents: SlideContents, colours: dict[str, RGB]) -> Iterator[QuPathObject]:
    """Yield the objects, and note the colours of their classes."""
    for thing in contents.objects():
        if thing.name not in colours and (colour := thing.class_colour) is not None:
            colours[thing.name] = colour
        yield thing


def _notices(tally: Tally, classes: np.ndarray, names: list[str], slide_id: str) -> Iterator[Notice]:
    counts = Counter(classes.tolist())
    without = counts.pop(UNLABELLED, 0)
    made = {name: counts[number] for number, name in enumerate(names, 1) if counts[number]}
    values = {"patches": made, "without": without, "marks": describe_marks(tally)}
    yield Notice(NoticeCode.PATCHES_LABELLED, values, slide_id)
    yield from unused_marks(tally, slide_id)
