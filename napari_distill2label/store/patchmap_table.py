"""The columns of a patch map's table: where patches lie, what they are called, what the model says of them."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..core.classes import SEPARATOR
from ..core.geometry import PatchGrid, PatchPoints


def places(patches: PatchGrid | PatchPoints, window: tuple[slice, ...], done: np.ndarray) -> dict[str, np.ndarray]:
    """Boxes in level-0 px, and cells or centres, of the patches of a window that are `done` (bool, of its shape)."""
    cells = np.argwhere(done)
    if len(cells):
        cells[:, 0] += window[0].start
    if isinstance(patches, PatchGrid):
        corners = patches.corners_of(cells)
        place = {"row": cells[:, 0], "col": cells[:, 1]}
    else:
        corners = patches.corners[cells[:, 0]]
        centres = patches.centres[cells[:, 0]]
        place = {"x": centres[:, 1], "y": centres[:, 0]}
    side = np.full(len(cells), patches.side, np.int64)
    return {"minx": corners[:, 1], "miny": corners[:, 0], "width": side, "height": side, **place}


def of_classes(arrays: Mapping[str, np.ndarray], classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of `probability`, `logit`, `contribution` (n, C) and `attention` (n,)."""
    columns = {}
    for prefix, name in (("prob", "probability"), ("logit", "logit")):
        columns |= {f"{prefix}_{label}": arrays[name][:, index] for index, label in enumerate(classes)}
    columns["attention"] = arrays["attention"]
    return columns | {f"contribution_{label}": arrays["contribution"][:, index] for index, label in enumerate(classes)}


def names_of(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """(n,) names of labels (n,), 1 + class index."""
    return np.array(classes, object)[labels.astype(int) - 1]


def names_of_several(present: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """(n,) 'a;b' of the findings that are `present` (n, C − 1) bool; the negative class where none is."""
    kinds, which = np.unique(present, axis=0, return_inverse=True)
    names = [
        SEPARATOR.join(name for name, here in zip(classes[1:], kind, strict=True) if here) or classes[0]
        for kind in kinds
    ]
    return np.array(names, object)[which.reshape(-1)]
