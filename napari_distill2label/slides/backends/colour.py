"""Conversion to RGB on white: transparency, CMYK inks, and brightness with two colour differences."""

import numpy as np

_ROWS = 256  # rows that are converted at once: the computation needs several times the memory of the pixels


def on_white(colours: np.ndarray, alpha: np.ndarray, premultiplied: bool = False) -> np.ndarray:
    """Return colours (…, 3 or 1) of opacity `alpha` (…, 1) as they look on white; all uint8.

    `premultiplied`: the colours have been multiplied by the opacity already (TIFF's "associated alpha").
    """
    opacity = alpha.astype(np.uint16)
    shown = colours.astype(np.uint16) if premultiplied else (colours * opacity + 127) // 255
    light: np.ndarray = np.minimum(shown + (255 - opacity), 255)
    return light.astype(np.uint8)


def from_cmyk(inks: np.ndarray) -> np.ndarray:
    """Convert (h, w, 4) uint8 cyan, magenta, yellow and black, 255 = full ink, to (h, w, 3) uint8 R, G, B.

    The formula is (1 − ink) (1 − black), as in Pillow and libtiff. No file states the colours of a printing press.
    """
    light = 255 - inks.astype(np.uint16)
    return ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)


def from_ycbcr(
    pixels: np.ndarray,
    luma: tuple[float, float, float] = (0.299, 0.587, 0.114),
    reference: tuple[float, ...] = (0, 255, 128, 255, 128, 255),
) -> np.ndarray:
    """Convert (h, w, 3) uint8 Y, Cb, Cr to R, G, B by the formulas of TIFF 6.0, section 21.

    `luma` are the file's YCbCrCoefficients, `reference` its ReferenceBlackWhite.
    """
    red, green, blue = luma
    out = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), _ROWS):
        part = pixels[top : top + _ROWS].astype(np.float32)
        y, cb, cr = (
            (part[..., i] - reference[2 * i]) * (full / (reference[2 * i + 1] - reference[2 * i]))
            for i, full in enumerate((255, 127, 127))
        )
        r, b = y + cr * (2 - 2 * red), y + cb * (2 - 2 * blue)
        g = (y - red * r - blue * b) / green
        out[top : top + _ROWS] = np.clip(np.stack([r, g, b], axis=-1) + 0.5, 0, 255)
    return out
