"""Positions of patches. Arrays hold (y, x) in level-0 pixels; files, outlines (shapely) and tables have (x, y).

Two siblings, one protocol (`Patches`): a `PatchGrid` covers a slide, `PatchPoints` are centred on given points.
Per-patch arrays have the shape `patches.shape`: (rows, cols) for a grid, (n,) for points.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from .errors import SettingsError, SlideError
from .settings import PatchSettings

Mpp = tuple[float, float]  # (y, x) in µm per pixel


@dataclass(frozen=True)
class Block:
    """Neighbouring patches that are read, encoded and written together.

    `window` indexes the per-patch arrays; `scored` (of that window's shape) says which of its patches are
    requested; `corners` (n, 2) are the top-left corners of these patches, in C order.
    """

    window: tuple[slice, ...]
    scored: np.ndarray
    corners: np.ndarray


class Patches(Protocol):
    """Interface of a grid and of a set of points."""

    @property
    def slide_shape(self) -> tuple[int, int]:
        """(height, width) of the slide's level 0."""

    @property
    def side(self) -> int:
        """Side of a patch, in level-0 pixels."""

    @property
    def patch_px(self) -> int:
        """Side of a patch, as the model sees it."""

    @property
    def mpp(self) -> float | None:
        """µm/px of a patch, as the model sees it; None: level 0 as it is."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def scored(self) -> np.ndarray:
        """Whether each patch is requested (tissue), bool of `shape`."""

    @property
    def corners(self) -> np.ndarray:
        """Return top-left corners (n, 2) int64 of the scored patches, in C order."""

    def blocks(self, patches_per_block: int) -> Iterator[Block]: ...

    def to_json(self) -> dict[str, Any]: ...


def square_mpp(mpp: float | None) -> Mpp | None:
    """Return the (y, x) µm/px of a square pixel, where it is known."""
    return None if mpp is None else (mpp, mpp)


def mean_mpp(mpp: Mpp) -> float:
    """Return one µm/px for a pixel whose sides may differ: that of the square of the same area."""
    return float(np.sqrt(mpp[0] * mpp[1]))


def level0_px(px: int, model_mpp: float | None, slide_mpp: Mpp | None) -> int:
    """Return the level-0 pixels that `px` model pixels span: round(px · mpp_model / mpp_slide), at least 1."""
    if model_mpp is None or slide_mpp is None:
        return px
    return max(1, round(px * model_mpp / mean_mpp(slide_mpp)))


def _check_fits(side: int, shape: tuple[int, int]) -> None:
    if side > min(shape):
        raise SlideError(
            f"a patch of {side} px is larger than the slide ({shape[0]} × {shape[1]} px): "
            "use a smaller patch, or check the slide's µm/px"
        )


@dataclass(frozen=True, eq=False)
class PatchGrid:
    """Patches on a regular grid; **a cell is the `stride`-square centred on its patch**.

    Attributes
    ----------
    slide_shape
        (height, width) of the slide's level 0.
    side, stride
        Side of a patch, and distance of neighbouring patches, in level-0 pixels.
    origin
        (y, x) of the first patch's top-left corner. May be negative by up to half a patch.
    patch_px, mpp
        Side and µm/px that a patch is resampled to for the model (mpp None: not resampled).
    rows, cols
        A cell exists if its patch's centre lies in the image. Pixels over the border are reflected.
    tissue
        (rows, cols) bool, or None if every cell is scored.
    """

    slide_shape: tuple[int, int]
    side: int
    stride: int
    origin: tuple[int, int] = (0, 0)
    patch_px: int = 0
    mpp: float | None = None
    rows: int = 0
    cols: int = 0
    tissue: np.ndarray | None = None

    @classmethod
    def over(
        cls,
        slide_shape: tuple[int, int],
        settings: PatchSettings,
        slide_mpp: Mpp | None = None,
        origin: tuple[int, int] = (0, 0),
    ) -> "PatchGrid":
        """Place a grid over a slide of `slide_shape` px.

        `SlideError` if a patch is larger than the slide, `SettingsError` if a stride in µm has no scale.
        """
        if settings.stride_um is not None and settings.stride_px is None:
            raise SettingsError("patches.stride_um has no scale: set patches.mpp or patches.size_um too")
        side = level0_px(settings.size_px, settings.mpp, slide_mpp)
        stride = level0_px(settings.stride_px or settings.size_px, settings.mpp, slide_mpp)
        _check_fits(side, slide_shape)
        if min(origin) < -side / 2:
            raise ValueError(f"origin {origin}: the centre of the first patch would lie outside the slide")
        lengths = [size - start for size, start in zip(slide_shape, origin, strict=True)]
        if settings.border == "keep":  # the last patch's centre lies in the image
            counts = [math.ceil((length - side / 2) / stride) for length in lengths]
        else:  # so does its far side
            counts = [(length - side) // stride + 1 for length in lengths]
        (height, width), (rows, cols) = slide_shape, (max(0, count) for count in counts)
        return cls((height, width), side, stride, (origin[0], origin[1]), settings.size_px, settings.mpp, rows, cols)

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.cols

    @property
    def scored(self) -> np.ndarray:
        return np.ones(self.shape, bool) if self.tissue is None else self.tissue

    def with_tissue(self, tissue: np.ndarray) -> "PatchGrid":
        """Return the same grid with only the cells scored that are True in `tissue` (rows, cols)."""
        if tissue.shape != self.shape:
            raise ValueError(f"tissue must be {self.shape}, got {tissue.shape}")
        return replace(self, tissue=tissue.astype(bool))

    @property
    def corners(self) -> np.ndarray:
        return self.corners_of(np.argwhere(self.scored))

    def corners_of(self, cells: np.ndarray) -> np.ndarray:
        """Return top-left corners (n, 2) of the patches of cells (n, 2) (row, col)."""
        return np.asarray(cells, np.int64) * self.stride + np.asarray(self.origin, np.int64)

    def cells_at(self, points: np.ndarray) -> np.ndarray:
        """Return the cells (n, 2) whose squares contain points (n, 2); they may lie outside `shape`.

        Points are in the pixel-centre convention: (0, 0) is the *centre* of the first pixel, as in napari.
        """
        cells: np.ndarray = np.floor((np.asarray(points, float) - self.first_centre) / self.stride + 0.5)
        return cells.astype(np.int64)

    @property
    def cell_side(self) -> int:
        """Return the side of a cell in level-0 pixels: what labels of a patch cover, so that a pixel has one at most.

        Where patches overlap, the stride; where they leave gaps, the patch itself.
        """
        return min(self.side, self.stride)

    @property
    def cell_origin(self) -> tuple[int, int]:
        """Return the top-left corner (y, x) of the first cell, which lies in the middle of its patch."""
        margin = (self.side - self.cell_side) // 2
        return self.origin[0] + margin, self.origin[1] + margin

    @property
    def first_centre(self) -> np.ndarray:
        """Return the centre (2,) of the first patch, in the pixel-centre convention."""
        return np.asarray(self.origin, float) + (self.side - 1) / 2

    def placement(self, slide_mpp: Mpp | None) -> tuple[Mpp, Mpp]:
        """Return (scale, translate) of a napari layer with one pixel per cell, in µm (px if `slide_mpp` is None)."""
        unit = np.asarray(slide_mpp or (1.0, 1.0))
        return tuple((self.stride * unit).tolist()), tuple((self.first_centre * unit).tolist())

    def blocks(self, patches_per_block: int) -> Iterator[Block]:
        """Yield near-square blocks of about `patches_per_block` patches that cover the grid, without empty ones."""
        edge = max(1, int(np.sqrt(patches_per_block)))
        scored = self.scored
        for top in range(0, self.rows, edge):
            for left in range(0, self.cols, edge):
                window = (slice(top, min(top + edge, self.rows)), slice(left, min(left + edge, self.cols)))
                here = scored[window]
                if here.any():
                    yield Block(window, here, self.corners_of(np.add(np.argwhere(here), (top, left))))

    def to_json(self) -> dict[str, Any]:
        """Return everything but the tissue mask, which is an array of `shape` and is saved separately."""
        keys = ("slide_shape", "side", "stride", "origin", "patch_px", "mpp", "rows", "cols")
        return {"kind": "grid", **{key: getattr(self, key) for key in keys}}


@dataclass(frozen=True, eq=False)
class PatchPoints:
    """Patches centred on given points: detected cells, annotated nuclei.

    `centres` (n, 2) int64 are whole level-0 pixels (y, x), rounded half up; a patch begins `side // 2` px above and
    left of its centre. Pixels over the border are reflected.

    `boxes`: the patches are tiles that follow no grid, as CLAM places them within outlines; nobody chose their centres.
    A mark anywhere in such a box counts for the patch, as on a grid.
    """

    slide_shape: tuple[int, int]
    centres: np.ndarray
    side: int
    patch_px: int
    mpp: float | None = None
    boxes: bool = False

    @classmethod
    def at(
        cls,
        centres: np.ndarray,
        slide_shape: tuple[int, int],
        settings: PatchSettings,
        slide_mpp: Mpp | None = None,
    ) -> "PatchPoints":
        """Centre patches on (n, 2) float points (y, x), 0-based. `SlideError` if one lies outside the slide."""
        side = level0_px(settings.size_px, settings.mpp, slide_mpp)
        _check_fits(side, slide_shape)
        centres = np.floor(np.asarray(centres, float).reshape(-1, 2) + 0.5)
        # A detector may place a centre on the border, which rounding moves one pixel outside.
        inside = centres.clip(0, np.subtract(slide_shape, 1))
        outside = ~(np.abs(centres - inside) <= 1).all(axis=1)  # NaN is nowhere
        if outside.any():
            y, x = centres[outside][0].tolist()
            raise SlideError(
                f"{outside.sum()} of {len(centres)} centres lie outside the slide "
                f"({slide_shape[1]} × {slide_shape[0]} px), the first at x={x:g}, y={y:g}: are they of this slide, "
                "in level-0 pixels?"
            )
        height, width = slide_shape
        return cls((height, width), inside.astype(np.int64), side, settings.size_px, settings.mpp)

    @property
    def shape(self) -> tuple[int]:
        return (len(self.centres),)

    @property
    def scored(self) -> np.ndarray:
        return np.ones(self.shape, bool)

    @property
    def corners(self) -> np.ndarray:
        return self.centres - self.side // 2

    def blocks(self, patches_per_block: int) -> Iterator[Block]:
        """Yield blocks of `patches_per_block` consecutive points."""
        corners = self.corners
        for start in range(0, len(corners), patches_per_block):
            window = slice(start, min(start + patches_per_block, len(corners)))
            yield Block((window,), np.ones(window.stop - start, bool), corners[window])

    def to_json(self) -> dict[str, Any]:
        """Return everything but the centres, which are an array and are saved separately."""
        keys = ("slide_shape", "side", "patch_px", "mpp", *(["boxes"] if self.boxes else []))
        return {"kind": "points", **{key: getattr(self, key) for key in keys}}


def patches_from_json(data: Mapping[str, Any], array: np.ndarray | None) -> PatchGrid | PatchPoints:
    """Restore patches from `to_json`; `array` is the tissue mask (or None) of a grid, or the centres of points."""
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        for key, value in data.items()
        if key != "kind"
    }
    if data["kind"] == "grid":
        return PatchGrid(**fields, tissue=None if array is None else np.asarray(array, bool))
    return PatchPoints(**fields, centres=np.asarray(array, np.int64))
