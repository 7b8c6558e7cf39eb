"""Label mask as a PNG with the colours of the classes: its pixel values are the labels, as in the OME-TIFF."""

import struct
import zlib
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from ..core.classes import RGB
from ..core.errors import SettingsError
from ..core.events import Progress, Task
from ..core.geometry import Mpp
from ..core.text import printable
from ..store.files.atomic import Writing, atomic_path
from .mask import LabelPixels
from .png import texts_of

MOST_PX = 2**28  # of a picture, as most programs open it; larger slides are reduced
STRIP_PX = 2**22  # that are made at once
LEVEL = 6  # of deflate
SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, INDEXED = 0, 3  # kinds of PNG
NOT_SCORED: RGB = (255, 255, 255)


def write_mask_png(
    path: str | Path,
    mask: LabelPixels,
    names: Mapping[int, str],
    colours: Mapping[int, RGB],
    about: Mapping[str, object] | None = None,
    writing: Writing = atomic_path,
    mpp: Mpp | None = None,
    title: str = "",
) -> Generator[Progress, None, Path]:
    """Write a mask as large as level 0, or reduced by 2, 4, … (nearest neighbour) if it has more than `MOST_PX`.

    The texts of the file: `classes` (JSON: what the values mean), `mpp` ((y, x) µm per pixel of the picture),
    `downsample`, `provenance` (JSON, `about`). Values above 255 have no colours. `SettingsError` above 65,535.

    A generator of its progress; closing it leaves no file. Rows are written as they are made, and not held.
    """
    if mask.dtype.itemsize > 2:
        raise SettingsError(f"{path}: a PNG holds values below 65,536, and there are larger ones")
    step = reduction_of_png(mask.shape)
    ys, xs = (np.minimum(np.arange(0, size, step) + step // 2, size - 1) for size in mask.shape)
    palette = [colours.get(value, NOT_SCORED) for value in range(max(names, default=0) + 1)]
    has_colours = mask.dtype.itemsize == 1
    classes = {value: printable(name) for value, name in names.items()}
    scale = None if mpp is None else [step * mpp[0], step * mpp[1]]
    texts = texts_of(classes=classes, mpp=scale, downsample=step, provenance=about)
    with writing(path) as temporary, temporary.open("wb") as file:
        file.write(SIGNATURE)
        bits, kind = (8, INDEXED) if has_colours else (16, GREY)
        _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", len(xs), len(ys), bits, kind, 0, 0, 0))
        if has_colours:
            _write_chunk(file, b"PLTE", bytes(part for colour in palette[:256] for part in colour))
        for name, data, *_ in texts.chunks:
            _write_chunk(file, name, data)
        packer = zlib.compressobj(LEVEL)
        for start in range(0, len(ys), rows := max(1, STRIP_PX // len(xs))):
            labels = mask.at(ys[start : start + rows], xs)
            bytes_of = labels.astype(">u2").view(np.uint8) if not has_colours else labels.view(np.uint8)
            lines = np.pad(bytes_of, ((0, 0), (1, 0)))  # each begins with its filter: none
            _write_chunk(file, b"IDAT", packer.compress(lines.tobytes()))
            yield Progress(Task.WRITE, start + len(labels), len(ys), title)
        _write_chunk(file, b"IDAT", packer.flush())
        _write_chunk(file, b"IEND", b"")
    return Path(path)


def _write_chunk(file: IO[bytes], name: bytes, data: bytes) -> None:
    """Write a chunk of PNG: its length, name, content and checksum (https://www.w3.org/TR/png-3/#5Chunk-layout)."""
    file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))


def reduction_of_png(shape: tuple[int, int]) -> int:
    """Return by how much a mask of a slide is reduced, along each axis."""
    step = 1
    while shape[0] * shape[1] > MOST_PX * step**2:
        step *= 2
    return step
