"""What lies over a slide follows it, wherever the user puts the slide; and what the pointer means, too."""

import numpy as np
import pytest
from napari.layers import Layer

from napari_distill2label.gui.canvas import layers, placement

SIDE = 20
TURN = np.array([[0.8, -0.6, 30.0], [0.6, 0.8, -12.0], [0, 0, 1]])
MOVES = {
    "translate": {"translate": (100, 50)},
    "scale": {"scale": (0.5, 0.5)},
    "uneven scale": {"scale": (2.0, 0.7)},
    "rotate": {"rotate": 33},
    "shear": {"shear": [0.4]},
    "mirrored": {"scale": (-1.0, 1.0)},
    "affine": {"affine": TURN},
    "all": {"translate": (7, -9), "scale": (1.5, 0.8), "rotate": -70, "shear": [0.2], "affine": TURN},
}


def corners_of(layer, cell):
    """(4, 2) in the world: corners of the patch of a cell in a layer over the slide of 20 px patches."""
    one_pixel = np.array(cell) + np.array([(-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5)])
    points = layer.data[0] if layers.tags_of(layer)["role"] == layers.FRAME else one_pixel
    return np.array([layer.data_to_world(point) for point in points])


def expected(slide, cell):
    edges = np.array([(0, 0), (0, SIDE), (SIDE, SIDE), (SIDE, 0)]) - 0.5
    return np.array([slide.data_to_world(np.array(cell) * SIDE + edge) for edge in edges])


def move(layer, changes):
    for name, value in changes.items():
        setattr(layer, name, value)


def check(session, viewer, cell=(2, 3)):
    (slide,) = layers.find(viewer, layers.SLIDE)
    over = [layer for layer in layers.find(viewer) if layers.tags_of(layer)["role"] not in (layers.SLIDE, "tissue")]
    assert len(over) >= 6
    for layer in over:
        np.testing.assert_allclose(corners_of(layer, cell), expected(slide, cell), rtol=0, atol=1e-6)
    (tissue,) = layers.find(viewer, "tissue")
    shape = np.array(slide.data[0].shape[:2])
    factor = layers.tags_of(tissue)["downsample"]
    np.testing.assert_allclose(tissue.data_to_world((-0.5, -0.5)), slide.data_to_world((-0.5, -0.5)), rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        tissue.data_to_world(shape / factor - 0.5), slide.data_to_world(shape - 0.5), rtol=0, atol=1e-6
    )
    # The pointer on the cell's centre, and just inside its corners, is on the cell.
    for inside in (0.5, 0.02, 0.98):
        at = np.array(cell) * SIDE + inside * SIDE - 0.5
        session.display.point_at(slide.data_to_world(at))
        assert session.display.hovered == ("slide", cell)


def complete(session):
    session.correct("tumour", (1, 1))
    session.center_on((2, 3))
    session.tissue.find("slide")


@pytest.mark.parametrize("changes", MOVES.values(), ids=MOVES)
@pytest.mark.parametrize("mpp", [None, 0.5])
def test_everything_follows_a_slide_that_is_moved(reviewed, changes, mpp):
    session, viewer, _ = reviewed()
    if mpp:
        session.set_mpp("slide", mpp)
    complete(session)
    check(session, viewer)
    (slide,) = layers.find(viewer, layers.SLIDE)
    move(slide, changes)
    check(session, viewer)


@pytest.mark.parametrize("changes", [MOVES["translate"], MOVES["all"]])
def test_layers_that_come_later_lie_on_a_moved_slide(reviewed, changes):
    session, viewer, _ = reviewed()
    (slide,) = layers.find(viewer, layers.SLIDE)
    layers.remove(viewer, [layer for layer in viewer.layers if layer is not slide])
    move(slide, changes)
    session.canvas.predictions.lay_all()
    complete(session)
    check(session, viewer)


def test_a_new_prediction_fills_the_layers_of_a_moved_slide(reviewed, make_patch_map):
    session, viewer, _ = reviewed()
    complete(session)
    (slide,) = layers.find(viewer, layers.SLIDE)
    move(slide, MOVES["all"])
    (labels,) = layers.find(viewer, layers.LABELS)
    session.project.take_maps([make_patch_map((120, 160), size_px=SIDE)])
    assert layers.find(viewer, layers.LABELS) == [labels]
    check(session, viewer)


def test_a_layer_over_the_slide_that_is_moved_goes_back(reviewed):
    session, viewer, _ = reviewed()
    complete(session)
    (slide,) = layers.find(viewer, layers.SLIDE)
    slide.rotate = 20
    for layer in layers.find(viewer):
        if layer is not slide:
            move(layer, {"translate": (3, 3), "scale": (2, 2), "rotate": 10, "shear": [1.0], "affine": TURN})
    check(session, viewer)


def test_units_follow(reviewed):
    session, viewer, _ = reviewed()
    complete(session)
    (slide,) = layers.find(viewer, layers.SLIDE)
    slide.units = ("mm", "mm")
    assert {str(unit) for layer in viewer.layers for unit in layer.units} == {"millimeter"}
    check(session, viewer)


def test_a_copy_stays_where_it_is(reviewed):
    _, viewer, _ = reviewed()
    (slide,) = layers.find(viewer, layers.SLIDE)
    (labels,) = layers.find(viewer, layers.LABELS)
    copy = viewer.add_layer(Layer.create(*labels.as_layer_data_tuple()))
    slide.translate = (100, 50)
    assert np.array_equal(copy.affine.affine_matrix, np.eye(3))
    copy.translate = (5, 5)
    assert np.array_equal(copy.translate, (5, 5))


def test_the_camera_goes_to_the_patch_of_a_moved_slide(reviewed):
    session, viewer, _ = reviewed()
    (slide,) = layers.find(viewer, layers.SLIDE)
    move(slide, MOVES["all"])
    session.center_on((2, 3))
    centre = slide.data_to_world(np.array((2, 3)) * SIDE + (SIDE - 1) / 2)
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], centre, atol=1e-6)
    on_screen = viewer.scene.camera.zoom * SIDE * placement.magnification(slide)
    assert layers.SMALLEST_ON_SCREEN <= on_screen <= layers.LARGEST_ON_SCREEN


def test_paint_on_a_moved_slide_corrects_the_patch_below(reviewed):
    session, viewer, _ = reviewed()
    (slide,) = layers.find(viewer, layers.SLIDE)
    move(slide, MOVES["all"])
    session.paint("tumour")
    (corrections,) = layers.find(viewer, layers.CORRECTIONS)
    world = slide.data_to_world(np.array((4, 5)) * SIDE + 3)
    corrections.paint(tuple(np.round(corrections.world_to_data(world)).astype(int)), 2)
    assert session.corrections.correction_at("slide", (4, 5)) == "tumour"
    assert len(session.corrections) == 1


def test_predictions_at_points_follow(reviewed):
    centres = np.array([(30, 30), (60, 100), (90, 40)])
    session, viewer, patch_map = reviewed(centres=centres, probability=None)
    (slide,) = layers.find(viewer, layers.SLIDE)
    move(slide, MOVES["all"])
    for layer in layers.find(viewer, layers.POINTS):
        for point, centre in zip(layer.data, patch_map.patches.centres, strict=True):
            np.testing.assert_allclose(layer.data_to_world(point), slide.data_to_world(centre), atol=1e-6)
    session.display.point_at(slide.data_to_world((61, 99)))
    assert session.display.hovered == ("slide", (1,))
