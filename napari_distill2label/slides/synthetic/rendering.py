"""Paint H&E-like tissue with numpy: stains as optical densities, noise, fibres, nuclei.

A pixel is 255 · exp(−(H · h + E · e)) (Beer–Lambert; Ruifrok & Johnston, Anal Quant Cytol Histol 23, 2001), where H
and E are the amounts of haematoxylin and eosin there and h, e their absorption in red, green and blue.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.10, 0.95, 0.28])

Shape = tuple[int, int]

# Haematoxylin of normal nuclei. Dense nuclei are small. Histiocytes are as large as tumour nuclei, but smooth and pale.
_CHROMATIN = {"lymphocyte": 1.3, "fibroblast": 1.0, "epithelial": 0.84, "histiocyte": 0.66}


@dataclass(frozen=True)
class Canvas:
    """Amounts of stain, (h, w) float32 each, painted in place."""

    haematoxylin: np.ndarray
    eosin: np.ndarray

    def cover(
        self, where: tuple[slice, slice], alpha: np.ndarray, haematoxylin: np.ndarray | float, eosin: np.ndarray | float
    ) -> None:
        """Paint the given stains over a window, opaque where `alpha` is 1."""
        for plane, amount in ((self.haematoxylin, haematoxylin), (self.eosin, eosin)):
            plane[where] += alpha * (amount - plane[where])


def noise(rng: np.random.Generator, shape: Shape, scale: float, octaves: int = 1) -> np.ndarray:
    """Return smooth noise (h, w) float32, mean 0, standard deviation 1, with features of about `scale` px and finer."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        step = max(1.0, scale / 2**octave)
        coarse = rng.standard_normal([int(size / step) + 4 for size in shape]).astype(np.float32)
        box = (1, 1, 1 + shape[1] / step, 1 + shape[0] / step)
        fine = Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC, box=box)
        total += np.asarray(fine) / 2**octave
    even: np.ndarray = (total - total.mean()) / (total.std() + 1e-6)
    return even


def fibres(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Return wavy bundles (h, w) float32 around 0: noise stretched along a slowly varying direction."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle) + 14 * noise(rng, shape, 70)
    across = y * np.cos(angle) - x * np.sin(angle) + 16 * noise(rng, shape, 90) + 1.2 * noise(rng, shape, 14)
    table = noise(rng, (512, 512), 6)
    bundles = noise(rng, (512, 512), 5)
    rows, cols = _mirrored(across * 2.2), np.floor(along * 0.16)
    fraction = along * 0.16 - cols
    near, far = table[rows, _mirrored(cols)], table[rows, _mirrored(cols + 1)]
    fine = near + fraction * (far - near)
    bundled: np.ndarray = 0.6 * fine + 0.4 * bundles[_mirrored(across * 0.5), _mirrored(along * 0.05)]
    return bundled


def _mirrored(values: np.ndarray) -> np.ndarray:
    """Fold whole numbers into 0 … 511 without a seam."""
    folded: np.ndarray = np.abs(np.floor(values).astype(np.int64) % 1022 - 511)
    return folded


def smooth_step(values: np.ndarray, width: float) -> np.ndarray:
    """Return 0 below −width, 1 above width, and a smooth transition in between."""
    t = np.clip(values / (2 * width) + 0.5, 0, 1)
    smooth: np.ndarray = t * t * (3 - 2 * t)
    return smooth


@dataclass(frozen=True)
class Nucleus:
    """One nucleus: position, half axes (px), angle of the long one, and kind of look."""

    y: float
    x: float
    long: float
    short: float
    angle: float
    look: str  # a key of `_CHROMATIN`, or "tumour"


def paint_nucleus(canvas: Canvas, nucleus: Nucleus, grain: np.ndarray, rng: np.random.Generator) -> None:
    """Paint a nucleus; `grain` (h, w) is fine noise, the clumps of its chromatin."""
    window, y, x = _window(canvas.eosin.shape, nucleus, nucleus.long * 1.3 + 3)
    if y.size == 0:
        return
    u = (x * np.cos(nucleus.angle) + y * np.sin(nucleus.angle)) / nucleus.long
    v = (y * np.cos(nucleus.angle) - x * np.sin(nucleus.angle)) / nucleus.short
    tumour = nucleus.look == "tumour"
    if nucleus.look == "fibroblast":
        v = v + 0.5 * rng.uniform(-1, 1) * (u * u - 0.3)  # bent
        radius = np.sqrt(u * u + v * v) + 0.25 * u**4  # and pointed
    else:
        phi = np.arctan2(v, u)
        wobble = sum(
            rng.normal(0, (0.13 if tumour else 0.05) / order) * np.cos(order * phi + rng.uniform(0, 6.3))
            for order in (2, 3, 4, 5)
        )
        radius = np.sqrt(u * u + v * v) * (1 + wobble)
    depth = (1 - radius) * nucleus.short  # px inside the outline
    alpha = smooth_step(depth, 0.9)
    clumps = grain[window]
    if tumour:
        # Vesicular: cleared chromatin, a crisp membrane with clumps on it, one or two nucleoli.
        density = rng.uniform(0.42, 0.62) + 0.10 * clumps + (0.42 + 0.12 * clumps) * np.exp(-((depth - 0.6) ** 2) / 1.6)
        for _ in range(1 if rng.random() < 0.65 else 2):
            at, turn = 0.42 * np.sqrt(rng.random()), rng.uniform(0, 6.3)
            distance = ((u - at * np.cos(turn)) * nucleus.long) ** 2 + ((v - at * np.sin(turn)) * nucleus.short) ** 2
            density = density + rng.uniform(0.75, 1.05) * np.exp(-distance / (2 * rng.uniform(1.3, 1.9) ** 2))
        canvas.cover(window, 0.94 * alpha, density, 0.22)
        return
    base = _CHROMATIN[nucleus.look] * rng.normal(1, 0.08)
    rim = 0.12 * np.exp(-((depth - 0.8) ** 2) / 2)
    canvas.cover(window, 0.95 * alpha, base + 0.14 * clumps + rim, 0.2)


def paint_cytoplasm(canvas: Canvas, nucleus: Nucleus, radius: float, haematoxylin: float, eosin: float) -> None:
    """Paint a soft disc around a nucleus."""
    window, y, x = _window(canvas.eosin.shape, nucleus, radius + 3)
    alpha = 0.75 * smooth_step(radius - np.sqrt(y * y + x * x), 3.0)
    canvas.cover(window, alpha, haematoxylin, eosin)


def paint_red_cell(canvas: Canvas, y: float, x: float, rng: np.random.Generator) -> None:
    """Paint a red blood cell: eosin only, a little paler in its middle."""
    radius = rng.uniform(5.2, 6.2)
    window, dy, dx = _window(canvas.eosin.shape, Nucleus(y, x, radius, radius, 0, "red cell"), radius + 3)
    far = np.sqrt(dy * dy + dx * dx)
    canvas.cover(window, smooth_step(radius - far, 0.8), 0.0, 0.62 + 0.16 * np.minimum(far / radius, 1))


def _window(shape: Shape, nucleus: Nucleus, reach: float) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Return the part of the canvas within `reach` of a nucleus, and its y (h, 1), x (1, w) from the centre."""
    spans = [
        (max(0, int(at - reach)), min(size, int(at + reach) + 2))
        for at, size in zip((nucleus.y, nucleus.x), shape, strict=True)
    ]
    (y0, y1), (x0, x1) = spans
    y = np.arange(y0, y1, dtype=np.float32)[:, None] - nucleus.y
    x = np.arange(x0, x1, dtype=np.float32)[None, :] - nucleus.x
    return (slice(y0, y1), slice(x0, x1)), y, x


def render(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Render (h, w, 3) uint8 as a scanner would: the slide's own stain and light, a little blur and noise."""
    strength = np.clip(rng.normal(1, 0.12, 2), 0.7, 1.3)
    h_vector = np.abs(HAEMATOXYLIN * rng.normal(1, 0.05, 3)) * strength[0]
    e_vector = np.abs(EOSIN * rng.normal(1, 0.06, 3)) * strength[1]
    glass = np.array([243, 242, 244]) + rng.uniform(-4, 6, 3)
    density = np.stack([canvas.haematoxylin, canvas.eosin], axis=2) @ np.stack([h_vector, e_vector]).astype(np.float32)
    image = Image.fromarray((glass.astype(np.float32) * np.exp(-density)).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.55, 0.9)))
    speckle = rng.standard_normal(canvas.eosin.shape, np.float32)[..., None] * 1.6
    speckle = speckle + rng.standard_normal((*canvas.eosin.shape, 3), np.float32) * 1.3
    pixels: np.ndarray = np.clip(np.asarray(image) + speckle, 0, 255)
    return pixels.astype(np.uint8)
