"""The arrays and attributes of a `PatchMap` on disk: how they are made, and how a map that is opened is checked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from ..core.errors import BundleError
from ..core.geometry import PatchGrid, PatchPoints, patches_from_json
from .memory import MemoryGroup

KIND = "patch-map"
VERSION = 1
PER_CLASS = ("probability", "logit", "contribution")
PER_PATCH = ("score", "attention")
FAILED = "failed"
# Chunks hold about as many patches as a few blocks: writing one touches few chunks, and a slide has few files.
GRID_CHUNK = 64
POINTS_CHUNK = 4096
MAX_CLASSES = 254  # labels are uint8, 0 is taken by "not scored"


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
    fine = {
        "complete": isinstance(attrs.get("complete"), bool),
        "slide_id": isinstance(attrs.get("slide_id"), str),
        "slide_path": isinstance(attrs.get("slide_path", 0), str | None),
        "slide_mpp": mpp is None or (isinstance(mpp, list) and len(mpp) == 2 and all(_positive(v) for v in mpp)),
        "slide_mpp_assumed": isinstance(attrs.get("slide_mpp_assumed"), bool),
        "classes": isinstance(classes, list)
        and 2 <= len(classes) <= MAX_CLASSES
        and all(isinstance(name, str) for name in classes)
        and len(set(classes)) == len(classes),
        "several": isinstance(attrs.get("several"), bool),
        "threshold": isinstance(attrs.get("threshold"), int | float),
        "model": isinstance(attrs.get("model"), dict),
        "patches": isinstance(attrs.get("patches"), dict),
        "bag_probability": isinstance(attrs.get("bag_probability", 0), list | None),
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
        kind = attrs["patches"]["kind"]
        array = None
        if kind == "points" or "tissue" in group:
            array = np.asarray(group["tissue" if kind == "grid" else "centres"][...])
        patches = patches_from_json(attrs["patches"], array)
        numbers = (patches.side, *patches.slide_shape, *patches.shape)
        if not all(isinstance(value, int) and value >= 0 for value in numbers) or patches.side < 1:
            raise ValueError("a size that is no whole number")
        if array is not None and array.shape != ((*patches.shape, 2) if kind == "points" else patches.shape):
            raise ValueError("an array of another shape")
    except Exception as error:  # noqa: BLE001 · raised again: anything that does not make patches
        raise BundleError(f"{path}: the patch map's geometry is altered ({one_line(error)}): predict again") from None
    return patches


def check_arrays(path: Path, group: zarr.Group, patches: PatchGrid | PatchPoints, n_classes: int) -> None:
    """`BundleError` unless every array is there and of its shape."""
    for name in (*PER_CLASS, *PER_PATCH):
        expected = (*patches.shape, n_classes) if name in PER_CLASS else patches.shape
        try:
            array = group[name]
            found = array.shape if isinstance(array, zarr.Array) and array.dtype == np.float32 else None
        except Exception as error:  # noqa: BLE001 · raised again: no such array, or its description is not JSON
            raise BundleError(f"{path}: array {name!r} is missing ({one_line(error)}): predict again") from None
        if found != expected:
            raise BundleError(f"{path}: array {name!r} is altered, it should be {expected} float32: predict again")
    if FAILED in group and (group[FAILED].shape != patches.shape or group[FAILED].dtype != np.bool_):
        raise BundleError(f"{path}: array {FAILED!r} is altered, it should be {patches.shape} bool: predict again")


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def plain(data: Any) -> Any:
    """As it comes back from JSON: numpy numbers and tuples become plain ones."""
    return json.loads(json.dumps(data, default=lambda value: value.item()))


def one_line(error: Exception) -> str:
    """The start of an error's first line, for the inside of a message."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:120]
