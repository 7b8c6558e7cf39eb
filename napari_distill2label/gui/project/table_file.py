"""The table that slides are opened from and saved to: what opening it would do, and whether it changed meanwhile.

No Qt, no viewer.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...core.classes import split_label
from ...core.errors import CohortError, OutputError
from ...core.notices import Notice
from ...core.paths import is_url
from ...store.cohort import Cohort
from ...store.cohort_edits import LabelRow, MergedLabels, merge_labels, read_labels
from ...store.files.outputs import Outputs
from ...store.files.signature import file_signature
from ..messages import text_of

CLASSES = ("normal", "tumour")  # until the user or a table says otherwise
NAMED = 3  # slides named in a message


@dataclass(frozen=True)
class FoundCohort:
    """A table with slides of its own, which take the place of those that are there.

    Attributes
    ----------
    signature
        The file's, from before it was read.
    """

    path: Path
    cohort: Cohort
    notices: tuple[Notice | CohortError, ...]
    signature: str


@dataclass(frozen=True)
class FoundLabels:
    """A table without paths: labels for the slides that are there."""

    path: Path
    rows: tuple[LabelRow, ...]
    notices: tuple[Notice | CohortError, ...]

    def onto(self, cohort: Cohort) -> MergedLabels:
        """The labels on the slides there are by now: reading took its time."""
        merged = merge_labels(cohort, self.rows)
        if merged.matched and not cohort.labelled and cohort.classes == CLASSES:  # nobody has chosen these names
            return _with_own_classes(cohort, self.rows)
        return merged

    def text(self, merged: MergedLabels) -> str:
        """What there is to say of it."""
        total = len(merged.cohort)
        said = f"{self.path.name}: labels for {len(merged.matched)} of the {total} slides in the list"
        parts = [f"{said}. Undo takes them back"]
        if merged.new_classes:
            parts.append(f"new classes: {', '.join(merged.new_classes)}")
        notices = map(text_of, (*self.notices, *merged.notices))
        return f"{'. '.join(parts)}. {' '.join(notices)}".strip()


def found_in(path: Path, cohort: Cohort, own: Path | None) -> FoundCohort | FoundLabels:
    """What a table holds, and what it would do to `cohort`. Any thread may call.

    A table without paths gives its labels to the slides that are there (`own`: the table they come from is opened
    again). `CohortError` if it cannot be read, or if it names no slide that is there and none beside itself either.
    """
    signature = file_signature(path) if os.path.exists(path) else ""
    given = read_labels(path) if len(cohort) and path != own else None
    if given is not None:
        rows, of_labels = given
        if merge_labels(cohort, rows).matched:
            return FoundLabels(path, tuple(rows), tuple(of_labels))
    found, notices = opened_cohort(path, cohort.classes)
    if given is not None and not any(os.path.exists(row.path) for row in found if not is_url(row.path)):
        some = ", ".join(row.slide_id for row in found.slides[:NAMED])
        raise CohortError(
            f"{path}: none of its {len(found)} slides ({some}{', …' if len(found) > NAMED else ''}) is in the list, "
            "and it has no column 'path' that says where they are. The list stays as it is"
        )
    return FoundCohort(path, found, tuple(notices), signature)


def _with_own_classes(cohort: Cohort, rows: Sequence[LabelRow]) -> MergedLabels:
    """Merged with the classes of the table in place of those that a new list begins with."""
    merged = merge_labels(replace(cohort, classes=()), rows)
    try:
        return replace(merged, cohort=merged.cohort.with_classes())
    except CohortError as error:
        if set(merged.cohort.classes) <= set(CLASSES):
            return replace(merged, cohort=replace(merged.cohort, classes=CLASSES), new_classes=())
        return replace(merged, notices=(*merged.notices, error))


def opened_cohort(path: str | os.PathLike[str], classes: tuple[str, ...]) -> tuple[Cohort, list[Notice | CohortError]]:
    """(cohort, notices) of a table, its classes settled as far as they can be. Any thread may call.

    `classes` are those in use: they stay where the labels of the table fit them and do not say which is negative.
    """
    cohort = Cohort.read(path)
    notices: list[Notice | CohortError] = [*cohort.notices]
    try:
        return cohort.with_classes(), notices
    except CohortError as error:
        found = {name for row in cohort.labelled for name in split_label(row.label)}
        if found and not found <= set(classes):
            return replace(cohort, classes=()), [*notices, error]
        return replace(cohort, classes=classes), notices


class TableFile:
    """Is the table on disk still the one that was read or written? `path` None: there is none."""

    def __init__(self, path: Path | None = None, signature: str = "") -> None:
        self.path, self.signature = path, signature

    @classmethod
    def now(cls, path: Path) -> "TableFile":
        """As it is on disk."""
        return cls(path, file_signature(path))

    @property
    def has_changed(self) -> bool:
        """Has somebody else written it since?"""
        if self.path is None or not self.signature:
            return False
        try:
            return file_signature(self.path) != self.signature
        except OSError:  # it is gone: nothing is lost by writing it again
            return False

    def check(self, target: Path, slides: list[str | Path], write: Callable[[], Path], overwrite: bool) -> Path:
        """`write()`, unless that would take what is not this table: `OutputError` says what, and is asked about.

        `slides` are files that are never written onto.
        """
        if _same(target, self.path):
            if self.has_changed and not overwrite:
                raise OutputError(
                    f"{target}: another program has changed this table since it was opened here. Saving replaces it; "
                    f"a copy of it is kept as {target.name}.bak",
                    [target],
                    "foreign",
                )
            return write()
        standing = Outputs(slides).standing(target)
        if standing == "input":
            raise OutputError(f"{target}: this file is one of the slides. Choose another name", [target], standing)
        if standing == "folder":
            raise OutputError(f"{target}: this is a folder. Choose another name", [target], standing)
        if standing == "foreign" and not overwrite:
            raise OutputError(
                f"{target}: there is another file of this name. Saving replaces it; a copy of it is kept as "
                f"{target.name}.bak",
                [target],
                standing,
            )
        return write()


def _same(one: Path, other: Path | None) -> bool:
    return other is not None and os.path.realpath(one) == os.path.realpath(other)
