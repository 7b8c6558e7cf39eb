"""Draw `docs/images/tissue.png`, a slide with its tissue and its patches: python docs/make_tissue_picture.py"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from napari_distill2label.core.events import drain
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.slides import open_slide
from napari_distill2label.slides.patches import place_patches
from napari_distill2label.slides.regions import polygons_from_mask
from napari_distill2label.slides.synthetic import draw_slide
from napari_distill2label.slides.tissue import segment_tissue

PICTURE = Path(__file__).parent / "images" / "tissue.png"
SHAPE = (560, 700)  # px
GRID = PatchSettings(patch_px=28, tissue="otsu")
GREEN, GAP = (0, 158, 115), 12


def main() -> None:
    """The slide; what the rule takes for tissue, outlined; the patches that are left of the grid."""
    image = draw_slide(4, True, SHAPE).image.copy()
    image[:, -50:] = (6, 5, 8)  # a scanner's border
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(image).save(Path(folder) / "slide.png")
        with open_slide(Path(folder) / "slide.png") as slide:
            mask = drain(segment_tissue(slide, GRID))
            patches = place_patches(slide, GRID)
    outlined, cut = (Image.fromarray(image) for _ in range(2))
    draw = ImageDraw.Draw(outlined)
    for polygon in polygons_from_mask(mask):
        for ring in (polygon.exterior, *polygon.interiors):
            draw.line(list(ring.coords), fill=GREEN, width=3)
    draw = ImageDraw.Draw(cut)
    for y, x in patches.corners.tolist():
        draw.rectangle((x, y, x + patches.side, y + patches.side), outline=GREEN, width=2)
    panels = [np.asarray(panel) for panel in (Image.fromarray(image), outlined, cut)]
    white = np.full((SHAPE[0], GAP, 3), 255, np.uint8)
    whole = Image.fromarray(np.hstack([panels[0], white, panels[1], white, panels[2]]))
    whole.resize((whole.width // 2, whole.height // 2), Image.Resampling.LANCZOS).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
