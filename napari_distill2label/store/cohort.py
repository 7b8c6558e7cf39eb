"""The cohort: slides, one diagnosis each, cases and splits; `cohort.csv` in and out."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ..core.classes import class_indices, order_classes, respelled, spelling_key, split_label
from ..core.errors import CohortError
from ..core.messages import Remedy
from ..core.notices import Notice, NoticeCode
from ..core.paths import is_url, slide_name
from ..core.text import quoted
from ..slides.discovery import distinct_names, named_slides
from .tables.cohort_table import (
    SPLITS,
    CohortSlide,
    CohortTable,
    default_case,
    read_rows,
    tcga_patient,
    write_rows,
)

__all__ = ["SPLITS", "Cohort", "CohortSlide", "slide_name"]
MAX_SLIDES_OF_PATIENT = 20  # slides: a beginning of ids that more share is taken for something else
_LAST_PART = re.compile(r"[-_. ](?=[^-_. ]+$)")
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True)
class Cohort:
    """Slides with their labels, and the ordered classes (negative first; empty while unknown).

    `table` is the file they were read from, with its other columns; `notices` are to be reported by its reader.
    """

    slides: tuple[CohortSlide, ...]
    classes: tuple[str, ...] = ()
    table: CohortTable | None = field(default=None, compare=False, repr=False)
    notices: tuple[Notice, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        repeated = [name for name, count in Counter(slide.slide_id for slide in self.slides).items() if count > 1]
        if repeated:
            raise CohortError(f"two slides have the id {quoted(repeated[0])}: give each its own slide_id")

    def __len__(self) -> int:
        return len(self.slides)

    def __iter__(self) -> Iterator[CohortSlide]:
        return iter(self.slides)

    def __getitem__(self, slide_id: str) -> CohortSlide:
        return self._by_id[slide_id]

    @cached_property
    def _by_id(self) -> dict[str, CohortSlide]:
        return {slide.slide_id: slide for slide in self.slides}

    @cached_property
    def by_case(self) -> dict[str, list[CohortSlide]]:
        """The slides of each case."""
        found: dict[str, list[CohortSlide]] = defaultdict(list)
        for slide in self.slides:
            found[slide.case_id].append(slide)
        return dict(found)

    @property
    def labelled(self) -> tuple[CohortSlide, ...]:
        return tuple(slide for slide in self.slides if slide.label is not None)

    def in_split(self, split: str) -> tuple[CohortSlide, ...]:
        """Labelled slides of one split."""
        return tuple(slide for slide in self.labelled if slide.split == split)

    def indices(self, slide: CohortSlide) -> tuple[int, ...]:
        """Indices of the slide's classes. `CohortError` for an unknown label."""
        try:
            return class_indices(slide.label or "", self.classes)
        except CohortError as error:
            raise CohortError.of(error, problem=f"slide {quoted(slide.slide_id)}: {error.problem}") from None

    def with_classes(self, classes: Sequence[str] | None = None) -> "Cohort":
        """Return the cohort with ordered classes: those given, else recognised ones (`core.classes.order_classes`).

        Labels are spelled as the classes are.
        """
        labels = [slide.label for slide in self.slides if slide.label is not None]
        try:
            classes = order_classes(labels, classes)
        except CohortError as error:
            empty = (n for n in self.notices if n.code == NoticeCode.CELLS_EMPTY and n.values["column"] == "label")
            problem = error.problem + "".join(f" ({notice})" for notice in empty)
            raise CohortError.of(error, problem=problem, file=self.table and self.table.table.path) from None
        names = {name for label in set(labels) for name in split_label(label)}
        own = {spelling_key(name): name for name in classes}
        spelling = {name: own[spelling_key(name)] for name in names if name not in classes}
        if not spelling:
            return replace(self, classes=classes)
        slides = (replace(slide, label=respelled(slide.label, spelling)) if slide.label else slide for slide in self)
        return replace(self, slides=tuple(slides), classes=classes)

    def with_slides(self, slides: Iterable[CohortSlide]) -> "Cohort":
        return replace(self, slides=tuple(slides))

    def check_splits(self) -> None:
        """Raise `CohortError` if a case lies in two splits: its slides would be used for training and testing."""
        seen: dict[str, CohortSlide] = {}
        for slide in self.labelled:
            other = seen.setdefault(slide.case_id, slide)
            if other.split != slide.split:
                raise CohortError(
                    f"Case {quoted(slide.case_id)} is in two splits: {quoted(other.slide_id)} in {other.split}, "
                    f"{quoted(slide.slide_id)} in {slide.split}. Put all slides of a case in one"
                )

    def check_found(self) -> None:
        """`CohortError` if the table names slides by their ids alone, and none of them is where they were looked for.

        Whoever has features of the slides needs no slides.
        """
        if self.table and self.table.found == 0:
            raise CohortError(
                f"The table has no column 'path', and {self.table.folder} holds no slide with one of its ids. Add that "
                "column.",
                file=self.table.table.path,
                remedy=Remedy("choose", "slides_folder"),
            )

    @classmethod
    def read(cls, path: str | os.PathLike[str], slides_folder: str | os.PathLike[str] | None = None) -> "Cohort":
        """Read `cohort.csv`, or a table with CLAM's, TRIDENT's, STAMP's or Slideflow's headers.

        Paths are relative to the CSV (or to `slides_folder`); URLs (`s3://…`, `https://…`) stay as they are. A table
        without paths (CLAM's) names files by their stem, which are looked for there. Labels and classes are not
        matched yet: see `with_classes`.
        """
        table, slides, notices = read_rows(path, slides_folder)
        try:
            return cls(tuple(slides), table=table, notices=tuple(notices))
        except CohortError as error:
            raise CohortError.of(error, file=path) from None

    @property
    def path(self) -> Path | None:
        """The table the slides were read from, from the root."""
        return None if self.table is None else self.table.path

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write `cohort.csv`, paths relative to it.

        Slides from a table are written as that table has them: its columns, headers, order, delimiter and encoding,
        with what has changed since; slides that it lacks get a row with empty cells for what we do not know. A file
        that is replaced is first copied to `<name>.bak` (with a date if that name is taken).
        """
        return write_rows(path, self.slides, self.table)

    def save(self) -> Path:
        """`write` to the table the slides were read from. `CohortError` if they come from none."""
        if self.table is None:
            raise CohortError("the slides come from no table: give the path of the cohort.csv to write")
        return self.write(self.table.path)

    def without_table(self) -> "Cohort":
        """Return the cohort without its table: `write` then gives our own columns alone."""
        return replace(self, table=None, notices=())

    @classmethod
    def of_files(
        cls, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], mpp: float | None = None
    ) -> "Cohort":
        """A cohort of unlabelled slides: files, URLs, the slides in folders, and patterns (`slides/*.svs`).

        They are named after their files; slides of one name get their folders' names too (`distinct_names`), with a
        notice. `CohortError` where a folder or a pattern holds no slide.
        """
        found = named_slides([paths] if isinstance(paths, (str, os.PathLike)) else paths)
        places = [place if is_url(place) else Path(os.path.abspath(place)) for place in found]
        names = distinct_names(places)
        renamed = [name for name, place in zip(names, places, strict=True) if name != slide_name(place)]
        notices: tuple[Notice, ...] = ()
        if renamed:
            notices = (Notice(NoticeCode.IDS_MADE_DISTINCT, {"names": renamed}),)
        slides = (
            CohortSlide(name, place, case_id=default_case(name, place), mpp=mpp)
            for name, place in zip(names, places, strict=True)
        )
        return cls(tuple(slides), notices=notices)


def doubtful_ids(slides: Sequence[CohortSlide]) -> Iterable[Notice]:
    """Yield a notice for each doubt: ids that suggest patients other than the cases do, and ids that look alike."""
    cases: dict[str, set[str]] = defaultdict(set)
    for slide in slides:
        if patient := tcga_patient(slide.slide_id):
            cases[patient].add(slide.case_id)
    if divided := [patient for patient, own in cases.items() if len(own) > 1]:
        yield Notice(NoticeCode.PATIENT_DIVIDED, {"n": len(divided), "patient": divided[0]})
    if beginnings := _shared_prefixes(slides):
        values = {"slides": beginnings.total(), "groups": len(beginnings), "beginning": next(iter(beginnings))}
        yield Notice(NoticeCode.IDS_BEGIN_ALIKE, values)
    alike: dict[str, list[str]] = defaultdict(list)
    for slide in slides:
        alike[spelling_key(f"id {slide.slide_id}")].append(slide.slide_id)
    if pairs := [names for names in alike.values() if len(names) > 1]:
        yield Notice(NoticeCode.IDS_ALIKE, {"n": len(pairs), "one": pairs[0][0], "other": pairs[0][1]})


def _shared_prefixes(slides: Sequence[CohortSlide]) -> Counter[str]:
    """How many slides share the beginning of their ids, where these look like patients: 'P17_1', 'P17_2', 'P23_1'.

    Only where no slide has a case of its own, the beginning holds a digit, there are several, and none is large: a year
    in front of every id is no patient.
    """
    if any(slide.case_id != slide.slide_id for slide in slides):
        return Counter()
    counts = Counter(
        parts[0] for slide in slides if len(parts := _LAST_PART.split(slide.slide_id)) > 1 and _DIGIT.search(parts[0])
    )
    groups = Counter({beginning: n for beginning, n in counts.items() if n > 1})
    is_patients = (
        len(groups) > 1 and max(groups.values()) <= MAX_SLIDES_OF_PATIENT and 2 * groups.total() >= len(slides)
    )
    return groups if is_patients else Counter()
