"""Masks of the tissue: found by the rule, drawn on, kept as GeoJSON, used by training and predicting. No Qt, no layers.

A mask is a file, `<slide_id>.geojson` in a folder beside the cohort: what `distill2label segment-tissue` writes and
`--tissue` takes, and what QuPath opens. `canvas.tissue_layer` shows it; painting there changes the file.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from psygnal import Signal

from ...core.errors import CohortError
from ...core.foreign_files import read_file
from ...core.inputs import TissueRegions
from ...core.notices import Notice, NoticeCode
from ...core.paths import free_path
from ...core.settings import PatchSettings
from ...slides.tissue_mask import TissueMask
from ...store.files.atomic import write_bytes
from ...store.files.outputs import Outputs
from ...store.files.safe_names import safe_name
from ..messages import reason_of
from ..runner.debounce import Debounce
from ..runner.reader import BackgroundReader
from .latest_writer import LatestWriter
from .project import Project
from .recovery import folder_of_slides
from .training_choices import TrainingChoices

TISSUE = "tissue"  # of the keys of what is read here
PlacedMasks = Mapping[str, tuple[Path, TissueMask]]  # file and mask, by slide id
EMPTY_BYTES = 200  # a file with a polygon is longer
AFTER_PAINTING = 400  # ms until a stroke is kept


class Tissue:
    """The masks of a project's slides.

    Attributes
    ----------
    files
        GeoJSON of regions, by slide id: of the slides that have a mask.
    use
        Do training and predicting look at tissue only? Slides without a mask follow the tissue rule of the settings.
    looking
        Ids of the slides whose tissue is being looked for.
    wanted
        Does the user want to see the mask of the slide that is shown?
    """

    changed = Signal()
    found = Signal(str, object)  # slide id, TissueMask: there is a new one

    def __init__(
        self, project: Project, choices: TrainingChoices, reader: BackgroundReader, has_window: bool = True
    ) -> None:
        self._project, self._choices, self._reader = project, choices, reader
        self.files: dict[str, Path] = {}
        self.looking: set[str] = set()
        self._use = self.wanted = False
        self._unsaved: dict[str, TissueMask] = {}  # painted or found, and in no file yet
        self._places: dict[str, Path] = {}  # where they go
        self._writer = LatestWriter[PlacedMasks](reader, (TISSUE, "keep"))
        self._keeping = Debounce(self.flush_soon, AFTER_PAINTING, has_window)
        project.cohort_closing.connect(self.flush)
        project.cohort_opened.connect(self._forget_all)

    # ---- use ------------------------------------------------------------------------------------------------------

    @property
    def use(self) -> bool:
        return self._use

    @use.setter
    def use(self, use: bool) -> None:
        if use != self._use:
            self._use = use
            self.changed.emit()

    def in_use(self) -> TissueRegions | None:
        """Return the files by slide id. None where masks are not used.

        A mask without any tissue says nothing of where to look: its slide follows the rule of the settings, which is
        told. `OSError` if what was painted cannot be written: a training must not lack it unnoticed.
        """
        if not self._use:
            return None
        self._write_now()
        listed = {row.slide_id for row in self._project.cohort}
        files = {slide_id: path for slide_id, path in self.files.items() if slide_id in listed}
        for slide_id in [slide_id for slide_id, path in files.items() if _is_empty(path)]:
            del files[slide_id]
            self._project.tell(
                f"{slide_id}: the tissue mask is empty. The tissue method of the settings is used instead."
            )
        return TissueRegions(files) if files else None

    @property
    def folder(self) -> Path:
        """Where masks are kept: beside the cohort, until that is written among the unsaved things."""
        path, folder = self._project.cohort_path, self._project.work_folder
        if path and folder:
            return folder / f"{path.stem}.{TISSUE}"
        return folder_of_slides((row.path for row in self._project.cohort), TISSUE)

    @property
    def masked(self) -> set[str]:
        """Ids of the slides that have a mask, in a file or not yet in one."""
        return self.files.keys() | self._unsaved.keys()

    # ---- find, load, save -----------------------------------------------------------------------------------------

    def find(self, slide_ids: str | Iterable[str] | None = None, again: bool = True) -> None:
        """Look for the tissue of slides (None: the one shown), in the background; `found` follows.

        The rule is that of the settings, Otsu's where they look at everything. With `again` a mask that is there is
        replaced. What goes wrong is told.
        """
        shown = self._project.shown
        ids = [slide_ids] if isinstance(slide_ids, str) else list(slide_ids or [shown] if shown else [])
        if not ids:
            raise CohortError("no slide is shown: select one first")
        grid = self._choices.settings.patches
        grid = grid if grid.tissue != "none" else PatchSettings(tissue="otsu")
        self.wanted, masked = True, self.masked
        for slide_id in ids:
            row = self._project.row(slide_id)
            if slide_id in masked and not again:
                continue
            self._look(slide_id, partial(_found, row, grid))
        self.changed.emit()

    def load(self, slide_id: str, path: str | Path) -> None:
        """Take the regions of a GeoJSON file (as QuPath exports them) as the mask of a slide."""
        row = self._project.row(slide_id)
        self.wanted = True
        self._look(slide_id, partial(_loaded, row, Path(path)))
        self.changed.emit()

    def read(self, slide_id: str, shape: tuple[int, int]) -> None:
        """Read the mask of a slide of `shape` px, in the background; `found` follows."""
        if (mask := self._unsaved.get(slide_id)) is not None:
            self.found.emit(slide_id, mask)
            return
        self._reader.request(
            (TISSUE, slide_id),
            partial(_read, self.files[slide_id], shape),
            partial(self.found.emit, slide_id),
            partial(self._failed, slide_id),
        )

    def save(self, slide_id: str, path: str | Path) -> Path:
        """Write the mask of a slide as GeoJSON, which QuPath and every command read. `CohortError` if it has none."""
        self._write_now()
        if slide_id not in self.files:
            raise CohortError(f"{slide_id}: has no tissue mask yet: find it first")
        read = [self.files[slide_id], *(row.path for row in self._project.cohort)]
        outputs = Outputs(read, overwrite=True, doing="saving a tissue mask")  # the dialog has asked
        return write_bytes(path, self.files[slide_id].read_bytes(), outputs.writing)

    def take(self, files: dict[str, Path], use: bool) -> None:
        """Masks there were on another day; files that have gone are passed over."""
        self.files = {slide_id: path for slide_id, path in files.items() if path.is_file()}
        self._places = {}
        self._use = use and bool(self.files)
        self.changed.emit()

    def paint(self, slide_id: str, mask: TissueMask) -> None:
        """A mask was painted on: it is kept soon."""
        self._unsaved[slide_id] = mask
        self._keeping.start()

    def flush(self) -> None:
        """Keep now what was painted or found; what stands against it is told."""
        try:
            self._write_now()
        except OSError as error:
            self._not_written(error)

    def flush_soon(self) -> None:
        """Keep it in the background."""
        if self._unsaved:
            self._writer.request(self._write(), self._take_written, self._not_written)

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _file_of(self, slide_id: str) -> Path:
        """Return the file that a mask is written to: what another table or a command left under its name stays."""
        known, folder = self._places.get(slide_id, self.files.get(slide_id)), self.folder
        if known is None or known.parent != folder:
            known = free_path(folder, safe_name(slide_id), ".geojson")
        self._places[slide_id] = known
        return known

    def _write_now(self) -> None:
        self._keeping.stop()
        if self._unsaved:
            self._take_written(self._writer.flush(self._write()))

    def _write(self) -> Callable[[], PlacedMasks]:
        """What writes the masks that are in no file yet, as they are now."""
        return partial(
            _write_masks, {slide_id: (self._file_of(slide_id), mask) for slide_id, mask in self._unsaved.items()}
        )

    def _take_written(self, written: PlacedMasks) -> None:
        for slide_id, (path, mask) in written.items():
            self.files[slide_id] = path
            if self._unsaved.get(slide_id) is mask:  # else it was painted on meanwhile
                del self._unsaved[slide_id]
        self.changed.emit()

    def _not_written(self, error: Exception) -> None:
        self._project.tell(f"The tissue masks are not saved. {reason_of(error)}")

    def _look(self, slide_id: str, read: Any) -> None:
        self.looking.add(slide_id)
        self._reader.request(
            (TISSUE, slide_id), read, partial(self._take_found, slide_id), partial(self._failed, slide_id)
        )

    def _take_found(self, slide_id: str, found: tuple[TissueMask, list[Notice]]) -> None:
        mask, notices = found
        self.looking.discard(slide_id)
        self._unsaved[slide_id] = mask
        self.flush_soon()
        for notice in notices:
            self._project.tell(notice)
        self.found.emit(slide_id, mask)
        self.changed.emit()

    def _failed(self, slide_id: str, error: Exception) -> None:
        self.looking.discard(slide_id)
        self._project.tell(reason_of(error, f"{slide_id}: tissue"))
        self.changed.emit()

    def _forget_all(self) -> None:
        self._reader.cancel_all(TISSUE)
        self.files, self._unsaved, self._places, self.looking = {}, {}, {}, set()
        self._use = self.wanted = False
        self.changed.emit()


# ---- in another thread ------------------------------------------------------------------------------------------


def _found(row: Any, grid: PatchSettings) -> tuple[TissueMask, list[Notice]]:
    from ...slides.registry import open_slide
    from ...slides.tissue import segment_tissue

    with open_slide(row.path, row.mpp) as slide:
        work = segment_tissue(slide, grid)
        notices: list[Notice] = []
        try:
            while True:
                event = next(work)
                notices += [event] if isinstance(event, Notice) else []
        except StopIteration as stop:
            mask: TissueMask = stop.value
    notices += [notice.about(row.slide_id) for notice in mask.notices]
    if not mask.mask.any():
        notices.append(Notice(NoticeCode.NO_TISSUE, {"method": grid.tissue}, row.slide_id))
    return mask, notices


def _loaded(row: Any, path: Path) -> tuple[TissueMask, list[Notice]]:
    from ...slides.registry import open_slide

    with open_slide(row.path, row.mpp) as slide:
        return _read(path, slide.shape), []


def _read(path: Path, shape: tuple[int, int]) -> TissueMask:
    from ...slides.regions import mask_from_geojson

    return TissueMask.blank(shape) if _is_empty(path) else mask_from_geojson(path, shape)


def _is_empty(path: Path) -> bool:
    """Has everything been erased from this mask? Its file then holds a collection of nothing."""
    try:
        data = json.loads(read_file(path, EMPTY_BYTES))
    except (OSError, ValueError):
        return False
    return bool(data == {"type": "FeatureCollection", "features": []})


def _write_masks(masks: PlacedMasks) -> PlacedMasks:
    from ...exporters.regions import write_regions

    for slide_id, (path, mask) in masks.items():
        write_regions(path, mask, slide_id)
    return masks
