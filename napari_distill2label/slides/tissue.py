"""Tissue segmentation by a rule on the pixels of a coarse level, once for the whole slide.

Background pixels are white (the paper's rule, Thiagarajan 2019, IV-C: patches of >= 75 % white pixels are dropped), or
less saturated than Otsu's threshold, which is limited to a range near the saturation of glass. Otsu's threshold alone
splits *any* image in two: in a crop without glass the paler half would be background, and so would faint tissue beside
dark tissue.
"""

from collections.abc import Generator

import numpy as np

from ..core.errors import TileError
from ..core.events import Progress, Task, drain
from ..core.geometry import PatchGrid
from ..core.notices import Notice, NoticeCode
from ..core.settings import PatchSettings
from .slide import Slide
from .tissue_mask import TissueMask

_EXACT_PX = 4096**2  # px; the rules use level 0 up to this size, else the finest level that is not larger
_PIECE_PX = 4_000_000  # px of the file that are read at once: well below the 0.2 s between two events
_LEAST_PX = 16  # px; damage is located to a region of this side
_BLACK = 32  # of 255; no stain is so dark: the scanner's border, or a place that was not scanned
_FAINT = 13  # of 255; colourless glass is never more saturated
_BRIGHT = 200  # of 255; the darkest channel of glass
_OVER_GLASS = (8, 20)  # of 255; tissue is more saturated than glass by at least a value in this range
_MASK_PX = 2048  # px; longer side of a mask: 6 to 16 µm/px for a whole slide
_INK_PX = 16  # level-0 px; ink is searched in means over squares of this side, which no nucleus fills
_INKY = 0.005  # of the slide; more ink than this is reported
_SPECK = 256  # specks and holes narrower than 1/256 of the slide are removed


def tissue_grid(slide: Slide, grid: PatchGrid, settings: PatchSettings) -> PatchGrid:
    """Return the grid with the cells that have tissue by the rule `settings.tissue`; all cells for the rule "none".

    A cell is tissue if less than `settings.max_background` of its patch's pixels are background. Only pixels of
    the slide count, not reflected ones. The result is exact for slides up to 4096² px. Larger ones are segmented on a
    coarser level, so neither time nor memory grows with the slide (time does if the file has no coarser level).
    """
    return drain(tissue_cells(slide, grid, settings))


def tissue_cells(slide: Slide, grid: PatchGrid, settings: PatchSettings) -> Generator[Progress, None, PatchGrid]:
    """Select the cells that have tissue, as `tissue_grid` does; a generator of its progress."""
    if settings.tissue == "none" or 0 in grid.shape:
        return grid
    level = overview_level(slide)
    background = yield from _background(slide, level, settings)
    fractions = background_fractions(background, grid, slide.downsamples[level])
    return grid.with_tissue(fractions < settings.max_background)


def segment_tissue(slide: Slide, settings: PatchSettings) -> Generator[Progress, None, TissueMask]:
    """Segment the tissue: a mask of at most 2048 px on its longer side; a generator of its progress.

    A pixel of the mask is tissue if half of its area is tissue by the rule `settings.tissue` ("none": the whole slide).
    Specks and holes narrower than 1/256 of the slide are removed, because they would hinder editing the mask.
    """
    if settings.tissue == "none":
        return TissueMask.blank(slide.shape, _MASK_PX).with_mask(True, source="none")
    level = overview_level(slide)
    inks: list[int] = []
    background = yield from _background(slide, level, settings, inks)
    factor = max(1, -(-max(background.shape) // _MASK_PX))
    tissue = _share(~background, factor) >= 0.5
    ink = sum(inks) / background.size
    return TissueMask(
        _cleaned(tissue, max(tissue.shape) / _SPECK),
        slide.shape,
        slide.downsamples[level] * factor,
        settings.tissue,
        (Notice(NoticeCode.INK, {"fraction": ink}),) if ink > _INKY else (),
    )


def overview_level(slide: Slide) -> int:
    """Return the finest level of at most 4096² px; for a whole slide it has 4 to 16 µm/px."""
    fits = (index for index, (height, width) in enumerate(slide.level_shapes) if height * width <= _EXACT_PX)
    return next(fits, len(slide.level_shapes) - 1)


def background_fractions(background: np.ndarray, grid: PatchGrid, downsample: float) -> np.ndarray:
    """Return the fraction (rows, cols) of background in each patch, from an integral image (Crow 1984) of a level.

    `background` (h, w) bool is of a level with `downsample` level-0 pixels per pixel.
    """
    height, width = background.shape
    tops, bottoms = _spans(grid.origin[0], grid.stride, grid.rows, grid.side, downsample, height)
    lefts, rights = _spans(grid.origin[1], grid.stride, grid.cols, grid.side, downsample, width)
    integral = np.zeros((height + 1, width + 1), np.int32)  # 4096² px fit with room to spare
    np.cumsum(background, axis=0, out=integral[1:, 1:])
    np.cumsum(integral, axis=1, out=integral)
    y0, y1 = tops[:, None], bottoms[:, None]
    counts = integral[y1, rights] - integral[y0, rights] - integral[y1, lefts] + integral[y0, lefts]
    fractions: np.ndarray = counts / ((y1 - y0) * (rights - lefts))
    return fractions


def otsu(histogram: np.ndarray) -> int:
    """Return the threshold between two classes of values: the lowest value of the upper class.

    Parameters
    ----------
    histogram
        (n,) counts of the values 0 … n − 1.

    It maximises the variance between the classes (Otsu, "A threshold selection method from gray-level histograms",
    IEEE Trans. SMC 9, 1979, eq. 18). Ties, as over an empty valley, give the middle. A single value gives itself.
    """
    counts = np.asarray(histogram, float)
    weight = np.cumsum(counts)[:-1]  # of the values 0 … t − 1, for t = 1 … n − 1
    moment = np.cumsum(counts * np.arange(len(counts)))
    other = counts.sum() - weight
    valid = (weight > 0) & (other > 0)
    if not valid.any():
        return int(np.argmax(counts))
    between = np.zeros(len(weight))
    means = moment[:-1][valid] / weight[valid] - (moment[-1] - moment[:-1][valid]) / other[valid]
    between[valid] = weight[valid] * other[valid] * means**2
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return int((best[0] + best[-1]) // 2) + 1


def saturation_threshold(saturations: np.ndarray, glassy: np.ndarray) -> int:
    """Return the lowest saturation (0–255) of tissue.

    It is Otsu's threshold, limited to 8 to 20 above the glass and at least 13. Otsu's threshold alone is 60 for real
    crops with hardly any glass, in the range of stroma; without any tissue it lies in the range of glass.

    Parameters
    ----------
    saturations
        (256,) number of pixels by saturation.
    glassy
        (256, 256) number of pixels that could be glass, by darkest channel and saturation. The brightest of them, a
        hundredth of all pixels, are the glass; its saturation is their median.
    """
    brighter = np.cumsum(glassy.sum(axis=1)[::-1])[::-1]  # pixels with this darkest channel or a brighter one
    enough = np.flatnonzero(brighter >= max(1, saturations.sum() / 100))
    glass = _median(glassy[enough[-1] :].sum(axis=0)) if len(enough) else 0
    least, most = (glass + over for over in _OVER_GLASS)
    return max(_FAINT, least, min(otsu(saturations), most))


def _median(histogram: np.ndarray) -> int:
    return int(np.searchsorted(np.cumsum(histogram), histogram.sum() / 2))


def saturation(pixels: np.ndarray) -> np.ndarray:
    """Return the HSV saturation (h, w) uint8, 255 · (max − min) / max, of (h, w, 3) uint8; 0 for black."""
    largest = _lightest(pixels)
    spread = largest - darkest(pixels)
    # This is exact in float32: a quotient of two such integers is a whole number or at least 1/255 away from one.
    value: np.ndarray = np.float32(255) * spread / np.maximum(largest, 1)
    return value.astype(np.uint8)


def darkest(pixels: np.ndarray) -> np.ndarray:
    """Return min(R, G, B) (h, w) uint8; ten times faster than a minimum along an axis of length 3."""
    least: np.ndarray = np.minimum(np.minimum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
    return least


def _lightest(pixels: np.ndarray) -> np.ndarray:
    most: np.ndarray = np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
    return most


def looks_like_ink(pixels: np.ndarray) -> np.ndarray:
    """Return (h, w) bool: blue, green and black ink in (h, w, 3) means over some µm, wider than a nucleus.

    Haematoxylin and eosin transmit less green than red, blue and green ink more. Black ink is darker than any tissue
    and has no colour. Red and violet ink cannot be distinguished from stain.
    """
    pixels = pixels.astype(np.uint8)
    colour = saturation(pixels)
    cold = (pixels[..., 1] > pixels[..., 0].astype(np.int16) + 20) & (colour > 50)
    return cold | ((_lightest(pixels) < 90) & (_lightest(pixels) >= _BLACK) & (colour < 70))


def _ink(pixels: np.ndarray, factor: int) -> int:
    """Return the number of pixels that lie in squares of `factor` px that are ink."""
    height, width = (max(1, size // factor) * min(factor, size) for size in pixels.shape[:2])
    f, g = min(factor, height), min(factor, width)
    means = pixels[:height, :width].reshape(height // f, f, width // g, g, 3).mean(axis=(1, 3))
    n_ink: int = int(looks_like_ink(means).sum()) * f * g
    return n_ink


def _background(
    slide: Slide, level: int, settings: PatchSettings, inks: list[int] | None = None
) -> Generator[Progress, None, np.ndarray]:
    """Return (h, w) bool: the background pixels of a level. The level is read once, piece by piece.

    Damaged places are not background: they may be tissue, and reading their patches reports the damage. The number of
    ink pixels of each piece is added to `inks`.
    """
    square = max(1, round(_INK_PX / slide.downsamples[level]))
    values = np.empty(slide.level_shapes[level], np.uint8)
    saturations, glassy = np.zeros(256, np.int64), np.zeros(256 * 256, np.int64)
    pieces = _pieces(slide, level)
    for done, (y, x, h, w) in enumerate(pieces, 1):
        pixels, lost = _readable(slide, level, y, x, h, w)
        low = darkest(pixels)
        if inks is not None:
            inks.append(_ink(pixels, square))
        if settings.tissue == "white":
            values[y : y + h, x : x + w] = np.where(lost, 0, low)
        else:
            colour, black = saturation(pixels), _lightest(pixels) < _BLACK
            # Pale tissue is pink and glass never is. Pure white was not scanned.
            glass = (low >= _BRIGHT) & (low < 255) & ((colour < _FAINT) | (low < pixels[..., 1]))
            saturations += np.bincount(colour[~(black | lost)], minlength=256)
            glassy += np.bincount((low.astype(np.uint16) << 8 | colour)[glass], minlength=256 * 256)
            colour[black] = 0  # noise in dark places has any colour
            colour[lost] = 255
            values[y : y + h, x : x + w] = colour
        yield Progress(Task.FIND_TISSUE, done, len(pieces), slide.name)
    if settings.tissue == "white":
        return values >= settings.white_level
    return values < saturation_threshold(saturations, glassy.reshape(256, 256))


def _readable(slide: Slide, level: int, y: int, x: int, h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels (h, w, 3) of a region, white where it is damaged, and the damaged pixels (h, w) bool.

    A region that cannot be read is halved until it is small.
    """
    try:
        return slide.read(level, y, x, h, w), np.zeros((h, w), bool)
    except TileError:
        if max(h, w) <= _LEAST_PX:
            return np.full((h, w, 3), 255, np.uint8), np.ones((h, w), bool)
    half, axis = (h // 2, 0) if h >= w else (w // 2, 1)
    parts = (
        ((y, x, half, w), (y + half, x, h - half, w)) if axis == 0 else ((y, x, h, half), (y, x + half, h, w - half))
    )
    pixels, lost = zip(*(_readable(slide, level, *part) for part in parts), strict=True)
    return np.concatenate(pixels, axis), np.concatenate(lost, axis)


def _pieces(slide: Slide, level: int) -> list[tuple[int, int, int, int]]:
    """Return (y, x, h, w) of the pieces in which a level is read: a few whole tiles of the file each."""
    # A computed level is computed from the file's coarsest level.
    base = level if not slide.computed[level] else slide.computed.index(True) - 1
    factor = slide.downsamples[level] / slide.downsamples[base]
    height, width = slide.level_shapes[level]
    h, w = (max(1, round(size / factor)) for size in slide.chunk_shape(base))
    w *= max(1, round(_PIECE_PX / (h * w * factor**2)))
    return [(y, x, min(h, height - y), min(w, width - x)) for y in range(0, height, h) for x in range(0, width, w)]


def _share(mask: np.ndarray, factor: int) -> np.ndarray:
    """Return the share (⌈h/f⌉, ⌈w/f⌉) of each f-square of (h, w) bool that is True; at the border of its pixels."""
    starts = [np.arange(0, size, factor) for size in mask.shape]
    counts = np.add.reduceat(np.add.reduceat(mask, starts[0], axis=0, dtype=np.int32), starts[1], axis=1)
    height, width = (np.minimum(factor, size - begin) for begin, size in zip(starts, mask.shape, strict=True))
    share: np.ndarray = counts / (height[:, None] * width)
    return share


def _cleaned(mask: np.ndarray, width: float) -> np.ndarray:
    """Smooth the mask over `width` px and remove islands and holes of less than `width`² px."""
    from scipy import ndimage  # it takes .3 s to import, and only masks that people edit are cleaned

    window = int(width) // 2 * 2 + 1
    if window > 1:
        mask = ndimage.uniform_filter(mask.astype(np.float32), window, mode="nearest") >= 0.5
    mask = _without_small(mask, width**2)
    return ~_without_small(~mask, width**2)


def _without_small(mask: np.ndarray, area: float) -> np.ndarray:
    from scipy import ndimage  # see above

    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    large: np.ndarray = (sizes >= area)[labels]
    return large


def _spans(
    origin: int, stride: int, count: int, side: int, downsample: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return first and one-past-last pixel (count,) of each patch along an axis of a level, clipped, never empty."""
    begins = origin + stride * np.arange(count)
    low = np.clip(np.floor(begins / downsample + 0.5).astype(np.int64), 0, size - 1)
    high = np.clip(np.floor((begins + side) / downsample + 0.5).astype(np.int64), low + 1, size)
    return low, high
