"""Pictures that show the same: a copy that was turned, mirrored, made smaller or brighter, or saved again.

Small grey pictures are correlated. A perceptual hash of 64 bits, as ImageHash computes, is such a picture with one bit
a pixel: it knows no turned copies, and round cores of tissue on white are alike to it.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .preview import SlidePreview

COARSE, FINE = 16, 32  # px: sides of the squares that pictures are squeezed into
LIKE = (
    0.9  # correlation of whole pictures: of copies about 0.99, of others of one cohort at most 0.78, or of cores 0.98
)
LIKE_INSIDE = 0.8  # of the tissue alone: of copies about 0.95, of others that lie alike at most 0.5
SHAPES_DIFFER = 0.04  # two ratios of the sides differ by this share at most: pictures have whole pixels
FLAT = 2.0  # grey levels: a standard deviation below it is noise of an empty picture
WHITE = 0.92  # of the brightest: background, which is alike in all slides
LEAST_TISSUE = 0.02  # of the picture: of less there is nothing to compare
SAME_PLACE = 0.6  # of the tissue of either has to be tissue of both
BLOCK = 512  # pictures that are compared at once with all others


@dataclass(frozen=True, eq=False)
class GreyPicture:
    """A grey picture of a slide, (32, 32) float32 in 0–255, and height / width."""

    grey: np.ndarray
    ratio: float


def grey_picture(preview: SlidePreview) -> GreyPicture | None:
    """Return the grey picture of a slide. None where there is no preview of it, or an empty one."""
    from PIL import Image

    if preview.picture is None or preview.shape is None:
        return None
    image = Image.fromarray(preview.picture).convert("L").resize((FINE, FINE), Image.Resampling.BOX)
    grey = np.asarray(image, np.float32)
    return None if grey.std() < FLAT else GreyPicture(grey, preview.shape[0] / preview.shape[1])


def same_pictures(pictures: Sequence[GreyPicture]) -> Generator[None, None, list[tuple[int, int]]]:
    """Return the pairs (i, j), i < j, that show the same. It pauses after each block.

    Two pictures are compared in all eight positions, as 16 × 16 px first; those that are alike so as 32 × 32 px. Where
    there is background, the tissue has to be alike by itself.
    """
    found: set[tuple[int, int]] = set()
    if len(pictures) < 2:
        return []
    grey = np.stack([_coarse(picture.grey) for picture in pictures])
    ratios = np.log([picture.ratio for picture in pictures])
    for number, turned in enumerate(_positions(grey)):
        ratio = -ratios if number % 4 >= 2 else ratios  # on its side
        for start in range(0, len(grey), BLOCK):
            yield
            block, others = grey[start : start + BLOCK], turned[start:]
            like = np.abs(ratios[start : start + BLOCK, None] - ratio[None, start:]) <= SHAPES_DIFFER
            like &= _unit(block) @ _unit(others).T >= LIKE
            np.fill_diagonal(like, False)
            if like.any():
                like &= _inside(block, others) >= LIKE_INSIDE
            for i, j in np.argwhere(like) + start:
                pair = (int(i), int(j))
                if i < j and pair not in found and _is_same(pictures[i].grey, pictures[j].grey, number):
                    found.add(pair)
    return sorted(found)


def _coarse(grey: np.ndarray) -> np.ndarray:
    small: np.ndarray = grey.reshape(COARSE, FINE // COARSE, COARSE, FINE // COARSE).mean((1, 3))
    return small


def _positions(pictures: np.ndarray) -> Iterator[np.ndarray]:
    """Yield (…, side, side) in all eight positions. The third and fourth, seventh and eighth lie on their side."""
    for mirrored in (pictures, pictures[..., ::-1]):
        for turns in (0, 2, 1, 3):
            yield np.rot90(mirrored, turns, (-2, -1))


def _unit(pictures: np.ndarray) -> np.ndarray:
    """Return (n, pixels) of mean 0 and length 1: their products are correlations."""
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(1, keepdims=True)
    unit: np.ndarray = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return unit


def _inside(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return (n, m) correlations of the pixels that are tissue in both."""
    one, other = _tissue(ones), _tissue(others)
    x, y = (ones.reshape(len(ones), -1) / 256) * one, (others.reshape(len(others), -1) / 256) * other
    n = np.maximum(one @ other.T, 1)
    x_mean, y_mean = x @ other.T / n, one @ y.T / n
    spread = (x * x @ other.T / n - x_mean**2) * (one @ (y * y).T / n - y_mean**2)
    correlation: np.ndarray = (x @ y.T / n - x_mean * y_mean) / np.sqrt(np.maximum(spread, 1e-12))
    return correlation


def _tissue(pictures: np.ndarray) -> np.ndarray:
    """Return (n, pixels) float32: 1 where there is tissue."""
    flat = pictures.reshape(len(pictures), -1)
    tissue: np.ndarray = (flat < WHITE * flat.max(1, keepdims=True)).astype(np.float32)
    return tissue


def _is_same(one: np.ndarray, other: np.ndarray, position: int) -> bool:
    """Whether two pictures show the same where both have tissue, with the other one in this position."""
    ones, others = one[None], np.ascontiguousarray(list(_positions(other))[position])[None]
    in_one, in_other = _tissue(ones) > 0, _tissue(others) > 0
    both, either = (in_one & in_other).sum(), (in_one | in_other).sum()
    if both < LEAST_TISSUE * one.size or both < SAME_PLACE * either:
        return False
    return bool((_unit(ones) @ _unit(others).T >= LIKE).all() and (_inside(ones, others) >= LIKE_INSIDE).all())
