"""A picture for a report: labels over an overview of the slide, with a legend.

Unscored parts show the slide unchanged. Findings are drawn stronger than the negative class, and regions of one class
share an outline, so that they stand out.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from ..core.classes import RGB, colours_of
from ..core.geometry import Mpp, PatchGrid, PatchPoints
from ..core.text import printable
from ..store.files.atomic import Writing, atomic_path
from .mask import Mask

LONGEST = 2048  # px, longer side of the overview
AT_ONCE = 2048  # px; side of the square of a level that is read at once
BAND = 256  # px; rows of the picture that are coloured at once
SMALLEST = 1024  # px: smaller slides are enlarged by a whole factor, so that cells and legend are legible
FINDING_ALPHA, NEGATIVE_ALPHA, OUTLINE_ALPHA = 0.38, 0.22, 0.9
INK: RGB = (38, 43, 48)
PALE: RGB = (118, 126, 134)
NOTE = "Patch labels inferred from slide labels · for research use only"


def write_picture(
    path: str | Path,
    labels: np.ndarray,
    patches: PatchGrid | PatchPoints,
    names: Mapping[int, str],
    slide: Any = None,
    title: str = "",
    threshold: float | None = None,
    mpp: Mpp | None = None,
    chosen: Mapping[str, RGB] | None = None,
    about: Mapping[str, object] | None = None,
    writing: Writing = atomic_path,
) -> Path:
    """Draw `labels` (uint8 of `patches.shape`) over the slide and write a PNG.

    Parameters
    ----------
    names
        What the values mean, as in {0: "not scored", 1: "normal", 2: "metastasis"}.
    slide
        An open `Slide`. None: the labels lie on white.
    title, threshold
        Named in the legend.
    mpp
        (y, x) µm per pixel of level 0, for a scale bar.
    chosen
        Colours of classes by name, where they are not the palette's.
    about
        Where the labels come from (`exporters.provenance`): a text of the file.
    """
    picture = draw_picture(labels, patches, names, slide, title, threshold, mpp, chosen)
    with writing(path) as temporary:
        # Runs alone: of pictures of tissue a fifth of the time of `compress_level=6`, and no larger.
        picture.save(
            temporary, format="PNG", compress_level=1, compress_type=zlib.Z_RLE, pnginfo=texts_of(provenance=about)
        )
    return Path(path)


def texts_of(**texts: object) -> PngInfo:
    """Return texts that a PNG holds, each as JSON; None is left out."""
    found = PngInfo()
    for name, value in texts.items():
        if value is not None:
            found.add_text(name, json.dumps(value))
    return found


def draw_picture(
    labels: np.ndarray,
    patches: PatchGrid | PatchPoints,
    names: Mapping[int, str],
    slide: Any = None,
    title: str = "",
    threshold: float | None = None,
    mpp: Mpp | None = None,
    chosen: Mapping[str, RGB] | None = None,
) -> Image.Image:
    """The picture `write_picture` writes."""
    height, width = patches.slide_shape
    scale = LONGEST / max(height, width)
    if scale > 1:
        scale = min(max(1, round(SMALLEST / max(height, width))), int(scale))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = overview(slide, size) if slide is not None else Image.new("RGB", size, "white")
    colours = colours_of([names.get(value, "") for value in range(1, max(names) + 1)], chosen)
    if isinstance(patches, PatchGrid):
        picture = _over_cells(picture, labels, patches, colours)
    else:
        picture = _over_points(picture, labels, patches, colours, scale)
    um_per_px = None if mpp is None else mpp[1] / scale
    return _with_legend(picture, labels, names, colours, title, threshold, um_per_px)


def overview(slide: Any, size: tuple[int, int]) -> Image.Image:
    """The whole slide as an RGB picture of `size` (width, height), from the smallest level that has the detail."""
    width, height = size
    level = max((index for index, (h, w) in enumerate(slide.level_shapes) if h >= height and w >= width), default=0)
    pixels = _means(slide, level, max(1, min(np.floor_divide(slide.level_shapes[level], (height, width)))))
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _means(slide: Any, level: int, step: int) -> np.ndarray:
    """Means of step × step pixels of a level, square by square: never the whole level. Pixels left over are dropped."""
    height, width = slide.level_shapes[level]
    if step == 1:
        return np.asarray(slide.read(level, 0, 0, height, width))
    means = np.empty((height // step, width // step, 3), np.uint8)
    side = max(1, AT_ONCE // step)
    for top in range(0, means.shape[0], side):
        for left in range(0, means.shape[1], side):
            here = means[top : top + side, left : left + side]
            pixels = slide.read(level, top * step, left * step, here.shape[0] * step, here.shape[1] * step)
            squares = pixels.reshape(here.shape[0], step, here.shape[1], step, 3)
            here[:] = squares.mean((1, 3)).round()
    return means


def _over_cells(picture: Image.Image, labels: np.ndarray, grid: PatchGrid, colours: tuple[RGB, ...]) -> Image.Image:
    width, height = picture.size
    ys = ((np.arange(height) + 0.5) * grid.slide_shape[0] / height).astype(np.int64)
    xs = ((np.arange(width) + 0.5) * grid.slide_shape[1] / width).astype(np.int64)
    shown = Mask(labels, grid).at(ys, xs)
    lookup = np.array([(0, 0, 0), *colours], np.float32)
    alpha = np.full(len(lookup), FINDING_ALPHA, np.float32)
    alpha[:2] = 0, NEGATIVE_ALPHA
    opacity = alpha[shown]
    opacity[_outline(shown, max(1, round(max(width, height) / 1000)))] = OUTLINE_ALPHA
    pixels = np.array(picture)
    for top in range(0, height, BAND):  # colours as floating-point numbers take twelve bytes a pixel
        band = slice(top, top + BAND)
        tissue = pixels[band].astype(np.float32)
        pixels[band] = tissue + (lookup[shown[band]] - tissue) * opacity[band, :, None] + 0.5
    return Image.fromarray(pixels)


def _outline(shown: np.ndarray, thickness: int) -> np.ndarray:
    """bool: pixels of a finding within `thickness` px of another label."""
    near = np.zeros(shown.shape, bool)
    for shift in range(1, thickness + 1):
        down, across = shown[:-shift] != shown[shift:], shown[:, :-shift] != shown[:, shift:]
        near[:-shift] |= down
        near[shift:] |= down
        near[:, :-shift] |= across
        near[:, shift:] |= across
    return near & (shown > 1)


def _over_points(
    picture: Image.Image, labels: np.ndarray, points: PatchPoints, colours: tuple[RGB, ...], scale: float
) -> Image.Image:
    """A dot on each centre, findings on top; drawn twice as large and reduced, which smooths the edges."""
    finer = 2
    dots = Image.new("RGBA", (picture.width * finer, picture.height * finer), (0, 0, 0, 0))
    draw = ImageDraw.Draw(dots)
    radius = finer * float(np.clip(points.side * scale / 5, 2.5, 16))
    rim = max(1, round(radius / 5))
    centres = (points.centres + 0.5) * scale * finer
    for value in np.unique(labels[labels > 0]).tolist():
        fill = (*colours[value - 1], 150 if value == 1 else 225)
        edge = (255, 255, 255, 150 if value == 1 else 255)
        for y, x in centres[labels == value].tolist():
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill, edge, rim)
    dots = dots.resize(picture.size, Image.Resampling.BOX)
    return Image.alpha_composite(picture.convert("RGBA"), dots).convert("RGB")


def _with_legend(
    picture: Image.Image,
    labels: np.ndarray,
    names: Mapping[int, str],
    colours: tuple[RGB, ...],
    title: str,
    threshold: float | None,
    um_per_px: float | None,
) -> Image.Image:
    """The picture above a white bar: title, a swatch and a count per class, how it was made, and a scale bar."""
    title, names = printable(title), {value: printable(name) for value, name in names.items()}  # lines are drawn singly
    unit = max(13, round(picture.width / 62))  # px, height of the text
    font, bold, small = _font(unit), _font(unit, bold=True), _font(round(unit * 0.78))
    margin, line = round(unit * 0.9), round(unit * 1.75)
    scored = int((labels > 0).sum())
    entries: list[tuple[str, RGB | None]] = []
    for value in sorted(set(names) - {0}):
        count = int((labels == value).sum())
        entries.append((f"{names[value]}  {count:,} ({100 * count / max(1, scored):.0f} %)", colours[value - 1]))
    if scored < labels.size:
        entries.append((f"{names.get(0, 'not scored')}  {labels.size - scored:,}", None))

    rows: list[list[tuple[int, str, RGB | None]]] = [[]]
    x = margin
    for text, colour in entries:
        wide = round(unit * 1.5 + font.getlength(text) + unit * 1.6)
        if rows[-1] and x + wide - unit * 1.6 > picture.width - margin:
            rows.append([])
            x = margin
        rows[-1].append((x, text, colour))
        x += wide
    bar = margin * 2 + line * (len(rows) + 1) + round(line * 0.85)
    page = Image.new("RGB", (picture.width, picture.height + bar), "white")
    page.paste(picture, (0, 0))
    draw = ImageDraw.Draw(page)
    draw.line((0, picture.height, picture.width, picture.height), (214, 218, 222), max(1, unit // 12))
    middle = picture.height + margin + line // 2
    room = picture.width - 2 * margin - (picture.width // 4 + margin if um_per_px else 0)
    draw.text((margin, middle), _shorten(title, bold, room), INK, bold, "lm")
    if um_per_px:
        _scale_bar(draw, picture.width - margin, middle, picture.width / 5, um_per_px, unit, small)
    for row in rows:
        middle += line
        for x, text, colour in row:
            _swatch(draw, x, middle, unit, colour)
            draw.text((x + unit * 1.5, middle), text, INK, font, "lm")
    middle += line
    note = NOTE if threshold is None else f"{NOTE} · threshold {threshold:g}"
    draw.text((margin, middle), _shorten(note, small, picture.width - 2 * margin), PALE, small, "lm")
    return page


def _swatch(draw: ImageDraw.ImageDraw, x: float, middle: float, unit: int, colour: RGB | None) -> None:
    box = (x, middle - unit * 0.5, x + unit, middle + unit * 0.5)
    draw.rounded_rectangle(box, unit * 0.2, colour or (255, 255, 255), colour or (176, 182, 188), max(1, unit // 12))


def _scale_bar(
    draw: ImageDraw.ImageDraw, right: float, middle: float, longest: float, um_per_px: float, unit: int, font: Any
) -> None:
    """The longest round length (1, 2, 5 · 10ⁿ µm) of at most `longest` px, against the right margin."""
    power = 10.0 ** np.floor(np.log10(longest * um_per_px))
    length = max(step * power for step in (1, 2, 5) if step * power <= longest * um_per_px)
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    left, y = right - length / um_per_px, middle + unit * 0.35
    thick = max(2, unit // 6)
    draw.rectangle((left, y, right, y + thick), INK)
    draw.text(((left + right) / 2, y - unit * 0.25), text, INK, font, "mb")


def _shorten(text: str, font: Any, room: float) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"


def _font(size: int, bold: bool = False) -> Any:
    """DejaVu where it is installed (it knows most scripts), else the font that comes with Pillow."""
    try:
        return ImageFont.truetype("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf", size)
    except OSError:
        return ImageFont.load_default(size)
