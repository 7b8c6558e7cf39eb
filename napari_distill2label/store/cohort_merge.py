"""A table that was changed in two places since it was read: here and by another program."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from ..core.classes import split_label
from .cohort import Cohort, CohortSlide

FIELDS = tuple(field.name for field in fields(CohortSlide) if field.name != "slide_id")


@dataclass(frozen=True)
class Conflict:
    """A value of a slide that was changed in both places; `None`: there is no value. `field` "": the slide itself."""

    slide_id: str
    field: str
    here: object
    there: object


@dataclass(frozen=True)
class CohortMerge:
    """What becomes of both.

    Attributes
    ----------
    here, there
        All changes of both places; in conflicts those made here, or there.
    changed
        Ids of the slides that were changed there, added or removed.
    conflicts
        Values that were changed in both places, and differ.
    """

    here: Cohort
    there: Cohort
    changed: tuple[str, ...]
    conflicts: tuple[Conflict, ...]


def merge_cohorts(base: Cohort, here: Cohort, there: Cohort) -> CohortMerge:
    """Join the changes that `here` and `there` have made to `base`, slide by slide and value by value.

    The order is that of `there`, with slides that are only here at the end; classes are those of `here`, with names of
    `there` that it lacks.
    """
    old, mine, theirs = ({row.slide_id: row for row in cohort} for cohort in (base, here, there))
    conflicts: list[Conflict] = []
    ours: list[CohortSlide] = []
    other: list[CohortSlide] = []
    for slide_id in dict.fromkeys([*theirs, *mine]):
        before, one, two = old.get(slide_id), mine.get(slide_id), theirs.get(slide_id)
        if one is not None and two is not None:
            found = list(_conflicts(before, one, two))
            conflicts += found
            merged = _merged(before, one, two)
            ours.append(merged)
            other.append(_with(merged, {each.field: each.there for each in found}))
        elif before is None or (one or two) == before:  # added in one place, or removed in one and as it was
            kept = (one or two) if before is None else None
            ours += [kept] if kept else []
            other += [kept] if kept else []
        else:  # removed in one place, changed in the other
            conflicts.append(Conflict(slide_id, "", _there(one), _there(two)))
            ours += [one] if one else []
            other += [two] if two else []
    changed = [slide_id for slide_id in dict.fromkeys([*old, *theirs]) if old.get(slide_id) != theirs.get(slide_id)]
    both = replace(there, classes=_classes(here, there, (*ours, *other)))
    return CohortMerge(both.with_slides(ours), both.with_slides(other), tuple(changed), tuple(conflicts))


def _conflicts(before: CohortSlide | None, one: CohortSlide, two: CohortSlide) -> Iterable[Conflict]:
    for field in FIELDS:
        here, there = getattr(one, field), getattr(two, field)
        if here != there and (before is None or getattr(before, field) not in (here, there)):
            yield Conflict(one.slide_id, field, here, there)


def _merged(before: CohortSlide | None, one: CohortSlide, two: CohortSlide) -> CohortSlide:
    """With what was changed in either place, and here in both."""
    theirs = {
        field: getattr(two, field)
        for field in FIELDS
        if before is not None and getattr(one, field) == getattr(before, field)
    }
    return _with(one, theirs)


def _with(row: CohortSlide, values: dict[str, Any]) -> CohortSlide:
    return replace(row, **values)


def _there(row: CohortSlide | None) -> object:
    return "removed" if row is None else "changed"


def _classes(here: Cohort, there: Cohort, rows: Iterable[CohortSlide]) -> tuple[str, ...]:
    used = {name for row in rows for name in split_label(row.label or "")}
    more = [name for name in there.classes if name in used and name not in here.classes]
    return (*here.classes, *more, *sorted(used - {*here.classes, *more}))
