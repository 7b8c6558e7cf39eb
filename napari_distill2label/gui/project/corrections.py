"""A user's corrections of patches: per slide, with their file, which training and export read. No Qt, no layers.

Corrections are the user's and predictions the model's: nothing a model or a slider does ever touches these.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal

from ...core.bag import UNLABELLED
from ...core.errors import CohortError, OutputError
from ...core.paths import PathLike, free_path
from ...core.settings import Settings
from ...store import corrections
from ...store.cohort import Cohort
from ...store.corrections import Patches, PlacedCorrections, SlideCorrections
from ...store.files.outputs import Outputs
from ...store.splits import with_splits
from ...store.tables.points import Points
from ..messages import reason_of
from ..runner.reader import BackgroundReader
from .latest_writer import LatestWriter
from .project import Project
from .recovery import folder_of_slides

if TYPE_CHECKING:
    from ...store.maps.patch_map_view import Cell, PatchMapView

STEM = "corrections"


@dataclass(frozen=True)
class Agreement:
    """Of the patches corrected to a class: with how many of them the model agrees at the threshold, and not."""

    agree: int
    disagree: int


class Corrections:
    """The corrections of a project's slides, and their file.

    Attributes
    ----------
    path
        The CSV file they are kept in; None before the first save.
    """

    changed = Signal(object)  # the corrections of a slide (its id), or all of them, or their file (None)
    revisited = Signal(str, tuple)  # slide id, cell: undo or redo has changed this one

    def __init__(self, project: Project, reader: BackgroundReader) -> None:
        self._project = project
        self.path: Path | None = None
        self._slides: dict[str, SlideCorrections] = {}
        self._writer = LatestWriter[Path](reader, STEM)
        self._assigned: tuple[Cohort, Settings] | None = None  # what `_trained_on` is of
        self._trained_on: frozenset[str] = frozenset()

    def __len__(self) -> int:
        """Corrected patches of all slides."""
        return sum(len(slide) for slide in self._slides.values())

    def __repr__(self) -> str:
        return f"Corrections({len(self)} patches of {len(self.slides)} slides)"

    @property
    def unsaved(self) -> bool:
        """Is there something that the file does not hold?"""
        return self._writer.unsaved and (len(self) > 0 or self.path is not None)

    # ---- what is known --------------------------------------------------------------------------------------------

    @property
    def slides(self) -> dict[str, int]:
        """Corrected patches by slide id, of slides that have some."""
        return {slide_id: n for slide_id, slide in self._slides.items() if (n := len(slide))}

    def of_slide(self, slide_id: str | None) -> PlacedCorrections | None:
        """Those of a slide, once its patches are known."""
        slide = self._slides.get(slide_id or "")
        return None if slide is None else slide.placed

    def known(self, slide_id: str) -> np.ndarray | None:
        """int8 of the patches' shape: class index, −1 where nothing was said. None while the patches are not known."""
        slide = self.of_slide(slide_id)
        return None if slide is None else slide.labels.copy()

    def correction_at(self, slide_id: str, cell: "Cell") -> str | None:
        """The class a patch was corrected to, if it was."""
        slide = self.of_slide(slide_id)
        if slide is None or slide.labels[cell] == UNLABELLED:
            return None
        return slide.classes[int(slide.labels[cell])]

    def agreement(self, slide_id: str, shown: "PatchMapView | None", threshold: float) -> dict[str, Agreement]:
        """By class of a slide's corrections: does the model agree that said what is `shown`? {} without both."""
        slide = self.of_slide(slide_id)
        if slide is None or shown is None or shown.scored.shape != slide.labels.shape:
            return {}
        given = slide.labels != UNLABELLED
        said, probability = slide.labels[given], shown.probability[given]
        label = shown.labels(threshold)[given].astype(int) - 1
        found = {}
        for index, name in enumerate(slide.classes):
            mine = said == index
            if mine.any():
                agrees = label == index
                if shown.multi_label and index:
                    agrees = probability[:, index] >= np.float32(threshold)
                elif shown.multi_label:
                    agrees = (probability[:, 1:] < np.float32(threshold)).all(1)
                agree = int((mine & agrees).sum())
                found[name] = Agreement(agree, int(mine.sum()) - agree)
        return found

    def next_uncertain(
        self, slide_id: str, shown: "PatchMapView", threshold: float, seen: "set[Cell]"
    ) -> "Cell | None":
        """The patch the model is least sure of that was neither corrected nor `seen`; None when all were corrected.

        With two classes: the nearest to the threshold; with more: the one of highest entropy. When all others were
        seen, `seen` is emptied: the round begins again.
        """
        doubt = shown.uncertainty(threshold)
        known = self.known(slide_id)
        if known is not None and known.shape == doubt.shape:
            doubt[known != UNLABELLED] = -np.inf
        if not np.isfinite(doubt).any():
            return None
        unseen = doubt.copy()
        for cell in seen:
            unseen[cell] = -np.inf
        if not np.isfinite(unseen).any():
            seen.clear()
            unseen = doubt
        return tuple(int(index) for index in np.unravel_index(int(np.argmax(unseen)), unseen.shape))

    def count_unused(self, settings: Settings) -> int:
        """How many corrected patches a training would pass over: of slides that are not in its training split."""
        cohort = self._project.cohort
        if self._assigned is None or self._assigned[0] is not cohort or self._assigned[1] != settings:
            self._assigned, self._trained_on = (cohort, settings), _trained_on(cohort, settings)
        return sum(count for slide_id, count in self.slides.items() if slide_id not in self._trained_on)

    # ---- correcting -----------------------------------------------------------------------------------------------

    def align(self, slide_id: str, patches: Patches, classes: tuple[str, ...]) -> PlacedCorrections:
        """Bring a slide's corrections onto the patches of a prediction; those that are there already stay the same."""
        return self._slides.setdefault(slide_id, SlideCorrections()).align_to(patches, classes)

    def set(self, slide_id: str, flat: np.ndarray, values: np.ndarray, text: str, at: "Cell | None" = None) -> None:
        """Set corrections of a slide (indices into its flat patches), so that it can be undone.

        `at`: the patch that whoever undoes it is shown.
        """
        placed = self.of_slide(slide_id)
        if placed is None or np.array_equal(before := placed.labels.ravel()[flat], values):
            return

        def put(values: np.ndarray) -> None:
            if self.of_slide(slide_id) is placed:
                self._write(slide_id, placed, flat, values)
                if at is not None:
                    self.revisited.emit(slide_id, at)

        self._write(slide_id, placed, flat, values)
        self._project.history.push(text, lambda: put(before), lambda: put(values))

    def _write(self, slide_id: str, placed: PlacedCorrections, flat: np.ndarray, values: np.ndarray) -> None:
        placed.labels.ravel()[flat] = values
        self._writer.change()
        self.changed.emit(slide_id)

    def clear(self) -> None:
        """Other slides are there now; the file, if there is one, is left as it is."""
        self._slides.clear()
        self.path = None
        self._writer.clear()
        self.changed.emit(None)

    # ---- the file -------------------------------------------------------------------------------------------------

    def default_path(self) -> Path:
        """Where corrections are kept unless told: beside the cohort or the first slide, under a name that is free."""
        table = self._project.cohort_path
        folder = self._project.work_folder or Path.home()
        return free_path(folder, f"{table.stem}_{STEM}" if table else STEM, ".csv")

    def save(self, path: PathLike | None = None) -> Path:
        """Write the corrections (None: where they are kept, else `default_path`) as CSV `slide_id,x,y,label`.

        x and y are the centres of the patches, in level-0 px. It is what `train` and `export` take as `corrections`.
        A file that changed since it was opened is left as it is, and the corrections go into a new one; where no file
        can be written, they go into the recovery folder. `OutputError` for a `path` that is a slide or the cohort's
        table; `OSError`.
        """
        given, place = path is not None, Path(path).absolute() if path else self.path or self.default_path()
        try:
            self._writer.flush(self._write_to(place, overwrite=given))
        except (OutputError, OSError) as error:
            if given or (other := self._place_instead(place, error)) is None:
                raise
            self._writer.flush(self._write_to(other))
            place = other
            self._tell_moved(error, place)
        self.path = place
        self.changed.emit(None)
        return place

    def save_soon(self) -> None:
        """`save`, in the background; what stands against it is told."""
        place = self.path = self.path or self.default_path()

        def failed(error: Exception) -> None:
            other = self._place_instead(place, error)
            if other is None:
                self._project.tell(f"The corrections are not saved. {reason_of(error)}")
                return
            self.path = other
            self._tell_moved(error, other)
            self.save_soon()

        self._writer.request(self._write_to(place), lambda place: self.changed.emit(None), failed)

    def flush(self) -> None:
        """Write what the file does not hold yet, if there is something. `OSError` if it cannot be written."""
        if self.unsaved:
            known = self.path
            if (path := self.save()) != known:
                self._project.tell(f"your corrections are in {path}")

    def _write_to(self, path: Path, overwrite: bool = False) -> Callable[[], Path]:
        """What writes the corrections as they are now."""
        slides = {slide_id: slide.copy() for slide_id, slide in self._slides.items()}
        return partial(corrections.write, path, slides, self._guard(overwrite).writing)

    def _place_instead(self, path: Path, error: Exception) -> Path | None:
        """Where corrections go that cannot be written to `path`; None: nowhere."""
        if isinstance(error, OutputError) and (beside := self.default_path()) != path:
            return beside  # somebody else changed the file: it is left to them
        place = folder_of_slides((row.path for row in self._project.cohort), STEM)
        return None if path.parent == place.parent else free_path(place.parent, place.name, ".csv")

    def _tell_moved(self, error: Exception, path: Path) -> None:
        self._project.tell(f"{reason_of(error).rstrip('.')}. Your corrections are in {path} instead")

    def _guard(self, overwrite: bool = False) -> Outputs:
        """Corrections go neither onto a slide nor onto the table."""
        read = [row.path for row in self._project.cohort] + [self._project.cohort_path or ""]
        return Outputs([path for path in read if path], overwrite, "correcting")

    def load(self, path: PathLike) -> None:
        """Add the corrections of a file; of two of one patch the file's counts.

        They are kept there from now on, if it is a table of corrections and nothing else: another one (QuPath's
        GeoJSON, a table with columns of its own) is left as it is, and a new file is begun. `CohortError`, and nothing
        changed, if it is no such table.
        """
        self.take(corrections.read(Path(path)), path)

    def take(self, points: dict[str, Points], path: PathLike) -> None:
        """`load`, where the file has been read already."""
        others = len(self)
        for slide_id, found in points.items():
            items = [(y, x, label) for (y, x), label in zip(found.coordinates.tolist(), found.labels, strict=True)]
            own = self._slides.setdefault(slide_id, SlideCorrections())
            own.add(items)
            own.cover(found.areas)
        path = Path(path).absolute()
        self.path = path if corrections.is_own(path) else None
        self._writer.clear()
        if others or self.path is None:
            self._writer.change()
        if self.path is not None:
            self._guard().adopt(path)
        for slide_id in points:
            self.changed.emit(slide_id)
        self.changed.emit(None)


def _trained_on(cohort: Cohort, settings: Settings) -> frozenset[str]:
    """Ids of the slides that a training would learn from."""
    try:
        assigned = with_splits(cohort, settings.split, settings.seed, settings.bag)
    except CohortError:  # no training at all: `requirements.train` says why
        return frozenset(row.slide_id for row in cohort.labelled)
    return frozenset(row.slide_id for row in assigned.in_split("train"))
