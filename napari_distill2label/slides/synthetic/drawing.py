"""Draw H&E-like slides with a known ground truth, for the demo, napari's sample data and the tests. No downloads.

Every slide has glass, fibrous stroma, vessels, lymphocytes, fibroblasts, histiocytes and benign glands. Positive slides
also have nests and glands of tumour: large, pale, irregular nuclei with a nucleolus, 10–40 % of all. Neither glands
nor crowding nor the size of a nucleus alone tell the two apart.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .rendering import (
    Canvas,
    Nucleus,
    fibres,
    noise,
    paint_cytoplasm,
    paint_nucleus,
    paint_red_cell,
    render,
    smooth_step,
)

MPP = 0.5  # µm/px of every synthetic slide
KINDS = ("normal", "tumour")

_MIN_DISTANCE = 10.0  # px between the centres of any two nuclei


@dataclass(frozen=True, eq=False)
class SyntheticSlide:
    """A drawn slide and its ground truth.

    Attributes
    ----------
    image
        (h, w, 3) uint8 at `MPP` µm/px.
    centres
        (n, 2) float, (y, x) of every nucleus in pixels, 0-based.
    kinds
        (n,) str, "normal" or "tumour".
    """

    image: np.ndarray
    centres: np.ndarray
    kinds: np.ndarray


class NucleusPlacer:
    """Places nuclei so that no two overlap and none lies on glass. Placed nuclei are hashed by position."""

    _CELL = 32

    def __init__(self, tissue: np.ndarray) -> None:
        self.tissue = tissue.copy()  # lumens are removed from it
        self.nuclei: list[Nucleus] = []
        self._structures: list[tuple[float, float, float]] = []
        self._cells: dict[tuple[int, int], list[Nucleus]] = {}

    def add(self, nucleus: Nucleus, room: float = 1.0) -> bool:
        """Place a nucleus and return True, unless it lies on glass or within `room` half axes of another nucleus."""
        y, x = nucleus.y, nucleus.x
        height, width = self.tissue.shape
        if not (0 <= y < height - 1 and 0 <= x < width - 1) or self.tissue[round(y), round(x)] < 0.8:
            return False
        row, col = int(y) // self._CELL, int(x) // self._CELL
        for near in ((row + i, col + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
            for other in self._cells.get(near, ()):
                reach = room * (_reach(nucleus) + _reach(other))
                if (other.y - y) ** 2 + (other.x - x) ** 2 < max(reach, _MIN_DISTANCE) ** 2:
                    return False
        self._cells.setdefault((row, col), []).append(nucleus)
        self.nuclei.append(nucleus)
        return True

    def hollow(self, y: float, x: float, radius: float) -> None:
        """Exclude nuclei from this disc."""
        top, left = (max(0, int(at - radius)) for at in (y, x))
        part = self.tissue[top : int(y + radius) + 2, left : int(x + radius) + 2]
        rows, cols = np.ogrid[: part.shape[0], : part.shape[1]]
        part[(rows + top - y) ** 2 + (cols + left - x) ** 2 < radius**2] = 0

    def site(self, rng: np.random.Generator, radius: float) -> tuple[float, float] | None:
        """Return a point in tissue for a structure of `radius` px, apart from others; None if none is found."""
        height, width = self.tissue.shape
        for _ in range(60):
            y, x = rng.uniform(0.05, 0.95) * height, rng.uniform(0.05, 0.95) * width
            around = self.tissue[max(0, int(y - radius)) : int(y + radius), max(0, int(x - radius)) : int(x + radius)]
            apart = all(np.hypot(y - b, x - a) > radius + reach for b, a, reach in self._structures)
            if apart and around.mean() > 0.93:
                self._structures.append((y, x, radius))
                return y, x
        return None


def _reach(nucleus: Nucleus) -> float:
    return 0.5 * (nucleus.long + nucleus.short)


def draw_slide(seed: int, positive: bool, shape: tuple[int, int] = (512, 512)) -> SyntheticSlide:
    """Draw a slide of `shape` (height, width) px, at least 64 each. The same seed gives the same bytes."""
    if min(shape) < 64:
        raise ValueError(f"a synthetic slide has at least 64 × 64 px, got {shape}")
    rng = np.random.default_rng([seed, int(positive)])
    tissue = _tissue(rng, shape)
    placer = NucleusPlacer(tissue)
    canvas = _stroma(rng, tissue)
    area = tissue.size / 512**2
    if positive:
        for _ in range(max(1, round(area * rng.integers(2, 5)))):
            _tumour(rng, canvas, placer)
        places = np.argwhere(tissue > 0.9)
        while not placer.nuclei:  # a small slide has no space for a nest, but must be positive
            placer.add(_tumour_nucleus(rng, *places[rng.integers(len(places))].astype(float)))
    for _ in range(round(area * rng.integers(1, 3))):
        _benign_gland(rng, canvas, placer)
    for _ in range(round(area * rng.integers(1, 3))):
        _vessel(rng, canvas, placer)
    _stromal_cells(rng, placer, round(area * rng.integers(280, 360)))
    grain = noise(rng, shape, 2.6)
    for nucleus in placer.nuclei:
        paint_nucleus(canvas, nucleus, grain, rng)
    centres = np.array([(nucleus.y, nucleus.x) for nucleus in placer.nuclei]).reshape(-1, 2)
    kinds = np.array([KINDS[nucleus.look == "tumour"] for nucleus in placer.nuclei], dtype="<U6")
    return SyntheticSlide(render(canvas, rng), centres, kinds)


def _tissue(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return (h, w) float32, 1 in tissue and 0 on glass, with a ragged edge on one side and a few clefts."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    size = min(shape)
    inward = (y - shape[0] / 2) * np.sin(angle) + (x - shape[1] / 2) * np.cos(angle) + size * rng.uniform(0.2, 0.36)
    edge = inward + 0.045 * size * noise(rng, shape, size / 4, 4)
    clefts = np.abs(noise(rng, shape, 90, 3)) * 22 - 1.2 + 30 * (noise(rng, shape, 120) < 0.9)
    return smooth_step(np.minimum(edge, clefts), 2.5)


def _stroma(rng: np.random.Generator, tissue: np.ndarray) -> Canvas:
    """Paint pink fibrous stroma of varying density."""
    shape = tissue.shape
    dense = 0.34 + 0.05 * noise(rng, shape, 60, 3) + 0.11 * fibres(rng, shape)
    loose = smooth_step(noise(rng, shape, 110, 2) - 0.7, 0.6)
    eosin = np.clip(dense * (1 - 0.45 * loose), 0.04, 0.95) * tissue
    haematoxylin = np.clip(0.075 + 0.02 * noise(rng, shape, 25, 2), 0.0, 0.3) * tissue
    return Canvas(haematoxylin.astype(np.float32), eosin.astype(np.float32))


def _tumour_nucleus(rng: np.random.Generator, y: float, x: float, angle: float | None = None) -> Nucleus:
    short = rng.uniform(5.9, 8.7)
    turn = rng.uniform(0, np.pi) if angle is None else angle + rng.normal(0, 0.25)
    return Nucleus(y, x, short * rng.uniform(1.05, 1.5), short, turn, "tumour")


def _epithelial_nucleus(rng: np.random.Generator, y: float, x: float, angle: float) -> Nucleus:
    short = rng.uniform(3.9, 4.8)
    return Nucleus(y, x, short * rng.uniform(1.2, 1.6), short, angle + rng.normal(0, 0.15), "epithelial")


def _tumour(rng: np.random.Generator, canvas: Canvas, placer: NucleusPlacer) -> None:
    """Paint a solid nest, or a gland with a lumen and crowded nuclei around it."""
    site = placer.site(rng, 48)
    if site is None:
        return
    y, x = site
    placed: list[Nucleus] = []
    if rng.random() < 0.45:
        lumen = rng.uniform(9, 20)
        _lumen(rng, canvas, placer, y, x, lumen)
        placed += _ring(rng, placer, y, x, lumen + 15, _tumour_nucleus, 19)
        placed += _ring(rng, placer, y, x, lumen + 33, _tumour_nucleus, 24)
    else:
        spread = rng.uniform(22, 42, 2)
        for _ in range(int(spread[0] * spread[1] / 16)):
            nucleus = _tumour_nucleus(rng, *(np.array([y, x]) + rng.normal(0, 0.75, 2) * spread))
            if placer.add(nucleus, room=0.98):
                placed.append(nucleus)
    for nucleus in placed:
        paint_cytoplasm(canvas, nucleus, _reach(nucleus) + rng.uniform(5, 8), rng.uniform(0.15, 0.22), 0.3)


def _benign_gland(rng: np.random.Generator, canvas: Canvas, placer: NucleusPlacer) -> None:
    """Paint a round lumen, pale columnar cells and small regular nuclei at their base."""
    site = placer.site(rng, 38)
    if site is None:
        return
    y, x = site
    lumen = rng.uniform(8, 18)
    base = lumen + rng.uniform(13, 18)
    gland = Nucleus(y, x, base, base, 0.0, "epithelial")
    paint_cytoplasm(canvas, gland, base + 6, rng.uniform(0.1, 0.2), rng.uniform(0.2, 0.3))
    _lumen(rng, canvas, placer, y, x, lumen)
    _ring(rng, placer, y, x, base, _epithelial_nucleus, 10.5)


def _ring(
    rng: np.random.Generator,
    placer: NucleusPlacer,
    y: float,
    x: float,
    radius: float,
    make: Callable[[np.random.Generator, float, float, float], Nucleus],
    spacing: float,
) -> list[Nucleus]:
    """Place nuclei around a point, with their long axes towards it."""
    placed = []
    start = rng.uniform(0, 2 * np.pi)
    for angle in start + np.arange(0, 2 * np.pi - spacing / radius / 2, spacing / radius):
        far = radius + rng.normal(0, 1.3)
        nucleus = make(rng, y + far * np.sin(angle), x + far * np.cos(angle), angle)
        if placer.add(nucleus, room=0.9):
            placed.append(nucleus)
    return placed


def _vessel(rng: np.random.Generator, canvas: Canvas, placer: NucleusPlacer) -> None:
    """Paint a capillary: flat endothelium around red blood cells."""
    site = placer.site(rng, 30)
    if site is None:
        return
    (y, x), radius = site, rng.uniform(11, 19)
    _lumen(rng, canvas, placer, y, x, radius)
    for _ in range(int(radius / 2)):
        angle, far = rng.uniform(0, 2 * np.pi), (radius - 5) * np.sqrt(rng.random())
        paint_red_cell(canvas, y + far * np.sin(angle), x + far * np.cos(angle), rng)

    def endothelium(rng: np.random.Generator, y: float, x: float, angle: float) -> Nucleus:
        return Nucleus(y, x, rng.uniform(7, 9), rng.uniform(1.9, 2.5), angle + np.pi / 2, "fibroblast")

    _ring(rng, placer, y, x, radius + 5, endothelium, 26)


def _lumen(rng: np.random.Generator, canvas: Canvas, placer: NucleusPlacer, y: float, x: float, radius: float) -> None:
    """Paint a lumen: nearly empty, with a little mucus."""
    placer.hollow(y, x, radius + 2)
    for _ in range(3):
        off = rng.normal(0, radius / 5, 2)
        disc = Nucleus(y + off[0], x + off[1], radius, radius, 0.0, "epithelial")
        paint_cytoplasm(canvas, disc, radius, 0.03, 0.05)


def _stromal_cells(rng: np.random.Generator, placer: NucleusPlacer, count: int) -> None:
    """Place fibroblasts and lymphocytes all over the stroma, and lymphocytes in aggregates."""
    height, width = placer.tissue.shape
    flow = rng.uniform(0, np.pi) + 0.5 * noise(rng, placer.tissue.shape, 120)
    area = placer.tissue.size / 512**2
    foci = [rng.uniform(0.1, 0.9, 2) * placer.tissue.shape for _ in range(max(1, round(area * rng.integers(1, 4))))]
    for _ in range(count):
        y, x = rng.uniform(0, height - 1), rng.uniform(0, width - 1)
        kind = rng.random()
        if kind < 0.35:
            y, x = foci[rng.integers(len(foci))] + rng.normal(0, 26, 2)
        if kind < 0.6:
            short = rng.uniform(4.2, 5.4)
            nucleus = Nucleus(y, x, short * rng.uniform(1.0, 1.15), short, rng.uniform(0, np.pi), "lymphocyte")
        else:
            angle = flow[int(np.clip(y, 0, height - 1)), int(np.clip(x, 0, width - 1))]
            short, look = rng.uniform(2.3, 3.4), "fibroblast"
            if kind > 0.85:
                short, look = rng.uniform(4.6, 6.4), "histiocyte"
            long = rng.uniform(8, 12) if look == "fibroblast" else short * rng.uniform(1.2, 1.7)
            nucleus = Nucleus(y, x, long, short, angle + rng.normal(0, 0.2), look)
        placer.add(nucleus, room=1.05)
