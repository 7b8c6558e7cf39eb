"""One colour per class, the same in napari, in QuPath and in pictures.

The negative class recedes in a grey-green; positive classes take the colour-blind-safe hues of Okabe & Ito (2008),
ordered by how well they stand out on the pinks and purples of H&E.
"""

import colorsys
from collections.abc import Mapping, Sequence

RGB = tuple[int, int, int]

NEGATIVE: RGB = (128, 154, 136)
POSITIVE: tuple[RGB, ...] = (
    (213, 94, 0),  # vermillion
    (0, 114, 178),  # blue
    (240, 228, 66),  # yellow
    (0, 158, 115),  # bluish green
    (86, 180, 233),  # sky blue
    (230, 159, 0),  # orange
    (204, 121, 167),  # reddish purple
)
GOLDEN_RATIO = 0.618033988749895  # steps of it spread any number of hues evenly


def palette(n_classes: int) -> tuple[RGB, ...]:
    """8-bit (r, g, b) of classes 0 … `n_classes` − 1, the negative one first; all different up to dozens of classes."""
    positive = list(POSITIVE[: max(0, n_classes - 1)])
    for extra in range(n_classes - 1 - len(positive)):
        red, green, blue = colorsys.hsv_to_rgb((0.97 + extra * GOLDEN_RATIO) % 1, 0.75, 0.7)
        positive.append((round(255 * red), round(255 * green), round(255 * blue)))
    return (NEGATIVE, *positive)[:n_classes]


def colours_of(classes: Sequence[str], chosen: Mapping[str, RGB] | None = None) -> tuple[RGB, ...]:
    """Of each class the colour a user chose for its name, else the palette's."""
    return tuple((chosen or {}).get(name, rgb) for name, rgb in zip(classes, palette(len(classes)), strict=True))
