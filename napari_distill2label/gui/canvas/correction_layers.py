"""A person looks at what the model said, and corrects it: the part without a window.

Corrections are the user's and predictions the model's. They lie in layers of their own, and nothing a model or a
slider does ever touches them.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from ...core.bag import UNLABELLED
from ...core.errors import SettingsError
from ...core.geometry import Mpp, PatchGrid
from ...store.corrections import SlideCorrections
from ...store.tables.points import Points
from ..layers import shades
from ..layers.shades import Cell
from ..project.retraining import Retraining
from . import correction_marks as correction_marks
from . import layers

if TYPE_CHECKING:
    from ..session import Session


ALL_CORRECTED = "Every patch of this slide is corrected: choose another slide."


@dataclass(frozen=True)
class Agreement:
    """Of the patches corrected to a class: with how many of them the model agrees at the threshold, and not."""

    agree: int
    disagree: int


class Review(Retraining):
    """Corrections of the session's slides, and the way from patch to patch.

    Attributes
    ----------
    current
        (slide id, cell) of the patch that is framed; None where none is.
    onward
        After `answer`, go on to the next uncertain patch?
    """

    moved = Signal()  # another patch is framed

    def __init__(self, session: "Session") -> None:
        super().__init__(session)
        self.current: tuple[str, Cell] | None = None
        self._seen: set[Cell] = set()
        self.onward = True
        self._taking = self._announced = False
        session.shown_changed.connect(self._on_shown)
        session.colours_changed.connect(self._on_colours)

    # ---- what is known ---------------------------------------------------------------------------------------------

    def known(self, slide_id: str) -> np.ndarray | None:
        """int8 of the patches' shape: class index, −1 where nothing was said. None while the patches are not known."""
        slide = self._slides.get(slide_id)
        return None if slide is None or slide.known is None else slide.known.copy()

    def label_of(self, slide_id: str, cell: Cell) -> str | None:
        """The class a patch was corrected to, if it was."""
        slide = self._slides.get(slide_id)
        if slide is None or slide.known is None or slide.known[cell] == UNLABELLED:
            return None
        return slide.classes[slide.known[cell]]

    def counts(self, slide_id: str | None = None) -> dict[str, Agreement]:
        """By class of the corrections of a slide (None: the one shown): does the model agree? {} without both."""
        session = self.session
        slide_id = slide_id or session.shown or ""
        slide = self._slides.get(slide_id)
        patch_map = session.overlays.map if slide_id == session.shown else None
        patch_map = patch_map or session.predictions.get(slide_id, {}).get(session.network or "")
        if slide is None or slide.known is None or patch_map is None:
            return {}
        shown = shades.known(patch_map)  # nothing is read in the window's thread
        if shown is None:
            return {}
        if shown.scored.shape != slide.known.shape:
            return {}
        given = slide.known != UNLABELLED
        said = slide.known[given]
        probability = shown.probability[given]
        label = shown.labels(session.threshold)[given].astype(int) - 1
        found = {}
        for index, name in enumerate(slide.classes):
            mine = said == index
            if mine.any():
                agrees = label == index
                if shown.multi_label and index:
                    agrees = probability[:, index] >= np.float32(session.threshold)
                elif shown.multi_label:
                    agrees = (probability[:, 1:] < np.float32(session.threshold)).all(1)
                agree = int((mine & agrees).sum())
                found[name] = Agreement(agree, int(mine.sum()) - agree)
        return found

    # ---- correcting ------------------------------------------------------------------------------------------------

    def correct(self, label: str | None, cell: Cell | None = None) -> bool:
        """Say what a patch of the shown slide is (None: take the correction back). It can be undone.

        `cell` None: the patch under the pointer, else the framed one. Returns whether there was such a patch.
        `SettingsError` for an unknown class, or while nothing is predicted of the slide.
        """
        session = self.session
        slide = self._slide_on_show()
        if label is not None and label not in slide.classes:
            raise SettingsError(f"there is no class {label!r}: the classes are {', '.join(slide.classes)}")
        if cell is None:
            at = session.overlays.pointed or self.current
            cell = at[1] if at is not None and at[0] == session.shown else None
        if cell is None or not _is_scored(slide.patches, cell):
            return False
        value = UNLABELLED if label is None else slide.classes.index(label)
        flat = np.array([np.ravel_multi_index(cell, slide.known.shape)])
        text = f"correct a patch to {label or 'nothing'}"
        self._change(session.shown, flat, np.array([value], np.int8), text, look_at=cell)
        return True

    def answer(self, label: str | None, cell: Cell | None = None) -> bool:
        """`correct`, then go on to the next uncertain patch if that is wished for; to drop a correction stays."""
        if not self.correct(label, cell):
            return False
        if self.onward and label is not None and self.next_uncertain() is None:
            self.session._tell(ALL_CORRECTED)
        return True

    def clear_slide(self) -> None:
        """Take all corrections of the shown slide back. It can be undone."""
        slide = self._slide_on_show()
        flat = np.flatnonzero(slide.known != UNLABELLED)
        values = np.full(len(flat), UNLABELLED, np.int8)
        self._change(self.session.shown, flat, values, f"clear {len(flat)} corrections")

    def paint(self, label: str | None) -> None:
        """Let the pointer paint corrections of a class on the shown slide's patches (None: erase them)."""
        slide = self._slide_on_show()
        layer = self._layer(self.session.shown)
        if not isinstance(slide.patches, PatchGrid) or layer is None:
            raise SettingsError("patches at points are corrected one by one: point at one and press its key")
        self.session.viewer.layers.selection = {layer}
        layer.selected_label = 0 if label is None else slide.classes.index(label) + 1
        layer.mode = "paint"

    def stop_painting(self) -> None:
        """The pointer moves the slide again."""
        layer = self._layer(self.session.shown or "")
        if layer is not None and layer.mode != "pan_zoom":
            layer.mode = "pan_zoom"

    @property
    def painting(self) -> bool:
        """Does the pointer paint?"""
        layer = self._layer(self.session.shown or "")
        return layer is not None and str(layer.mode) in ("paint", "erase", "fill", "polygon")

    def _slide_on_show(self) -> SlideCorrections:
        """The corrections of the shown slide, on the patches that are shown."""
        self._sync_all()  # the patches may be others by now, or the user removed the layer of the corrections
        session = self.session
        slide = self._slides.get(session.shown or "")
        if slide is None or slide.known is None:
            raise SettingsError("predict the slide first: its patches are what is corrected")
        return slide

    def _change(
        self, slide_id: str, flat: np.ndarray, values: np.ndarray, text: str, look_at: Cell | None = None
    ) -> None:
        """Set corrections of a slide, so that it can be undone; who undoes it looks at the patch `look_at`."""
        slide = self._slides[slide_id]
        before = slide.known.ravel()[flat]
        if np.array_equal(before, values):
            return
        self._write(slide_id, flat, values)
        self._record(slide_id, flat, before, values, text, look_at)

    def _record(
        self, slide_id: str, flat: np.ndarray, before: np.ndarray, after: np.ndarray, text: str,
        look_at: Cell | None = None,
    ) -> None:  # fmt: skip
        slide, own = self._slides[slide_id], weakref.ref(self)
        patches = slide.patches

        def put(values: np.ndarray) -> None:
            review = own()
            if review is not None and review._slides.get(slide_id) is slide and slide.patches is patches:
                review._write(slide_id, flat, values)
                if look_at is not None and review.session.shown == slide_id:
                    review.look_at(look_at)

        self.session.undo_stack.did(text, lambda: put(before), lambda: put(after))

    def _write(self, slide_id: str, flat: np.ndarray, values: np.ndarray) -> None:
        slide = self._slides[slide_id]
        slide.known.ravel()[flat] = values
        self._show(slide_id)
        self._changed()

    def _changed(self) -> None:
        self.unsaved = True
        self.changed.emit()
        self._autosave()

    # ---- the layer -------------------------------------------------------------------------------------------------

    def sync(self) -> bool:
        """Lay the shown slide's corrections over its prediction, as soon as its patches are known; then outline them.

        Was one of the two needed? Then there may be more to do.
        """
        session = self.session
        shown = session.overlays.shades
        slide_layer = layers.find(session.viewer, layers.SLIDE, session.shown or "")
        if shown is None or not slide_layer:
            return False
        slide = self._slides.setdefault(session.shown, SlideCorrections())
        layer = self._layer(session.shown)
        fits = slide.fits(shown.patches, shown.classes)
        if not fits and self.current is not None:  # a patch that is no more
            self.current = None
            layers.remove(session.viewer, layers.find(session.viewer, layers.FRAME))
            self.moved.emit()
        if layer is None or not fits:
            slide.lay(shown.patches, shown.classes)
            self._add_layer(layers.about(slide_layer[0])["mpp"])
        elif isinstance(slide.patches, PatchGrid) and not layers.find(session.viewer, layers.OUTLINES, session.shown):
            correction_marks.add_outlines(session.viewer, layer, slide.patches, slide.known, session.overlays.colours)
        else:
            return False
        return True

    def _sync_all(self) -> None:
        while self.sync():
            pass

    def _add_layer(self, mpp: Mpp | None) -> None:
        session, slide = self.session, self._slides[self.session.shown]
        with layers.selection_kept(session.viewer):
            for role in (layers.CORRECTIONS, layers.OUTLINES):
                layers.remove(session.viewer, layers.find(session.viewer, role, session.shown))
            layer = correction_marks.add_corrections(
                session.viewer, session.shown, slide.patches, slide.classes, slide.known, mpp, session.overlays.colours
            )
        session.overlays.follow_eye(layer)
        if isinstance(slide.patches, PatchGrid):
            layer.events.paint.connect(self._on_paint)
            layer.events.labels_update.connect(self._on_update)
            layer.events.set_data.connect(self._on_layer)  # napari's undo and redo
            layer.events.data.connect(self._on_layer)
        self._seen.clear()
        self.changed.emit()

    def _layer(self, slide_id: str) -> Any:
        found = layers.find(self.session.viewer, layers.CORRECTIONS, slide_id)
        return found[0] if found else None

    def _show(self, slide_id: str) -> None:
        """Bring the layer to what is known."""
        with self._own_hand():
            correction_marks.show(*self._seen_as(slide_id))

    def _seen_as(self, slide_id: str) -> tuple[Any, ...]:
        """What `correction_marks` needs to know."""
        session, slide = self.session, self._slides[slide_id]
        return session.viewer, slide_id, slide.patches, slide.known, slide.classes, session.overlays.colours

    @contextmanager
    def _own_hand(self) -> Iterator[None]:
        """What the layer tells meanwhile is not news."""
        before, self._taking = self._taking, True
        try:
            yield
        finally:
            self._taking = before

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
        session = self._session()
        if session is None or self._taking:
            return True
        layer = event.source
        slide_id = layers.about(layer)["slide_id"]
        slide = self._slides.get(slide_id)
        if slide is None or slide.known is None or self._layer(slide_id) is not layer:
            return True
        if layer.data.shape != slide.known.shape:  # somebody put other data into the layer
            with self._own_hand():
                layer.data = (slide.known + 1).astype(np.uint8)
            return True
        drawn = np.where(slide.patches.scored & (layer.data <= len(slide.classes)), layer.data, 0).astype(np.int8) - 1
        flat = np.flatnonzero(drawn != slide.known)
        clean = np.array_equal(drawn + 1, layer.data)
        if not clean:
            with self._own_hand():
                np.copyto(layer.data, (drawn + 1).astype(np.uint8))
                layer.refresh(highlight=False, extent=False)
        if len(flat):
            before, after = slide.known.ravel()[flat], drawn.ravel()[flat]
            slide.known.ravel()[flat] = after
            correction_marks.outline(*self._seen_as(slide_id))
            self._record(slide_id, flat, before, after, f"paint {len(flat)} corrections")
            self._changed()
        return bool(len(flat)) or not clean

    def _taken(self, points: dict[str, Points]) -> None:
        shown = self.session.shown
        if shown in points and self._slides[shown].known is not None:
            self._show(shown)
        self._sync_all()

    def clear(self) -> None:
        self.current = None
        super().clear()

    def _on_shown(self) -> None:
        self._seen.clear()
        if self.current is not None and self.current[0] != self.session.shown:
            self.current = None
            self.moved.emit()
        self._sync_all()

    def _on_colours(self) -> None:
        for layer in layers.find(self.session.viewer, layers.CORRECTIONS):
            slide_id = layers.about(layer)["slide_id"]
            slide = self._slides.get(slide_id)
            if slide is None or slide.known is None:
                continue
            if isinstance(slide.patches, PatchGrid):
                correction_marks.tint(layer, slide.classes, self.session.overlays.colours)
            self._show(slide_id)

    # ---- from patch to patch ---------------------------------------------------------------------------------------

    def look_at(self, cell: Cell) -> None:
        """Centre the camera on a patch of the shown slide, and frame it."""
        shown = self.session.overlays.shades
        if shown is None:
            return
        side = shown.patches.side
        centre = tuple(value + (side - 1) / 2 for value in shown.corner(cell))
        layers.looked_at(self.session.viewer, self.session.shown, centre, side)
        self.choose(cell)

    def choose(self, cell: Cell) -> None:
        """Frame a patch of the shown slide; the camera stays."""
        session, shown = self.session, self.session.overlays.shades
        slide = layers.find(session.viewer, layers.SLIDE, session.shown or "")
        if shown is None or not slide:
            return
        mpp = layers.about(slide[0])["mpp"]
        correction_marks.frame(session.viewer, session.shown, shown.corner(cell), shown.patches.side, mpp)
        self.current = (session.shown, tuple(cell))
        self._seen.add(tuple(cell))
        session.overlays.point_at(None)  # until the pointer moves again, a key means this patch and not the one left
        self.moved.emit()

    def choose_at(self, world: Any) -> bool:
        """Frame the patch at a place of the world. Returns whether there is a scored one."""
        session, shown = self.session, self.session.overlays.shades
        point = layers.level0_point(session.viewer, session.shown or "", world)
        cell = None if point is None or shown is None else shown.cell_at(point)
        if cell is None or not shown.scored[cell]:
            return False
        self.choose(cell)
        return True

    def next_uncertain(self) -> Cell | None:
        """Go to the patch the model is least sure of that was neither corrected nor seen yet; None when all were.

        With two classes: the nearest to the threshold; with more: the one of highest entropy.
        """
        session = self.session
        shown = session.overlays.shades
        if shown is None:
            raise SettingsError("predict the slide first: nothing is known of its patches yet")
        doubt = shown.uncertainty(session.threshold)
        known = self.known(session.shown)
        if known is not None and known.shape == doubt.shape:
            doubt[known != UNLABELLED] = -np.inf
        left = np.isfinite(doubt).any()
        for cell in self._seen:
            doubt[cell] = -np.inf
        if not np.isfinite(doubt).any():
            self._seen.clear()  # once round: begin again with what was passed over
            return self.next_uncertain() if left else None
        cell = tuple(int(index) for index in np.unravel_index(int(np.argmax(doubt)), doubt.shape))
        self.look_at(cell)
        return cell


def _is_scored(patches: Any, cell: Cell) -> bool:
    """Is this one of the patches the model judged? A pointer that rests may mean one of those there were before."""
    within = len(cell) == len(patches.shape) and all(at < size for at, size in zip(cell, patches.shape, strict=True))
    return within and bool(patches.scored[cell])
