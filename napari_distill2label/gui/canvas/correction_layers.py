"""A user's corrections as layers over the prediction: what is painted becomes corrections, corrections are outlined.

Also the frame around one patch. They lie in layers of their own, and nothing a model or a slider does ever touches
them. No Qt.
"""

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from ...core.errors import SettingsError
from ...core.geometry import Mpp, PatchGrid
from ...store.corrections import PlacedCorrections
from ..project.corrections import Corrections
from ..project.project import Project
from . import correction_marks, layers, ownership
from .display import Display
from .own_hand import OwnHand
from .prediction_layers import PredictionLayers

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from ...store.maps.patch_map_view import Cell


class CorrectionLayers:
    """Shows the corrections of the shown slide, takes what is painted, and frames one patch.

    Attributes
    ----------
    framed
        (slide id, cell) of the patch that is framed; None where none is.
    """

    moved = Signal()  # another patch is framed

    def __init__(
        self,
        viewer: "weakref.ref[ViewerModel]",
        project: Project,
        corrections: Corrections,
        predictions: PredictionLayers,
        display: Display,
    ) -> None:
        self._viewer, self._project, self._corrections = viewer, project, corrections
        self._predictions, self._display = predictions, display
        self.framed: tuple[str, Cell] | None = None
        self._seen: set[Cell] = set()
        self._own_hand, self._announced = OwnHand(), False
        corrections.changed.connect(self._on_corrections)
        corrections.revisited.connect(self._revisit)
        project.events.shown.connect(self._on_shown)
        project.colours_changed.connect(self._on_colours)
        project.cohort_closing.connect(self._unframe)

    # ---- showing ---------------------------------------------------------------------------------------------------

    def sync(self) -> bool:
        """Lay the shown slide's corrections over its prediction, as soon as its patches are known; then outline them.

        Was one of the two needed? Then there may be more to do.
        """
        viewer, shown, slide_id = self._viewer(), self._predictions.view, self._project.shown
        slide_layer = ownership.find(viewer, ownership.SLIDE, slide_id or "") if viewer is not None else []
        if shown is None or slide_id is None or not slide_layer:
            return False
        layer = self._layer(slide_id)
        before = self._corrections.of_slide(slide_id)
        slide = self._corrections.align(slide_id, shown.patches, shown.classes)
        is_new = slide is not before
        if is_new and self.framed is not None:  # a patch that is no more
            layers.remove(viewer, ownership.find(viewer, layers.FRAME))
            self._unframe()
        if layer is None or is_new:
            self._add_layer(viewer, slide_id, slide, ownership.tags_of(slide_layer[0])["mpp"])
        elif isinstance(slide.patches, PatchGrid) and not ownership.find(viewer, layers.OUTLINES, slide_id):
            colours = self._project.colour_by_class
            correction_marks.add_outlines(viewer, layer, slide.patches, slide.labels, colours)
        else:
            return False
        return True

    def _sync_all(self) -> None:
        while self.sync():
            pass

    def _add_layer(self, viewer: "ViewerModel", slide_id: str, slide: PlacedCorrections, mpp: Mpp | None) -> None:
        colours = self._project.colour_by_class
        with layers.selection_kept(viewer):
            for role in (layers.CORRECTIONS, layers.OUTLINES):
                layers.remove(viewer, ownership.find(viewer, role, slide_id))
            layer = correction_marks.add_corrections(
                viewer, slide_id, slide.patches, slide.classes, slide.labels, mpp, colours
            )
        self._display.follow_eye(layer)
        if isinstance(slide.patches, PatchGrid):
            layer.events.paint.connect(self._on_paint)
            layer.events.labels_update.connect(self._on_update)
            layer.events.set_data.connect(self._on_layer)  # napari's undo and redo
            layer.events.data.connect(self._on_layer)
        self._seen.clear()
        self._corrections.changed.emit(None)

    def _layer(self, slide_id: str | None) -> "Layer | None":
        viewer = self._viewer()
        found = ownership.find(viewer, layers.CORRECTIONS, slide_id or "") if viewer is not None else []
        return found[0] if found else None

    def _on_corrections(self, slide_id: str | None) -> None:
        """Bring the layer to what is known; what was painted is there already, but for its outline."""
        slide = self._corrections.of_slide(slide_id)
        if slide is None and slide_id is not None and slide_id == self._project.shown:
            self._sync_all()  # they came from a file, and are on no patches yet
        if slide is None or slide_id is None or self._layer(slide_id) is None:
            return
        seen = self._viewer(), slide_id, slide.patches, slide.labels, slide.classes, self._project.colour_by_class
        if self._own_hand:
            correction_marks.outline(*seen)
        else:
            with self._own_hand:
                correction_marks.show(*seen)

    def _on_shown(self) -> None:
        self._seen.clear()
        if self.framed is not None and self.framed[0] != self._project.shown:
            self._unframe()
        self._sync_all()

    def _on_colours(self) -> None:
        viewer = self._viewer()
        for layer in ownership.find(viewer, layers.CORRECTIONS) if viewer is not None else ():
            slide_id = ownership.tags_of(layer)["slide_id"]
            slide = self._corrections.of_slide(slide_id)
            if slide is None:
                continue
            if isinstance(slide.patches, PatchGrid):
                correction_marks.tint(layer, slide.classes, self._project.colour_by_class)
            self._on_corrections(slide_id)

    # ---- painting --------------------------------------------------------------------------------------------------

    def aligned(self) -> tuple[str, PlacedCorrections]:
        """Id of the shown slide, and its corrections on the patches that are shown. `SettingsError` while none are."""
        self._sync_all()  # the patches may be others by now, or the user removed the layer of the corrections
        shown = self._project.shown
        slide = self._corrections.of_slide(shown)
        if shown is None or slide is None:
            raise SettingsError("predict the slide first: its patches are what is corrected")
        return shown, slide

    def paint(self, label: str | None) -> None:
        """Let the pointer paint corrections of a class on the shown slide's patches (None: erase them)."""
        slide_id, slide = self.aligned()
        layer, viewer = self._layer(slide_id), self._viewer()
        if not isinstance(slide.patches, PatchGrid) or layer is None or viewer is None:
            raise SettingsError("patches at points are corrected one by one: point at one and press its key")
        viewer.layers.selection = {layer}
        layer.selected_label = 0 if label is None else slide.classes.index(label) + 1
        layer.mode = "paint"

    def stop_painting(self) -> None:
        """The pointer moves the slide again."""
        layer = self._layer(self._project.shown)
        if layer is not None and layer.mode != "pan_zoom":
            layer.mode = "pan_zoom"

    @property
    def is_painting(self) -> bool:
        """Does the pointer paint?"""
        layer = self._layer(self._project.shown)
        return layer is not None and str(layer.mode) in ("paint", "erase", "fill", "polygon")

    @property
    def painted_value(self) -> int | None:
        """What is painted: 0 erases, else 1 + class index. None while the pointer does not paint."""
        layer = self._layer(self._project.shown)
        return int(layer.selected_label) if layer is not None and str(layer.mode) == "paint" else None

    def _on_paint(self, event: Any) -> None:
        # At the end of a stroke the paint is there. Of a fill, napari tells before it changes anything.
        self._announced = not self._on_layer(event)

    def _on_update(self, event: Any) -> None:
        if self._announced:  # else in the middle of a stroke, which is one correction
            self._announced = False
            self._on_layer(event)

    def _on_layer(self, event: Any) -> bool:
        """The user painted, or used napari's undo: take it over, but for what lies on no patch or is no class.

        Returns whether there was something to take over.
        """
        layer = event.source
        if self._own_hand or not ownership.tags_of(layer):  # or it is about to be another slide's
            return True
        slide_id = ownership.tags_of(layer)["slide_id"]
        slide, own = self._corrections.of_slide(slide_id), self._layer(slide_id)
        if slide is None or own is None or layer is not own:
            return True
        if layer.data.shape != slide.labels.shape:  # somebody put other data into the layer
            with self._own_hand:
                layer.data = (slide.labels + 1).astype(np.uint8)
            return True
        drawn = np.where(slide.patches.scored & (layer.data <= len(slide.classes)), layer.data, 0).astype(np.int8) - 1
        flat = np.flatnonzero(drawn != slide.labels)
        clean = np.array_equal(drawn + 1, layer.data)
        with self._own_hand:
            if not clean:
                np.copyto(layer.data, (drawn + 1).astype(np.uint8))
                layer.refresh(highlight=False, extent=False)
            if len(flat):
                self._corrections.set(slide_id, flat, drawn.ravel()[flat], f"paint {len(flat)} corrections")
        return bool(len(flat)) or not clean

    # ---- from patch to patch ---------------------------------------------------------------------------------------

    def center_on(self, cell: "Cell") -> None:
        """Centre the camera on a patch of the shown slide, and frame it."""
        viewer, shown, slide_id = self._viewer(), self._predictions.view, self._project.shown
        if shown is None or viewer is None or slide_id is None:
            return
        side = shown.patches.side
        y, x = (value + (side - 1) / 2 for value in shown.corner(cell))
        layers.center_on(viewer, slide_id, (y, x), side)
        self.choose(cell)

    def choose(self, cell: "Cell") -> None:
        """Frame a patch of the shown slide; the camera stays."""
        viewer, shown, slide_id = self._viewer(), self._predictions.view, self._project.shown
        slide = ownership.find(viewer, ownership.SLIDE, slide_id or "") if viewer is not None else []
        if shown is None or slide_id is None or not slide:
            return
        mpp = ownership.tags_of(slide[0])["mpp"]
        correction_marks.frame(viewer, slide_id, shown.corner(cell), shown.patches.side, mpp)
        self.framed = (slide_id, tuple(cell))
        self._seen.add(tuple(cell))
        self._display.point_at(None)  # until the pointer moves again, a key means this patch and not the one left
        self.moved.emit()

    def choose_at(self, world: Any) -> bool:
        """Frame the patch at a place of the world. Returns whether there is a scored one."""
        viewer, shown = self._viewer(), self._predictions.view
        if viewer is None or shown is None:
            return False
        point = layers.level0_point(viewer, self._project.shown or "", world)
        cell = None if point is None else shown.cell_at(point)
        if cell is None or not shown.scored[cell]:
            return False
        self.choose(cell)
        return True

    def next_uncertain(self) -> "Cell | None":
        """Go to the patch the model is least sure of that was neither corrected nor seen yet; None when all were.

        With two classes: the nearest to the threshold; with more: the one of highest entropy.
        """
        shown, slide_id = self._predictions.view, self._project.shown
        if shown is None or slide_id is None:
            raise SettingsError("predict the slide first: nothing is known of its patches yet")
        cell = self._corrections.next_uncertain(slide_id, shown, self._project.threshold, self._seen)
        if cell is not None:
            self.center_on(cell)
        return cell

    def _revisit(self, slide_id: str, cell: "Cell") -> None:
        if self._project.shown == slide_id:
            self.center_on(cell)

    def _unframe(self) -> None:
        if self.framed is not None:
            self.framed = None
            self.moved.emit()
