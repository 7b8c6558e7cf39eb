"""Label masks read from files: our own, and ground-truth masks of other tools."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image

from ...core.errors import CohortError
from ...core.geometry import Mpp
from ...core.paths import LABELS_NAMESPACE
from ...slides.backends.protocol import reason_of
from ...slides.backends.tiff_series import check_pages
from ...slides.backends.xml import check_xml
from ...slides.scale import UM_PER_UNIT, parse_number

TIFF_SUFFIXES = (".tif", ".tiff")
_PICTURES = ("PNG", "BMP", "GIF", "JPEG")  # of which Pillow opens none with another program
_MEMORY_SHARE = 0.5  # of this computer's, that a mask may fill


class LabelMask(NamedTuple):
    """A mask at level 0, with the pixel size, class names and position in its file."""

    labels: np.ndarray  # (h, w), integers
    mpp: Mpp | None  # (y, x) µm per pixel
    classes: dict[int, str]  # what the values mean; empty where the file does not say
    position: tuple[float, float] = (0.0, 0.0)  # (y, x) of its first pixel, in µm (px where mpp is None)


def is_label_mask(path: str | Path) -> bool:
    """Whether this program wrote the mask."""
    path = Path(path)
    if path.suffix.lower() not in TIFF_SUFFIXES or not path.is_file():
        return False
    try:
        with tifffile.TiffFile(path) as tiff:
            return LABELS_NAMESPACE in (tiff.ome_metadata or "")
    except Exception:  # noqa: BLE001 · a damaged file raises anything, and is no mask of ours
        return False


def read_label_mask(path: str | Path) -> LabelMask:
    """Read a mask of integers from TIFF, OME-TIFF, PNG or BMP.

    `CohortError` for a file that is missing, unreadable, or holds a colour picture rather than labels.
    """
    path = Path(path)
    if not path.is_file():
        raise CohortError(f"{path}: there is no such mask")
    mpp: Mpp | None = None
    classes: dict[int, str] = {}
    position = (0.0, 0.0)
    try:
        if path.suffix.lower() in TIFF_SUFFIXES:
            with tifffile.TiffFile(path) as tiff:
                check_pages(path, tiff)
                check_xml(tiff.ome_metadata or "")
                _check_memory(tiff.series[0].shape, tiff.series[0].dtype.itemsize)
                labels = tiff.series[0].asarray()
                if tiff.is_ome and tiff.ome_metadata:
                    mpp, classes, position = _read_ome(tiff.ome_metadata)
        else:
            with Image.open(path, formats=_PICTURES) as image:
                labels = np.asarray(image)
    except Exception as error:  # whatever a decoder raises for a file that is cut short or of another kind
        raise CohortError(f"{path}: this mask cannot be read ({reason_of(error)[:160]})") from error
    if labels.ndim != 2 or labels.dtype.kind not in "uib":
        raise CohortError(f"{path}: a mask is one channel of whole numbers, this is {labels.shape} {labels.dtype}")
    return LabelMask(labels, mpp, classes, position)


def _check_memory(shape: tuple[int, ...], itemsize: int) -> None:
    """`ValueError` for a mask that would not leave this computer enough memory."""
    size, memory = math.prod(shape) * itemsize, math.inf
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > _MEMORY_SHARE * memory:
        raise ValueError(f"its {size / 1e9:.0f} GB do not fit into memory; areas can be given as GeoJSON")


def _read_ome(xml: str) -> tuple[Mpp | None, dict[int, str], tuple[float, float]]:
    ome = tifffile.xml2dict(xml)["OME"]
    image = ome["Image"][0] if isinstance(ome["Image"], list) else ome["Image"]
    pixels = image["Pixels"]
    return _mpp(pixels), _classes(ome), _position(pixels)


def _position(pixels: Mapping[str, Any]) -> tuple[float, float]:
    """(y, x) of the first plane, in µm, or in px where it says so; 0 where it says nothing."""
    planes = pixels.get("Plane", {})
    plane = planes[0] if isinstance(planes, list) else planes
    y, x = (
        parse_number(plane.get(f"Position{axis}", 0)) * UM_PER_UNIT.get(plane.get(f"Position{axis}Unit", "pixel"), 1.0)
        for axis in "YX"
    )
    return (y, x) if math.isfinite(y) and math.isfinite(x) else (0.0, 0.0)


def _mpp(pixels: Mapping[str, Any]) -> Mpp | None:
    """(y, x) µm per pixel; None where they are missing, no length, or not above 0."""
    units = [UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), math.nan) for axis in "YX"]
    y, x = (parse_number(pixels.get(f"PhysicalSize{axis}")) * unit for axis, unit in zip("YX", units, strict=True))
    return (y, x) if all(math.isfinite(value) and value > 0 for value in (y, x)) else None


def _classes(ome: Mapping[str, Any]) -> dict[int, str]:
    maps = ome.get("StructuredAnnotations", {}).get("MapAnnotation", [])
    for annotation in maps if isinstance(maps, list) else [maps]:
        if annotation.get("Namespace") == LABELS_NAMESPACE:
            entries = annotation["Value"]["M"]
            entries = entries if isinstance(entries, list) else [entries]
            texts = {entry["K"]: entry.get("value", "") for entry in entries}
            return {int(value): str(name) for value, name in json.loads(texts["classes"]).items()}
    return {}
