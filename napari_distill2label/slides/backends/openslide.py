"""MIRAX, Leica SCN, Ventana BIF, DICOM, Philips TIFF, Hamamatsu VMS, Sakura through OpenSlide (optional).

`fastslide` is faster, but only OpenSlide gives the same pixels as libjpeg, and it has read these formats for over ten
years. See docs/architecture.md.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import SlideError
from ...core.geometry import Mpp
from ...core.notices import Notice, NoticeCode
from ..pyramid import downsamples
from ..scale import parse_number
from ..threads import for_each
from .colour import on_white
from .dicom import instance_to_open
from .files import file_stamp
from .protocol import Box, Source, UndecodableError, dark_background, reason_of

if TYPE_CHECKING:
    import openslide

_STRIP_PX = 512  # px; several threads read a region in strips of about this height, in whole tiles
_INSTALL = "pip install 'napari-distill2label[slides]'"


class _Handle:
    """OpenSlide's handle. After any error the handle is unusable and is replaced by a new one."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        self._slide: openslide.OpenSlide | None = None
        self._stamp = file_stamp(path)

    def slide(self) -> "openslide.OpenSlide":
        with self._lock:
            if self._slide is None:
                self._slide = self.another()
            return self._slide

    def another(self) -> "openslide.OpenSlide":
        import openslide

        return openslide.OpenSlide(self.path)

    def failed(self, slide: "openslide.OpenSlide") -> None:
        with self._lock:
            if self._slide is slide:
                self._slide = None  # other threads may still use it: it is closed when the last one has finished

    def probe(self) -> None:
        if file_stamp(self.path) != self._stamp:
            raise OSError("it has changed since it was opened")

    def close(self) -> None:
        with self._lock:
            self._slide = None


@dataclass(frozen=True)
class OpenSlideLevel:
    """One resolution, of the scanned area or of the whole canvas. Places that were not scanned are white.

    Attributes
    ----------
    downsample
        Downsample factor of OpenSlide.
    origin
        (y, x) of the area in the canvas, in pixels of the level.
    """

    handle: _Handle
    index: int
    shape: tuple[int, int]
    tile: tuple[int, int]
    downsample: float
    origin: tuple[int, int] = (0, 0)

    def cropped(self, area: Box, downsample: float) -> "OpenSlideLevel":
        """Return the part of the level that shows `area` (y, x, h, w), in level-0 pixels of the canvas."""

        # The area has a pyramid of its own. OpenSlide draws its levels on whole pixels of the canvas, rounding down.
        def along(size: int, start: int, length: int) -> tuple[int, int]:
            begin = min(size - 1, int(start / self.downsample))
            return begin, max(1, min(size - begin, round(length / downsample)))

        (top, height), (left, width) = (along(*side) for side in zip(self.shape, area[:2], area[2:], strict=True))
        return replace(self, shape=(height, width), origin=(top, left))

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """See `PixelLevel.read`."""
        y, x = y + self.origin[0], x + self.origin[1]  # in the canvas from here on
        out = np.empty((h, w, 3), np.uint8)
        damaged: list[tuple[Box, Exception]] = []
        th = self.tile[0] * max(1, _STRIP_PX // self.tile[0])

        def paste(strip: Box) -> None:
            slide = self.handle.slide()
            try:
                self._paste(slide, strip, out, y, x)
            except Exception:  # noqa: BLE001  the decoders below may raise anything
                self.handle.failed(slide)
                damaged.extend(self._paste_tiles(strip, out, y, x))

        rows = [y, *range((y // th + 1) * th, y + h, th), y + h]
        for_each(paste, [(top, x, bottom - top, w) for top, bottom in pairwise(rows)])
        if damaged:
            damaged.sort(key=lambda found: found[0])
            boxes = [
                (top - self.origin[0], left - self.origin[1], high, wide) for (top, left, high, wide), _ in damaged
            ]
            raise UndecodableError(str(damaged[0][1]), boxes) from damaged[0][1]
        return out

    def _paste(self, slide: "openslide.OpenSlide", box: Box, out: np.ndarray, y: int, x: int) -> None:
        top, left, height, width = box
        where = (self._in_level_0(left), self._in_level_0(top))
        pixels = np.asarray(slide.read_region(where, self.index, (width, height)))
        target = out[top - y : top - y + height, left - x : left - x + width]
        alpha = pixels[..., 3:]
        target[...] = pixels[..., :3] if alpha.min() == 255 else on_white(pixels[..., :3], alpha)

    def _in_level_0(self, position: int) -> int:
        """Return the level-0 position from which OpenSlide, which rounds down, finds the pixel of the level."""
        place = round(position * self.downsample)
        return place if int(place / self.downsample) >= position else place + 1

    def _paste_tiles(self, strip: Box, out: np.ndarray, y: int, x: int) -> Iterator[tuple[Box, Exception]]:
        """Read a strip tile by tile; yields the tiles that cannot be read, with the reason.

        It uses its own handle, because an error in one thread breaks the handle for all threads that share it.
        """
        top, left, height, width = strip
        th, tw = self.tile
        slide = None
        for row, col in product(
            range(top // th, -(-(top + height) // th)), range(left // tw, -(-(left + width) // tw))
        ):
            y0, x0 = max(top, row * th), max(left, col * tw)
            y1, x1 = min(top + height, (row + 1) * th), min(left + width, (col + 1) * tw)
            box = (y0, x0, y1 - y0, x1 - x0)
            try:
                slide = slide or self.handle.another()
                self._paste(slide, box, out, y, x)
            except Exception as error:  # noqa: BLE001  see above
                slide = None
                yield box, error


def is_installed() -> bool:
    """Whether the package and the library it wraps can be loaded."""
    try:
        import openslide  # noqa: F401
    except (ImportError, OSError):  # OSError: the library that it wraps is missing
        return False
    return True


def open_source(path: Path) -> Source:
    """Open a slide. A DICOM slide is opened by its folder or by any of its files.

    Raises
    ------
    SlideError
        OpenSlide is not installed or does not know the file, or files of a DICOM slide are missing.
    """
    if not is_installed():
        raise SlideError(f"{path}: needs OpenSlide: {_INSTALL}")
    import openslide

    if path.is_dir() or path.suffix.lower() == ".dcm":
        path = instance_to_open(path)
    handle = _Handle(path)
    try:
        slide = handle.slide()
    except openslide.OpenSlideUnsupportedFormatError:
        raise ValueError("OpenSlide does not know it; converted to OME-TIFF it can be read") from None
    said = slide.properties
    levels = [
        OpenSlideLevel(handle, index, (height, width), _tile(said, index), downsample)
        for index, ((width, height), downsample) in enumerate(
            zip(slide.level_dimensions, slide.level_downsamples, strict=True)
        )
    ]
    profile = slide.color_profile
    return _of_scanned_area(
        Source(
            levels,
            _mpp(said),
            handle.close,
            associated={name: partial(_associated, handle, name) for name in slide.associated_images},
            icc=profile.tobytes() if profile is not None else None,
            probe=handle.probe,
            other_than_brightfield=dark_background(levels),
        ),
        levels,
        _bounds(said),
    )


def _of_scanned_area(source: Source, levels: Sequence[OpenSlideLevel], bounds: Box | None) -> Source:
    """Return a slide of the scanned area, as QuPath shows it, instead of the whole canvas that `levels` show."""
    canvas = levels[0].shape
    area = None if bounds is None else _inside(bounds, canvas)
    if area is None or area == (0, 0, *canvas):
        return source
    y, x, h, w = area
    steps = downsamples(levels)
    cropped = [level.cropped(area, step) for level, step in zip(levels, steps, strict=True)]
    notice = Notice(NoticeCode.SCANNED_AREA, {"area": (h, w), "canvas": canvas, "corner": (y, x)})
    return replace(
        source,
        levels=cropped,
        notices=(*source.notices, notice),
        canvas_origin=(y, x),
        canvas_shape=canvas,
        downsamples=steps,
    )


def _inside(box: Box, canvas: tuple[int, int]) -> Box | None:
    """Return the part of a box that lies on the canvas; None if it lies outside."""
    y, x = (max(0, start) for start in box[:2])
    bottom, right = (min(size, start + length) for size, start, length in zip(canvas, box[:2], box[2:], strict=True))
    h, w = bottom - y, right - x
    return (y, x, h, w) if h > 0 and w > 0 else None


def _associated(handle: _Handle, name: str) -> np.ndarray:
    """Read an image as (h, w, 3) uint8. `SlideError` if it cannot be read."""
    slide = handle.slide()
    try:
        return np.array(slide.associated_images[name].convert("RGB"))
    except Exception as error:
        handle.failed(slide)
        raise SlideError(f"{handle.path}: its image {name!r} cannot be read: {reason_of(error)}") from error


def _tile(said: Mapping[str, str], index: int) -> tuple[int, int]:
    height, width = (int(said.get(f"openslide.level[{index}].tile-{axis}", 256)) for axis in ("height", "width"))
    return height, width


def _mpp(said: Mapping[str, str]) -> Mpp | None:
    y, x = (said.get(f"openslide.mpp-{axis}") for axis in "yx")
    return None if y is None or x is None else (parse_number(y), parse_number(x))


def _bounds(said: Mapping[str, str]) -> Box | None:
    """Return the scanned area in level-0 pixels of the canvas; None if the file does not state it."""
    try:
        y, x, h, w = (int(said[f"openslide.bounds-{name}"]) for name in ("y", "x", "height", "width"))
    except (KeyError, ValueError):
        return None
    return y, x, h, w
