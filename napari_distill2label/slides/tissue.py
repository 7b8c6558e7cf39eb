"""Which patches hold tissue: by a rule on the pixels, or by regions somebody drew.

Background pixels are white (the paper's rule, Thiagarajan 2019, IV-C: patches of >= 75 % white pixels are dropped), or
less saturated than Otsu's threshold.
"""

from collections.abc import Callable, Iterator

import numpy as np

from ..core.geometry import PatchGrid
from ..core.settings import GridSettings
from .slide import Slide

_EXACT_PX = 4096**2  # px; up to here the rules look at level 0, above at the finest level that is not larger
_BAND_PX = 8_000_000  # px read and summed at once
_SIDE_PX = 4  # a patch spans at least this many pixels of the level looked at
_FAINT = 13  # of 255; glass is never more saturated, so a slide of nothing but glass has no tissue to Otsu either


def tissue_grid(slide: Slide, grid: PatchGrid, settings: GridSettings) -> PatchGrid:
    """The grid with the cells that hold tissue by `settings.tissue`; the grid itself for the rule "all".

    A cell is tissue if less than `settings.background_fraction` of its patch's pixels are background. Only pixels of
    the slide count: reflection does not matter. Exact for slides up to 4096² px; larger ones are judged on a coarser
    level, band by band, so that memory does not grow with the slide.
    """
    if settings.tissue == "all" or 0 in grid.shape:
        return grid
    level = _level(slide, grid.side)
    is_background = _white(settings.white_level) if settings.tissue == "white" else _pale(slide, level)
    return grid.with_tissue(background_fractions(slide, grid, level, is_background) < settings.background_fraction)


def background_fractions(
    slide: Slide, grid: PatchGrid, level: int, is_background: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """(rows, cols) fraction of background pixels in each patch, from integral images (Crow 1984) of bands of `level`.

    `is_background` maps (h, w, 3) uint8 pixels to (h, w) bool.
    """
    height, width = slide.levels[level].shape[:2]
    tops, bottoms = _spans(grid.origin[0], grid.stride, grid.rows, grid.side, slide.downsamples[level], height)
    lefts, rights = _spans(grid.origin[1], grid.stride, grid.cols, grid.side, slide.downsamples[level], width)
    fractions = np.empty(grid.shape)
    first = 0
    while first < grid.rows:
        # As many rows of cells as fit into a band, but at least one.
        fit = np.searchsorted(bottoms, tops[first] + max(1, _BAND_PX // width), side="right")
        last = max(first + 1, int(fit))
        top, bottom = int(tops[first]), int(bottoms[last - 1])
        integral = np.zeros((bottom - top + 1, width + 1), np.int64)
        np.cumsum(is_background(slide.read(level, top, 0, bottom - top, width)), axis=0, out=integral[1:, 1:])
        np.cumsum(integral, axis=1, out=integral)
        y0, y1 = (tops[first:last] - top)[:, None], (bottoms[first:last] - top)[:, None]
        counts = integral[y1, rights] - integral[y0, rights] - integral[y1, lefts] + integral[y0, lefts]
        fractions[first:last] = counts / ((y1 - y0) * (rights - lefts))
        first = last
    return fractions


def otsu(histogram: np.ndarray) -> int:
    """Threshold between two classes of values: the lowest value of the upper class.

    Parameters
    ----------
    histogram
        (n,) counts of the values 0 … n − 1.

    Maximises the variance between the classes (Otsu, "A threshold selection method from gray-level histograms",
    IEEE Trans. SMC 9, 1979, eq. 18). Ties, as over an empty valley, give the middle; a single value gives itself.
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


def saturation(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 -> (h, w) uint8, HSV saturation (max − min) / max, times 255; black has none."""
    red, green, blue = np.moveaxis(pixels, 2, 0)
    largest = np.maximum(np.maximum(red, green), blue)
    spread = largest - darkest(pixels)
    # Exact in float32: no quotient of two such integers is nearer to the next whole number than 1/255.
    return (np.float32(255) * spread / np.maximum(largest, 1)).astype(np.uint8)


def darkest(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 -> (h, w) uint8, min(R, G, B); an order faster than a minimum along an axis of length 3."""
    return np.minimum(np.minimum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])


def _white(level: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: darkest(pixels) >= level


def _pale(slide: Slide, level: int) -> Callable[[np.ndarray], np.ndarray]:
    """Less saturated than Otsu's threshold over the whole level."""
    histogram = np.zeros(256, np.int64)
    for band in _bands(slide, level):
        histogram += np.bincount(saturation(band).ravel(), minlength=256)
    threshold = max(otsu(histogram), _FAINT)
    return lambda pixels: saturation(pixels) < threshold


def _bands(slide: Slide, level: int) -> Iterator[np.ndarray]:
    height, width = slide.levels[level].shape[:2]
    step = max(1, _BAND_PX // width)
    for top in range(0, height, step):
        yield slide.read(level, top, 0, min(step, height - top), width)


def _level(slide: Slide, side: int) -> int:
    """The finest level of at most `_EXACT_PX`, but not one where a patch of `side` would vanish."""
    level = 0
    while (
        level + 1 < len(slide.levels)
        and slide.levels[level].shape[0] * slide.levels[level].shape[1] > _EXACT_PX
        and side / slide.downsamples[level + 1] >= _SIDE_PX
    ):
        level += 1
    return level


def _spans(
    origin: int, stride: int, count: int, side: int, downsample: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """(count,) first and one-past-last pixel of each patch along one axis of a level, clipped to it, never empty."""
    begins = origin + stride * np.arange(count)
    low = np.clip(np.floor(begins / downsample + 0.5).astype(np.int64), 0, size - 1)
    high = np.clip(np.floor((begins + side) / downsample + 0.5).astype(np.int64), low + 1, size)
    return low, high
