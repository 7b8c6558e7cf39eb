"""Where a result comes from, as plain JSON: slide, model, settings and versions, for every file that can hold it."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.text import printable, without_login

if TYPE_CHECKING:
    from ..store.maps.patch_map import PatchMap

RESEARCH_USE = (
    "For research use only: not a medical device, not for diagnosis. Patch labels are inferred from slide labels."
)


def provenance(patch_map: "PatchMap", threshold: float, corrected: int | None = None) -> dict[str, Any]:
    """Return the provenance of labels of a patch map at `threshold`; `corrected`: patches that a user corrected.

    The date is that of the map and not of the export, so that the same result is the same file. It has no path, so that
    a file that is passed on names no folder.
    """
    model: Mapping[str, Any] = patch_map.model
    path = patch_map.slide.path or ""
    return {
        "program": f"napari-distill2label {_version()}",
        "date": patch_map.date,
        "slide_id": printable(patch_map.slide_id),
        "slide": printable(without_login(path).replace("\\", "/").rsplit("/", 1)[-1]),
        "slide_signature": model.get("slide_signature"),
        "slide_mpp": None if patch_map.slide.mpp is None else list(patch_map.slide.mpp),
        "slide_mpp_from_user": patch_map.slide.mpp_from_user,
        "canvas_origin": list(patch_map.slide.canvas_origin),
        "network": model.get("network"),
        "weights_sha256": model.get("weights_sha256"),
        "calibration_sha256": model.get("calibration"),
        "classes": [printable(name) for name in patch_map.classes],
        "threshold": threshold,
        "patches": patch_map.patches.to_json(),
        "corrected_patches": corrected,
        "research_use": RESEARCH_USE,
    }


def conversion(source: Path) -> dict[str, Any]:
    """Return the provenance of what is made of a file: which file it was, without its folder."""
    about: dict[str, Any] = {"program": f"napari-distill2label {_version()}", "converted_from": printable(source.name)}
    if source.is_file():
        with source.open("rb") as file:
            about["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return about | {"research_use": RESEARCH_USE}


def _version() -> str:
    try:
        return version("napari-distill2label")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
