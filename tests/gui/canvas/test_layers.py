"""Layers lie exactly on the slide, are told apart by metadata, and follow the threshold. No window needed."""

import copy

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel

from napari_distill2label.core.classes import palette
from napari_distill2label.core.errors import BundleError
from napari_distill2label.gui.canvas import layers, map_layers
from napari_distill2label.slides.registry import open_slide

SHAPE, MPP, ORIGIN, SIDE, STRIDE = (203, 301), (0.25, 0.25), (-7, 5), 32, 20


def write_slide(folder, image, mpp=0.25):
    path = folder / "slide.ome.tif"
    size = {"PhysicalSizeX": mpp, "PhysicalSizeY": mpp, "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, image, photometric="rgb", tile=(64, 64), metadata={"axes": "YXS", **size})
    return path


@pytest.fixture
def placed(tmp_path, make_patch_map):
    """A slide with one red patch, and its patch map of which that patch alone is positive; both as layers."""
    row, col = 4, 6
    image = np.full((*SHAPE, 3), 240, np.uint8)
    y, x = ORIGIN[0] + row * STRIDE, ORIGIN[1] + col * STRIDE
    image[y : y + SIDE, x : x + SIDE] = (200, 0, 0)
    slide = open_slide(write_slide(tmp_path, image))
    grid = {"size_px": SIDE, "stride_px": STRIDE}
    shape = make_patch_map(SHAPE, origin=ORIGIN, **grid).patches.shape
    positive = np.zeros(shape)
    positive[row, col] = 0.9
    patch_map = make_patch_map(SHAPE, np.stack([1 - positive, positive], -1), origin=ORIGIN, mpp=MPP, **grid)
    viewer = ViewerModel()
    image_layer = layers.add_slide(viewer, slide, "slide")
    map_layers.add_map(viewer, patch_map, slide.mpp, 0.5)
    yield viewer, image_layer, patch_map, (row, col), (y, x)
    slide.close()


def test_centre_of_a_cell_is_the_centre_of_its_patch(placed):
    viewer, image, patch_map, _, _ = placed
    cells = np.argwhere(patch_map.patches.scored)
    centres_px = patch_map.patches.corners + (SIDE - 1) / 2  # pixel-centre convention, as napari's
    expected = np.array([image.data_to_world(point) for point in centres_px])
    for layer in layers.find(viewer, slide_id="slide", model="student"):
        world = np.array([layer.data_to_world(cell) for cell in cells])
        np.testing.assert_allclose(world, expected, rtol=0, atol=1e-9)


def test_red_patch_is_under_the_positive_cell(placed):
    viewer, image, _, cell, (y, x) = placed
    (labels,) = layers.find(viewer, layers.LABELS)
    # The cell is the STRIDE-square centred on the patch: its four corners, a hair inside and a hair outside.
    centre = np.array([y, x]) + (SIDE - 1) / 2
    for corner in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        inside = image.data_to_world(centre + np.array(corner) * (STRIDE / 2 - 1e-6))
        outside = image.data_to_world(centre + np.array(corner) * (STRIDE / 2 + 1e-6))
        assert labels.get_value(inside, world=True) == 2
        assert labels.get_value(outside, world=True) == 1
    # And the patch's own corner pixels are red in the slide, at the places that the geometry says.
    level, value = image.get_value(image.data_to_world((y, x)), world=True)
    assert level == 0
    assert tuple(value) == (200, 0, 0)
    assert tuple(image.get_value(image.data_to_world((y - 1, x)), world=True)[1]) == (240, 240, 240)
    assert tuple(np.argwhere(labels.data == 2)[0]) == cell


def test_a_grid_without_gaps_has_the_extent_of_its_slide(tmp_path, make_patch_map):
    slide = open_slide(write_slide(tmp_path, np.zeros((256, 384, 3), np.uint8)))
    viewer = ViewerModel()
    image = layers.add_slide(viewer, slide, "slide")
    for layer in map_layers.add_map(viewer, make_patch_map((256, 384), size_px=32, mpp=MPP), slide.mpp, 0.5):
        half = np.array(layer.scale) / 2
        edges = layer.extent.world + np.array([-half, half])
        slide_half = np.array(image.scale) / 2
        np.testing.assert_allclose(edges, image.extent.world + np.array([-slide_half, slide_half]), atol=1e-9)
    slide.close()


def test_all_layers_have_one_unit_and_there_is_a_scale_bar(placed):
    viewer = placed[0]
    assert {str(unit) for layer in viewer.layers for unit in layer.units} == {"micrometer"}
    assert viewer.layers.units is not None
    assert viewer.canvas.overlays.scale_bar.visible


def test_without_mpp_everything_is_in_pixels(tmp_path, make_patch_map):
    path = tmp_path / "plain.png"
    from PIL import Image

    Image.fromarray(np.zeros((100, 120, 3), np.uint8)).save(path)
    slide = open_slide(path)
    viewer = ViewerModel()
    layers.add_slide(viewer, slide, "plain")
    map_layers.add_map(viewer, make_patch_map((100, 120), size_px=20), slide.mpp, 0.5)
    assert {str(unit) for layer in viewer.layers for unit in layer.units} == {"pixel"}
    assert not viewer.canvas.overlays.scale_bar.visible


def test_order_and_looks(placed):
    viewer, image, *_ = placed
    roles = [layers.tags_of(layer)["role"] for layer in viewer.layers]
    assert roles == [layers.SLIDE, layers.PROBABILITY, layers.ATTENTION, layers.CONTRIBUTION, layers.LABELS]
    assert [layer.visible for layer in viewer.layers] == [True, False, False, False, True]
    assert not any(layer.editable for layer in viewer.layers[1:])
    assert image.multiscale
    (labels,) = layers.find(viewer, layers.LABELS)
    assert not labels.editable
    assert labels.data.dtype == np.uint8
    for value, rgb in enumerate(palette(2), 1):
        np.testing.assert_allclose(labels.colormap.map(np.array([value]))[0, :3], np.array(rgb) / 255, atol=1e-3)
    assert labels.colormap.map(np.array([0]))[0, 3] == 0
    (probability,) = layers.find(viewer, layers.PROBABILITY)
    assert tuple(probability.contrast_limits) == (0, 1)
    assert probability.interpolation2d == "nearest"
    hovered = labels.get_status(np.array(labels.translate) + 4 * np.array(labels.scale), world=True)
    assert "class: normal" in hovered["value"]


def test_layers_are_known_by_metadata_not_by_name(placed):
    viewer = placed[0]
    (labels,) = layers.find(viewer, layers.LABELS)
    labels.name = "renamed"
    viewer.add_labels(np.zeros((4, 4), int), name="slide · labels (student)")
    assert layers.find(viewer, layers.LABELS) == [labels]


def test_threshold_recolours(placed):
    viewer = placed[0]
    (labels,) = layers.find(viewer, layers.LABELS)
    map_layers.update_threshold(viewer, 0.95)
    assert (labels.data == 1).all()
    map_layers.update_threshold(viewer, 0.9)  # ≥
    assert (labels.data == 2).sum() == 1
    assert layers.tags_of(labels)["threshold"] == 0.9


def test_metadata_survives_a_deep_copy(placed):
    """Napari copies it when a layer is duplicated."""
    (labels,) = layers.find(placed[0], layers.LABELS)
    assert layers.patch_map_of(copy.deepcopy(labels.metadata)[layers.KEY]) is placed[2]
    with pytest.raises(BundleError, match="predict again"):
        layers.patch_map_of({"slide_id": "gone", "patch_map": "0"})


def test_a_new_map_of_the_same_model_takes_the_place_of_the_old(placed):
    viewer, _, patch_map, *_ = placed
    (labels,) = layers.find(viewer, layers.LABELS)
    labels.opacity = 0.3
    before = len(viewer.layers)
    map_layers.add_map(viewer, patch_map, MPP, 0.5)
    assert len(viewer.layers) == before
    assert layers.find(viewer, layers.LABELS)[0].opacity == 0.3


def test_points(tmp_path, make_patch_map):
    slide = open_slide(write_slide(tmp_path, np.zeros((*SHAPE, 3), np.uint8)))
    centres = np.array([(20, 30), (100, 200), (202, 300)])
    probability = np.array([(0.2, 0.8), (0.7, 0.3), (0.4, 0.6)])
    patch_map = make_patch_map(SHAPE, probability, centres=centres, size_px=27, mpp=MPP)
    viewer = ViewerModel()
    image = layers.add_slide(viewer, slide, "slide")
    *values, points = map_layers.add_map(viewer, patch_map, slide.mpp, 0.5)
    assert [layers.tags_of(layer)["role"] for layer in values] == list(map_layers.COLORMAPS)
    for point, centre in zip(points.data, centres, strict=True):
        np.testing.assert_allclose(points.data_to_world(point), image.data_to_world(centre), atol=1e-9)
    assert list(points.features["class"]) == ["tumour", "normal", "tumour"]
    map_layers.update_threshold(viewer, 0.7)
    assert list(points.features["class"]) == ["tumour", "normal", "normal"]
    np.testing.assert_allclose(points.face_color[2, :3], np.array(palette(2)[0]) / 255, atol=1e-6)
    slide.close()


def test_several_classes_at_once_have_a_layer_each(make_patch_map):
    probability = np.zeros((2, 3, 3))
    probability[0, :, 1] = probability[:, 0, 2] = 0.9
    patch_map = make_patch_map((40, 60), probability, ("normal", "tumour", "necrosis"), multi_label=True, size_px=20)
    data = map_layers.map_layers(patch_map, None, 0.5)
    masks = {meta["metadata"][layers.KEY]["class_index"]: array for array, meta, kind in data if kind == "labels"}
    assert masks[1].tolist() == [[2, 2, 2], [1, 1, 1]]
    assert masks[2].tolist() == [[3, 1, 1], [3, 1, 1]]
