"""Previews of the slides: a small picture, size and µm/px of each, read in the background and kept. No Qt.

The table asks for the rows in sight; the others follow one by one while nothing computes.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

from psygnal import Signal

from ...slides.preview import SlidePreview, read_preview
from ..runner.reader import BackgroundReader
from .project import Project

KEPT = 2000  # previews, 12 KB each
SURVEYED = 500  # slides looked at without being in sight, so that a missing µm/px is known


class Previews:
    """The previews of a project's slides, by file. `may_survey`: may the disk be used for slides out of sight?"""

    changed = Signal(str)  # slide id: there is a preview of it now

    def __init__(self, project: Project, reader: BackgroundReader, may_survey: Callable[[], bool]) -> None:
        self._project, self._reader, self._may_survey = project, reader, may_survey
        self._previews: OrderedDict[Path | str, SlidePreview] = OrderedDict()
        self._asked: set[str] = set()
        self._any_mpp: tuple[object, bool] = (None, False)  # of which slides it is known, and what

    def get(self, slide_id: str, path: Path | str) -> SlidePreview | None:
        """What is known of a slide; None if nobody has looked yet."""
        found = self._previews.get(path)
        if found is not None:
            self._previews.move_to_end(path)
        return found

    @property
    def any_mpp(self) -> bool:
        """Has a slide of the list been seen whose file states its µm/px?"""
        cohort = self._project.cohort
        if self._any_mpp[0] is not cohort:  # asked for each row of the table
            previews = (self._previews.get(row.path) for row in cohort)
            self._any_mpp = cohort, any(found is not None and found.mpp is not None for found in previews)
        return self._any_mpp[1]

    def request(self, slide_ids: Iterable[str]) -> None:
        """Look at these slides, the ones in sight, next; what was asked for before and is out of sight is forgotten."""
        wanted = set(slide_ids)
        for slide_id in self._asked - wanted:
            self._reader.cancel(_key(slide_id))
        self._asked &= wanted
        rows = [row for row in self._project.cohort if row.slide_id in wanted - self._asked]
        for row in rows:
            if row.path not in self._previews:
                self._ask(row.slide_id, row.path)
        if not self._asked:
            self._survey()

    def forget(self, slide_ids: Iterable[str]) -> None:
        """Look at these slides again: their files may be there now."""
        ids = set(slide_ids)
        for row in self._project.cohort:
            if row.slide_id in ids:
                self._previews.pop(row.path, None)

    def _ask(self, slide_id: str, path: Path | str) -> None:
        def done(found: SlidePreview) -> None:
            self._asked.discard(slide_id)
            self._previews[path] = found
            if found.mpp is not None:
                self._any_mpp = (None, False)
            while len(self._previews) > KEPT:
                self._previews.popitem(last=False)
            self.changed.emit(slide_id)
            if not self._asked:
                self._survey()

        def failed(error: Exception) -> None:
            done(SlidePreview(reason=f"{path}: {error}"))

        self._asked.add(slide_id)
        self._reader.request(_key(slide_id), lambda: read_preview(path), done, failed)

    def _survey(self) -> None:
        """The next slide nobody has looked at yet. Nothing is read while a job computes."""
        if not self._may_survey():
            return
        for row in self._project.cohort.slides[:SURVEYED]:
            if row.path not in self._previews:
                self._ask(row.slide_id, row.path)
                return


def _key(slide_id: str) -> tuple[str, str]:
    return "preview", slide_id
