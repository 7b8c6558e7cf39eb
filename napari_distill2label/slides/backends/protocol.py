"""What a backend gives: the file's own resolutions, and the size of a pixel as the file states it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ...core.geometry import Mpp

_GLANCE_PX = 2048
_DARK = 64  # of 255; glass without tissue is far brighter

Box = tuple[int, int, int, int]  # (y, x, h, w)


def reason_of(error: BaseException) -> str:
    """The first line of an exception's text, or its kind where it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def overlap(box: Box, region: Box) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of what two boxes that overlap share."""
    return (
        max(box[0], region[0]),
        max(box[1], region[1]),
        min(box[0] + box[2], region[0] + region[2]),
        min(box[1] + box[3], region[1] + region[3]),
    )


class UndecodableError(Exception):
    """Parts of a level that are damaged while the rest of it is fine: `boxes` in the level's own pixels."""

    def __init__(self, reason: str, boxes: Sequence[Box]) -> None:
        super().__init__(reason)
        self.boxes = tuple(boxes)


class WrongBackendError(Exception):
    """A file that this backend could open but another one reads better; the text says what kind of file it is."""


class PixelLevel(Protocol):
    """One resolution of a slide.

    Attributes
    ----------
    shape
        (height, width) in its own pixels.
    tile
        (height, width) of what the file decodes in one go: reading along its borders decodes nothing twice.
    """

    shape: tuple[int, int]
    tile: tuple[int, int]

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """Pixels (h, w, 3) uint8 of a region that lies inside the level; any thread may ask.

        May raise anything; `UndecodableError` where it knows which part of the region is to blame.
        """


@dataclass(frozen=True)
class Source:
    """An open slide file.

    Attributes
    ----------
    levels
        The file's own, level 0 first.
    mpp
        (y, x) µm, unchecked; None where not stated.
    associated
        Label, macro, thumbnail…, each read when called: (h, w, 3) uint8.
    notices
        What a user should know of how the file is read: one sentence each.
    canvas_origin
        (y, x) of level 0 in the canvas that the scanner's own software and OpenSlide count in; see `Slide`.
    canvas_shape
        (height, width) of that canvas, where level 0 is a part of it.
    downsamples
        Of each level, where they do not follow from the levels' shapes: see `Slide`.
    icc
        The ICC profile of the pixels, which are not changed by it.
    probe
        Raises if the file is gone, or is another one by now: asked when a read has failed.
    reading
        A context for reads that follow one another: whatever they need to have open stays open meanwhile.
    other_than_brightfield
        What the image is if it is not brightfield although its pixels are RGB; empty if it is.
    """

    levels: Sequence[PixelLevel]
    mpp: Mpp | None = None
    close: Callable[[], None] = lambda: None
    associated: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    canvas_origin: tuple[int, int] = (0, 0)
    canvas_shape: tuple[int, int] | None = None
    downsamples: Sequence[float] = ()
    icc: bytes | None = None
    probe: Callable[[], None] = lambda: None
    reading: Callable[[], AbstractContextManager[None]] = nullcontext
    other_than_brightfield: str = ""


@dataclass(frozen=True, eq=False)
class ArrayLevel:
    """A level that is in memory: (h, w, 3) uint8."""

    pixels: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.pixels.shape[:2]

    @property
    def tile(self) -> tuple[int, int]:
        """Any cut costs the same."""
        return 1, 1

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """See `PixelLevel.read`."""
        return self.pixels[y : y + h, x : x + w]


def dark_background(levels: Sequence[PixelLevel]) -> str:
    """What an image is whose background is dark, as no slide's in transmitted light is; "" if it is not.

    Only where the coarsest level is small: opening a slide must not take the time of reading it.
    """
    coarsest = levels[-1]
    if max(coarsest.shape) > _GLANCE_PX:
        return ""
    with suppress(Exception):  # a damaged level says nothing about the light
        brightest = float(np.median(coarsest.read(0, 0, *coarsest.shape).max(axis=2)))
        return f"dark background, median {brightest:.0f} of 255" if brightest < _DARK else ""
    return ""


def not_brightfield(path: object, found: str) -> str:
    """Text of the error for images that are not what the package reads: `found` says what they are."""
    return (
        f"{path}: not an 8-bit RGB brightfield image ({found}): "
        "convert or render it to 8-bit RGB; fluorescence and 16-bit images are not supported"
    )
