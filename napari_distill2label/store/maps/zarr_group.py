"""A zarr group in a folder, opened without trusting it: none of its files is large, or unpacks to much.

Patch maps and feature maps use little of what zarr can read: chunks of a few megabytes, compressed by zstd or not at
all. Everything else is refused before it is read, because it could cost much memory and time.
"""

import asyncio
import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import LocalStore

from ...core.errors import BundleError
from ...core.geometry import PatchGrid, PatchPoints, patches_from_json
from ..files.atomic import write_bytes
from ..files.seal import TOO_DEEP, is_number

LARGEST_CHUNK = 2**26  # bytes, packed or not; of a description too
CODECS = (BytesCodec, Crc32cCodec, ZstdCodec)
DESCRIPTION = "zarr.json"  # of the group
ZSTD = b"\x28\xb5\x2f\xfd"


MAX_PATCHES = 2**28
MAX_COORDINATE = 2**31  # px: of a slide, of a position
UNSIGNED_ATTRIBUTES = (
    "digest",
    "threshold",
)  # attributes that a digest does not cover: itself, and what may be set later


class BoundedStore(LocalStore):
    """A folder of which no file is read that is larger than `LARGEST_CHUNK`, or claims to unpack to more.

    The description of the whole group survives a power cut: without it nobody knows whose folder this is. All others
    are written without being synchronised; what is lost of them is noticed, and computed again.
    """

    async def set(self, key: str, value: Buffer) -> None:
        if key == DESCRIPTION:
            await asyncio.to_thread(write_bytes, Path(self.root, key), value.to_bytes())
        else:
            await super().set(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        if key == DESCRIPTION:
            write_bytes(Path(self.root, key), value.to_bytes())
        else:
            super().set_sync(key, value)

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        self._check(key)
        return await super().get(key, *args, **kwargs)

    def get_sync(self, key: str, *args: Any, **kwargs: Any) -> Any:
        self._check(key)
        return super().get_sync(key, *args, **kwargs)

    def _check(self, key: str) -> None:
        path = Path(self.root, key)
        try:
            size = os.stat(path).st_size
            with path.open("rb") as file:
                start = file.read(18)
        except OSError:  # not there, or no file: zarr knows what to make of it
            return
        if size > LARGEST_CHUNK or (start[:4] == ZSTD and unpacked_size(start) > LARGEST_CHUNK):
            raise ValueError(f"{key} is larger than any part of a map of ours")


def unpacked_size(frame: bytes) -> float:
    """Return the unpacked size that a zstd frame claims (RFC 8878, 3.1.1.1); infinite if it claims none."""
    described = frame[4] if len(frame) > 4 else 0
    single = described >> 5 & 1
    at = 5 + (1 - single) + (0, 1, 2, 4)[described & 3]  # after the window and the dictionary
    width = (single, 2, 4, 8)[described >> 6]
    held = frame[at : at + width]
    if not width or len(held) < width:
        return float("inf")
    value: int = struct.unpack({1: "<B", 2: "<H", 4: "<I", 8: "<Q"}[width], held)[0]
    return value + 256 if width == 2 else value


def open_group(path: Path, mode: Literal["r", "r+"]) -> zarr.Group:
    """Open the group at `path`. Raises whatever zarr's parsers raise."""
    return zarr.open_group(BoundedStore(path, read_only=mode == "r"), mode=mode, zarr_format=3)


def create_group(path: Path, kind: str) -> zarr.Group:
    """Make a group in a new folder. Its kind is written first: what a kill leaves is recognised and may be replaced."""
    return zarr.open_group(BoundedStore(path), mode="w-", zarr_format=3, attributes={"kind": kind})


def check_array(array: Any, shape: tuple[int, ...], dtype: Any, fill: float) -> zarr.Array[Any]:
    """Return the array; raise `ValueError` unless it is stored as in a map of this program."""
    if not isinstance(array, zarr.Array) or array.shape != shape or array.dtype != dtype:
        raise ValueError(f"it should be {shape} {np.dtype(dtype)}")
    about = array.metadata
    if not isinstance(about, ArrayV3Metadata) or not all(isinstance(codec, CODECS) for codec in about.codecs):
        raise ValueError("it is packed in another way than ours are")
    if not (array.fill_value == fill or (np.isnan(fill) and np.isnan(array.fill_value))):
        raise ValueError(f"what is not written of it should be {fill}")
    if np.prod(array.chunks, dtype=float) * array.dtype.itemsize > LARGEST_CHUNK:
        raise ValueError("its chunks are larger than any of ours")
    return array


# ---- what patch maps and maps of features share ----------------------------------------------------------------------


def patch_array(patches: PatchGrid | PatchPoints) -> tuple[str, np.ndarray | None]:
    """Return the name of the array that `to_json` leaves out, and the array."""
    if isinstance(patches, PatchGrid):
        return "tissue", patches.tissue
    return "centres", patches.centres


def has_same_array(one: PatchGrid | PatchPoints, other: PatchGrid | PatchPoints) -> bool:
    """Whether the arrays that `to_json` leaves out are equal, or both are missing."""
    own, its = patch_array(one)[1], patch_array(other)[1]
    return own is its if own is None or its is None else np.array_equal(own, its)


def open_patches(path: Path, group: zarr.Group, attrs: Mapping[str, Any]) -> PatchGrid | PatchPoints:
    """Read the geometry of the patches. `BundleError` if it was altered."""
    try:
        about = attrs["patches"]
        array: np.ndarray | None = None
        is_grid = about["kind"] == "grid"
        name, last, dtype = ("tissue", (), np.bool_) if is_grid else ("centres", (2,), np.int64)
        centres: Any = None if is_grid else group[name]  # `check_array` finds out whether it is an array
        shape = (about["rows"], about["cols"]) if is_grid else centres.shape[:1]
        if not all(is_whole(size) for size in shape) or math.prod(shape) > MAX_PATCHES:
            raise ValueError(f"{shape} patches")
        if name in group or not is_grid:
            array = np.asarray(check_array(group[name], (*shape, *last), dtype, 0)[...])
        patches = patches_from_json(about, array)
        _check_geometry(patches)
    except Exception as error:  # noqa: BLE001 · raised again: anything that does not make patches
        raise BundleError(
            f"{path}: the patch map's geometry is altered ({first_line_of(error)}): predict again"
        ) from None
    return patches


def _check_geometry(patches: PatchGrid | PatchPoints) -> None:
    """Raise `ValueError` unless the patches can lie on a slide."""
    numbers = [patches.side, patches.patch_px, *patches.slide_shape, *patches.shape]
    if isinstance(patches, PatchGrid):
        numbers += [patches.stride, *(abs(start) for start in patches.origin)]
    if not all(is_whole(number) and number <= MAX_COORDINATE for number in numbers) or len(patches.slide_shape) != 2:
        raise ValueError("a size that is no whole number, or beyond any slide")
    if patches.side < 1 or not (patches.mpp is None or is_mpp(patches.mpp)):
        raise ValueError("patches of no size or scale")
    if isinstance(patches, PatchGrid):
        ends = [
            start + (count - 1) * patches.stride < size + patches.side
            for start, count, size in zip(patches.origin, patches.shape, patches.slide_shape, strict=True)
        ]
        if patches.stride < 1 or not all(ends):
            raise ValueError("patches outside the slide")
    elif patches.centres.size and np.abs(patches.centres).max() > MAX_COORDINATE:
        raise ValueError("centres outside any slide")


def digest_of(attrs: Mapping[str, Any], *arrays: np.ndarray | None) -> str:
    """Return the SHA-256 of a map's attributes and small arrays. Large arrays have checksums among the attributes.

    `ValueError` if the attributes are nested too deeply.
    """
    signed = {key: value for key, value in attrs.items() if key not in UNSIGNED_ATTRIBUTES}
    try:
        text = json.dumps(to_plain_json(signed), sort_keys=True)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for array in arrays:
        if array is not None:
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number from 0 on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_mpp(value: Any) -> bool:
    """Whether a value can be µm/px."""
    return is_number(value) and 1e-6 < value < 1e6


def to_plain_json(data: Any) -> Any:
    """Convert data as a round trip through JSON does: numpy numbers and tuples become plain ones."""
    return json.loads(json.dumps(data, default=lambda value: value.item()))


def first_line_of(error: Exception) -> str:
    """Return the start of an error's first line, for use inside a message."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:120]
