"""Layers of a slide that is left, kept for the next one.

napari takes a fifth of a second to add a layer, and as long to take one away, but a tenth of that to give it other
data. A spare is nobody's: it has no notes, so nothing that follows our layers finds it. Whoever makes a layer of the
same kind gets it in place of a new one, as it was when it was made: what a user set in the one before is not passed on.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from . import ownership
from .ownership import KEY

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from .layers import LayerData

KINDS = ("image", "labels", "vectors")  # of layers that can be given other data without a trace of the former
# What a user can set in the controls of a layer that is no part of its state.
CONTROLS = (
    "brush_size",
    "contiguous",
    "contour",
    "n_edit_dimensions",
    "preserve_labels",
    "selected_label",
    "show_selected_label",
)
# Of the state: what comes with the data, or is set by itself.
OF_DATA = {"data", "edge_color", "edge_colormap", "feature_defaults", "features", "metadata", "multiscale", "name"}
OF_DATA |= {"ndim", "properties", "property_choices", "rgb", "scale", "translate", "units", "visible"}


@dataclass(frozen=True)
class Made:
    """How a layer of ours was made.

    Attributes
    ----------
    given
        What napari was given beside the data.
    state
        What napari made of it, as far as a user can change it.
    units
        Of its axes.
    """

    given: dict[str, Any]
    state: dict[str, Any]
    units: tuple[Any, ...]


_made: "WeakKeyDictionary[Layer, Made]" = WeakKeyDictionary()
_spare: "WeakKeyDictionary[Layer, dict[str, Any]]" = WeakKeyDictionary()  # and the notes of what it was


def remember(layer: "Layer", data: "LayerData") -> None:
    """Note how a layer is that has just been made of `data`."""
    if data[2] in KINDS:
        _made[layer] = Made(data[1], _state(layer), layer.units)


def set_aside(layer: "Layer") -> bool:
    """Make a layer of ours a spare. False, and nothing is done, if it cannot be one."""
    from napari.experimental import unlink_layers

    if layer not in _made or getattr(layer, "locked", False):
        return False
    _spare[layer] = ownership.tags_of(layer)
    ownership.let_go(layer)
    unlink_layers([layer])
    layer.editable = False  # a layer of labels forgets what was painted, and the pointer moves the slide again
    layer.mode = "pan_zoom"
    return True


def there(viewer: "ViewerModel", **noted: Any) -> list["Layer"]:
    """All spares, or those whose notes were as asked for (`role`, `slide_id`, …)."""
    found = [layer for layer in viewer.layers if layer in _spare]
    return [layer for layer in found if all(_spare[layer].get(key) == value for key, value in noted.items())]


def take(viewer: "ViewerModel", data: "LayerData") -> "Layer | None":
    """A spare of the kind of `data`, with these in place of its own and no spare any more; None where there is none."""
    found = next((layer for layer in there(viewer) if _serves(layer, data)), None)
    if found is not None:
        _fill(found, data)
        del _spare[found]
    return found


def _serves(layer: "Layer", data: "LayerData") -> bool:
    """Can a spare be what is to be made?"""
    _, meta, kind = data
    given, former, noted = _made[layer].given, _spare[layer], meta["metadata"][KEY]
    alike = all(given.get(key) == meta.get(key) for key in ("multiscale", "rgb", "units", "axis_labels"))
    same_role = all(former.get(key) == noted.get(key) for key in ("role", "class_index", "model"))
    return type(layer).__name__.lower() == kind and alike and same_role


def _state(layer: "Layer") -> dict[str, Any]:
    """What a user can change of a layer's looks, whatever it shows."""
    state = {name: value for name, value in layer.as_layer_data_tuple()[1].items() if name not in OF_DATA}
    return state | {name: getattr(layer, name) for name in CONTROLS if hasattr(layer, name)}


def _fill(layer: "Layer", data: "LayerData") -> None:
    """Other data in a layer, which is then as if it had been made of them."""
    (values, meta, _), made = data, _made[layer]
    layer.visible = False  # napari draws nothing of what follows
    _place(layer, values, meta)
    layer.metadata, layer.name = meta["metadata"], meta["name"]
    if layer.units != made.units:
        layer.units = made.units
    wanted = {name: value for name, value in meta.items() if not _same(made.given.get(name), value)}
    now = _state(layer)
    for name, value in (made.state | {name: wanted[name] for name in wanted.keys() - OF_DATA}).items():
        if not _same(now.get(name), value):
            setattr(layer, name, value)
    if "contrast_limits" in meta:
        layer.contrast_limits_range = meta["contrast_limits"]
    if "features" in meta and not _same(layer.features.to_dict("list"), meta["features"]):
        layer.features = meta["features"]
    remember(layer, data)
    if meta.get("visible", True):
        layer.visible = True
    else:
        layer.thumbnail = np.zeros((0, 0, 4), np.uint8)  # as that of a new layer that is hidden


def _place(layer: "Layer", values: Any, meta: dict[str, Any]) -> None:
    """Other data, where they belong. The viewer hears of it once: it looks at all of its layers each time."""
    before = tuple(layer.scale), tuple(layer.translate)
    with layer.events.data.blocker(), layer.events.scale.blocker(), layer.events.translate.blocker():
        layer.data = values
        layer.translate = meta.get("translate", (0.0, 0.0))
        layer.scale = meta.get("scale", (1.0, 1.0))  # also if it is the same: napari measures a hidden layer again
    layer.events.data(value=layer.data)
    if (tuple(layer.scale), tuple(layer.translate)) != before:
        layer.events.scale()


def _same(one: Any, other: Any) -> bool:
    """Are two values of a layer's state alike? Arrays, lists and tuples by what is in them."""
    one, other = (getattr(each, "color_dict", each) for each in (one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray | list | tuple) and isinstance(other, np.ndarray | list | tuple):
        return np.array_equal(np.asarray(one), np.asarray(other))
    return type(one) is type(other) and bool(one == other)
