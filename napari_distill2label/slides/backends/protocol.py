"""What a backend gives: the file's own resolutions, and the size of a pixel as the file states it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...core.geometry import Mpp


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
        """Pixels (h, w, 3) uint8 of a region that lies inside the level; any thread may ask. May raise anything."""


@dataclass(frozen=True)
class Source:
    """An open slide file. `levels` are the file's own, level 0 first; `mpp` is unchecked, None where not stated."""

    levels: Sequence[PixelLevel]
    mpp: Mpp | None = None
    close: Callable[[], None] = lambda: None


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


def not_brightfield(path: object, found: str) -> str:
    """Text of the error for images that are not what the package reads: `found` says what they are."""
    return (
        f"{path}: not an 8-bit RGB brightfield image ({found}): "
        "convert or render it to 8-bit RGB; fluorescence and 16-bit images are not supported"
    )
