"""Slides without a pixel size: one question for all of them."""

from collections.abc import Generator, Iterable
from dataclasses import replace

from ..core.errors import SettingsError, SlideError
from ..core.events import Progress, Task
from ..core.notices import Notice, NoticeCode
from ..slides.registry import open_slide
from ..slides.scale import LIMITS, missing_mpp
from ..store.cohort import Cohort, CohortSlide


def with_mpp(cohort: Cohort, mpp: float | None) -> Cohort:
    """Return the cohort with the µm/px that a user gives for all slides. None: as it is.

    `SettingsError` if no slide has so much.
    """
    if mpp is None:
        return cohort
    if not LIMITS[0] <= mpp <= LIMITS[1]:
        raise SettingsError(
            f"No slide has {mpp:g} µm/px. Give a number from {LIMITS[0]:g} to {LIMITS[1]:g}.", field="inputs.mpp"
        )
    return cohort.with_slides(replace(row, mpp=mpp) for row in cohort)


def slides_without_mpp(rows: Iterable[CohortSlide]) -> Generator[Progress, None, list[str]]:
    """Return the ids of slides without µm/px: neither the cohort nor the file has one.

    Slides that cannot be opened are skipped; they fail later with their own error.
    """
    rows, found = list(rows), []
    for done, row in enumerate(rows, 1):
        if row.mpp is None:
            try:
                with open_slide(row.path) as slide:
                    if slide.mpp is None:
                        found.append(row.slide_id)
            except SlideError:
                pass
        yield Progress(Task.CHECK_SCALE, done, len(rows))
    return found


def notice_missing_mpp(rows: Iterable[CohortSlide], needed: float | None) -> Generator[Progress | Notice, None, None]:
    """Yield one `Notice` on all slides without µm/px, if `needed` is given. These slides fail later."""
    if needed is not None and (found := (yield from slides_without_mpp(rows))):
        yield Notice(NoticeCode.MPP_MISSING, {"slides": found, "mpp": needed})


def require_mpp(rows: Iterable[CohortSlide], needed: float | None) -> Generator[Progress, None, None]:
    """Raise one `CohortError` on all slides without µm/px, if `needed` is given."""
    if needed is not None and (found := (yield from slides_without_mpp(rows))):
        raise missing_mpp(found, needed)
