"""An HDF5 file that somebody else wrote, opened without trusting it.

Nothing outside the file is read: links to other files, virtual datasets and external storage can name files of this
computer. Nothing is allocated for data that the file claims but does not hold. Every error of HDF5 becomes one
`SlideError` with the file's name.
"""

import math
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import Distill2LabelError, MissingDependencyError, SlideError

MOST_PACKED = 256  # bytes of a dataset per byte of its file; features hardly pack at all
SMALL = 2**26  # bytes that are never too many, however they are packed
LARGEST_CHUNK = 2**28  # bytes: one is unpacked as a whole
LARGEST_ATTRIBUTE = 2**16  # bytes
HEAP, HEAP_VERSION = b"GCOL", b"\x01\0\0\0"  # how a heap of texts begins
CACHE = 2**26  # bytes of unpacked chunks: a chunk of many rows is unpacked once


def import_h5py(path: Path) -> Any:
    """Import h5py. `MissingDependencyError` names what to install."""
    try:
        import h5py
    except ImportError:
        raise MissingDependencyError(
            f"{path}: HDF5 files need h5py: pip install 'napari-distill2label[encoders]'"
        ) from None
    return h5py


@contextmanager
def hdf5_errors(path: Path, what: str = "cannot be read") -> Iterator[None]:
    """Turn every error of HDF5 in the block into a `SlideError`: damaged files fail in many ways."""
    try:
        yield
    except Distill2LabelError:
        raise
    except Exception as error:  # noqa: BLE001 · raised again
        raise SlideError(f"{path}: {what} ({_reason(error)})") from None


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open a file (`h5py.File`) for reading."""
    h5py = import_h5py(path)
    with hdf5_errors(path, "is no HDF5 file that can be read"):
        file = h5py.File(path, "r", rdcc_nbytes=CACHE)
    try:
        yield file
    finally:
        with suppress(Exception):  # of a damaged file; nothing was written
            file.close()


def find_dataset(path: Path, file: Any, name: str) -> Any:
    """Return a dataset of numbers that the file itself holds completely; None if it has no dataset of this name."""
    h5py = import_h5py(path)
    with hdf5_errors(path):
        link = file.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise SlideError(
                f"{path}: {name!r} is a link to {getattr(link, 'filename', link.path)!r}: links are not followed; "
                "copy what they lead to into the file"
            )
        found = file[name]
        if not isinstance(found, h5py.Dataset):
            return None
        if found.is_virtual or found.external:
            raise SlideError(f"{path}: {name!r} lies in other files, which are not read: copy it into this one")
        if found.shape is None or found.dtype.kind not in "fiu" or found.dtype.itemsize > 8:
            raise SlideError(f"{path}: {name!r} is {found.shape} {found.dtype}: only numbers of up to 64 bits are read")
        _check_held(path, name, found)
        return found


def _check_held(path: Path, name: str, found: Any) -> None:
    """Raise `SlideError` if the file does not hold what it claims, or claims implausibly much."""
    holds, claims = os.path.getsize(path), math.prod(found.shape) * found.dtype.itemsize
    lies = f"{path}: {name!r} claims {found.shape} {found.dtype}"
    if found.chunks is None:
        if claims > holds:
            raise SlideError(f"{lies}, more than the {holds} bytes of the file: it was cut short or altered")
        return
    chunk = math.prod(found.chunks) * found.dtype.itemsize
    if chunk > LARGEST_CHUNK or claims > max(SMALL, MOST_PACKED * holds):
        raise SlideError(f"{lies} in chunks of {chunk} bytes, and the file has {holds}: that is not features")
    chunks = math.prod(-(-size // step) for size, step in zip(found.shape, found.chunks, strict=True))
    if chunks > holds or found.id.get_num_chunks() != chunks:
        raise SlideError(f"{lies}, and a part of it was never written: compute the features again")


def read_attributes(path: Path, owner: Any, names: Iterable[str]) -> dict[str, Any]:
    """Read those attributes among `names` that a file or dataset has."""
    found = {}
    with hdf5_errors(path, "has attributes that cannot be read"):
        for name in names:
            if name not in owner.attrs:
                continue
            stored = owner.attrs.get_id(name)
            if math.prod(stored.shape or ()) * stored.dtype.itemsize > LARGEST_ATTRIBUTE:
                raise SlideError(f"{path}: its attribute {name!r} has more than {LARGEST_ATTRIBUTE} bytes")
            if stored.dtype.kind == "O":  # texts lie in a heap of the file
                status = os.stat(path)
                _check_heaps(path, status.st_size, status.st_mtime_ns)
            found[name] = owner.attrs[name]
    return found


@lru_cache(maxsize=64)
def _check_heaps(path: Path, size: int, changed: int) -> None:
    """`SlideError` for a heap in which the HDF5 library would go round for ever. Of one state of a file, once.

    Every object of a global heap says how far it is to the next one (HDF5 file format, III.E "Global Heap"). The
    library takes a step of 0 for one. An object has at least 16 bytes, and hardly a heap lies over another: who finds
    four times as many objects as the file has room for goes over the same bytes again and again.
    """
    left = 4 * size // 16
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(HEAP)
        while at >= 0:
            if data[at + 4 : at + 8] == HEAP_VERSION and at + 16 <= size:
                end = min(size, at + int.from_bytes(data[at + 8 : at + 16], "little"))
                place = at + 16
                while place + 16 <= end:
                    number, length = struct.unpack_from("<H6xQ", data, place)
                    step = length if number == 0 else (16 + (length + 7) // 8 * 8) % 2**64
                    left -= 1
                    if left < 0 or not 0 < step <= end - place:
                        raise SlideError(f"{path}: a heap of texts in it is damaged: copy the file again")
                    place += step
            at = data.find(HEAP, at + len(HEAP))


def as_text(value: Any) -> str:
    """Return an attribute as one line of text; empty if it is no text."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in value[:500]).strip() if isinstance(value, str) else ""


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
