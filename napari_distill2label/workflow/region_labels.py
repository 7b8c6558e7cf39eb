"""What a user says of regions of slides, for `train`: none of it, somewhere in it, or all of it has a finding."""

import re
from collections.abc import Collection

import numpy as np

from ..core.bag import REGION_WORDS, Region, RegionSays
from ..core.errors import CohortError
from ..core.geometry import PatchGrid, PatchPoints
from ..core.inputs import Inputs
from ..core.label_map import COVERAGE
from ..core.notices import Notice, NoticeCode
from ..core.paths import PathLike
from ..core.text import quoted
from ..store.tables.points import Points, find_for_slide, read_points
from .corrections import check_coverage, coverage_of

_SAYS: dict[str, RegionSays] = {
    **{words: says for says, words in REGION_WORDS.items()},
    "none": "none", "some": "some", "somewhere": "some", "all": "all",
}  # fmt: skip
_FORM = re.compile(r"(?:(?P<finding>.+?)\s*:\s*)?(?P<says>[^:]+?)\s*", re.DOTALL)
HOW = (
    "Write 'none here', 'somewhere here' or 'all of this', and a finding before it, if there are several: 'tumour: all'"
)


class RegionLabels:
    """Regions by slide, from annotations (GeoJSON of QuPath, XML) whose classes say what is in them.

    A class is "none here", "somewhere here" or "all of this" (or "none", "some", "all"), after the finding that is
    meant and a colon, if the model has several: "tumour: all of this". A patch lies in a region that covers at least
    `coverage` of it.

    `CohortError` if the file cannot be read, or a class says something else.
    """

    def __init__(self, path: PathLike, coverage: float = COVERAGE) -> None:
        check_coverage(coverage)
        self.path, self.coverage = path, coverage
        self.by_slide: dict[str, Points] = read_points(path, labelled=True)
        self._used: dict[str, int] = {}  # regions with patches, by slide
        self._empty = 0  # regions that cover no patch by enough

    @classmethod
    def of_inputs(cls, inputs: Inputs) -> "RegionLabels | None":
        """Read the regions among inputs. None: there are none."""
        return None if inputs.region_labels is None else cls(inputs.region_labels, coverage_of(inputs))

    def check(self, classes: tuple[str, ...], slide_ids: Collection[str]) -> None:
        """`CohortError` if they are of none of the slides, or one of them says nothing that can be used."""
        found = [points for slide_id in slide_ids if (points := find_for_slide(self.by_slide, slide_id)) is not None]
        if not any(points.areas for points in found):
            raise CohortError(f"{self.path}: has no region of any labelled slide: are the slide ids the same?")
        for points in found:
            for area in points.areas:
                if area.label is not None:
                    self._meaning(area.label, classes)

    def of(self, slide_id: str, patches: PatchGrid | PatchPoints, classes: tuple[str, ...]) -> tuple[Region, ...]:
        """Return the regions of a slide, of its scored patches. Those that cover no patch by enough are counted."""
        from ..store.tables.areas import covered_shares  # loads shapely, which few trainings need

        points, regions = find_for_slide(self.by_slide, slide_id), []
        for area in () if points is None else points.areas:
            if area.label is None:  # QuPath ignores it
                continue
            says, finding = self._meaning(area.label, classes)
            outline = area.at_level_0(patches.slide_shape).outline  # of a label image, which may be reduced
            inside = np.flatnonzero(covered_shares(outline, patches) >= self.coverage)
            if len(inside):
                regions.append(Region(inside.astype(np.int64), says, finding))
            else:
                self._empty += 1
        self._used[slide_id] = len(regions)
        return tuple(regions)

    def report(self) -> Notice:
        """Return a notice on how many regions are used. `CohortError` if none could be."""
        n, slides = sum(self._used.values()), sum(n > 0 for n in self._used.values())
        if not n:
            raise CohortError("No region covers a patch of a slide that is trained on.", file=self.path)
        return Notice(NoticeCode.REGIONS_USED, {"n": n, "slides": slides, "empty": self._empty})

    def _meaning(self, label: str, classes: tuple[str, ...]) -> tuple[RegionSays, int]:
        """Return what a region's class says, and of which finding; 0: of any."""
        found = _FORM.fullmatch(label.strip())
        says = None if found is None else _SAYS.get(found["says"].strip().lower())
        if found is None or says is None:
            raise CohortError(f"{self.path}: the region {quoted(label)} says nothing that is known. {HOW}")
        name = found["finding"]
        if name is None:
            if says != "none" and len(classes) > 2:
                raise CohortError(f"{self.path}: the region {quoted(label)} names no finding of several. {HOW}")
            return says, 0 if says == "none" else 1
        if name not in classes[1:]:
            raise CohortError(
                f"{self.path}: the region {quoted(label)} names no finding: there are {', '.join(classes[1:])}"
            )
        return says, classes.index(name)
