"""Label masks read from files: our own, and ground-truth masks of other tools."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image

from ..core.classes import RGB
from ..core.errors import CohortError
from ..core.geometry import Mpp
from ..core.paths import LABELS_NAMESPACE, OWN_ATTRIBUTE, PROVENANCE_NAMESPACE, slide_in
from .backends.protocol import reason_of
from .backends.tiff_series import check_pages
from .backends.xml import check_xml
from .scale import UM_PER_UNIT, parse_number
from .tiled_labels import TiledLabels, check_memory, pixels_of_tiff, pixels_of_zarr

TIFF_SUFFIXES = (".tif", ".tiff")
ZARR = ".zarr"
PNG = ".png"
PICTURES = (PNG, ".bmp")
LEAST_REDUCED = 2  # below, a mask that is not as large as its slide is rather of another one
_PICTURES = ("PNG", "BMP", "GIF", "JPEG")  # of which Pillow opens none with another program


class LabelMask(NamedTuple):
    """A mask at level 0, with the pixel size, class names and position in its file."""

    pixels: TiledLabels
    mpp: Mpp | None  # (y, x) µm per pixel
    classes: dict[int, str]  # what the values mean; empty where the file does not say
    position: tuple[float, float] = (0.0, 0.0)  # (y, x) of its first pixel, in µm (px where mpp is None)
    colours: Mapping[int, RGB] = {}  # of the values, where the file says them

    @property
    def labels(self) -> np.ndarray:
        """(h, w) integers: all pixels, read each time. `CohortError` if they do not fit into memory."""
        return self.pixels.whole()


def reduction(shape: tuple[int, int], slide_shape: tuple[int, int]) -> tuple[float, float] | None:
    """Return the (y, x) level-0 px of a pixel of a mask that covers a slide of this shape; None if it cannot.

    A whole number, the same along both axes, where the shapes allow one: levels of a pyramid are rounded.
    """
    sizes = list(zip(slide_shape, shape, strict=True))
    y, x = (full / size for full, size in sizes)
    for whole in dict.fromkeys((round(y), round(x))):
        if whole and all(abs(full / whole - size) < 1 for full, size in sizes):
            return float(whole), float(whole)
    least = max(full / (size + 1) for full, size in sizes)
    most = min(full / max(size - 1, 0.5) for full, size in sizes)
    return (y, x) if min(y, x) >= LEAST_REDUCED and least < most else None


def scale_to(path: object, shape: tuple[int, ...], slide_shape: tuple[int, int]) -> tuple[float, float]:
    """Return the (y, x) level-0 px that a pixel is wide. `CohortError` if the image cannot be of such a slide."""
    found = reduction((shape[0], shape[1]), slide_shape)
    if found is None:
        raise CohortError(
            f"{path}: is {shape[1]} × {shape[0]} px, its slide is {slide_shape[1]} × {slide_shape[0]} px: a label "
            "image is as large as its slide, or all of it reduced"
        )
    return found


def is_label_image(path: str | Path) -> bool:
    """Whether annotations of this name are a label image."""
    return Path(path).suffix.lower() in (*TIFF_SUFFIXES, *PICTURES, ZARR)


def is_label_mask(path: str | Path) -> bool:
    """Whether this program wrote the mask."""
    path = Path(path)
    if path.suffix.lower() == ZARR and path.is_dir():
        from .backends.omezarr import read_attributes

        return OWN_ATTRIBUTE in read_attributes(path)
    if path.suffix.lower() not in (*TIFF_SUFFIXES, PNG) or not path.is_file():
        return False
    try:
        if path.suffix.lower() == PNG:
            with Image.open(path, formats=["PNG"]) as image:
                return {"classes", "provenance"} <= {*getattr(image, "text", {})}
        with tifffile.TiffFile(path) as tiff:
            return LABELS_NAMESPACE in (tiff.ome_metadata or "")
    except Exception:  # noqa: BLE001 · a damaged file raises anything, and is no mask of ours
        return False


def slide_of_mask(path: Path) -> str | None:
    """Return the slide that a label image of this program is of, as it says itself; None if it does not say."""
    try:
        if path.suffix.lower() == ZARR:
            from .backends.omezarr import read_attributes

            return slide_in(dict(read_attributes(path).get(OWN_ATTRIBUTE, {})).get("provenance"))
        if path.suffix.lower() == PNG:
            with Image.open(path, formats=["PNG"]) as image:
                return slide_in(getattr(image, "text", {}).get("provenance"))
        with tifffile.TiffFile(path) as tiff:
            xml = tiff.ome_metadata or ""
        if PROVENANCE_NAMESPACE not in xml:
            return None
        check_xml(xml)
        return slide_in(_annotated(tifffile.xml2dict(xml)["OME"], PROVENANCE_NAMESPACE).get("provenance"))
    except Exception:  # noqa: BLE001 · a damaged file raises anything, and says nothing
        return None


def read_label_mask(path: str | Path) -> LabelMask:
    """Open a mask of integers: TIFF, OME-TIFF, OME-Zarr, PNG or BMP.

    Pixels of TIFF and OME-Zarr are read where they are asked for; a picture (PNG, BMP) is read now.

    `CohortError` for a file that is missing, unreadable, or holds a colour picture rather than labels; for pixels that
    cannot be read when they are asked for.
    """
    path = Path(path)
    is_zarr = path.suffix.lower() == ZARR and path.is_dir()
    if not (is_zarr or path.is_file()):
        raise CohortError(f"{path}: there is no such mask")
    try:
        if is_zarr:
            return _open_zarr(path)
        if path.suffix.lower() in TIFF_SUFFIXES:
            with tifffile.TiffFile(path) as tiff:
                check_pages(path, tiff)
                check_xml(tiff.ome_metadata or "")
                pixels = pixels_of_tiff(path, tiff.series[0])
                if tiff.is_ome and tiff.ome_metadata:
                    return LabelMask(pixels, *_read_ome(tiff.ome_metadata))
                return LabelMask(pixels, None, {})
        with Image.open(path, formats=_PICTURES) as image:
            check_memory((image.height, image.width), len(image.getbands()))
            classes, colours, mpp = _texts_of_picture(image)
            return LabelMask(TiledLabels.of(np.asarray(image), path), mpp, classes, colours=colours)
    except Exception as error:  # whatever a decoder raises for a file that is cut short or of another kind
        reason = reason_of(error).removeprefix(f"{path}: ")
        raise CohortError(f"{path}: this mask cannot be read ({reason[:160]})") from error


def _open_zarr(path: Path) -> LabelMask:
    from .backends.omezarr import open_labels

    found = open_labels(path)
    classes, colours = _names_and_colours(found.about)
    return LabelMask(pixels_of_zarr(path, found), found.mpp, classes, found.position, colours)


def _names_and_colours(about: Mapping[str, Any]) -> tuple[dict[int, str], dict[int, RGB]]:
    """Return names (`class`, `name` or `label`) and colours of the values of `image-label`, where it has them."""
    names, colours = {}, {}
    for entry in about.get("properties") or ():
        if name := next((entry[key] for key in ("class", "name", "label") if isinstance(entry.get(key), str)), None):
            names[int(entry["label-value"])] = name
    for entry in about.get("colors") or ():
        red, green, blue = (int(part) for part in entry["rgba"][:3])
        colours[int(entry["label-value"])] = (red, green, blue)
    return names, colours


def _texts_of_picture(image: Image.Image) -> tuple[dict[int, str], dict[int, RGB], Mpp | None]:
    """Return what the values of a PNG mask of ours mean, their colours, and its (y, x) µm/px; of others nothing."""
    texts = getattr(image, "text", {})
    try:
        classes = {int(value): str(name) for value, name in json.loads(texts.get("classes", "{}")).items()}
        scale = json.loads(texts.get("mpp", "null"))
        mpp = None if scale is None else (float(scale[0]), float(scale[1]))
    except (ValueError, AttributeError, TypeError, LookupError, RecursionError):
        return {}, {}, None
    palette = (image.getpalette() or []) if image.mode == "P" else []
    shades = {value: palette[3 * value : 3 * value + 3] for value in classes if value}
    colours = {value: (shade[0], shade[1], shade[2]) for value, shade in shades.items() if len(shade) == 3}
    fine = mpp is None or all(math.isfinite(each) and each > 0 for each in mpp)
    return classes, colours, mpp if fine else None


def _read_ome(xml: str) -> tuple[Mpp | None, dict[int, str], tuple[float, float], dict[int, RGB]]:
    ome = tifffile.xml2dict(xml)["OME"]
    image = ome["Image"][0] if isinstance(ome["Image"], list) else ome["Image"]
    pixels = image["Pixels"]
    texts = _annotated(ome)
    classes = {int(value): str(name) for value, name in json.loads(texts.get("classes", "{}")).items()}
    shades = {int(value): bytes.fromhex(text[1:7]) for value, text in json.loads(texts.get("colours", "{}")).items()}
    colours = {value: (shade[0], shade[1], shade[2]) for value, shade in shades.items()}
    return _mpp(pixels), classes, _position(pixels), colours


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


def _annotated(ome: Mapping[str, Any], namespace: str = LABELS_NAMESPACE) -> dict[str, str]:
    """Return the texts of an annotation of ours; empty where there is none."""
    maps = ome.get("StructuredAnnotations", {}).get("MapAnnotation", [])
    for annotation in maps if isinstance(maps, list) else [maps]:
        if annotation.get("Namespace") == namespace:
            entries = annotation["Value"]["M"]
            entries = entries if isinstance(entries, list) else [entries]
            return {str(entry["K"]): str(entry.get("value", "")) for entry in entries}
    return {}
