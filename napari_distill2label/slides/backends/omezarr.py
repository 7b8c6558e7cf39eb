"""OME-Zarr (NGFF) 0.4 and 0.5 through zarr 3: a local folder, or the URL of one through fsspec."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ...core.errors import SlideError
from ...core.geometry import Mpp
from ...core.notices import Notice, NoticeCode
from ...core.paths import is_url
from ...core.zarr_codecs import unsafe_codec
from ..scale import UM_PER_UNIT, parse_number
from .main_image import kind_of, largest, only_beside
from .omezarr_level import ZarrLevel, chunks_there
from .protocol import Source, not_brightfield

_PROTOCOLS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_MOST_CHUNK = 300_000_000  # bytes of pixels in one chunk
_MOST_COUNTED = 100_000  # chunks of a level; more are not counted when a slide is opened
_MOST_IMAGES = 100  # in one folder
_RGB = ("FF0000", "00FF00", "0000FF")


@dataclass(frozen=True)
class _Image:
    """A multiscale image of a folder."""

    group: zarr.Group
    multiscale: Mapping[str, Any]
    channels: Sequence[Mapping[str, Any]]

    @property
    def axes(self) -> str:
        """One letter each."""
        names = [axis["name"] if isinstance(axis, Mapping) else axis for axis in self.multiscale.get("axes", "tczyx")]
        return "".join(name[0].lower() for name in names)

    def arrays(self) -> list[tuple[zarr.Array[Any], Mapping[str, Any]]]:
        """Return the levels and their metadata, finest first, whatever their order in the file."""
        named = [(self.group[str(each["path"])], each) for each in self.multiscale["datasets"]]
        found = [(array, each) for array, each in named if isinstance(array, zarr.Array)]
        if not found or len(found) < len(named):
            raise ValueError("its metadata name levels that are no arrays")
        return sorted(found, key=lambda level: -self.area(level[0]))

    def area(self, array: zarr.Array[Any]) -> int:
        """Return the number of pixels; 0 if there is no y or x axis."""
        sizes = dict(zip(self.axes, array.shape, strict=False))
        return sizes.get("y", 0) * sizes.get("x", 0)


@dataclass(frozen=True)
class LabelArray:
    """The finest level of a label image.

    Attributes
    ----------
    mpp, position
        (y, x) µm per pixel, and µm (px where `mpp` is None) of the centre of the first pixel.
    about
        The metadata `image-label`; empty where there are none.
    """

    array: zarr.Array[Any]
    axes: str
    mpp: Mpp | None
    position: tuple[float, float]
    about: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self._of_axes(self.array.shape)

    @property
    def chunks(self) -> tuple[int, int]:
        """(height, width)."""
        return self._of_axes(self.array.chunks)

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """(h, w), or what of it lies in the image."""
        cut = {"y": slice(y, y + h), "x": slice(x, x + w)}
        labels = np.asarray(self.array[tuple(cut.get(axis, 0) for axis in self.axes)])
        return labels if self.axes.index("y") < self.axes.index("x") else labels.T

    def _of_axes(self, sizes: Sequence[int]) -> tuple[int, int]:
        of = dict(zip(self.axes, sizes, strict=True))
        return of["y"], of["x"]


def open_labels(path: Path) -> LabelArray:
    """Open the label image at the top of a folder. `SlideError` if it holds none, or one that cannot be read safely."""
    image = _image_of(_open_group(path))
    if image is None:
        raise SlideError(f"{path}: holds no OME-Zarr image (no 'multiscales' in its metadata)")
    array, dataset = image.arrays()[0]
    sizes = dict(zip(image.axes, array.shape, strict=False))
    if len(image.axes) != array.ndim or any(size != 1 for axis, size in sizes.items() if axis not in "yx"):
        raise SlideError(f"{path}: its axes are {image.axes} of {array.shape}; labels have one plane")
    if not {"y", "x"} <= sizes.keys():
        raise SlideError(f"{path}: its axes are {image.axes}; labels have y and x")
    if (codec := unsafe_codec(array)) is not None:
        raise SlideError(f"{path}: its pixels are packed by {codec!r}, which is not known to be harmless: not opened")
    if math.prod(array.chunks) * array.dtype.itemsize > _MOST_CHUNK:
        raise SlideError(f"{path}: stored in chunks that are too large: write it again in smaller ones")
    mpp = _mpp(image, dataset)
    attributes = image.group.attrs.asdict()
    about: Any = attributes.get("ome", attributes)
    return LabelArray(array, image.axes, mpp, _position(image, dataset, mpp), about.get("image-label") or {})


def read_attributes(path: Path) -> Mapping[str, Any]:
    """Return the attributes of a zarr folder; empty where they cannot be read."""
    try:
        return _open_group(path).attrs.asdict()
    except Exception:  # noqa: BLE001 · whatever zarr's parsers raise for a folder of anything
        return {}


def open_source(path: Path | str) -> Source:
    """Open the multiscale image at the top of the folder, or the largest of a bioformats2raw folder.

    Raises
    ------
    SlideError
        The folder holds no OME-Zarr image, or one that is not 8-bit grey or RGB, or none of its pixels.
    """
    _register_codecs()
    image, which = _main_image(path, _open_group(path))
    probe: Callable[[], object] = partial(os.stat, path) if isinstance(path, Path) else _no_probe
    arrays = image.arrays()
    levels: list[ZarrLevel] = []
    for array, _ in arrays:
        _check(path, array, image)
        levels.append(ZarrLevel(array, image.axes, probe, levels))
    channels = dict(zip(image.axes, arrays[0][0].shape, strict=True)).get("c", 1)
    alpha = Notice(NoticeCode.OPACITY_CHANNEL) if channels == 4 else None
    return Source(
        levels,
        _mpp(image, arrays[0][1]),
        notices=tuple(filter(None, (which, alpha, _missing(path, levels)))),
        probe=partial(_open_group, path),
    )


@cache
def _register_codecs() -> None:
    """JPEG, JPEG 2000, WebP and others, as wsic and tifffile write them in zarr's format 2."""
    from imagecodecs.numcodecs import register_codecs

    register_codecs(verbose=False)


def _no_probe() -> None:
    """Do nothing: unlike a folder that is gone, a server that is gone makes the read itself fail."""


def _open_group(path: Path | str) -> zarr.Group:
    """Open a folder or URL. `SlideError` if the package for the protocol is missing, or no server answers."""
    if not is_url(path):
        return zarr.open_group(str(path), mode="r")
    try:
        return zarr.open_group(path, mode="r")
    except ImportError as error:
        package = _PROTOCOLS.get(path.partition("://")[0].lower(), "fsspec aiohttp")
        raise SlideError(f"{path}: reading it over the network needs: pip install {package}") from error
    except FileNotFoundError as error:
        raise SlideError(f"{path}: no OME-Zarr folder is there: check the URL") from error


def _main_image(path: Path | str, top: zarr.Group) -> tuple[_Image, Notice | None]:
    """Return the image that is the slide, and a notice if it is not the first; never a photograph of the label."""
    image = _image_of(top)
    if image is not None:
        return image, None
    numbered = (top.get(str(index)) for index in count())
    groups = takewhile(lambda group: group is not None, numbered)
    images = [_image_of(group) for group, _ in zip(groups, range(_MOST_IMAGES), strict=False)]
    named = [kind_of(str(image.multiscale.get("name", ""))) if image else "" for image in images]
    slides = {i: image for i, image in enumerate(images) if image is not None and not named[i]}
    if not slides:
        what = only_beside(named) if any(named) else "holds no OME-Zarr image (no 'multiscales' in its metadata)"
        raise SlideError(f"{path}: this zarr folder {what}")
    areas = {index: image.area(image.arrays()[0][0]) for index, image in slides.items()}
    chosen, which = largest(areas, len(images), {index: f"{area} px" for index, area in areas.items()})
    return slides[chosen], which


def _image_of(group: object) -> _Image | None:
    """Return the first multiscale image of a group. NGFF metadata are under 'ome' since 0.5, at the top before."""
    if not isinstance(group, zarr.Group):
        return None
    ome: Any = group.attrs.get("ome", group.attrs)  # JSON of any shape: reading it may raise anything
    if not ome.get("multiscales"):
        return None
    return _Image(group, ome["multiscales"][0], ome.get("omero", {}).get("channels") or ())


def _check(path: Path | str, array: zarr.Array[Any], image: _Image) -> None:
    """Raise `SlideError` for a level that is not 8-bit grey or RGB, or cannot be decoded safely."""
    if len(image.axes) != array.ndim:
        raise SlideError(f"{path}: damaged, its metadata name {len(image.axes)} axes and its arrays have {array.ndim}")
    sizes = dict(zip(image.axes, array.shape, strict=True))
    channels = sizes.pop("c", 1)
    found = f"axes {image.axes}, {channels} channel{'s' * (channels != 1)} of {array.dtype}"
    stack = [axis for axis, size in sizes.items() if axis not in "yx" and size != 1]
    if array.dtype != np.uint8 or channels not in (1, 3, 4) or stack or not {"y", "x"} <= sizes.keys():
        raise SlideError(not_brightfield(path, found))
    if min(array.shape) < 1:
        raise SlideError(f"{path}: damaged, a level of {sizes['x']} × {sizes['y']} px")
    colors = [str(channel.get("color") or "").lstrip("#").upper()[:6] for channel in image.channels]
    if channels > 1 and any(colors) and tuple(colors[:3]) != _RGB and set(colors) != {"FFFFFF"}:
        raise SlideError(not_brightfield(path, f"{found}, shown as {', '.join(colors)}"))
    codec = unsafe_codec(array)
    if codec is not None:
        raise SlideError(f"{path}: its pixels are packed by {codec!r}, which is not known to be harmless: not opened")
    if math.prod(array.chunks) > _MOST_CHUNK:
        raise SlideError(
            f"{path}: stored in chunks of {math.prod(array.chunks) / 1e9:.1f} GB: write it again in smaller ones"
        )


def _missing(path: Path | str, levels: Sequence[ZarrLevel]) -> Notice | None:
    """Describe how many chunks are missing. `SlideError` if no level has any."""
    if not isinstance(path, Path):
        return None  # servers seldom list their files; a missing chunk is noticed when it is read
    told, any_there = [], False
    for index, level in enumerate(levels):
        if level.n_chunks > _MOST_COUNTED:
            any_there = True
            continue
        there = chunks_there(path / level.array.path)
        any_there |= there > 0
        if there < level.n_chunks:
            told.append(f"{level.n_chunks - there} of {level.n_chunks} of level {index}")
    if not any_there:
        raise SlideError(f"{path}: its pixels are missing, none of its chunks is there: copy the folder again")
    return Notice(NoticeCode.CHUNKS_MISSING, {"missing": told}) if told else None


def _mpp(image: _Image, dataset: Mapping[str, Any]) -> Mpp | None:
    """Return (y, x) µm: the scale of a level times that of the image; None if an axis has no unit of length."""
    axes = image.multiscale.get("axes", ())
    units: list[Any] = [axis.get("unit") if isinstance(axis, Mapping) else None for axis in axes]
    scale = np.ones(len(image.axes))
    transformations: Sequence[Mapping[str, Any]] = [
        *(dataset.get("coordinateTransformations") or ()),
        *(image.multiscale.get("coordinateTransformations") or ()),
    ]
    for transformation in transformations:
        if transformation.get("type") == "scale":
            values = [parse_number(value) for value in transformation.get("scale") or ()]
            if len(values) != len(scale):
                return None
            scale *= values
    where = [image.axes.index(axis) for axis in "yx"]
    if len(units) != len(scale) or not all(units[i] in UM_PER_UNIT for i in where):
        return None
    y, x = (float(scale[i] * UM_PER_UNIT[units[i]]) for i in where)
    return y, x


def _position(image: _Image, dataset: Mapping[str, Any], mpp: Mpp | None) -> tuple[float, float]:
    """(y, x) of the first pixel of a level, in µm, or in the unit of its axes where they have no µm."""
    moved = np.zeros(len(image.axes))
    for transformation in dataset.get("coordinateTransformations") or ():
        values = [parse_number(value) for value in transformation.get("translation") or ()]
        if transformation.get("type") == "translation" and len(values) == len(moved) and np.isfinite(values).all():
            moved += values
    where = [image.axes.index(axis) for axis in "yx"]
    if mpp is not None:
        moved *= [UM_PER_UNIT.get(axis.get("unit", ""), 1.0) for axis in image.multiscale["axes"]]
    y, x = (float(moved[i]) for i in where)
    return y, x
