"""The one that listens to napari's list of layers, and says what a person did there and what we did."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from . import ownership

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class LayerWatch:
    """Passes on what happens to the list of layers.

    Attributes
    ----------
    is_ours
        Do we add and remove layers at the moment?
    """

    inserted = Signal(object)  # Layer
    removed = Signal(object, bool)  # Layer; a layer of ours that a person removed?
    changed = Signal()  # layers came, went by a person's hand, or were moved

    def __init__(self, viewer: "ViewerModel") -> None:
        self._viewer = weakref.ref(viewer)
        self.is_ours = False
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.events.reordered.connect(self._on_reordered)

    @contextmanager
    def our_hand(self) -> Iterator[None]:
        """What is added and removed meanwhile is our doing."""
        before, self.is_ours = self.is_ours, True
        try:
            yield
        finally:
            self.is_ours = before

    def _on_inserted(self, event: Any) -> None:
        self.inserted.emit(event.value)
        self.changed.emit()

    def _on_removed(self, event: Any) -> None:
        layer: Layer = event.value
        if self._viewer() is not None:
            self.removed.emit(layer, ownership.removed_by_user(layer))
            if not self.is_ours:
                self.changed.emit()

    def _on_reordered(self, event: Any) -> None:
        self.changed.emit()
