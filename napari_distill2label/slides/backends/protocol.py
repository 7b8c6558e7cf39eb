"""The interface of a backend: the resolutions of a file and the size of a pixel as the file states it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ...core.geometry import Mpp
from ...core.notices import Notice

_GLANCE_PX = 2048
_DARK = 64  # of 255; glass without tissue is far brighter

Box = tuple[int, int, int, int]  # (y, x, h, w)


def reason_of(error: BaseException) -> str:
    """Return the first line of an exception's text, or its type if it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def overlap(box: Box, region: Box) -> tuple[int, int, int, int]:
    """Return (top, left, bottom, right) of the intersection of two overlapping boxes."""
    return (
        max(box[0], region[0]),
        max(box[1], region[1]),
        min(box[0] + box[2], region[0] + region[2]),
        min(box[1] + box[3], region[1] + region[3]),
    )


class UndecodableError(Exception):
    """Some parts of a level are damaged and the rest is not: `boxes` in the level's own pixels."""

    def __init__(self, reason: str, boxes: Sequence[Box]) -> None:
        super().__init__(reason)
        self.boxes = tuple(boxes)


class WrongBackendError(Exception):
    """A file that this backend could open but another one reads better; the text says what kind of file it is."""


class PixelLevel(Protocol):
    """One resolution of a slide."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in its own pixels."""

    @property
    def tile(self) -> tuple[int, int]:
        """(height, width) of the unit that the file decodes. Reading along its borders decodes nothing twice."""

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """Return the pixels (h, w, 3) uint8 of a region inside the level. Any thread may call.

        It may raise anything; it raises `UndecodableError` if it knows which part of the region is damaged.
        """


@dataclass(frozen=True)
class Source:
    """An open slide file.

    Attributes
    ----------
    levels
        Levels of the file, level 0 first.
    mpp
        (y, x) µm, unchecked; None if the file does not state it.
    associated
        Label, macro, thumbnail…, each read when called: (h, w, 3) uint8.
    notices
        How the file is read, for the user.
    canvas_origin
        (y, x) of level 0 in the canvas of the scanner's software and OpenSlide; see `Slide`.
    canvas_shape
        (height, width) of that canvas if level 0 is a part of it.
    downsamples
        Downsample factor of each level if it does not follow from the shapes; see `Slide`.
    icc
        ICC profile of the pixels. It is not applied.
    probe
        Raises if the file is gone or has been replaced. It is called after a failed read.
    reading
        Context for several reads: files stay open inside it.
    other_than_brightfield
        Kind of an RGB image that is not brightfield; empty for a brightfield image.
    """

    levels: Sequence[PixelLevel]
    mpp: Mpp | None = None
    close: Callable[[], None] = lambda: None
    associated: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    canvas_origin: tuple[int, int] = (0, 0)
    canvas_shape: tuple[int, int] | None = None
    downsamples: Sequence[float] = ()
    icc: bytes | None = None
    probe: Callable[[], object] = lambda: None
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
        """One pixel: any region costs the same."""
        return 1, 1

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """See `PixelLevel.read`."""
        return self.pixels[y : y + h, x : x + w]


def dark_background(levels: Sequence[PixelLevel]) -> str:
    """Describe an image with a dark background, which transmitted light never gives; "" for any other image.

    Only a small coarsest level is checked: opening a slide must not take as long as reading it.
    """
    coarsest = levels[-1]
    if max(coarsest.shape) > _GLANCE_PX:
        return ""
    with suppress(Exception):  # a damaged level does not show the background
        brightest = float(np.median(coarsest.read(0, 0, *coarsest.shape).max(axis=2)))
        return f"dark background, median {brightest:.0f} of 255" if brightest < _DARK else ""
    return ""


def not_brightfield(path: object, found: str) -> str:
    """Return the error text for an image that is not supported; `found` describes the image."""
    return (
        f"{path}: not an 8-bit RGB brightfield image ({found}): "
        "convert or render it to 8-bit RGB; fluorescence and 16-bit images are not supported"
    )
