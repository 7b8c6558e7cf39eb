"""napari's *Save*: our layers of patch labels through the same writers as the panel's Export."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..core.errors import BundleError
from ..export import FORMATS, write
from .layers import KEY, LABELS, patch_map_of


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write what a layer of labels shows; the suffix says how. Returns the files.

    `BundleError` for a layer that is not ours (there are no patches behind it), or whose prediction is gone.
    """
    noted = meta.get("metadata", {}).get(KEY) or {}
    if noted.get("role") != LABELS:
        raise BundleError(
            f"{path}: the layer {meta.get('name', '')!r} holds no patch labels of 'Distill to Label': save it with "
            "napari's own writer"
        )
    patch_map = patch_map_of(noted)
    name = next((name for name, known in FORMATS.items() if path.lower().endswith(known.suffix)), None)
    if name is None:
        raise BundleError(f"{path}: patch labels are saved as {', '.join(known.suffix for known in FORMATS.values())}")
    target = Path(path)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name[:40]}.") as folder:
        files = write(patch_map, folder, [name], noted["threshold"])
        if noted["class_index"] is not None and len(files) > 1:  # one file per class: the one this layer shows
            files = [files[noted["class_index"] - 1]]
        os.replace(files[0], target)
    return [str(target)]
