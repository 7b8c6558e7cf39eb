"""Ask once for what the files of many slides do not say: their µm per pixel."""

from collections.abc import Generator, Iterable

from ..core.errors import CohortError, SlideError
from ..core.events import Notice, Progress, Task
from ..slides.registry import open_slide
from ..slides.scale import missing_mpp
from ..store.cohort import CohortSlide


def slides_without_mpp(rows: Iterable[CohortSlide], mpp: float | None = None) -> Generator[Progress, None, list[str]]:
    """Ids of the slides that have no µm/px: none is given (`mpp` for all, or in the cohort), and the file has none.

    Slides that cannot be opened are no business of this function.
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
    """One `Notice` of all slides without µm/px, where `needed` µm/px are asked for. They fail in their turn."""
    if needed is not None and (found := (yield from slides_without_mpp(rows, mpp))):
        yield Notice(missing_mpp(found, needed))


def require_mpp(
    rows: Iterable[CohortSlide], needed: float | None, mpp: float | None = None
) -> Generator[Progress, None, None]:
    """One `CohortError` of all slides without µm/px, where `needed` µm/px are asked for."""
    if needed is not None and (found := (yield from slides_without_mpp(rows, mpp))):
        raise CohortError(missing_mpp(found, needed))
