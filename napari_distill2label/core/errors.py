"""Errors for people: a problem in one plain sentence, what it concerns, and what to do about it.

An error holds facts. Each interface makes its own text of them: Python's is `str(error)` and names parameters, the
command line names options (`cli.messages`), the window names boxes (`gui.messages`).
Every error that the package raises on purpose is a `Distill2LabelError`. Anything else is a bug and keeps its
traceback.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .messages import Remedy, python_messages
from .text import shown

ErrorType = TypeVar("ErrorType", bound="Distill2LabelError")
AnyError = TypeVar("AnyError", bound=BaseException)


class Distill2LabelError(Exception):
    """Base of all errors raised on purpose. `exit_status` is what the command line returns for it.

    Its text is one line without control characters and logins of URLs, and is shortened where it is too long.

    Attributes
    ----------
    problem
        What is wrong. It names no option, box or parameter.
    file
        The file or folder that it is about.
    item
        The slide or network that it is about.
    field
        The setting or input that it is about: a key of `core.fields.FIELDS`.
    remedy
        What can be done.
    """

    exit_status = 2

    def __init__(
        self,
        problem: str,
        *,
        file: object = None,
        item: str | None = None,
        field: str | None = None,
        remedy: Remedy | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem, self.file, self.item, self.remedy = problem, file, item, remedy
        self.field = field or (remedy.field if remedy else None)

    def __str__(self) -> str:
        return python_messages.line(self)

    @property
    def statement(self) -> str:
        """The problem with the item and the file in front of it, and without the remedy."""
        where = "".join(f"{shown(place, 400)}: " for place in (self.item, self.file) if place is not None)
        return where + self.problem

    @classmethod
    def of(cls: type[ErrorType], error: "Distill2LabelError", **facts: Any) -> ErrorType:
        """Return an error of this class with the facts of another one; `facts` replace some of them."""
        own = {name: getattr(error, name) for name in ("problem", "file", "item", "field", "remedy")}
        return cls(**own | facts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)  # from a worker process to the one that asked


def _restored(kind: type[ErrorType], args: tuple[object, ...], facts: dict[str, Any]) -> ErrorType:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


def without_frames(error: AnyError) -> AnyError:
    """Return the error without its traceback and causes, whose frames would keep slides and tensors alive."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


class SettingsError(Distill2LabelError):
    """A setting is unknown, out of range, or does not fit the others."""


class CohortError(Distill2LabelError):
    """A cohort, truth or points table cannot be used as it is."""


class BundleError(Distill2LabelError):
    """A model bundle or checkpoint is incomplete, altered, or of another kind."""


class MissingDependencyError(Distill2LabelError):
    """An optional package is needed."""


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

    def __init__(self, problem: str, paths: Sequence[Path], standing: str, remedy: Remedy | None = None) -> None:
        super().__init__(problem, remedy=remedy)
        self.paths, self.standing = tuple(paths), standing


class FolderInUseError(Distill2LabelError):
    """Another process, or another work of this one, writes into the folder."""


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

    def __init__(self, problem: str, boxes: Iterable[tuple[int, int, int, int]], file: object = None) -> None:
        super().__init__(problem, file=file)
        self.boxes = tuple(boxes)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(y, x, h, w), the first of `boxes`."""
        return self.boxes[0]
