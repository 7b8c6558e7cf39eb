"""Dense maps: a block of a slide's patches scored from its region, which is read once, without cutting patches.

The result equals that of cutting each patch (`slides.cutting.cut`) and classifying it alone. Where patches share too
few pixels, they are cut, because that is faster.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..core.errors import SettingsError
from ..core.geometry import Block, Mpp, Patches, PatchGrid, PatchPoints, level0_px, mean_mpp
from ..core.settings import PatchSettings
from ..mil.dense import DenseNetwork
from ..mil.model import InstanceOutput
from ..slides.cutting import cut, read_reflected
from ..slides.slide import Slide
from ..store.bundle import Bundle

REGION_PX = 512  # model pixels; patches whose corners share a square of this side are taken together
CUT_AT_ONCE = 256  # patches
SCALE_TOLERANCE = (
    0.025  # of a patch's side, for neighbours to share their pixels; a whole number of pixels costs as much
)


@dataclass(frozen=True)
class _Lattice:
    """The patches that share their pixels once a slide is resampled.

    A patch of `side` level-0 pixels becomes one of `patch_px`; two of them have pixels in common if their corners are
    a whole number of *model* pixels apart. On a lattice of `stride` level-0 pixels, that is every `every`-th along
    each axis, `step` model pixels apart: every² lattices, each with a resampled image of its own.
    """

    stride: int
    every: int
    step: int

    @classmethod
    def of(cls, side: int, patch_px: int, stride: int) -> "_Lattice":
        unit = side // math.gcd(side, patch_px)  # level-0 pixels that are a whole number of model pixels
        every = unit // math.gcd(unit, stride)
        return cls(stride, every, every * stride * patch_px // side)


class DenseScorer:
    """`scorer(slide, patches, block)` -> {"probability": (n, C), "logit": (n, C), "score": (n,)}, float32.

    The n scored patches of the block in their order, as the engine's other scorers. `SlideError` if the slide cannot
    be read there. May be called by several threads at once.

    Patches of a grid that are not scored cost nothing but the convolutions of the rectangle around those that are. Few
    patches in a large rectangle are cut, as are points that lie far apart.

    Attributes
    ----------
    patches_per_block
        So many take some 0.2 s on two cores.
    """

    patches_per_block = 16_384

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.network = DenseNetwork(bundle.model)

    def __call__(self, slide: Slide, patches: Patches, block: Block) -> dict[str, np.ndarray]:
        model, corners = self.network.model, block.corners
        logits = np.empty((len(corners), model.n_classes), np.float32)
        scores = np.empty(len(corners), np.float32)
        lattice = _Lattice.of(patches.side, patches.patch_px, getattr(patches, "stride", 1))
        to_cut = []
        for chosen in _group_by_region(corners, patches, lattice):
            output = self._from_region(slide, patches, lattice, corners[chosen])
            if output is None:
                to_cut.append(chosen)
            else:
                logits[chosen], scores[chosen] = output.logits.cpu(), output.scores.cpu()
        if to_cut:
            left = np.sort(np.concatenate(to_cut))
            for chosen in np.split(left, range(CUT_AT_ONCE, len(left), CUT_AT_ONCE)):
                output = self._from_patches(cut(slide, corners[chosen], patches.side, patches.patch_px))
                logits[chosen], scores[chosen] = output.logits.cpu(), output.scores.cpu()
        probability = self.bundle.probabilities(torch.from_numpy(logits))
        return {"probability": probability, "logit": logits, "score": scores}

    def _from_region(
        self, slide: Slide, patches: Patches, lattice: _Lattice, corners: np.ndarray
    ) -> InstanceOutput | None:
        """Score patches of one lattice from the region around them; None if cutting them is faster."""
        start = corners.min(0)
        cells = (corners - start) // (lattice.stride * lattice.every)
        shape = tuple((cells.max(0) + 1).tolist())
        if len(cells) * self.network.cost_of_patch <= self.network.cost(shape, lattice.step):
            return None
        size = [self.network.span(n, lattice.step) for n in shape]
        region = _read_region(slide, patches, start, size)
        return self.network(torch.from_numpy(region).permute(2, 0, 1), lattice.step, torch.from_numpy(cells))

    @torch.inference_mode()
    def _from_patches(self, cut_patches: np.ndarray) -> InstanceOutput:
        output = self.network.model(torch.from_numpy(cut_patches))
        return InstanceOutput(output.instance_logits, output.scores)


def dense_scorer(bundle: Bundle, patches: Patches, slide: Slide) -> DenseScorer:
    """The scorer of a dense map of `patches` on `slide`.

    `SettingsError` if the model has none (it takes features), or was trained on patches of another side.
    """
    scorer = DenseScorer(bundle)
    if patches.patch_px != scorer.network.patch_px:
        raise SettingsError(
            f"{bundle.path}: takes patches of {scorer.network.patch_px} px, those of {slide.path} "
            f"have {patches.patch_px} px"
        )
    return scorer


def dense_grid(slide_shape: tuple[int, int], settings: PatchSettings, slide_mpp: Mpp | None = None) -> PatchGrid:
    """A grid for a dense map: like `PatchGrid.over`, but the cells begin at the slide's corner and share their pixels.

    With a stride smaller than the patch, the first patches reach over the slide's border, so that their *cells* cover
    the slide from its first pixel on (with `border="drop"` patches stay inside, and cells cover what they can).

    Where the slide is resampled, patches share pixels only if the stride is a whole number of the model's pixels. Of
    the level-0 sides within 2.5 % of the model's scale, and the strides next to the one asked for, those are taken
    with which patches share most; where none do, those of `PatchGrid.over`.
    """
    patch_px, stride_px = settings.size_px, settings.stride_px or settings.size_px
    side, stride = (level0_px(px, settings.mpp, slide_mpp) for px in (patch_px, stride_px))
    if settings.mpp and slide_mpp and side != patch_px:  # resampled
        exact_side = patch_px * (settings.mpp / mean_mpp(slide_mpp))
        side, stride = _shared(patch_px, side, stride, exact_side, stride_px)
    overhang = max(0, side - stride) // 2 if settings.border == "keep" else 0
    level0 = settings.model_copy(update={"size_px": side, "stride_px": stride, "mpp": None})
    grid = PatchGrid.over(slide_shape, level0, origin=(-overhang, -overhang))
    return replace(grid, patch_px=patch_px, mpp=settings.mpp)


def cells_of_points(grid: PatchGrid, points: PatchPoints) -> np.ndarray:
    """(n, 2) cells of a dense grid whose patches are nearest to those centred on points (half way: the later one).

    At stride 1 of a slide that is not resampled they are the very same patches.
    """
    offset = 2 * (points.corners - grid.origin) + points.side - grid.side  # of the centres, in half pixels
    return ((offset + grid.stride) // (2 * grid.stride)).clip(0, np.subtract(grid.shape, 1))


def _shared(patch_px: int, side: int, stride: int, exact_side: float, stride_px: int) -> tuple[int, int]:
    """(side, stride) in level-0 pixels with which neighbours share most; `side, stride` where none share any."""
    exact_stride = exact_side / patch_px * stride_px
    sides = range(math.ceil(exact_side * (1 - SCALE_TOLERANCE)), math.floor(exact_side * (1 + SCALE_TOLERANCE)) + 1)
    strides = {max(1, math.floor(exact_stride)), math.ceil(exact_stride)}
    choices = (
        (_Lattice.of(near, patch_px, apart).step, abs(apart - exact_stride), abs(near - exact_side), near, apart)
        for near in sides
        for apart in strides
    )
    step, _, _, *best = min(choices, default=(patch_px, 0, 0, side, stride))
    return (best[0], best[1]) if step < patch_px else (side, stride)


def _group_by_region(corners: np.ndarray, patches: Patches, lattice: _Lattice) -> list[np.ndarray]:
    """Indices of patches that lie on one lattice, and not too far apart for one region."""
    offsets = corners - corners.min(0, initial=np.iinfo(np.int64).max)
    phases = offsets // lattice.stride % lattice.every
    squares = offsets // max(lattice.stride * lattice.every, REGION_PX * patches.side // patches.patch_px)
    keys = np.concatenate([squares, phases], axis=1)
    if not len(keys) or (keys == keys[0]).all():
        return [np.arange(len(keys))] if len(keys) else []
    order = np.lexsort(keys.T)
    return np.split(order, np.flatnonzero((np.diff(keys[order], axis=0) != 0).any(axis=1)) + 1)


def _read_region(slide: Slide, patches: Patches, corner: np.ndarray, size: list[int]) -> np.ndarray:
    """(h, w, 3) of a region of `size` model pixels from a level-0 corner on; what lies outside the slide reflected."""
    if patches.side == patches.patch_px:
        region = read_reflected(slide, 0, *corner.tolist(), *size)
    else:
        # As one large patch: by the same filter, and the same level, as each of the small ones.
        px = max(size)
        region = cut(slide, corner, px * patches.side // patches.patch_px, px)[0].transpose(1, 2, 0)
        region = region[: size[0], : size[1]]
    return np.require(region, requirements=["C", "W"])
