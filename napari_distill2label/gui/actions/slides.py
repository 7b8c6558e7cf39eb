"""What can be done with the list of slides: files in and out, labels, cases, splits, µm/px. No Qt."""

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.classes import SEPARATOR, split_label
from ...core.errors import CohortError
from ...core.paths import PathLike, is_url, slide_name
from ...slides.discovery import find_slides
from ...slides.scale import LIMITS
from ...store.cohort import SPLITS, Cohort, CohortSlide
from ..project.corrections import Corrections
from ..project.open_slides import OpenSlides, SlideSwap
from ..project.project import Project, named
from ..project.table_file import FoundCohort, FoundLabels, TableFile, found_in
from ..runner.reader import BackgroundReader


class SlideActions:
    """Edits of the slides; each can be undone. `show_again(slide_id, again=True)` opens a slide again."""

    def __init__(
        self,
        project: Project,
        corrections: Corrections,
        swap: SlideSwap,
        reader: BackgroundReader,
        show_again: Callable[..., None],
    ) -> None:
        self._project, self._corrections, self._swap, self._reader = project, corrections, swap, reader
        self._show_again = show_again

    # ---- files ----------------------------------------------------------------------------------------------------

    def add_slides(self, paths: PathLike | Iterable[PathLike], label: str | None = None) -> list[str]:
        """Add image files, or all images in folders; return the ids of the new slides. What cannot be added is told.

        Files are not read yet. A file that is there already is passed over.
        """
        paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        return self.add_found(self._reader.wait_for(lambda: find_slides(paths)), label)

    def add_opened(self, path: PathLike, label: str | None) -> list[str]:
        """Add the file of a slide that napari has opened: at once, for nothing else may happen inside its event."""
        return self.add_found(find_slides([path]), label)

    def add_found(self, found: Any, label: str | None = None) -> list[str]:
        """Add slides that were found (`slides.discovery.FoundFiles`)."""
        project = self._project
        rows = {row.slide_id: row for row in project.cohort}
        known = {row.path for row in project.cohort}
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
            project.edit(f"add {named(new)}", project.cohort.with_slides(rows.values()))
        if repeated:
            project.tell(f"{repeated} of {len(found.slides)} files were on the list already: passed over")
        for line in refused:
            project.tell(line)
        return new

    def remove_slides(self, slide_ids: Iterable[str]) -> None:
        """Take slides off the list, and their layers away. Files are left alone."""
        cohort = self._project.cohort
        gone = set(slide_ids) & {row.slide_id for row in cohort}
        if gone:
            kept = cohort.with_slides(row for row in cohort if row.slide_id not in gone)
            self._project.edit(f"remove {named(gone)}", kept)

    def read_cohort(self, path: PathLike) -> Cohort:
        """Open `cohort.csv` in place of the slides there are, or take its labels for them where it has no paths.

        Either can be undone. Errors leave the slides as they were.
        """
        return self.take_table(self.look_into(path))

    def look_into(self, path: PathLike) -> FoundCohort | FoundLabels:
        """What a table holds, and what taking it would do. Nothing has changed yet."""
        self._corrections.flush()  # an error here leaves everything as it is
        path, cohort, own = Path(path).absolute(), self._project.cohort, self._project.cohort_path
        return self._reader.wait_for(lambda: found_in(path, cohort, own))

    def take_table(self, found: FoundCohort | FoundLabels) -> Cohort:
        """Do what `look_into` found; return the cohort as it is then."""
        project = self._project
        if isinstance(found, FoundLabels):
            merged = found.onto(project.cohort)
            project.edit(f"labels of {found.path.name}", merged.cohort)
            project.tell(found.text(merged))
            return project.cohort
        for notice in found.notices:
            project.tell(notice)
        table = TableFile(found.path, found.signature)
        self._swap.replace(OpenSlides(found.cohort, found.cohort, table), f"open {found.path.name}")
        return found.cohort

    def write_cohort(self, path: PathLike | None = None, overwrite: bool = False) -> Path:
        """Write `cohort.csv`; without a path, where it was read from. A table keeps its other columns and its order.

        `OutputError`, unless `overwrite`, if another file is there, or if somebody else has changed the table since.
        """
        project = self._project
        path = path or project.cohort_path
        if path is None:
            raise CohortError("where to? Give the path of the cohort.csv to write")
        # Its other columns as they were read last: an older state of the slides, undone to, has older ones.
        target, cohort = Path(path).absolute(), replace(project.cohort, table=project.saved_cohort.table)
        slides = [row.path for row in cohort if not is_url(row.path)]
        project.table.check(target, slides, lambda: cohort.write(target), overwrite)
        project.change(table=TableFile.now(target), saved_cohort=cohort)
        project.cohort_written.emit()
        return target

    # ---- what a slide is said to be -------------------------------------------------------------------------------

    def set_label(self, slide_ids: str | Iterable[str], label: str | None) -> None:
        """Mark slides with a class ('a;b' for several at once), or with None for no label. `CohortError` if unknown."""
        ids, label, classes = _ids(slide_ids), label or None, self._project.classes
        if unknown := [name for name in split_label(label or "") if name not in classes]:
            raise CohortError(f"unknown label {unknown[0]!r}: the classes are {', '.join(classes)}")
        self._change(f"label {named(ids)} {label or 'nothing'}", ids, label=label)

    def give_label(self, slide_ids: str | Iterable[str], label: str | None, several: bool) -> None:
        """Do what a button or key of a class says: `toggle_label` where a slide can show several, else `set_label`."""
        if label is not None and several:
            self.toggle_label(slide_ids, label)
        else:
            self.set_label(slide_ids, label)

    def toggle_label(self, slide_ids: str | Iterable[str], name: str) -> None:
        """Where slides can show several classes at once: add a class to slides, or take it off if all have it.

        The negative class stands alone: it says that there is no finding.
        """
        cohort, classes, ids = self._project.cohort, self._project.classes, _ids(slide_ids)
        if name not in classes:
            raise CohortError(f"there is no class {name!r}: the classes are {', '.join(classes)}")
        has = {row.slide_id: split_label(row.label or "") for row in cohort if row.slide_id in ids}
        off = all(name in labels for labels in has.values())
        negative = classes[0]

        def new(labels: tuple[str, ...]) -> str | None:
            added = [name] if name == negative else [*labels, name]
            kept = [each for each in labels if each != name] if off else added
            ordered = [each for each in classes if each in kept and (each != negative or kept == [negative])]
            return SEPARATOR.join(ordered) or None

        self._check_ids(ids)
        rows = [replace(row, label=new(has[row.slide_id])) if row.slide_id in ids else row for row in cohort]
        self._project.edit(f"{'take' if off else 'label'} {named(ids)} {name}", cohort.with_slides(rows))

    def set_mpp(self, slide_ids: str | Iterable[str], mpp: float | None) -> None:
        """Say the µm/px of slides where their files do not, or are wrong; None: the file's own."""
        if mpp is not None and not LIMITS[0] <= mpp <= LIMITS[1]:
            raise CohortError(f"{mpp:g} µm/px is not between {LIMITS[0]:g} and {LIMITS[1]:g}")
        ids = _ids(slide_ids)
        self._change(f"µm/px of {named(ids)}", ids, mpp=mpp)
        if (shown := self._project.shown) in ids:
            self._show_again(shown, again=True)

    def set_case(self, slide_ids: str | Iterable[str], case_id: str) -> None:
        """Say which case (patient) slides are of; an empty one is the slide's own id. A case is never split."""
        cohort, ids, case_id = self._project.cohort, _ids(slide_ids), case_id.strip()
        self._check_ids(ids)
        rows = [replace(row, case_id=case_id or row.slide_id) if row.slide_id in ids else row for row in cohort]
        self._project.edit(f"case of {named(ids)}", cohort.with_slides(rows))

    def set_split(self, slide_ids: str | Iterable[str], split: str | None) -> None:
        """Put slides in `train`, `valid` or `test`; None lets the training deal them."""
        if split is not None and split not in SPLITS:
            raise CohortError(f"unknown split {split!r}: use {', '.join(SPLITS)}, or none")
        ids = _ids(slide_ids)
        self._change(f"split of {named(ids)}", ids, split=split)

    def set_share(self, slide_ids: str | Iterable[str], share: float | None) -> None:
        """Estimate the share of patches with a finding, 0 to 1, in slides that have one; None: not known."""
        if share is not None and not 0 <= share <= 1:
            raise CohortError(f"a share is between 0 and 1, not {share:g}")
        ids = _ids(slide_ids)
        negative = self._project.classes[:1]
        if share and any(row.slide_id in ids and row.label in negative for row in self._project.cohort):
            raise CohortError(f"a slide that is labelled {negative[0]!r} has no share of a finding")
        self._change(f"share of {named(ids)}", ids, share=share)

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _change(self, text: str, ids: set[str], **fields: Any) -> None:
        self._check_ids(ids)
        cohort = self._project.cohort
        rows = [
            replace(row, **fields)
            if row.slide_id in ids and any(getattr(row, name) != value for name, value in fields.items())
            else row
            for row in cohort
        ]
        self._project.edit(text, cohort.with_slides(rows))

    def _check_ids(self, ids: set[str]) -> None:
        if missing := ids - {row.slide_id for row in self._project.cohort}:
            raise CohortError(f"there is no slide {sorted(missing)[0]!r}")


def _ids(slide_ids: str | Iterable[str]) -> set[str]:
    return {slide_ids} if isinstance(slide_ids, str) else set(slide_ids)
