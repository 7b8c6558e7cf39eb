"""The list of slides: files, labels, cases, splits, µm/px. No viewer, no Qt; `Session` shows it."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from psygnal import Signal

from ...core.classes import RGB, SEPARATOR, split_label
from ...core.errors import CohortError
from ...core.paths import is_url, slide_name
from ...slides.discovery import PathLike, find_slides
from ...slides.scale import LIMITS
from ...store.cohort import SPLITS, Cohort, CohortSlide
from .class_list import CLASSES, ClassList
from .table_file import FoundCohort, FoundLabels, TableFile, found_in, opened_cohort

Value = TypeVar("Value")
__all__ = ["CLASSES", "PathLike", "SlideList", "opened_cohort"]


@dataclass(frozen=True)
class OpenSlides:
    """The slides of a table, and what goes with them: what another table takes the place of."""

    cohort: Cohort
    saved: Cohort
    table: TableFile
    run: Path | None
    colours: dict[str, RGB]
    current: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)  # what `Session` has beside


class SlideList(ClassList):
    """Slides with their labels, and how they change.

    Attributes
    ----------
    saved
        The slides as that file has them; `unsaved` compares.
    selected
        Ids of the slides selected in the table, in its order.
    """

    selection_changed = Signal()
    cohort_closing = Signal()  # other slides are about to take the place of these
    cohort_opened = Signal()  # and have, from a table or a run
    cohort_written = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._table = TableFile()
        self.saved: Cohort = self.cohort
        self.selected: tuple[str, ...] = ()
        self._run_of_slides: Path | None = None  # the run that brought them

    @property
    def beside(self) -> Path | None:
        """The folder for what is made of the slides: that of their table, else of the first slide's file.

        A run's own table lies in the run, which is left as it was written: then the folder the run is in.
        """
        path = self.cohort_path or next((row.path for row in self.cohort if not is_url(row.path)), None)
        if path is None:
            return None
        folder = Path(path).parent
        return folder.parent if self.is_of_run else folder

    @property
    def is_of_run(self) -> bool:
        """Is the table of the slides a run's own?"""
        return self.cohort_path is not None and self.cohort_path.parent == self._run_of_slides

    # ---- files ----------------------------------------------------------------------------------------------------

    def add_slides(self, paths: PathLike | Iterable[PathLike], label: str | None = None) -> list[str]:
        """Add image files, or all images in folders; return the ids of the new slides. What cannot be added is told.

        Files are not read yet. A file that is there already is passed over.
        """
        paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        found = self._reading(lambda: find_slides(paths))
        rows = {row.slide_id: row for row in self.cohort}
        known = {row.path for row in self.cohort}
        new, refused, repeated = [], list(found.refused), 0
        refused += [f"{path}: a table, not a slide: open it as a cohort" for path in found.tables]
        for path in found.slides:
            slide_id = slide_name(path)
            if path in known:
                repeated += 1
            elif slide_id in rows:
                refused.append(f"{path}: another slide is named {slide_id!r} already; list both in a cohort.csv")
            else:
                rows[slide_id] = CohortSlide(slide_id, path, label, case_id=slide_id)
                known.add(path)
                new.append(slide_id)
        if new:
            self._edit(f"add {named(new)}", self.cohort.with_slides(rows.values()))
        if repeated:
            self._tell(f"{repeated} of {len(found.slides)} files were on the list already: passed over")
        for line in refused:
            self._tell(line)
        return new

    def remove_slides(self, slide_ids: Iterable[str]) -> None:
        """Take slides off the list, and their layers away. Files are left alone."""
        gone = set(slide_ids) & {row.slide_id for row in self.cohort}
        if gone:
            kept = self.cohort.with_slides(row for row in self.cohort if row.slide_id not in gone)
            self._edit(f"remove {named(gone)}", kept)
            self.select(slide_id for slide_id in self.selected if slide_id not in gone)

    def read_cohort(self, path: PathLike) -> Cohort:
        """Open `cohort.csv` in place of the slides there are, or take its labels for them where it has no paths.

        Either can be undone. Errors leave the slides as they were.
        """
        return self.take_table(self.look_into(path))

    def look_into(self, path: PathLike) -> FoundCohort | FoundLabels:
        """What a table holds, and what taking it would do. Nothing has changed yet."""
        path, cohort, own = Path(path).absolute(), self.cohort, self.cohort_path
        return self._reading(lambda: found_in(path, cohort, own))

    def take_table(self, found: FoundCohort | FoundLabels) -> Cohort:
        """Do what `look_into` found; return the cohort as it is then."""
        if isinstance(found, FoundLabels):
            merged = found.onto(self.cohort)
            self._edit(f"labels of {found.path.name}", merged.cohort)
            self._tell(found.text(merged))
            return self.cohort
        for notice in found.notices:
            self._tell(notice)
        table = TableFile(found.path, found.signature)
        self._replace_slides(OpenSlides(found.cohort, found.cohort, table, None, {}), f"open {found.path.name}")
        return found.cohort

    def write_cohort(self, path: PathLike | None = None, overwrite: bool = False) -> Path:
        """Write `cohort.csv`; without a path, where it was read from. A table keeps its other columns and its order.

        `OutputError`, unless `overwrite`, if another file is there, or if somebody else has changed the table since.
        """
        path = path or self.cohort_path
        if path is None:
            raise CohortError("where to? Give the path of the cohort.csv to write")
        target = Path(path).absolute()
        slides = [row.path for row in self.cohort if not is_url(row.path)]
        self._table.check(target, slides, lambda: self.cohort.write(target), overwrite)
        self._table = TableFile.now(target)
        self.saved = self.cohort
        self.cohort_written.emit()
        self.slides_changed.emit()
        return target

    @property
    def cohort_path(self) -> Path | None:
        """Where the slides were read from or written to."""
        return self._table.path

    @property
    def has_own_table(self) -> bool:
        """Is there a table that a plain Save writes? A run's own stays as the run was trained."""
        return self.cohort_path is not None and not self.is_of_run

    @property
    def unsaved(self) -> bool:
        """Do the slides differ from the file they were read from or written to?"""
        return self.cohort.slides != self.saved.slides

    # ---- what a slide is said to be -------------------------------------------------------------------------------

    def set_label(self, slide_ids: str | Iterable[str], label: str | None) -> None:
        """Mark slides with a class ('a;b' for several at once), or with None for no label. `CohortError` if unknown."""
        ids, label = _ids(slide_ids), label or None
        if unknown := [name for name in split_label(label or "") if name not in self.classes]:
            raise CohortError(f"unknown label {unknown[0]!r}: the classes are {', '.join(self.classes)}")
        self._change(f"label {named(ids)} {label or 'nothing'}", ids, label=label)

    def toggle_label(self, slide_ids: str | Iterable[str], name: str) -> None:
        """Where slides can show several classes at once: add a class to slides, or take it off if all have it.

        The negative class stands alone: it says that there is no finding.
        """
        ids = _ids(slide_ids)
        self._check_class(name)
        has = {row.slide_id: split_label(row.label or "") for row in self.cohort if row.slide_id in ids}
        off = all(name in labels for labels in has.values())
        negative = self.classes[0]

        def new(labels: tuple[str, ...]) -> str | None:
            added = [name] if name == negative else [*labels, name]
            kept = [each for each in labels if each != name] if off else added
            ordered = [each for each in self.classes if each in kept and (each != negative or kept == [negative])]
            return SEPARATOR.join(ordered) or None

        self._check_ids(ids)
        rows = [replace(row, label=new(has[row.slide_id])) if row.slide_id in ids else row for row in self.cohort]
        self._edit(f"{'take' if off else 'label'} {named(ids)} {name}", self.cohort.with_slides(rows))

    def set_mpp(self, slide_ids: str | Iterable[str], mpp: float | None) -> None:
        """Say the µm/px of slides where their files do not, or are wrong; None: the file's own."""
        if mpp is not None and not LIMITS[0] <= mpp <= LIMITS[1]:
            raise CohortError(f"{mpp:g} µm/px is not between {LIMITS[0]:g} and {LIMITS[1]:g}")
        ids = _ids(slide_ids)
        self._change(f"µm/px of {named(ids)}", ids, mpp=mpp)

    def set_case(self, slide_ids: str | Iterable[str], case_id: str) -> None:
        """Say which case (patient) slides are of; an empty one is the slide's own id. A case is never split."""
        ids, case_id = _ids(slide_ids), case_id.strip()
        self._check_ids(ids)
        rows = [replace(row, case_id=case_id or row.slide_id) if row.slide_id in ids else row for row in self.cohort]
        self._edit(f"case of {named(ids)}", self.cohort.with_slides(rows))

    def set_split(self, slide_ids: str | Iterable[str], split: str | None) -> None:
        """Put slides in `train`, `valid` or `test`; None lets the training deal them."""
        if split is not None and split not in SPLITS:
            raise CohortError(f"unknown split {split!r}: use {', '.join(SPLITS)}, or none")
        ids = _ids(slide_ids)
        self._change(f"split of {named(ids)}", ids, split=split)

    # ---- the selection --------------------------------------------------------------------------------------------

    def select(self, slide_ids: Iterable[str]) -> None:
        """Select slides; those that are not listed are passed over."""
        listed = {row.slide_id for row in self.cohort}
        chosen = tuple(dict.fromkeys(slide_id for slide_id in slide_ids if slide_id in listed))
        if chosen != self.selected:
            self.selected = chosen
            self.selection_changed.emit()

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _change(self, text: str, ids: set[str], **fields: Any) -> None:
        self._check_ids(ids)
        rows = [
            replace(row, **fields)
            if row.slide_id in ids and any(getattr(row, name) != value for name, value in fields.items())
            else row
            for row in self.cohort
        ]
        self._edit(text, self.cohort.with_slides(rows))

    def _check_ids(self, ids: set[str]) -> None:
        if missing := ids - {row.slide_id for row in self.cohort}:
            raise CohortError(f"there is no slide {sorted(missing)[0]!r}")

    def _set_cohort(self, cohort: Cohort) -> None:
        """Other slides in place of none: what was undone or selected of these is gone, and nothing is unsaved."""
        self.undo_stack.clear()  # first: what autosave restores at once is an edit of these slides
        self._put_slides(OpenSlides(cohort, cohort, self._table, self._run_of_slides, {}))

    def _replace_slides(self, slides: OpenSlides, text: str) -> None:
        """Other slides in place of these, as one edit: undo brings these back with all that went with them."""
        there = [self._slides_now()]

        def swap() -> None:
            now = self._slides_now()
            self._put_slides(there[0])
            there[0] = now

        self.undo_stack.clear()
        if len(there[0].cohort):
            self.undo_stack.did(text, swap, swap)
        self._put_slides(slides)  # last, as above

    def _slides_now(self) -> OpenSlides:
        return OpenSlides(self.cohort, self.saved, self._table, self._run_of_slides, self._colours)

    def _put_slides(self, slides: OpenSlides) -> None:
        self.cohort_closing.emit()
        shades = self.colours
        self.cohort, self.saved, self._table = slides.cohort, slides.saved, slides.table
        self._run_of_slides, self._colours, self.selected = slides.run, slides.colours, ()
        self.slides_changed.emit()
        if shades != self.colours:
            self.colours_changed.emit()
        self.cohort_opened.emit()

    def _reading(self, read: Callable[[], Value]) -> Value:
        """Do what looks at files; a session with a window does it beside that."""
        return read()

    def _row(self, slide_id: str) -> CohortSlide:
        for row in self.cohort:
            if row.slide_id == slide_id:
                return row
        raise CohortError(f"there is no slide {slide_id!r}")


def named(slide_ids: Iterable[str]) -> str:
    """'slide_003', or '12 slides'."""
    ids = list(slide_ids)
    return ids[0] if len(ids) == 1 else f"{len(ids)} slides"


def _ids(slide_ids: str | Iterable[str]) -> set[str]:
    return {slide_ids} if isinstance(slide_ids, str) else set(slide_ids)
