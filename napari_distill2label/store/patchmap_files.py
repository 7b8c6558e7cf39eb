"""The arrays and attributes of a `PatchMap` on disk: how they are made, and how a map that is opened is checked."""

import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from ..core.errors import BundleError
from ..core.geometry import PatchGrid, PatchPoints, patches_from_json
from .memory import MemoryGroup
from .seal import TOO_DEEP, is_number
from .zarr_file import check_array

KIND = "patch-map"
VERSION = 1
PER_CLASS = ("probability", "logit", "contribution")
PER_PATCH = ("score", "attention")
FAILED = "failed"
# Chunks hold about as many patches as a few blocks: writing one touches few chunks, and a slide has few files.
GRID_CHUNK = 64
POINTS_CHUNK = 4096
MAX_CLASSES = 254  # labels are uint8, 0 is taken by "not scored"
MOST_PATCHES = 2**28
LARGEST = 2**31  # px: of a slide, of a position
UNSIGNED = ("digest", "threshold")  # attributes that a digest does not cover: itself, and what may be set later


def make_arrays(group: zarr.Group | MemoryGroup, patches: PatchGrid | PatchPoints, n_classes: int) -> None:
    """Empty arrays of a new map, and the one that describes its patches (tissue of a grid, centres of points)."""
    chunk = GRID_CHUNK if len(patches.shape) == 2 else POINTS_CHUNK
    chunks = tuple(max(1, min(size, chunk)) for size in patches.shape)
    compressor = ZstdCodec(level=3, checksum=True)  # the checksum tells altered bytes from true ones
    for name in (*PER_CLASS, *PER_PATCH):
        last = (n_classes,) if name in PER_CLASS else ()
        group.create_array(
            name,
            shape=(*patches.shape, *last),
            chunks=(*chunks, *last),
            dtype="float32",
            fill_value=float("nan"),
            compressors=compressor,
        )
    group.create_array(
        FAILED, shape=patches.shape, chunks=chunks, dtype="bool", fill_value=False, compressors=compressor
    )
    name, array = patch_array(patches)
    if array is not None:
        stored = group.create_array(
            name,
            shape=array.shape,
            chunks=tuple(max(1, min(size, 1024)) for size in array.shape),
            dtype=array.dtype,
            compressors=compressor,
            fill_value=0,
        )
        stored[...] = array


def patch_array(patches: PatchGrid | PatchPoints) -> tuple[str, np.ndarray | None]:
    """The array that `to_json` leaves out, and its name."""
    if isinstance(patches, PatchGrid):
        return "tissue", patches.tissue
    return "centres", patches.centres


def check_attributes(path: Path, attrs: Mapping[str, Any]) -> None:
    """`BundleError` unless every attribute is there and of its kind."""
    if attrs.get("kind") != KIND:
        raise BundleError(f"{path}: this zarr folder is not a patch map, or its writing was cut short: predict again")
    if attrs.get("version") != VERSION:
        raise BundleError(
            f"{path}: patch map of version {attrs.get('version')!r}, this program reads {VERSION}: "
            "update the program or predict again"
        )
    classes, mpp = attrs.get("classes"), attrs.get("slide_mpp")
    n_classes = len(classes) if isinstance(classes, list) else 0
    fine = {
        "complete": isinstance(attrs.get("complete"), bool),
        "slide_id": isinstance(attrs.get("slide_id"), str),
        "slide_path": isinstance(attrs.get("slide_path", 0), str | None),
        "slide_mpp": mpp is None or (isinstance(mpp, list) and len(mpp) == 2 and all(_is_mpp(v) for v in mpp)),
        "slide_mpp_assumed": isinstance(attrs.get("slide_mpp_assumed"), bool),
        "classes": 2 <= n_classes <= MAX_CLASSES
        and all(isinstance(name, str) for name in classes)
        and len(set(classes)) == n_classes,
        "several": isinstance(attrs.get("several"), bool),
        "threshold": _is_probability(attrs.get("threshold")),
        "model": isinstance(attrs.get("model"), dict),
        "patches": isinstance(attrs.get("patches"), dict),
        "bag_probability": (bag := attrs.get("bag_probability", 0)) is None
        or (isinstance(bag, list) and len(bag) == n_classes and all(is_number(v) and 0 <= v <= 1 for v in bag)),
        "damage": isinstance(damage := attrs.get("damage", []), list) and all(_is_box(box) for box in damage),
        "sums": isinstance(sums := attrs.get("sums", {}), dict)
        and all(isinstance(crcs, list) and all(_is_whole(crc) for crc in crcs) for crcs in sums.values()),
    }
    if wrong := [name for name, is_fine in fine.items() if not is_fine]:
        raise BundleError(f"{path}: the patch map's {wrong[0]!r} is missing or altered: predict again")


def heading(path: Path) -> dict[str, Any]:
    """The attributes of the map at `path` as they stand there, nothing of it being opened; none where there is none."""
    try:
        attributes = json.loads((path / "zarr.json").read_text("utf-8"))["attributes"]
        return dict(attributes) if attributes["kind"] == KIND else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def open_patches(path: Path, group: zarr.Group, attrs: Mapping[str, Any]) -> PatchGrid | PatchPoints:
    """Where the patches lie. `BundleError` if that is altered."""
    try:
        about, array = attrs["patches"], None
        is_grid = about["kind"] == "grid"
        name, last, dtype = ("tissue", (), np.bool_) if is_grid else ("centres", (2,), np.int64)
        shape = (about["rows"], about["cols"]) if is_grid else group[name].shape[:1]
        if not all(_is_whole(size) for size in shape) or math.prod(shape) > MOST_PATCHES:
            raise ValueError(f"{shape} patches")
        if name in group or not is_grid:
            check_array(group[name], (*shape, *last), dtype, 0)
            array = np.asarray(group[name][...])
        patches = patches_from_json(about, array)
        _check_geometry(patches)
    except Exception as error:  # noqa: BLE001 · raised again: anything that does not make patches
        raise BundleError(f"{path}: the patch map's geometry is altered ({one_line(error)}): predict again") from None
    return patches


def _check_geometry(patches: PatchGrid | PatchPoints) -> None:
    """`ValueError` unless the patches can lie on a slide."""
    numbers = [patches.side, patches.patch_px, *patches.slide_shape, *patches.shape]
    if isinstance(patches, PatchGrid):
        numbers += [patches.stride, *(abs(start) for start in patches.origin)]
    if not all(_is_whole(number) and number <= LARGEST for number in numbers) or len(patches.slide_shape) != 2:
        raise ValueError("a size that is no whole number, or beyond any slide")
    if patches.side < 1 or not (patches.mpp is None or _is_mpp(patches.mpp)):
        raise ValueError("patches of no size or scale")
    if isinstance(patches, PatchGrid):
        ends = [
            start + (count - 1) * patches.stride < size + patches.side
            for start, count, size in zip(patches.origin, patches.shape, patches.slide_shape, strict=True)
        ]
        if patches.stride < 1 or not all(ends):
            raise ValueError("patches outside the slide")
    elif patches.centres.size and np.abs(patches.centres).max() > LARGEST:
        raise ValueError("centres outside any slide")


def check_arrays(path: Path, group: zarr.Group, patches: PatchGrid | PatchPoints, n_classes: int) -> None:
    """`BundleError` unless every array is there and as ours are."""
    for name in (*PER_CLASS, *PER_PATCH, FAILED):
        shape = (*patches.shape, n_classes) if name in PER_CLASS else patches.shape
        dtype, fill = (np.bool_, 0) if name == FAILED else (np.float32, float("nan"))
        try:
            array = group[name]
        except Exception as error:  # noqa: BLE001 · raised again: no such array, or its description is not JSON
            if name == FAILED and not (path / name).exists():  # not in maps made before there was one
                continue
            raise BundleError(f"{path}: array {name!r} is missing ({one_line(error)}): predict again") from None
        try:
            check_array(array, shape, np.dtype(dtype), fill)
        except Exception as error:  # noqa: BLE001 · raised again: whatever a description says that zarr cannot use
            raise BundleError(f"{path}: array {name!r} is altered ({one_line(error)}): predict again") from None


# ---- what was written, and is checked when it is read --------------------------------------------------------------


def digest_of(attrs: Mapping[str, Any], *arrays: np.ndarray | None) -> str:
    """SHA-256 of a map's attributes and of small arrays of it; what is large has checksums of its own among them.

    `ValueError` if the attributes are nested too deeply.
    """
    signed = {key: value for key, value in attrs.items() if key not in UNSIGNED}
    try:
        text = json.dumps(plain(signed), sort_keys=True)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for array in arrays:
        if array is not None:
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def sums_of(pieces: Iterable[np.ndarray]) -> list[int]:
    """CRC-32 of each of an array's pieces."""
    return [zlib.crc32(np.ascontiguousarray(piece).tobytes()) for piece in pieces]


def _is_probability(value: Any) -> bool:
    return is_number(value) and -1e-3 <= value <= 1 + 1e-3  # what rounding leaves of one


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_mpp(value: Any) -> bool:
    return is_number(value) and 1e-6 < value < 1e6


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def plain(data: Any) -> Any:
    """As it comes back from JSON: numpy numbers and tuples become plain ones."""
    return json.loads(json.dumps(data, default=lambda value: value.item()))


def one_line(error: Exception) -> str:
    """The start of an error's first line, for the inside of a message."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:120]
