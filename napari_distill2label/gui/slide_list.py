"""The list of slides: files, labels, classes. No viewer, no Qt; `Session` shows it."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from psygnal import Signal

from ..core.classes import split_label
from ..core.colours import RGB, palette
from ..core.errors import CohortError
from ..core.names import slide_name
from ..slides.registry import SUFFIXES
from ..store.cohort import Cohort, CohortSlide
from .undo import UndoStack

PathLike = str | os.PathLike[str]
Value = TypeVar("Value")
CLASSES = ("normal", "tumour")  # until the user or a table says otherwise


class SlideList:
    """Slides with their labels, and how they change.

    Attributes
    ----------
    cohort
        The slides and the classes, negative first. A frozen value: use the methods to change it.
    cohort_path
        Where it was read from or written to.
    notices
        All that the user was told, oldest first.
    undo_stack
        Edits of labels, classes, µm/px and corrections, to be taken back and done again.
    """

    slides_changed = Signal()
    colours_changed = Signal()
    message = Signal(str)  # something the user should know

    def __init__(self) -> None:
        self.cohort = Cohort((), CLASSES)
        self.cohort_path: Path | None = None
        self.notices: list[str] = []
        self.undo_stack = UndoStack()
        self._colours: dict[str, RGB] = {}

    @property
    def colours(self) -> tuple[RGB, ...]:
        """8-bit (r, g, b) of each class, as chosen, else the palette's."""
        chosen = zip(self.classes, palette(len(self.classes)), strict=True)
        return tuple(self._colours.get(name, colour) for name, colour in chosen)

    def set_colour(self, name: str, colour: RGB) -> None:
        """Show a class in another colour, wherever it is shown. `CohortError` if there is no such class."""
        if name not in self.classes:
            raise CohortError(f"there is no class {name!r}: the classes are {', '.join(self.classes)}")
        red, green, blue = (min(255, max(0, int(part))) for part in colour)
        self._colours = {**self._colours, name: (red, green, blue)}
        self.colours_changed.emit()

    def undo(self) -> str | None:
        """Take the last edit back; return what it was."""
        return self.undo_stack.undo()

    def redo(self) -> str | None:
        """Do again what was undone last; return what it was."""
        return self.undo_stack.redo()

    def add_slides(self, paths: PathLike | Iterable[PathLike], label: str | None = None) -> list[str]:
        """Add image files, or all images in folders; return the ids of the new slides. What cannot be added is told.

        Files are not read yet. A file that is there already is passed over.
        """
        if isinstance(paths, (str, os.PathLike)):
            paths = [paths]
        files = self._reading(lambda: list(_files_in(paths)))
        rows = {row.slide_id: row for row in self.cohort}
        known = {row.path for row in self.cohort}
        new, refused = [], []
        for path in files:
            slide_id = slide_name(path)
            if path in known:
                continue
            if not path.exists() or path.suffix.lower() not in SUFFIXES:
                reason = "no such file" if not path.exists() else f"not one of {', '.join(SUFFIXES)}"
                refused.append(f"{path}: {reason}")
            elif slide_id in rows:
                refused.append(f"{path}: another slide is named {slide_id!r} already; list both in a cohort.csv")
            else:
                rows[slide_id] = CohortSlide(slide_id, path, label, case_id=slide_id)
                known.add(path)
                new.append(slide_id)
        if new:
            self._set_cohort(self.cohort.with_slides(rows.values()))
        for line in refused:
            self._tell(line)
        return new

    def remove_slides(self, slide_ids: Iterable[str]) -> None:
        """Take slides off the list, and their layers away. Files are left alone."""
        gone = set(slide_ids)
        self._set_cohort(self.cohort.with_slides(row for row in self.cohort if row.slide_id not in gone))

    def read_cohort(self, path: PathLike) -> Cohort:
        """Read `cohort.csv` in place of the slides there are. Errors leave these as they were."""
        cohort = self._reading(lambda: Cohort.read(path))
        try:
            cohort = cohort.with_classes()
        except CohortError as error:
            found = {name for row in cohort.labelled for name in split_label(row.label)}
            if found and not found <= set(self.classes):
                self._tell(str(error).replace("as in --classes ", "as in "))
                cohort = replace(cohort, classes=())
            else:
                cohort = replace(cohort, classes=self.classes)
        self.cohort_path = Path(path).absolute()
        self._set_cohort(cohort)
        return cohort

    def write_cohort(self, path: PathLike | None = None) -> Path:
        """Write `cohort.csv`; without a path, where it was read from."""
        path = path or self.cohort_path
        if path is None:
            raise CohortError("where to? Give the path of the cohort.csv to write")
        self.cohort_path = self.cohort.write(path).absolute()
        return self.cohort_path

    def set_label(self, slide_ids: str | Iterable[str], label: str | None) -> None:
        """Mark slides with a class ('a;b' for several at once), or with None for no label. `CohortError` if unknown."""
        ids = {slide_ids} if isinstance(slide_ids, str) else set(slide_ids)
        label = label or None
        if unknown := [name for name in split_label(label or "") if name not in self.classes]:
            raise CohortError(f"unknown label {unknown[0]!r}: the classes are {', '.join(self.classes)}")
        self._change(ids, label=label)

    def set_mpp(self, slide_ids: str | Iterable[str], mpp: float | None) -> None:
        """Say the µm/px of slides where their files do not, or are wrong; None: the file's own."""
        if mpp is not None and not 0.05 <= mpp <= 20:
            raise CohortError(f"{mpp:g} µm/px is not between 0.05 and 20")
        ids = {slide_ids} if isinstance(slide_ids, str) else set(slide_ids)
        self._change(ids, mpp=mpp)

    def _change(self, ids: set[str], **fields: Any) -> None:
        if missing := ids - {row.slide_id for row in self.cohort}:
            raise CohortError(f"there is no slide {sorted(missing)[0]!r}")
        rows = [replace(row, **fields) if row.slide_id in ids else row for row in self.cohort]
        self._set_cohort(self.cohort.with_slides(rows))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, the negative one first."""
        return self.cohort.classes

    @classes.setter
    def classes(self, names: str | Sequence[str]) -> None:
        parts = names.split(",") if isinstance(names, str) else names
        classes = tuple(part.strip() for part in parts if part.strip())
        if len(classes) < 2 or len(set(classes)) != len(classes):
            raise CohortError("name two or more different classes, the negative one first: normal, tumour")
        if classes != self.classes:
            self._set_cohort(replace(self.cohort, classes=classes))

    def _set_cohort(self, cohort: Cohort) -> None:
        self.cohort = cohort
        self.slides_changed.emit()

    def _reading(self, read: Callable[[], Value]) -> Value:
        """Do what looks at files; a session with a window does it beside that."""
        return read()

    def _row(self, slide_id: str) -> CohortSlide:
        for row in self.cohort:
            if row.slide_id == slide_id:
                return row
        raise CohortError(f"there is no slide {slide_id!r}")

    def _tell(self, text: str) -> None:
        self.notices.append(text)
        self.message.emit(text)


def _files_in(paths: Iterable[PathLike]) -> Iterable[Path]:
    """Files as given; of folders, the images in them. An OME-Zarr folder is a slide."""
    for path in (Path(path).absolute() for path in paths):
        if path.is_dir() and path.suffix.lower() != ".zarr":
            for folder, names, files in os.walk(path):
                inside = [name for name in names if name.lower().endswith(".zarr")]
                names[:] = sorted(name for name in names if name not in inside and not name.startswith("."))
                candidates = sorted(inside + files)
                yield from (Path(folder) / name for name in candidates if Path(name).suffix.lower() in SUFFIXES)
        else:
            yield path
