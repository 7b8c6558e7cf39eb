"""Splits and folds: stratified by label, grouped by case, repeatable from a seed."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from ..core.errors import CohortError
from ..core.settings import SplitSettings
from .cohort import Cohort, CohortSlide
from .cohort_edits import with_case_labels


def _assign_cases(slides: Sequence[CohortSlide], fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    """Assign whole cases to parts so that each part's share of every label comes near its fraction: case_id -> part.

    Greedy: cases in random order, those with most slides first, each to the part that lacks its labels most (of
    parts that lack them equally, the smallest, so that a few slides still leave none of them empty).
    """
    cases: dict[str, Counter[str | None]] = defaultdict(Counter)
    for slide in slides:
        cases[slide.case_id][slide.label] += 1
    totals = sum(cases.values(), Counter())
    lack = {part: {label: share * n for label, n in totals.items()} for part, share in fractions.items()}
    names = sorted(cases)
    np.random.default_rng(seed).shuffle(names)
    assigned = {}
    for case in sorted(names, key=lambda name: -cases[name].total()):  # stable: random among equals

        def need(part: str, labels: Counter[str | None] = cases[case]) -> tuple[float, float]:
            return sum(count * lack[part][label] for label, count in labels.items()), -fractions[part]

        part = max(fractions, key=need)
        assigned[case] = part
        for label, count in cases[case].items():
            lack[part][label] -= count
    return assigned


def _check_trainable(cohort: Cohort) -> Cohort:
    """`CohortError` unless all labels can be used, and the training split holds the negative class and another one."""
    indices = {slide.slide_id: cohort.indices(slide) for slide in cohort.labelled}
    present = {index for slide in cohort.in_split("train") for index in indices[slide.slide_id]}
    if 0 not in present or present == {0}:
        missing = cohort.classes[0] if 0 not in present else " or ".join(cohort.classes[1:])
        raise CohortError(
            f"no training slide is labelled {missing!r}: the training split needs at least one slide of the negative "
            f"class {cohort.classes[0]!r} and of another class"
        )
    return cohort


def with_splits(cohort: Cohort, settings: SplitSettings, seed: int, bag: Literal["slide", "case"] = "slide") -> Cohort:
    """The cohort with every labelled slide in `train`, `valid` or `test`.

    If a label is of a case (`bag`), all its slides have it (`with_case_labels`).

    Splits the table gives are kept, and labelled slides without one join `train` (unless their case is already in
    another split); if it gives none, cases are assigned according to `settings`.
    """
    if bag == "case":
        cohort = with_case_labels(cohort)
    given = {slide.case_id: slide.split for slide in cohort.labelled if slide.split}
    if not given:
        fractions = {"train": 1 - settings.valid - settings.test, "valid": settings.valid, "test": settings.test}
        if fractions["train"] <= 0:
            raise CohortError("split.valid and split.test leave no slide to train on: make them smaller")
        given = _assign_cases(cohort.labelled, {part: share for part, share in fractions.items() if share}, seed)
    split = cohort.with_slides(
        replace(slide, split=slide.split or given.get(slide.case_id, "train")) if slide.label else slide
        for slide in cohort
    )
    split.check_splits()
    return _check_trainable(split)


def k_folds(cohort: Cohort, folds: int, settings: SplitSettings, seed: int) -> list[Cohort]:
    """`folds` cohorts: each labelled slide is tested exactly once, `settings.valid` of the whole validates."""
    if folds < 2:
        raise CohortError(f"cross-validation needs 2 or more folds, got {folds}")
    fold_of = _assign_cases(cohort.labelled, {str(fold): 1 / folds for fold in range(folds)}, seed)
    result = []
    for fold in range(folds):
        rest = [slide for slide in cohort.labelled if fold_of[slide.case_id] != str(fold)]
        valid = settings.valid / (1 - 1 / folds)
        inner = _assign_cases(rest, {"train": 1 - valid, "valid": valid} if valid else {"train": 1.0}, seed + 1 + fold)
        result.append(
            _check_trainable(
                cohort.with_slides(
                    replace(slide, split=inner.get(slide.case_id, "test")) if slide.label else slide for slide in cohort
                )
            )
        )
    return result
