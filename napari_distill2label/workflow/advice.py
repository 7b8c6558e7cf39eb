"""What stands against a training, and what is allowed but unwise. Pure functions: no files.

The window shows it before a training, the command line at its start.
"""

from collections.abc import Mapping

from ..core.errors import CohortError
from ..core.notices import Notice, NoticeCode
from ..core.settings import Settings
from ..slides.scale import common_mpp
from ..store.cohort import Cohort
from ..store.splits import with_splits

MIN_VALIDATION = 4  # validation slides below which a loss or an AUROC is mostly chance
MIN_TRAINING = 10
MIN_NEGATIVE_FRACTION = 0.1  # of the training slides

Scales = Mapping[str, float | None]  # slide id -> µm/px, None where the file does not say


def training_problem(cohort: Cohort, settings: Settings) -> CohortError | None:
    """Return why the slides of this cohort cannot be split. None if they can."""
    try:
        with_splits(cohort, settings.split, settings.seed, settings.bag)
    except CohortError as error:
        return error
    return None


def training_advice(cohort: Cohort, settings: Settings, scales: Scales | None = None) -> list[Notice]:
    """Return what the user should think about before a training, the gravest first. Nothing forbids it.

    Parameters
    ----------
    cohort
        With its classes. Splits that it lacks are made as `train` makes them.
    scales
        µm/px of the slides whose files have been read; None: nothing is said about the pixel sizes.
    """
    if training_problem(cohort, settings) is not None:
        return []
    split = with_splits(cohort, settings.split, settings.seed, settings.bag)
    notices = [*_negatives(split), *_training(split), *_validation(split, settings)]
    return [*notices, *(() if scales is None else _scales(split, settings, scales)), *_unlabelled(cohort)]


def _negatives(cohort: Cohort) -> list[Notice]:
    train = cohort.in_split("train")
    negative = sum(cohort.indices(row) == (0,) for row in train)
    if negative >= max(2, MIN_NEGATIVE_FRACTION * len(train)):
        return []
    values = {"n": negative, "total": len(train), "name": cohort.classes[0]}
    return [Notice(NoticeCode.FEW_NEGATIVE, values)]


def _training(cohort: Cohort) -> list[Notice]:
    n = len(cohort.in_split("train"))
    return [] if n >= MIN_TRAINING else [Notice(NoticeCode.FEW_TRAINING, {"n": n, "few": MIN_TRAINING})]


def _validation(cohort: Cohort, settings: Settings) -> list[Notice]:
    valid = cohort.in_split("valid")
    kinds = {cohort.indices(row) == (0,) for row in valid}
    if not valid:
        return [Notice(NoticeCode.NO_VALIDATION)]
    if len(kinds) < 2:
        values = {"n": len(valid), "positive": False in kinds, "best": settings.teacher.keep_epoch == "best"}
        return [Notice(NoticeCode.ONE_SIDED_VALIDATION, values)]
    if len(valid) < MIN_VALIDATION:
        return [Notice(NoticeCode.FEW_VALIDATION, {"n": len(valid)})]
    return []


def _scales(cohort: Cohort, settings: Settings, scales: Scales) -> list[Notice]:
    rows = [*cohort.in_split("train"), *cohort.in_split("valid")]
    given = {row.slide_id: row.mpp for row in rows if row.mpp is not None}
    known = {row.slide_id: scales[row.slide_id] for row in rows if row.slide_id in scales} | given
    missing = [slide_id for slide_id, mpp in known.items() if mpp is None]
    found = [mpp for mpp in known.values() if mpp is not None]
    if missing and settings.patches.mpp is not None:
        values = {"slides": missing, "mpp": settings.patches.mpp, "stops": True}
        return [Notice(NoticeCode.MPP_MISSING, values)]
    if missing:
        return [Notice(NoticeCode.SCALES_UNKNOWN, {"slides": missing, "all_slides": not found})]
    if settings.patches.mpp is None and len(found) > 1 and common_mpp([(mpp, mpp) for mpp in found]) is None:
        return [Notice(NoticeCode.SCALES_DIFFER, {"low": min(found), "high": max(found)})]
    return []


def _unlabelled(cohort: Cohort) -> list[Notice]:
    n = len(cohort) - len(cohort.labelled)
    return [Notice(NoticeCode.UNLABELLED, {"n": n})] if n else []
