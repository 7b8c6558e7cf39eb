"""A zarr group in a folder, opened without trusting it: none of its files is large, or unpacks to much.

Of what zarr can read, our own maps use little: chunks of a few megabytes, packed by zstd or not at all. All else is
refused before it is read, since it costs memory and time that nobody has asked for.
"""

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

LARGEST_CHUNK = 2**26  # bytes, packed or not; of a description too
CODECS = (BytesCodec, Crc32cCodec, ZstdCodec)
ZSTD = b"\x28\xb5\x2f\xfd"


class BoundedStore(LocalStore):
    """A folder of which no file is read that is larger, or says it unpacks to more, than `LARGEST_CHUNK`."""

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
    """Bytes that a zstd frame says it holds (RFC 8878, 3.1.1.1); infinite where it does not say."""
    described = frame[4] if len(frame) > 4 else 0
    single = described >> 5 & 1
    at = 5 + (1 - single) + (0, 1, 2, 4)[described & 3]  # after the window and the dictionary
    width = (single, 2, 4, 8)[described >> 6]
    held = frame[at : at + width]
    if not width or len(held) < width:
        return float("inf")
    (value,) = struct.unpack({1: "<B", 2: "<H", 4: "<I", 8: "<Q"}[width], held)
    return value + 256 if width == 2 else value


def open_group(path: Path, mode: str) -> zarr.Group:
    """The group at `path`. Raises whatever zarr's parsers raise."""
    return zarr.open_group(BoundedStore(path, read_only=mode == "r"), mode=mode, zarr_format=3)


def check_array(array: Any, shape: tuple[int, ...], dtype: Any, fill: float) -> None:
    """`ValueError` unless it is an array as one of our own maps has it."""
    if not isinstance(array, zarr.Array) or array.shape != shape or array.dtype != dtype:
        raise ValueError(f"it should be {shape} {np.dtype(dtype)}")
    if not all(isinstance(codec, CODECS) for codec in array.metadata.codecs):
        raise ValueError("it is packed in another way than ours are")
    if not (array.fill_value == fill or (np.isnan(fill) and np.isnan(array.fill_value))):
        raise ValueError(f"what is not written of it should be {fill}")
    if np.prod(array.chunks, dtype=float) * array.dtype.itemsize > LARGEST_CHUNK:
        raise ValueError("its chunks are larger than any of ours")
