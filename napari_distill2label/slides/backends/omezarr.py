"""OME-Zarr (NGFF) 0.4 and 0.5 through zarr 3: a local folder, or the URL of one through fsspec."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ...core.errors import SlideError
from ...core.geometry import Mpp
from ...core.names import is_url
from ..mpp import UM_PER_UNIT
from .protocol import Box, Source, UndecodableError, not_brightfield

_PROTOCOLS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


@dataclass(frozen=True)
class ZarrLevel:
    """One resolution of an image whose axes are any order of y, x and c, others having length 1."""

    array: zarr.Array
    axes: str
    probe: Callable[[], None]

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return tuple(self.array.shape[self.axes.index(axis)] for axis in "yx")

    @property
    def tile(self) -> tuple[int, int]:
        """A chunk's (height, width)."""
        return tuple(self.array.chunks[self.axes.index(axis)] for axis in "yx")

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """See `PixelLevel.read`."""
        try:
            pixels = self._read(y, x, h, w)
        except Exception:  # noqa: BLE001  zarr, its codecs and a network may raise anything
            self.probe()
            damaged = list(self._damaged(y, x, h, w))
            if not damaged:  # it can be read by now
                return self._read(y, x, h, w)
            raise UndecodableError(damaged[0][1], [box for box, _ in damaged]) from None
        self.probe()  # chunks that are not there are empty ones, and so are all of them once the folder is gone
        return pixels

    def _damaged(self, y: int, x: int, h: int, w: int) -> Iterator[tuple[Box, str]]:
        """The chunks that cannot be read, and why."""
        th, tw = self.tile
        for row, col in product(range(y // th, -(-(y + h) // th)), range(x // tw, -(-(x + w) // tw))):
            top, left = row * th, col * tw
            box = (top, left, min(th, self.shape[0] - top), min(tw, self.shape[1] - left))
            try:
                self._read(*box)
            except Exception as error:  # noqa: BLE001  a codec may raise anything
                yield box, str(error) or type(error).__name__

    def _read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        cut = {"y": slice(y, y + h), "x": slice(x, x + w), "c": slice(0, 3)}
        pixels = self.array[tuple(cut.get(axis, 0) for axis in self.axes)]
        left = [axis for axis in self.axes if axis in cut]
        pixels = np.transpose(pixels, [left.index(axis) for axis in "yxc" if axis in left])
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        return np.ascontiguousarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)


def open_source(path: Path | str) -> Source:
    """Open the multiscale image at the top of the folder, or the first one in a bioformats2raw folder.

    Raises
    ------
    SlideError
        The folder holds no OME-Zarr image, or one that is not 8-bit grey or RGB.
    """
    group = _open_group(path)
    ome = _ome(group)
    if "multiscales" not in ome and "0" in group:
        group = group["0"]
        ome = _ome(group) if isinstance(group, zarr.Group) else {}
    if not ome.get("multiscales"):
        raise SlideError(f"{path}: this zarr folder holds no OME-Zarr image (no 'multiscales' in its metadata)")
    multiscale = ome["multiscales"][0]
    axes = _axes(multiscale)
    probe = partial(os.stat, path) if isinstance(path, Path) else _no_probe
    levels = [ZarrLevel(group[dataset["path"]], axes, probe) for dataset in multiscale["datasets"]]
    for level in levels:
        _check_pixels(path, level, ome)
    return Source(levels, _mpp(multiscale, axes), probe=partial(_open_group, path))


def _no_probe() -> None:
    """A server that is gone does not answer "not found", as a folder does: reading fails."""


def _open_group(path: Path | str) -> zarr.Group:
    """Of a URL too. `SlideError` where the package for its kind is missing, or nothing answers."""
    if not is_url(path):
        return zarr.open_group(str(path), mode="r")
    try:
        return zarr.open_group(path, mode="r")
    except ImportError as error:
        package = _PROTOCOLS.get(path.partition("://")[0].lower(), "fsspec aiohttp")
        raise SlideError(f"{path}: reading it over the network needs: pip install {package}") from error
    except FileNotFoundError as error:
        raise SlideError(f"{path}: no OME-Zarr folder is there: check the URL") from error


def _ome(group: zarr.Group) -> Mapping[str, Any]:
    """The NGFF metadata: under 'ome' since 0.5, at the top before."""
    return group.attrs.get("ome", group.attrs)


def _axes(multiscale: Mapping[str, Any]) -> str:
    names = [axis["name"] if isinstance(axis, Mapping) else axis for axis in multiscale.get("axes", "tczyx")]
    return "".join(name[0].lower() for name in names)


def _check_pixels(path: Path, level: ZarrLevel, ome: Mapping[str, Any]) -> None:
    sizes = dict(zip(level.axes, level.array.shape, strict=True))
    channels = sizes.pop("c", 1)
    found = f"axes {level.axes}, {channels} channel{'s' * (channels > 1)} of {level.array.dtype}"
    stack = [axis for axis, size in sizes.items() if axis not in "yx" and size != 1]
    if level.array.dtype != np.uint8 or channels not in (1, 3, 4) or stack or not {"y", "x"} <= sizes.keys():
        raise SlideError(not_brightfield(path, found))
    colors = [str(channel.get("color", "")).upper() for channel in ome.get("omero", {}).get("channels", [])]
    if channels > 1 and any(colors) and colors[:3] != ["FF0000", "00FF00", "0000FF"] and set(colors) != {"FFFFFF"}:
        raise SlideError(not_brightfield(path, f"{found}, shown as {', '.join(colors)}"))


def _mpp(multiscale: Mapping[str, Any], axes: str) -> Mpp | None:
    """(y, x) µm: the scales of the first level and of the whole, multiplied; None where an axis has no length unit."""
    units = [axis.get("unit") if isinstance(axis, Mapping) else None for axis in multiscale.get("axes", ())]
    scale = np.ones(len(axes))
    transformations: Sequence[Mapping[str, Any]] = [
        *multiscale["datasets"][0].get("coordinateTransformations", ()),
        *multiscale.get("coordinateTransformations", ()),
    ]
    for transformation in transformations:
        if transformation.get("type") == "scale":
            scale *= transformation["scale"]
    where = [axes.index(axis) for axis in "yx"]
    if len(units) != len(axes) or not all(units[i] in UM_PER_UNIT for i in where):
        return None
    return tuple(float(scale[i] * UM_PER_UNIT[units[i]]) for i in where)
