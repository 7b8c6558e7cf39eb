"""Label mask at level 0: tiled, deflate-compressed OME-TIFF with a pyramid and the physical size of a pixel.

Values are the labels': 0 not scored, 1 + class index otherwise; names and colours are in an OME MapAnnotation. OME has
no colours of single values, and a palette of TIFF would turn the values into colours in many readers.

A mask has few different tiles, because a patch covers many of its pixels. So tiles are made from the labels of cells,
rows that were compressed before are not compressed again, and a tile that the file has already is not stored again: its
entry in the file's table of tiles points to the same place. Memory does not grow with the slide.
"""

import hashlib
import json
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import IO, Any

import imagecodecs
import numpy as np
import tifffile

from ..core.classes import RGB
from ..core.events import Progress, Task
from ..core.geometry import Mpp, PatchGrid
from ..core.paths import LABELS_NAMESPACE, PROVENANCE_NAMESPACE
from ..core.text import printable
from ..store.files.atomic import Writing, atomic_path
from .bands import Bands
from .mask import LabelPixels, Mask, iter_labels, pixels_shown, pyramid_steps

TILE = 512  # px
# Offsets of a classic TIFF have 32 bits. Deflate can only help, and a pyramid adds a third.
BIGTIFF_FROM = 3 * 2**30
OFFSETS, COUNTS = 324, 325  # TIFF's tags TileOffsets and TileByteCounts
AT_ONCE = 8  # tiles between two events: .02 to .2 s


def write_mask(
    path: str | Path,
    mask: LabelPixels,
    names: Mapping[int, str],
    mpp: Mpp | None = None,
    title: str = "labels",
    canvas_origin: tuple[int, int] = (0, 0),
    colours: Mapping[int, RGB] | None = None,
    about: Mapping[str, Any] | None = None,
    writing: Writing = atomic_path,
    position: tuple[float, float] = (0.0, 0.0),
) -> Generator[Progress, None, Path]:
    """Write labels, most often a `Mask`, as OME-TIFF.

    A generator of its progress; closing it leaves no file.

    Parameters
    ----------
    names
        What the values mean, as in {0: "not scored", 1: "normal", 2: "metastasis"}.
    mpp
        (y, x) µm per pixel of level 0; None: unknown, and not claimed in the file.
    title
        The image's name in the file.
    canvas_origin
        (y, x) of level 0 on the canvas of the slide's file. Unless it is (0, 0), the file says that the mask is of the
        scanned area, and where this lies.
    colours
        8-bit (r, g, b) of the values.
    about
        Where the labels come from (`exporters.provenance`).
    position
        (y, x) of the centre of the first pixel, in µm (px where `mpp` is None).
    """
    steps = pyramid_steps(mask.shape)
    height, width = mask.shape
    shapes = [(-(-height // step), -(-width // step)) for step in steps]
    counts = [-(-shape[0] // TILE) * -(-shape[1] // TILE) for shape in shapes]
    total = sum(counts)
    options: dict[str, Any] = {
        "dtype": mask.dtype,
        "tile": (TILE, TILE),
        "compression": "adobe_deflate",
        "photometric": "minisblack",
        "resolutionunit": "CENTIMETER" if mpp is not None else None,
    }
    with writing(path) as temporary:
        levels: list[_Level] = []
        with tifffile.TiffWriter(
            temporary, bigtiff=height * width * mask.dtype.itemsize > BIGTIFF_FROM, ome=True
        ) as tiff:
            for number, (step, shape) in enumerate(zip(steps, shapes, strict=True)):
                extra: dict[str, Any] = {"subfiletype": 1}
                if number == 0:
                    metadata = _metadata(names, mpp, title, canvas_origin, colours or {}, about) | _place(position, mpp)
                    if not isinstance(mask, Mask):
                        del metadata["Description"]
                    extra = {"metadata": metadata, "subifds": len(steps) - 1}
                with tempfile.TemporaryFile(dir=temporary.parent) as spool:
                    level = _Level(spool)
                    before = sum(counts[:number])
                    for tile in _tiles(mask, shape, step):
                        if tile is not None:
                            level.add(tile)
                        if tile is None or len(level.first) % AT_ONCE == 1:
                            yield Progress(Task.WRITE, before + len(level.first), total, title)
                    resolution = _resolution(mpp, step)
                    tiff.write(level.stored(), shape=shape, resolution=resolution, **extra, **options)
                    levels.append(level)
        yield Progress(Task.WRITE, total, total, title)
        _share_tiles(temporary, levels)
    return Path(path)


class _Level:
    """The compressed tiles of one level, in order; those that are equal are kept once."""

    def __init__(self, spool: IO[bytes]) -> None:
        self._spool, self._sizes = spool, list[int]()
        self._known: dict[bytes, int] = {}
        self.first: list[int] = []  # of each tile: the number of the first one that is equal to it

    def add(self, tile: bytes) -> None:
        """Add the next tile."""
        number = len(self.first)
        first = self._known.setdefault(hashlib.blake2b(tile, digest_size=16).digest(), number)
        self.first.append(first)
        self._sizes.append(len(tile) if first == number else 0)
        if first == number:
            self._spool.write(tile)

    def stored(self) -> Iterator[bytes]:
        """Yield every tile that is not equal to an earlier one, and nothing in the place of the others."""
        self._spool.seek(0)
        for size in self._sizes:
            yield self._spool.read(size)


def _share_tiles(path: Path, levels: Sequence[_Level]) -> None:
    """Let the entry of a tile that was not stored point to the one that it is equal to."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        page = tiff.pages.first
        for each, level in zip((page, *(page.pages or ())), levels, strict=True):
            for tag in (OFFSETS, COUNTS):
                values = np.atleast_1d(each.tags[tag].value)
                each.tags[tag].overwrite([int(value) for value in values[level.first]])


def _metadata(
    names: Mapping[int, str],
    mpp: Mpp | None,
    title: str,
    canvas_origin: tuple[int, int],
    colours: Mapping[int, RGB],
    about: Mapping[str, Any] | None,
) -> dict[str, Any]:
    safe = {value: printable(name) for value, name in names.items()}  # XML has no control characters
    annotations = [labels_annotation(names, colours)]
    if any(canvas_origin):
        annotations[0]["canvas_origin"] = json.dumps(list(canvas_origin))
    if about is not None:
        annotations.append(provenance_annotation(about))
    metadata: dict[str, Any] = {
        "axes": "YX",
        "Name": printable(title),
        "Description": (
            f"Patch labels of napari-distill2label, for research use only. Values: {_describe(safe)}"
            f"{_frame(canvas_origin)}"
        ),
        "MapAnnotation": annotations,
    }
    if mpp is not None:
        metadata |= {"PhysicalSizeY": float(mpp[0]), "PhysicalSizeYUnit": "µm"}
        metadata |= {"PhysicalSizeX": float(mpp[1]), "PhysicalSizeXUnit": "µm"}
    return metadata


def labels_annotation(names: Mapping[int, str], colours: Mapping[int, RGB]) -> dict[str, str]:
    """Return an OME MapAnnotation that names and colours values: one by one for people, and as JSON for programs."""
    safe = {str(value): printable(name) for value, name in names.items()}  # XML has no control characters
    raw = {str(value): name for value, name in names.items()}
    shades = {str(value): f"#{red:02x}{green:02x}{blue:02x}" for value, (red, green, blue) in colours.items()}
    return {
        "Namespace": LABELS_NAMESPACE,
        **safe,
        "classes": json.dumps(raw, ensure_ascii=safe != raw),
        **({"colours": json.dumps(shades)} if shades else {}),
    }


def provenance_annotation(about: Mapping[str, Any]) -> dict[str, str]:
    """Return an OME MapAnnotation with the provenance of a result."""
    return {"Namespace": PROVENANCE_NAMESPACE, "provenance": json.dumps(about)}


def _place(position: tuple[float, float], mpp: Mpp | None) -> dict[str, Any]:
    if not any(position):
        return {}
    unit, (y, x) = "pixel" if mpp is None else "µm", map(float, position)
    return {"Plane": {"PositionX": [x], "PositionXUnit": [unit], "PositionY": [y], "PositionYUnit": [unit]}}


def _tiles(mask: LabelPixels, shape: tuple[int, int], step: int) -> Iterator[bytes | None]:
    """Yield the compressed tiles of one level, in the order TIFF wants. Nearest neighbour: labels cannot be averaged.

    Tiles are full-sized, and what lies outside the slide is 0 by itself. None stands for a part of a tile.
    """
    tops, lefts = ([pixels_shown(start, TILE, step, whole) for start in range(0, size, TILE)]
                   for size, whole in zip(shape, mask.shape, strict=True))  # fmt: skip
    bands = Bands(TILE, "zlib")
    if not (isinstance(mask, Mask) and isinstance(mask.patches, PatchGrid)):
        for ys, xs in product(tops, lefts):
            labels = yield from iter_labels(mask, ys, xs)
            yield bands.pack(labels) or bytes(imagecodecs.deflate_encode(labels.tobytes()))
        return
    columns = [mask.runs(xs, 1) for xs in lefts]
    for ys in tops:
        rows = mask.runs(ys, 0)
        for cells, counts in columns:
            yield bands.tile(mask.cells(rows[0], cells), rows[1], counts)


def _resolution(mpp: Mpp | None, step: int) -> tuple[float, float] | None:
    """TIFF's own (x, y) resolution in pixels per centimetre, for readers that know no OME."""
    return None if mpp is None else (1e4 / (mpp[1] * step), 1e4 / (mpp[0] * step))


def _frame(canvas_origin: tuple[int, int]) -> str:
    """Return what pixel (0, 0) is, where there is a choice: QuPath counts from the scanned area, OpenSlide does not."""
    if not any(canvas_origin):
        return ""
    y, x = canvas_origin
    return (
        f". Pixel (0, 0) is the corner of the scanned area, as in QuPath; it lies at x={x}, y={y} of the whole canvas, "
        "which OpenSlide counts from"
    )


def _describe(names: Mapping[int, str]) -> str:
    return ", ".join(f"{value} {name}" for value, name in names.items())
