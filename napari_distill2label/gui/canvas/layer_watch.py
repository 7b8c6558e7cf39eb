"""The one that listens to napari's list of layers, and says what a person did there and what we did."""

import weakref
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from . import ownership
from .own_hand import OwnHand

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class LayerWatch:
    """Passes on what happens to the list of layers.

    Attributes
    ----------
    own_hand
        Entered while we add and remove layers.
    """

    inserted = Signal(object)  # Layer
    removed = Signal(object, bool)  # Layer; a layer of ours that a person removed?
    changed = Signal()  # layers came, went by a person's hand, or were moved

    def __init__(self, viewer: "ViewerModel") -> None:
        self._viewer = weakref.ref(viewer)
        self.own_hand = OwnHand()
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.events.reordered.connect(self._on_reordered)

    def _on_inserted(self, event: Any) -> None:
        self.inserted.emit(event.value)
        self.changed.emit()

    def _on_removed(self, event: Any) -> None:
        layer: Layer = event.value
        if self._viewer() is not None:
            self.removed.emit(layer, ownership.removed_by_user(layer))
            if not self.own_hand:
                self.changed.emit()

    def _on_reordered(self, event: Any) -> None:
        self.changed.emit()
