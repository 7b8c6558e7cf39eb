"""Masks of the tissue: found by the rule, drawn on in napari, kept as GeoJSON, used by training and predicting.

A mask is a file, `<slide_id>.geojson` in a folder beside the cohort: what `distill2label segment-tissue` writes and
`--tissue` takes, and what QuPath opens. Its layer is a view of the file; painting changes the file.
"""

import json
import weakref
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from ...core.errors import CohortError, Distill2LabelError
from ...core.events import Notice
from ...core.settings import PatchSettings
from ...slides.tissue_mask import TissueMask
from ...store.files.atomic import write_bytes
from ...store.files.outputs import Outputs
from ...store.files.safe_names import safe_name
from ..runner.debounce import Debounce
from . import layers

if TYPE_CHECKING:
    from napari.layers import Layer

    from ..session import Session

TISSUE = "tissue"  # role of the layer
COLOUR = (0.0, 0.62, 0.45, 1.0)  # bluish green, as the regions have in QuPath
OPACITY = 0.9
LINES = 300  # an outline is this fraction of the mask: seen whole, the stain below it stays as it is
EMPTY_BYTES = 200  # a file with a polygon is longer
AFTER_PAINTING = 400  # ms until a stroke is kept


class TissueMasks:
    """The masks of a session's slides.

    Attributes
    ----------
    files
        GeoJSON of regions, by slide id: of the slides that have a mask.
    use
        Do training and predicting look at tissue only? Slides without a mask follow the tissue rule of the settings.
    looking
        Ids of the slides whose tissue is being looked for.
    """

    changed = Signal()

    def __init__(self, session: "Session") -> None:
        self._owner = weakref.ref(session)  # a cycle would keep the session past its viewer
        self.files: dict[str, Path] = {}
        self.looking: set[str] = set()
        self._use = False
        self._shown: dict[str, TissueMask] = {}  # the masks behind the layers there are
        self._painted: dict[str, TissueMask] = {}  # and not kept yet
        self._keeping = Debounce(self._keep_painted, AFTER_PAINTING, session._has_window)
        session.cohort_opened.connect(self._forget_all)
        session.shown_changed.connect(self._follow_shown)
        self.wanted = False  # does the user want to see the mask of the slide that is shown?

    @property
    def _session(self) -> "Session":
        return self._owner()

    # ---- use ------------------------------------------------------------------------------------------------------

    @property
    def use(self) -> bool:
        return self._use

    @use.setter
    def use(self, use: bool) -> None:
        if use != self._use:
            self._use = use
            self.changed.emit()

    def in_use(self) -> dict[str, Path] | None:
        """Files by slide id, for the verbs' `tissue`; None where masks are not used.

        A mask without any tissue says nothing of where to look: its slide follows the rule of the settings, which is
        told.
        """
        if not self._use:
            return None
        self.flush()
        listed = {row.slide_id for row in self._session.cohort}
        files = {slide_id: path for slide_id, path in self.files.items() if slide_id in listed}
        for slide_id in [slide_id for slide_id, path in files.items() if _is_empty(path)]:
            del files[slide_id]
            self._session._tell(
                f"{slide_id}: the tissue mask is empty. The tissue method of the settings is used instead."
            )
        return files or None

    @property
    def folder(self) -> Path:
        """Where masks are kept: beside the cohort, until that is written among the unsaved things."""
        path = self._session.cohort_path
        return self._session.beside / f"{path.stem}.tissue" if path else self._session.autosave.recovery / "tissue"

    # ---- find, load, save -----------------------------------------------------------------------------------------

    def find(self, slide_ids: str | Iterable[str] | None = None, again: bool = True) -> None:
        """Look for the tissue of slides (None: the one shown), beside the window, and show it.

        The rule is that of the settings, Otsu's where they look at everything. With `again` a mask that is there is
        replaced. What goes wrong is told.
        """
        session = self._session
        ids = [slide_ids] if isinstance(slide_ids, str) else list(slide_ids or [session.shown] if session.shown else [])
        if not ids:
            raise CohortError("no slide is shown: select one first")
        grid = session.settings.patches
        grid = grid if grid.tissue != "none" else PatchSettings(tissue="otsu")
        self.wanted = True
        for slide_id in ids:
            row, folder = session._row(slide_id), self.folder
            if slide_id in self.files and not again:
                continue
            self.looking.add(slide_id)
            session.reader.request(
                (TISSUE, slide_id),
                partial(_found, row, folder, grid),
                partial(self._take_found, slide_id),
                partial(self._failed, slide_id),
            )
        self.changed.emit()

    def load(self, slide_id: str, path: str | Path) -> None:
        """Take the regions of a GeoJSON file (as QuPath exports them) as the mask of a slide."""
        row, kept = self._session._row(slide_id), self.folder / f"{safe_name(slide_id)}.geojson"
        self.wanted = True
        self.looking.add(slide_id)
        self._session.reader.request(
            (TISSUE, slide_id),
            partial(_loaded, row, Path(path), kept),
            partial(self._take_found, slide_id),
            partial(self._failed, slide_id),
        )
        self.changed.emit()

    def save(self, slide_id: str, path: str | Path) -> Path:
        """Write the mask of a slide as GeoJSON, for QuPath and for `--tissue`. `CohortError` if it has none."""
        self.flush()
        if slide_id not in self.files:
            raise CohortError(f"{slide_id}: has no tissue mask yet: find it first")
        read = [self.files[slide_id], *(row.path for row in self._session.cohort)]
        outputs = Outputs(read, overwrite=True, doing="saving a tissue mask")  # the dialog has asked
        return write_bytes(path, self.files[slide_id].read_bytes(), outputs.writing)

    def remove(self, slide_id: str) -> None:
        """Do without a mask of this slide. Its file is left alone, and may be loaded again."""
        self.hide()
        self.files.pop(slide_id, None)
        self.changed.emit()

    def take(self, files: dict[str, Path], use: bool) -> None:
        """Masks there were on another day; files that have gone are passed over."""
        self.files = {slide_id: path for slide_id, path in files.items() if path.is_file()}
        self._use = use and bool(self.files)
        self.changed.emit()

    # ---- the layer ------------------------------------------------------------------------------------------------

    @property
    def layer(self) -> "Layer | None":
        """The mask's layer of the slide that is shown."""
        found = layers.find(self._session.viewer, TISSUE, self._session.shown) if self._session.shown else []
        return found[0] if found else None

    def show(self) -> None:
        """Show the mask of the slide that is shown; it is found first if there is none."""
        slide_id = self._session.shown
        if slide_id is None:
            raise CohortError("no slide is shown: select one first")
        self.wanted = True
        if slide_id not in self.files:
            self.find(slide_id)
        elif self.layer is None:
            slide = layers.find(self._session.viewer, layers.SLIDE, slide_id)
            if slide:
                shape = tuple(int(size) for size in slide[0].data[0].shape[:2])
                self._session.reader.request(
                    (TISSUE, slide_id),
                    partial(_read, self.files[slide_id], shape),
                    partial(self._add_layer, slide_id),
                    partial(self._failed, slide_id),
                )

    def hide(self) -> None:
        """Take the layer away; the mask stays."""
        self.wanted = False
        self.flush()
        if self.layer is not None:
            layers.remove(self._session.viewer, [self.layer])
        self.changed.emit()

    def fraction(self) -> float | None:
        """Of the slide that is shown, how much is tissue, 0 to 1; None where no mask is shown."""
        mask = self._shown.get(self._session.shown or "")
        return None if mask is None or self.layer is None else mask.fraction

    def _add_layer(self, slide_id: str, mask: TissueMask) -> None:
        viewer = self._session.viewer
        slide = layers.find(viewer, layers.SLIDE, slide_id)
        if not slide or self._session.shown != slide_id or not self.wanted:
            return
        self._shown[slide_id] = mask
        if self.layer is not None:  # found anew: the same place, other contents
            self.layer.data = mask.mask.astype(np.uint8)
        else:
            layer = layers.add(viewer, mask_layer(mask, slide_id, layers.about(slide[0])["mpp"]))
            layer.selected_label, layer.contour = 1, max(1, round(max(mask.mask.shape) / LINES))
            for event in (layer.events.paint, layer.events.labels_update, layer.events.set_data):  # the last: undo
                event.connect(partial(_painted, self._session, slide_id))
            viewer.layers.move(viewer.layers.index(layer), viewer.layers.index(slide[0]) + 1)
        self.changed.emit()

    def take_painted(self, slide_id: str) -> None:
        """The layer was painted on: what is there now is the mask, and is kept soon."""
        layer, mask = self.layer, self._shown.get(slide_id)
        if layer is None or mask is None or layers.about(layer)["slide_id"] != slide_id:
            return
        drawn = np.asarray(layer.data) != 0
        if np.array_equal(drawn, mask.mask):
            return
        self._painted[slide_id] = mask.with_mask(drawn)
        self._shown[slide_id] = self._painted[slide_id]
        self._keeping.start()

    def _keep_painted(self) -> None:
        painted, self._painted = self._painted if self._owner() else {}, {}
        for slide_id, mask in painted.items():
            path = self.folder / f"{safe_name(slide_id)}.geojson"
            self.files[slide_id] = path
            self._session.reader.request(
                (TISSUE, "keep", slide_id),
                partial(_written, path, mask, slide_id),
                lambda path: self.changed.emit(),
                partial(self._failed, slide_id),
            )

    def flush(self) -> None:
        """Keep now what was painted."""
        self._keeping.stop()
        painted, self._painted = self._painted, {}
        for slide_id, mask in painted.items():
            self.files[slide_id] = _written(self.folder / f"{safe_name(slide_id)}.geojson", mask, slide_id)

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _take_found(self, slide_id: str, found: tuple[Path, TissueMask, list[str]]) -> None:
        path, mask, notices = found
        self.looking.discard(slide_id)
        self._painted.pop(slide_id, None)
        self.files[slide_id] = path
        for notice in notices:
            self._session._tell(notice)
        self._add_layer(slide_id, mask)
        self.changed.emit()

    def _failed(self, slide_id: str, error: Exception) -> None:
        self.looking.discard(slide_id)
        self._session._tell(str(error) if isinstance(error, Distill2LabelError) else f"{slide_id}: tissue: {error}")
        self.changed.emit()

    def _follow_shown(self) -> None:
        if self.wanted and self._session.shown in self.files:
            self.show()
        self.changed.emit()

    def _forget_all(self) -> None:
        self.flush()
        self.files, self._shown, self._use, self.wanted = {}, {}, False, False
        self.changed.emit()


def mask_layer(mask: TissueMask, slide_id: str, mpp: Any) -> layers.LayerData:
    """A mask as a labels layer that can be painted on: 1 is tissue. It lies to the pixel on the slide."""
    from napari.utils import DirectLabelColormap

    scale, translate = mask.placement(mpp)
    meta = {
        "name": f"{slide_id} · tissue",
        "scale": scale,
        "translate": translate,
        "opacity": OPACITY,
        "colormap": DirectLabelColormap(color_dict={None: "transparent", 0: "transparent", 1: COLOUR}),
        "features": {"index": [0, 1], "class": ["no tissue", "tissue"]},
        "metadata": {layers.KEY: {"role": TISSUE, "slide_id": slide_id, "downsample": mask.downsample}},
        **layers.space(mpp),
    }
    return mask.mask.astype(np.uint8), meta, "labels"


# ---- in another thread ------------------------------------------------------------------------------------------


def _found(row: Any, folder: Path, grid: PatchSettings) -> tuple[Path, TissueMask, list[str]]:
    from ...slides.registry import open_slide
    from ...slides.tissue import segment_tissue

    with open_slide(row.path, row.mpp) as slide:
        work, notices = segment_tissue(slide, grid), []
        try:
            while True:
                event = next(work)
                notices += [event.message] if isinstance(event, Notice) else []
        except StopIteration as stop:
            mask = stop.value
    notices += [f"{row.slide_id}: {notice}" for notice in mask.notices]
    if not mask.mask.any():
        notices.append(f"{row.slide_id}: no tissue was found by the rule {grid.tissue!r}: paint it on the layer")
    path = folder / f"{safe_name(row.slide_id)}.geojson"
    return _written(path, mask, row.slide_id), mask, notices


def _loaded(row: Any, path: Path, kept: Path) -> tuple[Path, TissueMask, list[str]]:
    from ...slides.registry import open_slide

    with open_slide(row.path, row.mpp) as slide:
        mask = _read(path, slide.shape)
    return _written(kept, mask, row.slide_id), mask, []


def _read(path: Path, shape: tuple[int, int]) -> TissueMask:
    from ...slides.regions import mask_from_geojson

    return TissueMask.blank(shape) if _is_empty(path) else mask_from_geojson(path, shape)


def _is_empty(path: Path) -> bool:
    """Has everything been erased from this mask? Its file then holds a collection of nothing."""
    try:
        if path.stat().st_size > EMPTY_BYTES:
            return False
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return data == {"type": "FeatureCollection", "features": []}


def _written(path: Path, mask: TissueMask, slide_id: str) -> Path:
    from ...exporters.regions import write_regions

    return write_regions(path, mask, slide_id)


def _painted(session: "Session", slide_id: str, event: Any = None) -> None:
    session.tissue.take_painted(slide_id)
