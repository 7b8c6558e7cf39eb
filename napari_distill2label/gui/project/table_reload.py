"""Another program changes the table that is open: what it changed, and how both sides come together. No Qt."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from psygnal import Signal

from ...core.errors import Distill2LabelError
from ...core.text import quoted, shown
from ...store.cohort import Cohort
from ...store.cohort_merge import CohortMerge, Conflict, merge_cohorts
from ...store.files.signature import file_signature
from ..messages import message_of
from ..runner.reader import BackgroundReader
from .autosave import Autosave
from .project import Project, named
from .table_file import TableFile, opened_cohort

FIELD_NAMES = {"mpp": "µm/px", "case_id": "case", "path": "file"}


@dataclass(frozen=True)
class ChangedTable:
    """A table as another program has left it. `problem`: why it cannot be read, "" if it can."""

    path: Path
    signature: str
    cohort: Cohort | None
    problem: str = ""


class TableReload:
    """Looks whether the table has changed on disk, and takes what has.

    Attributes
    ----------
    found
        The changed table; None: it is as it was, or the user has seen it and keeps what is here.
    """

    changed = Signal()
    shown_again = Signal(str)  # the slide that is shown has another file or scale

    def __init__(self, project: Project, reader: BackgroundReader, autosave: Autosave) -> None:
        self._project, self._reader, self._autosave = project, reader, autosave
        self.found: ChangedTable | None = None
        self._looking = False
        self._seen = ""  # signature of what the user does without
        project.events.table.connect(self._forget)

    @property
    def text(self) -> str:
        """What to say; "" where there is nothing to say."""
        if self.found is None:
            return ""
        name = self.found.path.name
        if self.found.cohort is None:
            return f"Another program has changed {name}, and it cannot be read now: {self.found.problem}"
        merge = self.merge()
        changed = f"{named(merge.changed)} differ{'s' if len(merge.changed) == 1 else ''}" if merge.changed else ""
        both = f"{_count(merge.conflicts)} changed here too" if merge.conflicts else ""
        what = "; ".join(filter(None, (changed, both))) or "no value of a slide differs"
        return f"Another program has changed {name}: {what}."

    def merge(self) -> CohortMerge:
        """Both sides, as they are now. Only where there is a table that can be read."""
        assert self.found is not None
        assert self.found.cohort is not None
        project = self._project
        return merge_cohorts(project.saved_cohort, project.cohort, self.found.cohort)

    def look(self) -> None:
        """See whether the table has changed, in the background."""
        table = self._project.table
        if table.path is None or not table.signature or self._looking:
            return
        self._looking = True
        known = {table.signature, self._seen, self.found.signature if self.found else ""}
        work = partial(_look, table.path, known, self._project.classes)
        self._reader.request("table", work, partial(self._take_look, table), self._not_looked)

    def take(self, prefer_there: bool = False) -> None:
        """Take what was changed there, with what was changed here; in conflicts what is here, unless `prefer_there`.

        It can be undone, and what was not saved here is not saved afterwards.
        """
        found, project = self.found, self._project
        if found is None or found.cohort is None:
            return
        merge = self.merge()
        chosen, shown_id = merge.there if prefer_there else merge.here, project.shown
        before = _place(project.cohort, shown_id)
        self.found = None
        project.change(saved_cohort=found.cohort, table=TableFile(found.path, found.signature))
        project.edit(f"reload {found.path.name}", chosen)
        self._autosave.table_read_again()
        if shown_id is not None and before != (now := _place(project.cohort, shown_id)) and now is not None:
            self.shown_again.emit(shown_id)
        self.changed.emit()

    def keep(self) -> None:
        """Do without it. Saving asks before it replaces what is there."""
        if self.found is not None:
            self._seen, self.found = self.found.signature, None
            self.changed.emit()

    def _take_look(self, table: TableFile, found: ChangedTable | None) -> None:
        self._looking = False
        if found is not None and table is self._project.table:
            self.found = found
            self.changed.emit()

    def _not_looked(self, error: Exception) -> None:
        self._looking = False  # the file is gone, or being written: there is another look soon

    def _forget(self) -> None:
        if self.found is not None:
            self.found = None
            self.changed.emit()


def conflict_lines(conflicts: tuple[Conflict, ...]) -> list[str]:
    """Say of each value that was changed in both places what it is here and there."""
    return [
        f"{quoted(each.slide_id)}, {FIELD_NAMES.get(each.field, each.field) or 'slide'}: here {_said(each.here)}, "
        f"in the table {_said(each.there)}"
        for each in conflicts
    ]


def _said(value: object) -> str:
    return "nothing" if value is None else shown(str(value), 80)


def _count(conflicts: tuple[Conflict, ...]) -> str:
    n = len(conflicts)
    return f"{n} {'value was' if n == 1 else 'values were'}"


def _place(cohort: Cohort, slide_id: str | None) -> object:
    return next(((row.path, row.mpp) for row in cohort if row.slide_id == slide_id), None)


def _look(path: Path, known: set[str], classes: tuple[str, ...]) -> ChangedTable | None:
    """In another thread. None: nothing new, or it is being written."""
    signature = file_signature(path)
    if signature in known:
        return None
    try:
        cohort, _ = opened_cohort(path, classes)
    except Distill2LabelError as error:
        return ChangedTable(path, signature, None, message_of(error))
    return ChangedTable(path, signature, cohort) if file_signature(path) == signature else None
