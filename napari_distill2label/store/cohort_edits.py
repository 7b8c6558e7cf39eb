"""Edits of a cohort: pure functions, cohort -> cohort."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ..core.classes import respelled, spelling_key, split_label
from ..core.errors import CohortError
from ..core.messages import Remedy
from ..core.notices import Notice, NoticeCode
from ..core.paths import slide_name
from ..core.text import quoted
from ..slides.registry import SUFFIXES
from .cohort import Cohort, CohortSlide
from .tables.cohort_table import LabelRow, case_key, read_labels

TAKEN = ("label", "case_id", "mpp", "split", "share")  # from a row of a table of labels

__all__ = ["LabelRow", "MergedLabels", "merge_labels", "read_labels"]


@dataclass(frozen=True)
class MergedLabels:
    """The result of `merge_labels`.

    Attributes
    ----------
    cohort
        The slides with the labels of the table. Classes it lacked are at the end.
    matched
        Ids of the slides that the table names, in their order.
    unmatched
        Ids of the table that name no slide, or could name several.
    new_classes
        Names of classes that the cohort lacked.
    notices
        What should be reported.
    """

    cohort: Cohort
    matched: tuple[str, ...]
    unmatched: tuple[str, ...]
    new_classes: tuple[str, ...]
    notices: tuple[Notice | CohortError, ...] = ()


def merge_labels(cohort: Cohort, rows: Iterable[LabelRow]) -> MergedLabels:
    """Give the labels, cases, splits and µm/px of a table without paths to the slides of a cohort.

    A row is of the slide with its id; else of the one slide whose id or file name is the same but for case, the form
    of Unicode, or the file's suffix. What could be two slides is none. Empty cells change nothing. Classes and cases
    are spelled as the cohort spells them.
    """
    found, loosely, unmatched = _match_rows(cohort, list(rows))
    own = {spelling_key(name): name for name in cohort.classes}
    new: dict[str, str] = {}
    for row in found.values():
        for name in split_label(row.label or ""):
            if spelling_key(name) not in own:
                new.setdefault(spelling_key(name), name)
    spelling = {**own, **new}
    there = [slide.case_id for slide in cohort if slide.case_id != slide.slide_id]
    cases: dict[str, str] = {}
    for case in (*there, *(row.case_id for row in found.values() if row.case_id)):
        cases.setdefault(case_key(case), case)

    def edited(slide: CohortSlide) -> CohortSlide:
        row = found.get(slide.slide_id)
        if row is None:
            return slide
        told = {name: value for name in TAKEN if (value := getattr(row, name)) is not None}
        if row.label:
            names = {name: spelling[spelling_key(name)] for name in split_label(row.label)}
            told["label"] = respelled(row.label, names)
        if row.case_id:
            told["case_id"] = cases[case_key(row.case_id)]
        return replace(slide, **told)

    merged = replace(cohort, slides=tuple(edited(slide) for slide in cohort), classes=(*cohort.classes, *new.values()))
    matched = tuple(slide.slide_id for slide in cohort if slide.slide_id in found)
    return MergedLabels(merged, matched, unmatched, tuple(new.values()), tuple(_notices(matched, loosely, unmatched)))


def _match_rows(cohort: Cohort, rows: list[LabelRow]) -> tuple[dict[str, LabelRow], dict[str, str], tuple[str, ...]]:
    """(row by slide id, slide id by the id a row has in other words, ids of no slide)."""
    found: dict[str, LabelRow] = {}
    exact = {slide.slide_id for slide in cohort}
    alike = _ids_by_key(cohort)
    asked: dict[str, list[LabelRow]] = defaultdict(list)  # slide id -> rows that may mean it
    unmatched = []
    for row in rows:
        if row.slide_id in exact:
            found[row.slide_id] = row
            continue
        slides = alike.get(_key(row.slide_id)) or alike.get(_key(_stem(row.slide_id))) or set()
        if len(slides) == 1:
            asked[next(iter(slides))].append(row)
        else:
            unmatched.append(row.slide_id)
    loosely = {}
    for slide_id, alternatives in asked.items():
        if slide_id not in found and len(alternatives) == 1:
            found[slide_id] = alternatives[0]
            loosely[alternatives[0].slide_id] = slide_id
        else:
            unmatched += [row.slide_id for row in alternatives]
    return found, loosely, tuple(unmatched)


def _ids_by_key(cohort: Cohort) -> Mapping[str, set[str]]:
    """Ids of the slides that one way of writing an id or a file name may mean."""
    alike: dict[str, set[str]] = defaultdict(set)
    for slide in cohort:
        for name in (slide.slide_id, _stem(slide.slide_id), slide_name(slide.path)):
            alike[_key(name)].add(slide.slide_id)
    return alike


def _stem(name: str) -> str:
    """An id without the suffix of an image; 'slide.1' has none."""
    return slide_name(name) if os.path.splitext(name)[1].lower() in SUFFIXES else name


def _key(name: str) -> str:
    return spelling_key(f"id {os.path.basename(name)}")  # never a number: '01' and '1' are two slides


def _notices(matched: tuple[str, ...], loosely: Mapping[str, str], unmatched: tuple[str, ...]) -> Iterable[Notice]:
    if loosely:
        yield Notice(NoticeCode.ROWS_MATCHED_LOOSELY, {"names": dict(loosely), "matched": len(matched)})
    if unmatched:
        yield Notice(NoticeCode.ROWS_UNMATCHED, {"names": unmatched})


def with_case_labels(cohort: Cohort) -> Cohort:
    """Return the cohort with one label for all slides of a case: a slide without a label has that of its case.

    `CohortError` for a case whose slides have different labels.
    """
    told: dict[str, CohortSlide] = {}
    for row in cohort.labelled:
        first = told.setdefault(row.case_id, row)
        if cohort.indices(row) != cohort.indices(first):
            raise CohortError(
                f"Case {quoted(row.case_id)} has two labels: {quoted(first.slide_id)} is {quoted(first.label or '')}, "
                f"{quoted(row.slide_id)} is {quoted(row.label or '')}. A label is of the whole case here: give all its "
                "slides the same, or train with a label for each slide",
                remedy=Remedy("set", "bag", "slide"),
            )
    filled = (
        replace(row, label=told[row.case_id].label, split=row.split or told[row.case_id].split)
        if row.label is None and row.case_id in told
        else row
        for row in cohort
    )
    return cohort.with_slides(filled)
