"""A glimpse of each slide: a small picture, its size and the µm/px its file states. Read beside the window, then kept.

No Qt. The table asks for the rows in sight; the others follow one by one while nothing computes.
"""

import weakref
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal

from ...core.errors import Distill2LabelError
from ...core.geometry import Mpp
from ...slides.registry import open_slide
from ..wording import in_the_window

if TYPE_CHECKING:
    from ...slides.slide import Slide
    from ..session import Session

SIDE = 64  # px; longer side of a picture: sharp at twice the height of a table's row
KEPT = 2000  # glimpses, 12 KB each
SURVEYED = 500  # slides looked at without being in sight, so that a missing µm/px is known
MOST_PX = 8192**2  # px; a file without small levels is not read whole for a picture, if it is larger


@dataclass(frozen=True, eq=False)
class Glimpse:
    """What a short look at a slide's file tells.

    Attributes
    ----------
    picture
        (h, w, 3) uint8, at most 64 px on its longer side; None where reading it would take long.
    shape
        (height, width) of level 0; None if the file cannot be read.
    mpp
        (y, x) µm/px the file states; None where it does not.
    reason
        Why the file cannot be read; "" if it can.
    """

    picture: np.ndarray | None = None
    shape: tuple[int, int] | None = None
    mpp: Mpp | None = None
    reason: str = ""


def glimpse(path: object) -> Glimpse:
    """Open a slide and have a short look at it. Any thread may call; a file that cannot be read is an answer too."""
    try:
        with open_slide(path) as slide:
            return Glimpse(_picture(slide), slide.shape, slide.mpp)
    except Distill2LabelError as error:
        return Glimpse(reason=in_the_window(str(error)))


def _picture(slide: "Slide") -> np.ndarray | None:
    from PIL import Image

    large = [index for index, level in enumerate(slide.levels) if max(level.shape[:2]) >= SIDE]
    level = large[-1] if large else 0
    base = level if not slide.computed[level] else slide.computed.index(True) - 1
    if np.prod(slide.levels[base].shape[:2], dtype=float) > MOST_PX:
        return None
    image = Image.fromarray(slide.read(level, 0, 0, *slide.levels[level].shape[:2]))
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(image)


class Thumbnails:
    """The glimpses of a session's slides, by file."""

    changed = Signal(str)  # slide id: there is a glimpse of it now

    def __init__(self, session: "Session") -> None:
        self._owner = weakref.ref(session)  # a cycle would keep the session past its viewer
        self._glimpses: OrderedDict[object, Glimpse] = OrderedDict()
        self._asked: set[str] = set()
        self._any_mpp: tuple[object, bool] = (None, False)  # of which slides it is known, and what

    @property
    def _session(self) -> "Session":
        return self._owner()

    def get(self, slide_id: str, path: object) -> Glimpse | None:
        """What is known of a slide; None if nobody has looked yet."""
        found = self._glimpses.get(path)
        if found is not None:
            self._glimpses.move_to_end(path)
        return found

    @property
    def any_mpp(self) -> bool:
        """Has a slide of the list been seen whose file states its µm/px?"""
        cohort = self._session.cohort
        if self._any_mpp[0] is not cohort:  # asked for each row of the table
            glimpses = (self._glimpses.get(row.path) for row in cohort)
            self._any_mpp = cohort, any(found is not None and found.mpp is not None for found in glimpses)
        return self._any_mpp[1]

    def want(self, slide_ids: Iterable[str]) -> None:
        """Look at these slides, the ones in sight, next; what was asked for before and is out of sight is forgotten."""
        wanted = set(slide_ids)
        for slide_id in self._asked - wanted:
            self._session.reader.cancel(self._key(slide_id))
        self._asked &= wanted
        rows = [row for row in self._session.cohort if row.slide_id in wanted - self._asked]
        for row in rows:
            if row.path not in self._glimpses:
                self._ask(row.slide_id, row.path)
        if not self._asked:
            self._survey()

    def forget(self, slide_ids: Iterable[str]) -> None:
        """Look at these slides anew: their files may be there now."""
        ids = set(slide_ids)
        for row in self._session.cohort:
            if row.slide_id in ids:
                self._glimpses.pop(row.path, None)

    def _ask(self, slide_id: str, path: object) -> None:
        def done(found: Glimpse) -> None:
            self._asked.discard(slide_id)
            self._glimpses[path] = found
            if found.mpp is not None:
                self._any_mpp = (None, False)
            while len(self._glimpses) > KEPT:
                self._glimpses.popitem(last=False)
            self.changed.emit(slide_id)
            if not self._asked:
                self._survey()

        self._asked.add(slide_id)
        self._session.reader.request(self._key(slide_id), lambda: glimpse(path), done, lambda error: done(
            Glimpse(reason=f"{path}: {error}")))  # fmt: skip

    def _survey(self) -> None:
        """The next slide nobody has looked at yet. Nothing is read while a job computes."""
        if self._session.jobs.busy or not hasattr(self._session.viewer, "window"):
            return
        for row in self._session.cohort.slides[:SURVEYED]:
            if row.path not in self._glimpses:
                self._ask(row.slide_id, row.path)
                return

    def _key(self, slide_id: str) -> tuple[str, str]:
        return "glimpse", slide_id
