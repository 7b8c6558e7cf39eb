"""What is drawn on the canvas: labels lie on their patches to the pixel."""

import numpy as np
import pytest
import tifffile

from napari_distill2label.gui.canvas import correction_marks as correction_marks
from napari_distill2label.gui.canvas import layers, map_layers
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
    grid = {"size_px": SIDE, "stride_px": stride, "origin": ORIGIN, "mpp": (MPP, MPP)}
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


def test_a_corrected_patch_has_an_edge_and_lets_the_tissue_through(qtbot, make_napari_viewer, make_patch_map):
    shape, cell, grey = (120, 160), (2, 3), 128
    patches = make_patch_map(shape, size_px=40).patches
    known = np.full(patches.shape, -1, np.int8)
    known[cell] = 1
    viewer = make_napari_viewer(show=True)
    tissue = np.full((*shape, 3), grey, np.uint8)
    tissue[::4] = 0  # fine structure
    viewer.add_image(tissue, rgb=True)
    classes = ("normal", "tumour")
    colours = dict(zip(classes, ((0, 255, 0), (255, 0, 0)), strict=True))
    corrections = correction_marks.add_corrections(viewer, "slide", patches, classes, known, None, colours)
    correction_marks.add_outlines(viewer, corrections, patches, known, colours)
    viewer.scene.camera.zoom = 4
    viewer.scene.camera.center = (0, 40 * (cell[0] + 0.5), 40 * (cell[1] + 0.5))
    qtbot.wait(100)
    pixels = viewer.screenshot(flash=False)[..., :3].astype(int)
    red = (pixels == (255, 0, 0)).all(-1)
    white = (pixels == (255, 255, 255)).all(-1)
    # Of 40 px, four times as large: red within white, and both within the cell.
    (top, bottom), (left, right) = ((ends[0], ends[-1]) for ends in (np.flatnonzero(white.any(a)) for a in (1, 0)))
    assert abs(bottom - top - 160) <= 3
    assert abs(right - left - 160) <= 3
    middle = (top + bottom) // 2, (left + right) // 2
    for line in (red[middle[0], left:right], red[top:bottom, middle[1]]):
        assert line[:24].sum() >= 12
        assert line[-24:].sum() >= 12
        assert not line[30:-30].any()
    inside = pixels[top + 40 : bottom - 40, middle[1], 1]  # green is the tissue's, dimmed
    assert inside.max() - inside.min() > grey / 2
    viewer.layers.clear()


@pytest.mark.parametrize("turned", [False, True])
def test_nothing_is_drawn_beyond_the_slide(qtbot, make_napari_viewer, reviewed, make_patch_map, turned):
    """The last row and column of cells lie half beyond a white slide; what is drawn of them ends with it."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 900)
    session, viewer, _ = reviewed(viewer)  # 120 × 160 px
    session.project.take_maps([make_patch_map((120, 160), np.full((3, 4, 2), (0.1, 0.9)), size_px=45)])
    qtbot.waitUntil(lambda: bool(layers.find(viewer, layers.OUTLINES)) and not session.display.busy, timeout=60_000)
    session.correct("tumour", (2, 3))
    session.correct("normal", (1, 3))
    session.canvas.corrections.choose((2, 2))
    (slide,) = layers.find(viewer, layers.SLIDE)
    if turned:
        slide.rotate, slide.shear, slide.translate = 25, [0.2], (40, -30)
    over = [layer for layer in layers.find(viewer) if layer is not slide]
    viewer.canvas.overlays.scale_bar.visible = False
    viewer.reset_view()
    viewer.scene.camera.zoom *= 0.8
    qtbot.wait(100)
    shown = viewer.screenshot(flash=False)[..., :3]
    for layer in layers.find(viewer):
        layer.visible = layer is slide
    slide_alone = viewer.screenshot(flash=False)[..., :3].any(-1)  # its noise is nowhere black
    grown = slide_alone.copy()
    for axis in (0, 1):  # half a screen pixel at the edge is anybody's
        grown |= np.roll(slide_alone, 1, axis) | np.roll(slide_alone, -1, axis)
    grown |= np.roll(grown, 1, 0) | np.roll(grown, -1, 0)
    assert slide_alone.sum() > 10_000
    assert not shown[~grown].any()
    # And up to there all is covered: tumour everywhere, at this threshold.
    for layer in over:
        layer.visible = layers.tags_of(layer)["role"] == layers.LABELS
        layer.opacity = 1
    slide.opacity = 0  # of a slide that is hidden the canvas says so
    covered = viewer.screenshot(flash=False)[..., :3].any(-1)
    assert (covered != slide_alone).sum() < 0.01 * slide_alone.sum()
    session.shutdown()


def test_labels_and_slide_turn_together(qtbot, make_napari_viewer, reviewed):
    """A red patch is covered by its green label, and nothing else is, on a slide that is turned, sheared and scaled."""
    positive = np.zeros((6, 8))
    positive[2, 5] = 1
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 900)
    session, viewer, _ = reviewed(viewer, positive)
    qtbot.waitUntil(lambda: bool(layers.find(viewer, layers.OUTLINES)) and not session.display.busy, timeout=60_000)
    session.set_colour("tumour", (0, 255, 0))
    (slide,) = layers.find(viewer, layers.SLIDE)
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[40:60, 100:120] = (255, 0, 0)
    slide.data = [pixels]
    slide.scale, slide.rotate, slide.shear, slide.translate = (2.0, 1.5), 35, [0.3], (10, 20)
    viewer.reset_view()
    (labels,) = layers.find(viewer, layers.LABELS)
    qtbot.wait(100)
    labels.visible = False
    red = viewer.screenshot(flash=False)[..., 0] > 128
    labels.visible, labels.opacity, slide.opacity = True, 1, 0  # of a slide that is hidden the canvas says so
    green = viewer.screenshot(flash=False)[..., 1] > 128
    assert red.sum() > 1000
    assert (red != green).sum() < 4 * np.sqrt(red.sum()) * 0.5  # its border
    session.shutdown()
