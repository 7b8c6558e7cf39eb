"""Label images as OME-Zarr (NGFF) 0.5, or 0.4 for programs that know no other: https://ngff.openmicroscopy.org

The folder is one label image, as it lies under `labels/` of an OME-Zarr image: a pyramid of whole numbers, whose
metadata (`image-label`) name and colour the values. 0 is "not scored", or the background.

zarr's own writer packs every chunk from its pixels, which takes minutes for a slide of a million patches. Chunks are
made here from the labels of cells (`bands`), and a chunk of zeros is not stored. In 0.5 (zarr's format 3) many chunks
lie in one file, a shard. Memory does not grow with the slide.
"""

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

import google_crc32c
import imagecodecs
import numpy as np
import zarr
from zarr.codecs import GzipCodec

from ..core.classes import RGB
from ..core.events import Progress, Task
from ..core.geometry import Mpp, PatchGrid
from ..core.paths import OWN_ATTRIBUTE
from ..core.text import printable
from ..store.files.atomic import Writing, atomic_path
from ..store.files.own_groups import sign_labels
from .bands import Bands, Container
from .mask import LabelPixels, Mask, iter_labels, pixels_shown, pyramid_steps

Version = Literal["0.5", "0.4"]
CHUNK = 512  # px
CHUNK_04 = 2048  # px: format 2 has a file for every chunk
SHARD = 32  # chunks along a side
AT_ONCE = 32  # chunks between two events: below .1 s
PACK: dict[Container, Callable[[bytes], Any]] = {"gzip": imagecodecs.gzip_encode, "zlib": imagecodecs.deflate_encode}
EMPTY = 2**64 - 1  # in the index of a shard: there is no such chunk


@dataclass(frozen=True)
class LabelMetadata:
    """What a label image says of itself.

    Attributes
    ----------
    names, colours, counts
        Of the values. The file has colours if every named value has one.
    mpp
        (y, x) µm per pixel of level 0; None: unknown, and not claimed in the file.
    position
        (y, x) of the centre of its first pixel, in µm (px where `mpp` is None).
    title
        The name of the image.
    about
        Further attributes of ours, as JSON.
    """

    names: Mapping[int, str]
    colours: Mapping[int, RGB] = field(default_factory=dict)
    counts: Mapping[int, int] = field(default_factory=dict)
    mpp: Mpp | None = None
    position: tuple[float, float] = (0.0, 0.0)
    title: str = "labels"
    about: Mapping[str, Any] = field(default_factory=dict)


def write_label_zarr(
    path: str | Path,
    pixels: LabelPixels,
    metadata: LabelMetadata,
    version: Version = "0.5",
    writing: Writing = atomic_path,
) -> Generator[Progress, None, Path]:
    """Write a label image as an OME-Zarr folder. A generator of its progress; closing it leaves nothing."""
    steps = pyramid_steps(pixels.shape)
    chunk = CHUNK if version == "0.5" else CHUNK_04
    shapes = [(-(-pixels.shape[0] // step), -(-pixels.shape[1] // step)) for step in steps]
    total = sum(-(-height // chunk) * -(-width // chunk) for height, width in shapes)
    write_level = _write_level_05 if version == "0.5" else _write_level_04
    done = 0
    with writing(path) as folder:
        zarr.open_group(zarr.storage.LocalStore(folder), mode="w", zarr_format=3 if version == "0.5" else 2)
        for number, (step, shape) in enumerate(zip(steps, shapes, strict=True)):
            for is_chunk in write_level(folder / str(number), pixels, step, shape):
                done += bool(is_chunk)
                if not is_chunk or done % AT_ONCE == 1:
                    yield Progress(Task.WRITE, done, total, metadata.title)
        yield Progress(Task.WRITE, total, total, metadata.title)
        _write_attributes(folder, version, _ngff(metadata, steps, version), metadata.about)
    return Path(path)


def _write_level_05(folder: Path, pixels: LabelPixels, step: int, shape: tuple[int, int]) -> Iterator[bool | None]:
    """Write a level as shards of `SHARD` × `SHARD` chunks, at most. Yields True after every chunk, None within one."""
    rows, cols = (-(-size // CHUNK) for size in shape)
    side = min(SHARD, max(rows, cols))
    zarr.create_array(
        zarr.storage.LocalStore(folder), shape=shape, dtype=pixels.dtype, chunks=(CHUNK, CHUNK),
        shards=(side * CHUNK, side * CHUNK), fill_value=0, compressors=GzipCodec(level=9),
        dimension_names=("y", "x"),
    )  # fmt: skip
    packer = _Packer(pixels, step, CHUNK, "gzip")
    for top, left in product(range(0, rows, side), range(0, cols, side)):
        packed = []
        for row, col in product(range(top, top + side), range(left, left + side)):
            if row < rows and col < cols:
                packed.append((yield from packer.chunk(row, col)))
                yield True
            else:
                packed.append(None)
        if any(packed):
            file = folder / "c" / str(top // side) / str(left // side)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(_shard(packed))


def _shard(chunks: Sequence[bytes | None]) -> bytes:
    """Return chunks in C order as one file: the chunks, an index of (offset, length) each, and its checksum.

    Zarr's codec `sharding_indexed`: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed
    Equal chunks are stored once, and the index points to the same place.
    """
    index = np.full((len(chunks), 2), EMPTY, "<u8")
    places: dict[bytes, int] = {}
    at = 0
    for number, chunk in enumerate(chunks):
        if chunk is not None:
            if (place := places.get(chunk)) is None:
                place = places[chunk] = at
                at += len(chunk)
            index[number] = place, len(chunk)
    data = index.tobytes()
    return b"".join((*places, data, google_crc32c.value(data).to_bytes(4, "little")))


def _write_level_04(folder: Path, pixels: LabelPixels, step: int, shape: tuple[int, int]) -> Iterator[bool | None]:
    """Write a level with a file for each chunk, packed by zlib, which all programs know. Yields like the other one."""
    zarr.create_array(
        zarr.storage.LocalStore(folder), shape=shape, dtype=pixels.dtype, chunks=(CHUNK_04, CHUNK_04), fill_value=0,
        zarr_format=2, compressors=[{"id": "zlib", "level": 9}], chunk_key_encoding={"name": "v2", "separator": "/"},
    )  # fmt: skip
    packer = _Packer(pixels, step, CHUNK_04, "zlib")
    rows, cols = (-(-size // CHUNK_04) for size in shape)
    for row, col in product(range(rows), range(cols)):
        packed = yield from packer.chunk(row, col)
        if packed is not None:
            file = folder / str(row) / str(col)
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(packed)
        yield True


class _Packer:
    """The packed chunks of one level."""

    def __init__(self, pixels: LabelPixels, step: int, side: int, container: Container) -> None:
        self._pixels, self._step, self._side = pixels, step, side
        self._bands = Bands(side, container)
        self._pack: Callable[[bytes], Any] = PACK[container]
        self._runs: tuple[dict[int, tuple[np.ndarray, np.ndarray]], ...] = ({}, {})

    def chunk(self, row: int, col: int) -> Generator[None, None, bytes | None]:
        """Return a chunk, whose pixels outside of the image are 0; None if all are. It yields after a part of it."""
        if isinstance(self._pixels, Mask) and isinstance(self._pixels.patches, PatchGrid):
            (rows, heights), (cols, widths) = self._runs_of(self._pixels, row, 0), self._runs_of(self._pixels, col, 1)
            cells = self._pixels.cells(rows, cols)
            return self._bands.tile(cells, heights, widths) if cells.any() else None
        labels = yield from iter_labels(self._pixels, self._shown(row, 0), self._shown(col, 1))
        return self._bands.pack(labels) or bytes(self._pack(labels.tobytes())) if labels.any() else None

    def _runs_of(self, mask: Mask, number: int, axis: int) -> tuple[np.ndarray, np.ndarray]:
        known = self._runs[axis]
        if number not in known:
            known[number] = mask.runs(self._shown(number, axis), axis)
        return known[number]

    def _shown(self, number: int, axis: int) -> np.ndarray:
        return pixels_shown(number * self._side, self._side, self._step, self._pixels.shape[axis])


# ---- metadata -------------------------------------------------------------------------------------------------------


def _ngff(metadata: LabelMetadata, steps: Sequence[int], version: Version) -> dict[str, Any]:
    """Return the attributes that the specification knows."""
    unit = {} if metadata.mpp is None else {"unit": "micrometer"}
    scale, position = np.asarray(metadata.mpp or (1.0, 1.0)), np.asarray(metadata.position)
    datasets = []
    for number, step in enumerate(steps):
        placed: list[dict[str, Any]] = [{"type": "scale", "scale": (step * scale).tolist()}]
        # The centre of a pixel that is `step` px wide lies (step − 1)/2 px from that of its first one.
        if any(moved := (position + (step - 1) / 2 * scale).tolist()):
            placed.append({"type": "translation", "translation": moved})
        datasets.append({"path": str(number), "coordinateTransformations": placed})
    own = {"version": version} if version == "0.4" else {}
    return {
        **({"version": version} if version == "0.5" else {}),
        "multiscales": [
            {
                **own,
                "name": printable(metadata.title),
                "axes": [{"name": axis, "type": "space", **unit} for axis in "yx"],
                "datasets": datasets,
                "type": "nearest neighbour",
            }
        ],
        "image-label": {**own, **_values_of(metadata)},
    }


def _values_of(metadata: LabelMetadata) -> dict[str, Any]:
    """Return colours and properties: of the same values, as readers expect them. Colours only if all have one."""
    values = sorted({0, *metadata.names, *metadata.colours})
    properties: list[dict[str, Any]] = []
    for value in values:
        name, count = metadata.names.get(value), metadata.counts.get(value)
        known = {"class": name, "patches": count}
        properties.append({"label-value": value, **{key: each for key, each in known.items() if each is not None}})
    if not set(values) <= {0, *metadata.colours}:
        return {"properties": properties}
    shades = {0: (0, 0, 0, 0)} | {value: (*colour, 255) for value, colour in metadata.colours.items()}
    return {
        "colors": [{"label-value": value, "rgba": list(shades[value])} for value in values],
        "properties": properties,
    }


def _write_attributes(folder: Path, version: Version, ngff: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write the attributes of the folder, signed: a later export replaces it only if nobody has changed it."""
    attributes: dict[str, Any] = {"ome": ngff} if version == "0.5" else dict(ngff)
    attributes[OWN_ATTRIBUTE] = dict(about)
    attributes = sign_labels(folder, attributes)
    if version == "0.4":
        (folder / ".zattrs").write_text(json.dumps(attributes, indent=1), "utf-8")
        return
    file = folder / "zarr.json"
    group = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(group | {"attributes": attributes}, indent=1), "utf-8")
