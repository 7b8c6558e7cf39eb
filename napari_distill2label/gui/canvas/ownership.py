"""Which layers are ours, and what we noted of them.

A layer is ours because we made it, and nothing else makes it ours: napari's *Duplicate Layer*, a split or a conversion
copies the metadata along, and what a user paints in such a copy is his. The notes also stand in the layer's
`metadata["distill2label"]`, for people and for the writer; there they are never read to tell whose a layer is.
"""

import secrets
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

KEY = "distill2label"
SLIDE = "slide"  # the role of the picture itself, which the others lie over

_notes: "WeakKeyDictionary[Layer, dict[str, Any]]" = WeakKeyDictionary()
_taken_away: "WeakSet[Layer]" = WeakSet()
# napari makes the layers of our reader. Each carries a ticket that is redeemed once: a copy comes too late.
_tickets: set[str] = set()


def tags_of(layer: "Layer") -> dict[str, Any]:
    """What we noted of a layer: at least `role` and `slide_id`; empty for a layer that is not ours."""
    return _notes.get(layer, {})


def find(viewer: "ViewerModel", role: str | None = None, slide_id: str | None = None, **also: Any) -> list["Layer"]:
    """Our layers, from the bottom up, whose notes are as asked for (`model="student"`, …)."""
    wanted = also | ({"role": role} if role else {}) | ({"slide_id": slide_id} if slide_id is not None else {})
    return [
        layer
        for layer in viewer.layers
        if (noted := tags_of(layer)) and all(noted.get(key) == value for key, value in wanted.items())
    ]


def copies_of(viewer: "ViewerModel", slide_id: str) -> list["Layer"]:
    """Copies of a slide's layer that are not ours: they still read its file."""
    said = ((layer, layer.metadata.get(KEY)) for layer in viewer.layers if layer not in _notes)
    return [
        layer
        for layer, noted in said
        if isinstance(noted, dict) and (noted.get("role"), noted.get("slide_id")) == (SLIDE, slide_id)
    ]


def claim(layer: "Layer") -> None:
    """Call a layer ours that we have just made, with notes in its metadata."""
    _notes[layer] = layer.metadata[KEY]
    _tickets.discard(layer.metadata[KEY].get("ticket", ""))


def note(layer: "Layer", **changes: Any) -> None:
    """Change the notes of a layer of ours. They are replaced: napari's copies share the former dict."""
    _notes[layer] = layer.metadata[KEY] = _notes[layer] | changes


def let_go(layer: "Layer") -> None:
    """A layer of ours is nobody's from now on; its notes are forgotten."""
    del _notes[layer]
    layer.metadata.pop(KEY, None)  # a user can have taken it out


def new_ticket() -> str:
    """Goes into the notes of a layer that napari will make."""
    ticket = secrets.token_hex(8)
    _tickets.add(ticket)
    return ticket


def redeem(layer: "Layer") -> bool:
    """Claim a layer that napari made from what our reader gave it. Was it such a one?"""
    noted = layer.metadata.get(KEY)
    if layer in _notes or not isinstance(noted, dict) or noted.get("ticket") not in _tickets:
        return False
    claim(layer)
    return True


def take_away(layer: "Layer") -> None:
    """We are about to remove this layer ourselves."""
    _taken_away.add(layer)


def removed_by_user(layer: "Layer") -> bool:
    """Of a layer of ours that is no longer in the viewer: was it the user who removed it?"""
    return layer in _notes and layer not in _taken_away
