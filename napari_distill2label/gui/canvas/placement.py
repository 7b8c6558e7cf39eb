"""The layers over a slide lie where the slide lies, wherever the user moves, scales, turns or shears it in napari.

A layer over a slide has a home: scale and translation from its own pixels to the slide's world as the slide was added.
What the user did to the slide since is one affine matrix, the slide's displacement, and becomes the `affine` of each
layer over it. A layer over a slide that is moved by itself goes back: a label must not lie over another patch.
"""

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import numpy as np

from .ownership import SLIDE, find, tags_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

EVENTS = ("scale", "translate", "rotate", "shear", "affine", "units")
EXACT = 1e-9  # relative; below it two matrices are the same

_followed: "WeakSet[Layer]" = WeakSet()  # of which we hear already when they are moved
_homes: "WeakKeyDictionary[Layer, tuple[np.ndarray, np.ndarray]]" = WeakKeyDictionary()  # scale, translate


def lead(viewer: "ViewerModel", slide: "Layer") -> None:
    """Bring the layers over a slide along whenever it is moved."""
    _connect(slide, partial(_follow, weakref.ref(viewer)))


def keep(viewer: "ViewerModel", layer: "Layer") -> None:
    """Lay a new layer over its slide, and keep it there."""
    _homes[layer] = np.array(layer.scale, float), np.array(layer.translate, float)
    if (slide := _slide_of(viewer, layer)) is not None:
        _settle(layer, slide, displacement(slide))
    _connect(layer, partial(_go_home, weakref.ref(viewer)))


def home(layer: "Layer") -> tuple[np.ndarray, np.ndarray]:
    """Scale and translation of a layer over a slide that was not moved."""
    return _homes[layer]


def displacement(slide: "Layer") -> np.ndarray:
    """(3, 3) what the user did to the place of a slide since it was added: world then → world now."""
    mpp = tags_of(slide)["mpp"] or (1.0, 1.0)
    moved = _matrix(slide) @ np.diag([1 / mpp[0], 1 / mpp[1], 1.0])
    size = np.abs(moved).max()
    return np.eye(3) if np.allclose(moved, np.eye(3), rtol=0, atol=EXACT * size) else moved


def magnification(layer: "Layer") -> float:
    """Length in the world of one pixel of a layer, whichever way it is turned."""
    return float(np.sqrt(abs(np.linalg.det(_matrix(layer)[:2, :2]))))


def _matrix(layer: "Layer") -> np.ndarray:
    """(3, 3) data → world of a two-dimensional layer."""
    origin, down, right = (np.asarray(layer.data_to_world(point), float) for point in ((0, 0), (1, 0), (0, 1)))
    matrix = np.eye(3)
    matrix[:2] = np.stack([down - origin, right - origin, origin], axis=1)
    return matrix


def _connect(layer: "Layer", moved: Any) -> None:
    if layer not in _followed:  # a layer that was another slide's is connected already
        _followed.add(layer)
        for name in EVENTS:
            getattr(layer.events, name).connect(moved)


def _slide_of(viewer: "ViewerModel", layer: "Layer") -> "Layer | None":
    found = find(viewer, SLIDE, tags_of(layer)["slide_id"])
    return found[0] if found else None


def _follow(viewer: "weakref.ref[ViewerModel]", event: Any) -> None:
    """The slide was moved."""
    slide = event.source
    if (alive := viewer()) is None or slide not in alive.layers or not tags_of(slide):
        return
    moved = displacement(slide)
    for layer in find(alive, slide_id=tags_of(slide)["slide_id"]):
        if layer in _homes:
            _settle(layer, slide, moved)


def _go_home(viewer: "weakref.ref[ViewerModel]", event: Any) -> None:
    """A layer over a slide was moved."""
    alive, layer = viewer(), event.source
    if (
        alive is not None
        and layer in alive.layers
        and tags_of(layer)
        and (slide := _slide_of(alive, layer)) is not None
    ):
        _settle(layer, slide, displacement(slide))


def _settle(layer: "Layer", slide: "Layer", moved: np.ndarray) -> None:
    """Put a layer where its slide is; what is in place is not set again, as every change is drawn."""
    scale, translate = _homes[layer]
    wanted = {
        "scale": scale,
        "translate": translate,
        "rotate": np.eye(2),
        "shear": np.zeros(1),
        "affine": moved,
    }
    for name, value in wanted.items():
        if not _same(getattr(layer, name), value):
            setattr(layer, name, value)
    if tuple(layer.units) != tuple(slide.units):
        layer.units = slide.units


def _same(one: Any, other: np.ndarray) -> bool:
    one = np.asarray(getattr(one, "affine_matrix", one), float)
    return one.shape == other.shape and np.allclose(one, other, rtol=EXACT, atol=EXACT)
