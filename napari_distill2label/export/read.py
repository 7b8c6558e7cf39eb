"""Read label masks back: our own, and truth masks from other tools."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image

from ..core.errors import CohortError
from ..core.geometry import Mpp
from ..core.names import LABELS_NAMESPACE

TIFF_SUFFIXES = (".tif", ".tiff")
MICROMETRES = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3}


class LabelMask(NamedTuple):
    """A mask at level 0 and what its file says about it."""

    labels: np.ndarray  # (h, w), integers
    mpp: Mpp | None  # (y, x) µm per pixel
    classes: dict[int, str]  # what the values mean; empty where the file does not say


def is_label_mask(path: str | Path) -> bool:
    """Is this a mask that this program wrote?"""
    path = Path(path)
    if path.suffix.lower() not in TIFF_SUFFIXES or not path.is_file():
        return False
    try:
        with tifffile.TiffFile(path) as tiff:
            return LABELS_NAMESPACE in (tiff.ome_metadata or "")
    except (tifffile.TiffFileError, OSError, ValueError):
        return False


def read_label_mask(path: str | Path) -> LabelMask:
    """Read a mask of integers from TIFF, OME-TIFF, PNG or BMP.

    `CohortError` for a file that is missing, unreadable, or holds a colour picture rather than labels.
    """
    path = Path(path)
    if not path.is_file():
        raise CohortError(f"{path}: there is no such mask")
    mpp, classes = None, {}
    try:
        if path.suffix.lower() in TIFF_SUFFIXES:
            with tifffile.TiffFile(path) as tiff:
                labels = tiff.series[0].asarray()
                if tiff.is_ome and tiff.ome_metadata:
                    mpp, classes = _from_ome(tiff.ome_metadata)
        else:
            with Image.open(path) as image:
                labels = np.asarray(image)
    except Exception as error:  # noqa: BLE001 · raised again: whatever a decoder raises for a file that is cut short or of another kind
        raise CohortError(
            f"{path}: this mask cannot be read ({str(error).splitlines()[0][:120] or type(error).__name__})"
        ) from None
    if labels.ndim != 2 or labels.dtype.kind not in "uib":
        raise CohortError(f"{path}: a mask is one channel of whole numbers, this is {labels.shape} {labels.dtype}")
    return LabelMask(labels, mpp, classes)


def _from_ome(xml: str) -> tuple[Mpp | None, dict[int, str]]:
    ome = tifffile.xml2dict(xml)["OME"]
    image = ome["Image"][0] if isinstance(ome["Image"], list) else ome["Image"]
    pixels = image["Pixels"]
    mpp = None
    if "PhysicalSizeX" in pixels and "PhysicalSizeY" in pixels:
        mpp = tuple(
            float(pixels[f"PhysicalSize{axis}"]) * MICROMETRES[pixels.get(f"PhysicalSize{axis}Unit", "µm")]
            for axis in "YX"
        )
    return mpp, _classes(ome)


def _classes(ome: dict) -> dict[int, str]:
    maps = ome.get("StructuredAnnotations", {}).get("MapAnnotation", [])
    for annotation in maps if isinstance(maps, list) else [maps]:
        if annotation.get("Namespace") == LABELS_NAMESPACE:
            entries = annotation["Value"]["M"]
            texts = {entry["K"]: entry.get("value", "") for entry in entries}
            return {int(value): str(name) for value, name in json.loads(texts["classes"]).items()}
    return {}
