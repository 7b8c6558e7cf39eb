"""The geometry of patches in CLAM's and TRIDENT's files, and checks that the files are consistent.

`coords` are whole pixels (x, y) of the slide's finest level, counted from the corner of OpenSlide's canvas. Attributes
are compared with one another, with the positions, and with the slide if it is available. A missing attribute stays
unknown; a contradiction is a `SlideError` that names the attribute and both values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import SlideError
from ...core.geometry import Mpp, PatchGrid, PatchPoints, mean_mpp
from ...slides.scale import UM_PER_UNIT, scales_differ
from ...slides.slide import Slide
from .hdf5_file import as_text

SPARSEST = 100  # cells of a lattice per patch on it
LARGEST_SLIDE = 2**31  # px: no position lies further out
LARGEST_PATCH = 4096  # px, as `PatchSettings.size_px`
ROUNDED_OURS = 1.3  # both magnifications that our files say are rounded, however small they are
ROUNDED = 1.1  # magnifications are rounded numbers: 40 stands for 0.23 to 0.27 µm/px
NEXT_MAGNIFICATION = 1.7  # and for 0.17 to 0.42 at most: TRIDENT takes the nearest of 5, 10, 20, 40, 80
LAYOUTS = ("grid", "boxes", "points", "unknown")
LIMITS = (1e-9, 1e12)  # of any number that an attribute can mean
MANY = 16  # patches from which on it says something that none has a neighbour
UNLABELLED = ("", "none", "na", "n/a", "nan", "null", "unknown")  # how programs write that they do not know

SIZES = ("patch_size", "patch_size_level0", "downsample", "custom_downsample", "patch_level")
NAMES = (
    *SIZES, "overlap", "level0_width", "level0_height", "level_dim", "level0_magnification", "target_magnification",
    "mpp", "unit", "units", "tile_size_um", "layout",
)  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """The slide of the positions, as far as it is known.

    Attributes
    ----------
    shape
        (height, width) of our level 0.
    origin, canvas
        (y, x) of that in OpenSlide's canvas, and (height, width) of the canvas: see `Slide.canvas_origin`.
    mpp
        (y, x) µm/px of level 0.
    """

    shape: tuple[int, int] | None = None
    origin: tuple[int, int] = (0, 0)
    canvas: tuple[int, int] | None = None
    mpp: Mpp | None = None

    @classmethod
    def of(cls, slide: Slide) -> "Frame":
        return cls(slide.shape, slide.canvas_origin, slide.canvas_shape, slide.mpp)


@dataclass(frozen=True)
class Located:
    """`patches`, where row i of the file is row `position[i]` of them (-1: outside the scanned area)."""

    patches: PatchGrid | PatchPoints
    position: np.ndarray
    patch_px: int | None  # None: the file does not say how large the encoder saw a patch
    magnification: float | None  # of the patches
    mpp: float | None  # µm/px of the patches


def locate(path: Path, coordinates: np.ndarray, attributes: Mapping[str, Any], frame: Frame) -> Located:
    """Make patches from (n, 2) corners (x, y) and a file's attributes. `SlideError` if they are inconsistent."""
    said = _Claims(path, attributes)
    said.check_unit()
    corners = _whole_pixels(path, coordinates)
    side, patch_px = said.sides()
    said.check_magnification(side, frame.mpp)
    said.check_level(side)
    canvas = said.canvas(frame) or tuple((corners.max(0) + side).tolist())
    outside = int(_is_outside(corners, side, canvas).sum())
    if outside:
        raise SlideError(
            f"{path}: has {outside} of its {len(corners)} patches outside the slide ({canvas[1]} × {canvas[0]} px): "
            f"coords reach to x={corners[:, 1].max()}, y={corners[:, 0].max()}; are they level-0 pixels of it?"
        )
    said.check_distances(corners, side)
    shape = frame.shape or canvas
    corners = corners - frame.origin
    inside = ~_is_outside(corners, side, shape)  # of the scanned area: a part of the canvas
    if not inside.any():
        raise SlideError(f"{path}: all of its patches lie outside the scanned area of the slide")
    seen_as = side if patch_px is None else patch_px
    found: tuple[PatchGrid | PatchPoints, np.ndarray] | None = None
    if said.layout != "points":
        found = _find_grid(corners[inside], side, seen_as, shape, said.stride(side))
    if found is None:
        centres = corners[inside] + side // 2
        boxes = said.layout in ("", "boxes")
        found = PatchPoints(shape, centres, side, seen_as, boxes=boxes), np.arange(len(centres))
    patches, kept = found
    position = np.full(len(corners), -1, np.int64)
    position[inside] = kept
    mpp = said.mpp(frame)
    scale = None if mpp is None or patch_px is None else mpp * side / patch_px
    return Located(patches, position, patch_px, said.magnification, scale)


def coords_attributes(
    patches: PatchGrid | PatchPoints, name: str, folder: str, slide_mpp: Mpp | None, frame: Frame
) -> dict[str, Any]:
    """Return what `coords` says of patches: TRIDENT's attributes, and CLAM's where patches are not resampled."""
    canvas = frame.canvas or patches.slide_shape
    said: dict[str, Any] = {
        "patch_size": patches.patch_px,
        "patch_size_level0": patches.side,
        "level0_width": canvas[1],
        "level0_height": canvas[0],
        "name": name,
        "savetodir": folder,
        "layout": "grid" if isinstance(patches, PatchGrid) else "boxes" if patches.boxes else "points",
    }
    if isinstance(patches, PatchGrid) and patches.stride <= patches.side:
        said["overlap"] = round((patches.side - patches.stride) * patches.patch_px / patches.side)
    if slide_mpp is not None:  # magnification is 10 over µm/px, by convention
        mpp = mean_mpp(slide_mpp)
        said["mpp"] = mpp
        said["level0_magnification"] = round(10 / mpp)
        said["target_magnification"] = round(10 / mpp * patches.patch_px / patches.side)
    if patches.side == patches.patch_px:
        said |= {"patch_level": 0, "downsample": (1.0, 1.0), "level_dim": canvas[::-1]}
    return said


def _whole_pixels(path: Path, coordinates: np.ndarray) -> np.ndarray:
    """Convert (n, 2) positions (x, y) of any numeric type to int64 (y, x)."""
    values = coordinates.astype(np.float64)
    if not np.isfinite(values).all() or (np.abs(values) >= LARGEST_SLIDE).any():
        raise SlideError(f"{path}: its coords are no positions on a slide: some are not finite, or beyond any slide")
    if (fractions := int((values != np.floor(values)).any(1).sum())) > 0:
        raise SlideError(
            f"{path}: {fractions} of its {len(values)} coords are no whole pixels: are they µm? "
            "Only level-0 pixels are read"
        )
    return values[:, ::-1].astype(np.int64)


def _is_outside(corners: np.ndarray, side: int, shape: tuple[int, int]) -> np.ndarray:
    """(n,) bool: patches that show nothing of the slide."""
    outside: np.ndarray = np.any((corners + side <= 0) | (corners >= np.asarray(shape)), axis=1)
    return outside


class _Claims:
    """The attributes of a file about its patches."""

    def __init__(self, path: Path, attributes: Mapping[str, Any]) -> None:
        self.path, self._attributes = path, attributes

    @property
    def layout(self) -> str:
        """The layout in our own files: grid, boxes, points (unknown in older files); empty in files of others."""
        said = as_text(self._attributes.get("layout", ""))
        return said if said in LAYOUTS else ""

    def number(self, *names: str) -> float | None:
        """Return the first of `names` that has a value; None if none has, or if its value means unknown."""
        for name in names:
            if name in self._attributes and (value := self._number(name)) is not None:
                return value
        return None

    def _number(self, name: str) -> float | None:
        value = self._attributes[name]
        written = as_text(value)
        if (written or isinstance(value, str | bytes)) and written.lower() in UNLABELLED:
            return None
        try:
            found = float(written or np.ravel(value)[0])
        except (TypeError, ValueError, IndexError, OverflowError):
            raise SlideError(f"{self.path}: its attribute {name!r} is {str(value)[:40]!r}, not a number") from None
        if np.isfinite(found) and found > LIMITS[1]:
            raise SlideError(f"{self.path}: its attribute {name!r} is {found:g}: that is no slide's")
        smallest = 0 if name in ("overlap", "patch_level") else LIMITS[0]
        return found if np.isfinite(found) and found >= smallest else None  # 0, -1, NaN: it is not known

    def _contradiction(self, said: str, other: str) -> SlideError:
        return SlideError(
            f"{self.path}: {said}, but {other}: one of them is wrong. Correct it, or compute the features again"
        )

    def check_unit(self) -> None:
        """`SlideError` if positions are in µm (as STAMP writes them)."""
        for name in ("unit", "units"):
            unit = as_text(self._attributes.get(name, "")).lower()
            if unit in UM_PER_UNIT:
                raise SlideError(
                    f"{self.path}: its attribute {name!r} says that coords are in {unit}; only level-0 pixels are read"
                )
        if "tile_size_um" in self._attributes:
            raise SlideError(
                f"{self.path}: its attribute 'tile_size_um' says that coords are in µm; only level-0 pixels are read"
            )

    def sides(self) -> tuple[int, int | None]:
        """(level-0, the encoder's) side of a patch in px; the second None where it is not said."""
        patch_px, side = self.number("patch_size"), self.number("patch_size_level0")
        scale = self.number("downsample")
        if patch_px is not None and scale is not None:
            of_level = patch_px * scale * (self.number("custom_downsample") or 1)
            if side is not None and not 0.95 <= side / of_level <= 1.05:
                raise self._contradiction(
                    f"patch_size_level0 is {side:g}", f"patch_size {patch_px:g} × downsample {scale:g} is {of_level:g}"
                )
            side = side or of_level
        if side is None:
            raise SlideError(
                f"{self.path}: does not say how large its patches are (patch_size_level0): put CLAM's file of patches "
                f"into {self.path.parent / 'patches'}, under the same name"
            )
        if not 1 <= round(side) <= LARGEST_SLIDE or not 1 <= round(patch_px or side) <= LARGEST_PATCH:
            raise SlideError(
                f"{self.path}: patches of {side:g} px (patch_size_level0), seen as {patch_px or side:g} px "
                f"(patch_size), cannot be: they are 1 to {LARGEST_PATCH} px"
            )
        return round(side), None if patch_px is None else round(patch_px)

    @property
    def magnification(self) -> float | None:
        """The magnification of the patches; None for our own files, where it is rounded and the µm/px is exact."""
        return None if self.layout else self.number("target_magnification")

    def mpp(self, frame: Frame) -> float | None:
        """µm/px of the slide's level 0."""
        if frame.mpp is not None:
            return mean_mpp(frame.mpp)
        return self.number("mpp") if self.layout else None

    def check_magnification(self, side: int, mpp: Mpp | None) -> None:
        """`SlideError` if magnifications contradict the size of a patch, or scales the slide."""
        own, target = self.number("level0_magnification"), self.number("target_magnification")
        patch_px = self.number("patch_size") or side
        rounded = ROUNDED_OURS if self.layout else ROUNDED
        if own and target and (not self.layout or min(own, target) >= 5):
            expected = patch_px * own / target
            if not 1 / rounded <= expected / side <= rounded:
                raise self._contradiction(
                    f"patch_size_level0 is {side}",
                    f"patch_size {patch_px:g} at target_magnification {target:g} of level0_magnification {own:g} makes "
                    f"{expected:g}",
                )
        if mpp is None:
            return
        slide = mean_mpp(mpp)
        if own and not self.layout and not 1 / NEXT_MAGNIFICATION < 10 / own / slide < NEXT_MAGNIFICATION:
            raise self._contradiction(
                f"level0_magnification is {own:g} (about {10 / own:.3g} µm/px)", f"the slide has {slide:.4g} µm/px"
            )
        # Of level 0 in our own files; of the patches it may be in others.
        could_be = [mpp] if self.layout else [mpp, (mpp[0] * side / patch_px, mpp[1] * side / patch_px)]
        if (said := self.number("mpp")) and all(scales_differ((said, said), value) for value in could_be):
            raise self._contradiction(f"mpp is {said:.4g}", f"the slide has {slide:.4g} µm/px")

    def check_level(self, side: int) -> None:
        """`SlideError` if CLAM's level and its scale contradict each other."""
        level, scale = self.number("patch_level"), self.number("downsample")
        if level is not None and scale is not None and (level == 0) != (scale <= 1.05):
            raise self._contradiction(f"patch_level is {level:g}", f"downsample is {scale:g}")

    def canvas(self, frame: Frame) -> tuple[int, int] | None:
        """(height, width) of the whole canvas: the slide's own, else what the file says, else None."""
        height, width = self.number("level0_height"), self.number("level0_width")
        said: tuple[str, int, int, float] | None = (
            None
            if height is None or width is None
            else ("level0_width × level0_height", round(height), round(width), 1)
        )
        level_dim = self._attributes.get("level_dim")
        if level_dim is not None:
            try:
                w, h = (float(value) for value in np.ravel(level_dim)[:2])
                scale = self.number("downsample") or 1
                of_level = ("level_dim × downsample", round(h * scale), round(w * scale), 2 * scale)
            except (TypeError, ValueError, OverflowError):
                raise SlideError(f"{self.path}: its attribute 'level_dim' is {str(level_dim)[:40]!r}") from None
            if said and not _is_same_size(said[1:3], of_level[1:3], of_level[3]):
                raise self._contradiction(_describe_size(*said), f"{_describe_size(*of_level)}")
            said = said or of_level
        known = frame.canvas or frame.shape
        if said and not all(0 < size <= LARGEST_SLIDE for size in said[1:3]):
            raise SlideError(f"{self.path}: {_describe_size(*said)}: that is no slide")
        if said and known and not _is_same_size(said[1:3], known, said[3]):
            raise self._contradiction(_describe_size(*said), f"the slide is {known[1]} × {known[0]} px")
        return known or (said and said[1:3])

    def stride(self, side: int) -> int:
        """Return the stride in level-0 px that follows from `overlap` (in the encoder's pixels)."""
        return side - round((self.number("overlap") or 0) * side / (self.number("patch_size") or side))

    def check_distances(self, corners: np.ndarray, side: int) -> None:
        """`SlideError` if patches lie nearer to one another, or further apart, than their sizes and `overlap` say."""
        if len(corners) < 2 or self.layout in ("points", "unknown"):
            return
        apart = _distances_to_neighbour(corners)
        usual = int(np.median(apart))
        if usual == 0:
            raise SlideError(f"{self.path}: its coords name most patches twice: was it written twice? Compute it again")
        overlap, stride = self.number("overlap"), self.stride(side)
        if overlap is None:
            if not self.layout:
                self._check_pixels_of_level(corners, side, usual)
            return
        if stride <= 0:
            raise self._contradiction(f"overlap is {overlap:g}", f"patch_size is {self.number('patch_size') or side:g}")
        said = f"overlap is {overlap:g}, so that patches of {side} px (patch_size_level0) lie {stride} apart"
        rounded = 1 + side / (self.number("patch_size") or side)  # px: an overlap is whole pixels of the encoder's
        far = apart.min() > stride + rounded and (
            (len(apart) >= MANY and (apart == usual).mean() >= 0.5) or not _is_on_lattice(corners, side, stride)
        )
        if usual < stride - rounded or (far and not self.layout):  # of our grids any cell may be left out
            raise self._contradiction(said, f"coords lie {usual} px apart (are they level-0 pixels?)")

    def _check_pixels_of_level(self, corners: np.ndarray, side: int, usual: int) -> None:
        """`SlideError` if CLAM's positions look like pixels of the level that patches were cut from.

        They lie as far apart as patches are wide there, and all in the part of the slide that such numbers reach.
        """
        scale, patch_px = self.number("downsample"), self.number("patch_size")
        size = self._attributes.get("level_dim")
        if scale is None or patch_px is None or scale < 1.5 or size is None or abs(usual - side / scale) > 1:
            return
        if len(corners) >= MANY and (corners <= np.ravel(size)[1::-1].astype(float)).all():
            raise self._contradiction(
                f"downsample is {scale:g}, so that patches of patch_size {patch_px:g} are {side} px wide at level 0",
                f"coords lie {usual} px apart in the slide's upper left (are they pixels of patch_level?)",
            )


def _describe_size(name: str, height: int, width: int, _tolerance: float) -> str:
    return f"{name} is {width} × {height}"


def _is_same_size(one: tuple[int, int], other: tuple[int, int], tolerance: float) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def _distances_to_neighbour(corners: np.ndarray) -> np.ndarray:
    """(n,) distance of each patch to the nearest other one: the larger of dx and dy, as squares count it."""
    from scipy.spatial import cKDTree  # it takes .3 s to import, and only features from outside need it

    distances, _ = cKDTree(corners).query(corners, k=2, p=np.inf)
    nearest: np.ndarray = distances[:, 1]
    return nearest


def _is_on_lattice(corners: np.ndarray, side: int, stride: int) -> bool:
    """Whether positions differ by whole strides. TRIDENT's first row and column lie a whole side from the second."""
    rest = (corners - corners.min(0)) % stride
    return bool(np.isin(rest, (0, 1, stride - 1, side % stride)).all())


def _find_grid(
    corners: np.ndarray, side: int, patch_px: int, shape: tuple[int, int], stride: int
) -> tuple[PatchGrid, np.ndarray] | None:
    """A grid where the corners lie on one lattice (as TRIDENT cuts), and the position of each; else None.

    `stride` is the one that the file says; the least that is found is tried too.
    """
    steps = np.concatenate([np.diff(np.unique(axis)) for axis in corners.T])
    origin = corners.min(0)
    for step in dict.fromkeys((stride, int(steps.min()) if len(steps) else side)):
        if step <= 0:
            continue
        cells, rest = np.divmod(corners - origin, step)
        rows, cols = (cells.max(0) + 1).tolist()
        # A lattice that is nearly empty is none: its mask would be larger than the list of its points.
        if rest.any() or rows * cols > SPARSEST * len(cells) or len(np.unique(cells, axis=0)) < len(cells):
            continue
        tissue = np.zeros((rows, cols), bool)
        tissue[tuple(cells.T)] = True
        position = (np.cumsum(tissue).reshape(tissue.shape) - 1)[tuple(cells.T)]
        mask = None if tissue.all() else tissue
        return PatchGrid(shape, side, step, tuple(origin.tolist()), patch_px, None, rows, cols, mask), position
    return None
