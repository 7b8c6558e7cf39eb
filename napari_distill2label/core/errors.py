"""Errors for people: one plain line that says what failed, which file, and what to do.

Every error the package raises on purpose is a `Distill2LabelError`; anything else is a bug and keeps its traceback.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from .text import LONGEST_MESSAGE, shown


class Distill2LabelError(Exception):
    """Base of all errors raised on purpose. `exit_status` is what the command line returns for it.

    Its text is one line, whatever the outside put into it: no control characters, no logins of URLs, not 100 kB.
    """

    exit_status = 2

    def __str__(self) -> str:
        return shown(super().__str__(), LONGEST_MESSAGE)


ErrorType = TypeVar("ErrorType", bound=BaseException)


def without_frames(error: ErrorType) -> ErrorType:
    """The error without its traceback and causes, whose frames would keep slides and tensors alive."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


class SettingsError(Distill2LabelError):
    """A setting is unknown, out of range, or does not fit the others."""


class CohortError(Distill2LabelError):
    """A cohort, truth or points table cannot be used as it is."""


class BundleError(Distill2LabelError):
    """A model bundle or checkpoint is incomplete, altered, or of another kind."""


class MissingDependencyError(Distill2LabelError):
    """An optional package is needed; the message names what to install."""


class OutputError(Distill2LabelError):
    """A result would take the place of something that is not ours to replace. Nothing was written.

    Attributes
    ----------
    paths
        What is in the way.
    standing
        "input": it is read in the same call; "folder": a folder that this program did not make; "foreign": a file that
        this program did not write as it stands, the only kind that the user may let be replaced.
    """

    def __init__(self, message: str, paths: Sequence[Path], standing: str) -> None:
        super().__init__(message)
        self.paths, self.standing = tuple(paths), standing


class FolderInUseError(Distill2LabelError):
    """Another process, or another work of this one, writes into the folder; the message names it."""


class SlideError(Distill2LabelError):
    """One slide cannot be read or does not fit the model. The other slides go on."""

    exit_status = 1


class TileError(SlideError):
    """Part of a slide cannot be decoded; the rest of it can. A slide that is gone is a plain `SlideError`.

    Attributes
    ----------
    boxes
        ((y, x, h, w), …) in level-0 pixels: every region found damaged by the call that raised, at least one.
    """

    def __init__(self, message: str, boxes: Iterable[tuple[int, int, int, int]]) -> None:
        super().__init__(message)
        self.boxes = tuple(boxes)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(y, x, h, w), the first of `boxes`."""
        return self.boxes[0]

    def __reduce__(self) -> tuple[type, tuple[str, tuple[tuple[int, int, int, int], ...]]]:
        return type(self), (str(self), self.boxes)  # from a worker process to the one that asked
