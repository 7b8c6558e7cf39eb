"""A user's corrections of single patches, for `train` and `export`, and a report on how they were used."""

from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np

from ..core.bag import UNLABELLED
from ..core.errors import CohortError, SettingsError
from ..core.geometry import PatchGrid, PatchPoints
from ..core.inputs import Inputs
from ..core.label_map import COVERAGE, check_label_map, class_of_labels
from ..core.messages import Remedy
from ..core.notices import Notice, NoticeCode
from ..core.paths import PathLike
from ..core.text import count_of, list_briefly
from ..store.tables.points import Points, Tally, check_labels, find_for_slide, label_patches, read_points

MAX_LISTED = 4  # areas whose numbers of patches are listed one by one


class Corrections:
    """Corrections by slide: a point corrects one patch, an area all patches that it covers.

    Parameters
    ----------
    path
        CSV `slide_id,x,y,label`, or GeoJSON of QuPath.
    label_map, coverage
        As for `read_truth`.
    """

    def __init__(self, path: PathLike, label_map: Mapping[str, str] | None = None, coverage: float = COVERAGE) -> None:
        check_coverage(coverage)
        self.path, self.label_map, self.coverage = path, label_map or {}, coverage
        self.by_slide: dict[str, Points] = read_points(path, labelled=True)
        self._corrected: dict[str, int] = {}  # patches, by slide
        self._tally = Tally()

    @classmethod
    def of_inputs(cls, inputs: Inputs) -> "Corrections | None":
        """Read the corrections among inputs. None: there are none."""
        if inputs.corrections is None:
            return None
        return cls(inputs.corrections, inputs.label_map, coverage_of(inputs))

    def __contains__(self, slide_id: str) -> bool:
        return find_for_slide(self.by_slide, slide_id) is not None

    def check(self, classes: tuple[str, ...], slide_ids: Collection[str], what: str) -> None:
        """`CohortError` if they are of none of the slides, or their labels are no classes."""
        if not any(slide_id in self for slide_id in slide_ids):
            named = list_briefly(sorted(self.by_slide))
            raise CohortError(f"{self.path}: has no patch of any {what}: it is of {named}. Are the slide ids the same?")
        for slide_id in slide_ids:
            if (points := find_for_slide(self.by_slide, slide_id)) is not None:
                self._index(points, classes)

    def of(self, slide_id: str, patches: PatchGrid | PatchPoints, classes: tuple[str, ...]) -> np.ndarray | None:
        """Return (n,) int8 class of the scored patches, `UNLABELLED` without a correction. None for other slides."""
        points = find_for_slide(self.by_slide, slide_id)
        if points is None:
            return None
        found = label_patches(points, patches, self._index(points, classes), len(classes), True, self.coverage)
        if slide_id not in self._corrected:
            self._tally += found.tally
        self._corrected[slide_id] = int((found.classes != UNLABELLED).sum())
        return found.classes.astype(np.int8)

    def report(self) -> Notice:
        """Return a notice on how many patches are corrected, and which corrections could not be used.

        `CohortError` if none could be used.
        """
        patches = sum(self._corrected.values())
        elsewhere = [name for name in self.by_slide if name not in self._seen]
        lines = []
        if n := self._tally.outside.total():
            lines.append(f"{count_of(n, 'mark')} outside of the slide: level-0 pixels are wanted, x before y")
        if n := self._tally.elsewhere.total():
            lines.append(f"{count_of(n, 'mark')} on no patch that is looked at")
        if n := self._tally.too_small.total():
            lines.append(f"{count_of(n, 'area')} that {'covers' if n == 1 else 'cover'} too small a share of any patch")
        if n := self._tally.no_class.total():
            lines.append(f"{count_of(n, 'mark')} of no class")
        if n := self._tally.ignored:
            lines.append(f"{count_of(n, 'mark')} that QuPath ignores")
        if n := self._tally.placeless:
            lines.append(f"{count_of(n, 'object')} without a point or an area")
        if elsewhere:
            lines.append(f"those of {count_of(len(elsewhere), 'slide')} not looked at ({list_briefly(elsewhere)})")
        if not patches:
            raise CohortError(
                f"None of the corrections can be used: {'; '.join(lines) or 'there are none'}.", file=self.path
            )
        slides = sum(n > 0 for n in self._corrected.values())
        marks = describe_marks(self._tally) if self._tally.areas else ""
        values = {"patches": patches, "slides": slides, "unused": lines, "marks": marks}
        return Notice(NoticeCode.CORRECTIONS_USED, values)

    @property
    def _seen(self) -> set[str]:
        """The names in the file that match a slide."""
        used = [find_for_slide(self.by_slide, slide_id) for slide_id in self._corrected]
        return {name for name, points in self.by_slide.items() if any(points is one for one in used)}

    def _index(self, points: Points, classes: tuple[str, ...]) -> dict[str, int]:
        """Return the classes of a slide's labels. Labels of other slides may be of another model."""
        every = {label for points in self.by_slide.values() for label in points.named}
        check_label_map(self.label_map, every, classes, self.path)
        index = class_of_labels(points.named, classes, self.label_map, self.path)
        check_labels(index, classes, self.label_map, self.path)
        return index


def unused_marks(tally: Tally, slide_id: str | None = None) -> list[Notice]:
    """Return a notice for each kind of unused mark: outside the slide, on no patch, too small, without a class."""
    counts = {
        NoticeCode.MARKS_OUTSIDE: tally.outside.total(),
        NoticeCode.MARKS_OFF_PATCHES: tally.elsewhere.total(),
        NoticeCode.MARKS_TOO_SMALL: tally.too_small.total(),
        NoticeCode.MARKS_WITHOUT_CLASS: tally.no_class[""],
        NoticeCode.MARKS_WITHOUT_PLACE: tally.placeless,
        NoticeCode.MARKS_IGNORED: tally.ignored,
    }
    return [Notice(code, {"n": n}, slide_id) for code, n in counts.items() if n]


def describe_marks(tally: Tally) -> str:
    """Return the marks of each label, and the patches that its areas touch: "tumour 2 areas on 3 and 40 patches"."""
    marks = []
    for name in dict.fromkeys([*tally.points, *tally.areas]):
        said = [count_of(n, "point")] if (n := tally.points[name]) else []
        if n := tally.areas[name]:
            said.append(f"{count_of(n, 'area')} on {_touched(tally, name)}")
        marks.append(f"{name[:40]} " + " and ".join(said))
    return ", ".join(marks)


def _touched(tally: Tally, name: str) -> str:
    """Return how many patches the areas of a label touch: "3, 12 and 40 patches", "3 to 40 patches each"."""
    numbers = sorted(Counter({n: count for (label, n), count in tally.touched.items() if label == name}).elements())
    if len(numbers) > MAX_LISTED:
        return f"{numbers[0]} to {count_of(numbers[-1], 'patch')} each"
    *others, last = numbers
    return f"{', '.join(map(str, others))}{' and ' if others else ''}{count_of(last, 'patch')}"


def coverage_of(inputs: Inputs) -> float:
    """Return the share of a patch that an area must cover."""
    return COVERAGE if inputs.coverage is None else inputs.coverage


def check_coverage(coverage: float) -> None:
    """`SettingsError` unless it is a share of a patch, above 0 and at most 1."""
    if not 0 < coverage <= 1:
        raise SettingsError(
            f"A share of a patch is above 0 and at most 1, not {coverage:g}.", remedy=Remedy("set", "inputs.coverage")
        )
