"""µm/px of slides as their files say, looked at once in the background, for the advice before a training. No Qt."""

from collections.abc import Iterable
from pathlib import Path

from ...core.errors import SlideError
from ...core.geometry import mean_mpp
from ...core.paths import is_url
from ...slides.registry import open_slide
from ...store.cohort import CohortSlide

MOST = 200  # files opened for it; a header takes some 10 ms

Known = dict[Path | str, float | None]  # path -> µm/px, None where the file does not say


def read_scales(rows: Iterable[CohortSlide], known: Known) -> Known:
    """`known` and the scales of further slides. What cannot be opened, or is far away, is left out."""
    found = dict(known)
    wanted = [row.path for row in rows if row.mpp is None and not is_url(row.path) and row.path not in found]
    for path in wanted[:MOST]:
        try:
            with open_slide(path) as slide:
                found[path] = None if slide.mpp is None else mean_mpp(slide.mpp)
        except (SlideError, OSError):
            continue
    return found
