"""A mask of the tissue, whether segmented by a rule, drawn in napari, or read from QuPath's regions."""

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from ..core.geometry import Mpp, PatchGrid
from ..core.notices import Notice

Origin = Literal["none", "white", "otsu", "regions", "user"]


@dataclass(frozen=True, eq=False)
class TissueMask:
    """The tissue of a slide at a coarse scale.

    Attributes
    ----------
    mask
        (rows, cols) bool. Its squares cover the slide from the top left; the last row and column may be smaller.
    slide_shape
        (height, width) of the slide's level 0.
    downsample
        Level-0 pixels per pixel of the mask, at least 1.
    source
        Origin: a rule ("none", "white", "otsu"), "regions" of a file, or a "user" who drew or changed the mask.
    notices
        What to check in the mask.
    """

    mask: np.ndarray
    slide_shape: tuple[int, int]
    downsample: float
    source: Origin
    notices: tuple[Notice, ...] = ()

    def __post_init__(self) -> None:
        # Rounding may have removed a row of pixels of a level, or the last square may be smaller.
        fits = [
            abs(count * self.downsample - size) < max(self.downsample, 2) * 2
            for count, size in zip(self.mask.shape, self.slide_shape, strict=True)
        ]
        if not all(fits):
            raise ValueError(f"a mask of {self.mask.shape} at 1/{self.downsample:g} does not cover {self.slide_shape}")

    @classmethod
    def blank(cls, slide_shape: tuple[int, int], longest: int = 2048) -> "TissueMask":
        """Return a mask without tissue, at most `longest` px on its longer side, to draw on."""
        downsample = -(-max(slide_shape) // longest)
        height, width = slide_shape
        shape = (-(-height // downsample), -(-width // downsample))
        return cls(np.zeros(shape, bool), (height, width), float(downsample), "user")

    def with_mask(self, mask: np.ndarray | bool, source: Origin = "user") -> "TissueMask":
        """Return a mask of the same shape with other contents: values other than 0 are tissue."""
        drawn = np.broadcast_to(np.asarray(mask) != 0, self.mask.shape) if np.ndim(mask) == 0 else np.asarray(mask) != 0
        if drawn.shape != self.mask.shape:
            raise ValueError(f"the mask must be {self.mask.shape}, got {drawn.shape}")
        return replace(self, mask=drawn, source=source, notices=())

    @property
    def fraction(self) -> float:
        """Return the share of the slide's area that is tissue."""
        rows, cols = (np.diff(self.edges(axis)) for axis in (0, 1))
        return float(rows @ self.mask @ cols / np.prod(np.asarray(self.slide_shape, float)))

    def edges(self, axis: int) -> np.ndarray:
        """Return borders (n + 1,) int64 of the mask's rows (axis 0) or columns (1) in level-0 px."""
        edges = np.rint(np.arange(self.mask.shape[axis] + 1) * self.downsample).astype(np.int64)
        edges = np.minimum(edges, self.slide_shape[axis])
        edges[-1] = self.slide_shape[axis]
        return edges

    def placement(self, slide_mpp: Mpp | None) -> tuple[Mpp, Mpp]:
        """Return (scale, translate) of a napari Labels layer of `mask`, in µm (px if `slide_mpp` is None)."""
        unit = np.asarray(slide_mpp or (1.0, 1.0))
        return tuple((self.downsample * unit).tolist()), tuple(((self.downsample - 1) / 2 * unit).tolist())

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Return (n,) bool: whether points (n, 2) (y, x) lie in or on the tissue. Whole numbers are pixel *corners*."""
        points = np.asarray(points, float).reshape(-1, 2)
        padded = np.pad(self.mask, 1)  # there is no tissue outside the slide
        found = np.zeros(len(points), bool)
        both: tuple[Literal["left", "right"], ...] = ("left", "right")
        for sides in product(both, repeat=2):  # a point on a border belongs to both squares
            cells = (np.searchsorted(self.edges(axis), points[:, axis], side) for axis, side in enumerate(sides))
            found |= padded[tuple(cells)]
        return found

    def grid(self, grid: PatchGrid) -> PatchGrid:
        """Return `grid` with the cells whose patch's centre lies on tissue, as regions in a file would select them."""
        centres = grid.corners_of(np.indices(grid.shape).reshape(2, -1).T) + grid.side / 2
        return grid.with_tissue(self.contains(centres).reshape(grid.shape))
