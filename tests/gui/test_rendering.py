"""What is drawn on the canvas: labels lie on their patches to the pixel."""

import numpy as np
import pytest
import tifffile

from napari_distill2label.gui.layers import layers, map_layers
from napari_distill2label.slides.registry import open_slide

SHAPE, MPP, ORIGIN, SIDE, CELL = (180, 240), 0.25, (-6, 5), 32, (3, 4)
ZOOM = 2  # screen pixels per level-0 pixel


def box(mask: np.ndarray) -> list[int]:
    """(top, left, bottom, right) of the True pixels, all of which must be inside it."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    found = [rows[0], cols[0], rows[-1] + 1, cols[-1] + 1]
    assert mask.sum() == (found[2] - found[0]) * (found[3] - found[1])
    return [int(value) for value in found]


@pytest.mark.parametrize("stride", [32, 24, 40])
def test_a_cell_is_drawn_centred_on_its_patch(qtbot, make_napari_viewer, make_patch_map, tmp_path, stride):
    y, x = (start + index * stride for start, index in zip(ORIGIN, CELL, strict=True))
    image = np.zeros((*SHAPE, 3), np.uint8)
    image[y : y + SIDE, x : x + SIDE] = (255, 0, 0)
    path = tmp_path / "slide.ome.tif"
    size = {"PhysicalSizeX": MPP, "PhysicalSizeY": MPP, "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, image, photometric="rgb", tile=(64, 64), metadata={"axes": "YXS", **size})
    grid = {"patch_px": SIDE, "stride_px": stride, "origin": ORIGIN, "mpp": (MPP, MPP)}
    positive = np.zeros(make_patch_map(SHAPE, **grid).patches.shape)
    positive[CELL] = 1
    patch_map = make_patch_map(SHAPE, np.stack([1 - positive, positive], -1), **grid)

    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 900)
    with open_slide(path) as slide:
        shown = layers.add_slide(viewer, slide, "slide")
        map_layers.add_map(viewer, patch_map, slide.mpp, 0.5)
        (labels,) = layers.find(viewer, layers.LABELS)
        viewer.canvas.overlays.scale_bar.visible = False
        labels.opacity = 1
        labels.colormap = {None: "transparent", 0: "transparent", 1: "transparent", 2: (0, 1, 0, 1)}
        # A quarter of a screen pixel aside: no edge falls on the centre of a screen pixel, where rounding decides.
        viewer.scene.camera.zoom = ZOOM / MPP
        viewer.scene.camera.center = (0, *((side / 2 + 0.25 / ZOOM) * MPP for side in SHAPE))
        labels.visible = False
        qtbot.wait(100)  # the slide is fetched for what is in view
        patch = box(viewer.screenshot(flash=False)[..., 0] > 128)
        labels.visible, shown.visible = True, False
        cell = box(viewer.screenshot(flash=False)[..., 1] > 128)
    margin = (SIDE - stride) / 2 * ZOOM
    assert patch[2] - patch[0] == patch[3] - patch[1] == SIDE * ZOOM
    assert cell[2] - cell[0] == cell[3] - cell[1] == stride * ZOOM
    assert np.subtract(cell, patch).tolist() == [margin, margin, -margin, -margin]
    viewer.layers.clear()
