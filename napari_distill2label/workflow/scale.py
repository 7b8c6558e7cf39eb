"""Slides without a pixel size: one question for all of them."""

from collections.abc import Generator, Iterable

from ..core.errors import SlideError
from ..core.events import Progress, Task
from ..core.notices import Notice, NoticeCode
from ..slides.registry import open_slide
from ..slides.scale import missing_mpp
from ..store.cohort import CohortSlide


def slides_without_mpp(rows: Iterable[CohortSlide], mpp: float | None = None) -> Generator[Progress, None, list[str]]:
    """Return the ids of slides without µm/px: neither `mpp`, nor the cohort, nor the file has one.

    Slides that cannot be opened are skipped; they fail later with their own error.
    """
    rows, found = list(rows), []
    for done, row in enumerate(rows, 1):
        if mpp is None and row.mpp is None:
            try:
                with open_slide(row.path) as slide:
                    if slide.mpp is None:
                        found.append(row.slide_id)
            except SlideError:
                pass
        yield Progress(Task.CHECK_SCALE, done, len(rows))
    return found


def notice_missing_mpp(
    rows: Iterable[CohortSlide], needed: float | None, mpp: float | None = None
) -> Generator[Progress | Notice, None, None]:
    """Yield one `Notice` on all slides without µm/px, if `needed` is given. These slides fail later."""
    if needed is not None and (found := (yield from slides_without_mpp(rows, mpp))):
        yield Notice(NoticeCode.MPP_MISSING, {"slides": found, "mpp": needed})


def require_mpp(
    rows: Iterable[CohortSlide], needed: float | None, mpp: float | None = None
) -> Generator[Progress, None, None]:
    """Raise one `CohortError` on all slides without µm/px, if `needed` is given."""
    if needed is not None and (found := (yield from slides_without_mpp(rows, mpp))):
        raise missing_mpp(found, needed)
