"""Looking at what the model said, patch by patch, and correcting it. No Qt."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.bag import UNLABELLED
from ...core.errors import SettingsError
from ..canvas.canvas import Canvas
from ..project.corrections import Agreement, Corrections
from ..project.project import Project

if TYPE_CHECKING:
    from ...store.maps.patch_map_view import Cell

ALL_CORRECTED = "Every patch of this slide is corrected: choose another slide."


class ReviewActions:
    """Corrections of the shown slide.

    Attributes
    ----------
    onward
        After `answer`, go on to the next uncertain patch?
    """

    def __init__(self, project: Project, corrections: Corrections, canvas: Canvas) -> None:
        self._project, self._corrections, self._canvas = project, corrections, canvas
        self.onward = True

    def correct(self, label: str | None, cell: "Cell | None" = None) -> bool:
        """Say what a patch of the shown slide is (None: take the correction back). It can be undone.

        `cell` None: the patch under the pointer, else the framed one. Returns whether there was such a patch.
        `SettingsError` for an unknown class, or while nothing is predicted of the slide.
        """
        shown, slide = self._canvas.corrections.aligned()
        if label is not None and label not in slide.classes:
            raise SettingsError(f"there is no class {label!r}: the classes are {', '.join(slide.classes)}")
        if cell is None:
            at = self._canvas.display.hovered or self._canvas.corrections.framed
            cell = at[1] if at is not None and at[0] == shown else None
        if cell is None or not _is_scored(slide.patches, cell):
            return False
        value = UNLABELLED if label is None else slide.classes.index(label)
        flat = np.array([np.ravel_multi_index(cell, slide.labels.shape)])
        text = f"correct a patch to {label or 'nothing'}"
        self._corrections.set(shown, flat, np.array([value], np.int8), text, at=cell)
        return True

    def answer(self, label: str | None, cell: "Cell | None" = None) -> bool:
        """`correct`, then go on to the next uncertain patch if that is wished for; to drop a correction stays."""
        if not self.correct(label, cell):
            return False
        if self.onward and label is not None and self.next_uncertain() is None:
            self._project.tell(ALL_CORRECTED)
        return True

    def clear_corrections(self) -> None:
        """Take all corrections of the shown slide back. It can be undone."""
        shown, slide = self._canvas.corrections.aligned()
        flat = np.flatnonzero(slide.labels != UNLABELLED)
        values = np.full(len(flat), UNLABELLED, np.int8)
        self._corrections.set(shown, flat, values, f"clear {len(flat)} corrections")

    def paint(self, label: str | None) -> None:
        """Let the pointer paint corrections of a class on the shown slide's patches (None: erase them)."""
        self._canvas.corrections.paint(label)

    def next_uncertain(self) -> "Cell | None":
        """Go to the patch the model is least sure of that was neither corrected nor seen yet; None when all were."""
        return self._canvas.corrections.next_uncertain()

    def center_on(self, cell: "Cell") -> None:
        """Centre the camera on a patch of the shown slide, and frame it."""
        self._canvas.corrections.center_on(cell)

    def agreement(self, slide_id: str | None = None) -> dict[str, Agreement]:
        """By class of the corrections of a slide (None: the one shown): does the model agree? {} without both."""
        from ...store.maps import patch_map_view

        project, slide_id = self._project, slide_id or self._project.shown or ""
        patch_map = self._canvas.predictions.map if slide_id == project.shown else project.map_of(slide_id)
        shown = None if patch_map is None else patch_map_view.known(patch_map)  # nothing is read in the window's thread
        return self._corrections.agreement(slide_id, shown, project.threshold)

    def label_counts(self, slide_id: str | None = None) -> dict[str, int]:
        """Patches per class of a slide (None: the one shown) at the threshold; empty where nothing is predicted.

        Where several classes can be present at once a patch counts for each of its findings.
        """
        from ...store.maps import patch_map_view

        patch_map = self._project.map_of(slide_id or self._project.shown)
        return {} if patch_map is None else patch_map_view.of(patch_map).counts(self._project.threshold)


def _is_scored(patches: Any, cell: "Cell") -> bool:
    """Is this one of the patches the model judged? A pointer that rests may mean one of those there were before."""
    within = len(cell) == len(patches.shape) and all(at < size for at, size in zip(cell, patches.shape, strict=True))
    return within and bool(patches.scored[cell])
