"""Our layers are those that we made. Copies that carry our metadata along are the user's, whatever is in them."""

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from napari.layers._layer_actions import _convert_to_image, _duplicate_layer, _split_rgb

from napari_distill2label.core.errors import BundleError
from napari_distill2label.gui import get_session
from napari_distill2label.gui.canvas import layers, ownership
from napari_distill2label.gui.plugin.reader import read_slides
from napari_distill2label.gui.plugin.writer import write_labels

ROLES = (layers.SLIDE, *layers.PREDICTED, layers.CORRECTIONS, layers.OUTLINES, layers.FRAME, "tissue")


@pytest.fixture
def full(reviewed):
    """A session whose slide has a layer of every role on a grid."""
    session, viewer, patch_map = reviewed()
    session.correct("tumour", (2, 3))
    session.center_on((2, 3))
    session.tissue.find("slide")
    assert {layers.tags_of(layer)["role"] for layer in viewer.layers} == set(ROLES) - {layers.POINTS}
    return session, viewer, patch_map


def duplicate(viewer, layer):
    viewer.layers.selection = {layer}
    before = set(viewer.layers)
    _duplicate_layer(viewer.layers)
    (copy,) = set(viewer.layers) - before
    return copy


@pytest.mark.parametrize("role", [role for role in ROLES if role != layers.POINTS])
def test_a_copy_is_the_users(full, role, tmp_path):
    session, viewer, _ = full
    (ours,) = layers.find(viewer, role)
    copy = duplicate(viewer, ours)
    assert layers.find(viewer, role) == [ours]
    data = [level.compute() for level in copy.data] if role == layers.SLIDE else np.array(copy.data)
    session.set_threshold(0.9)
    session.display.set_opacity(0.2)
    session.set_colour("tumour", (1, 2, 3))
    session.clear_corrections()
    place = copy.affine.affine_matrix, copy.translate
    layers.find(viewer, layers.SLIDE)[0].translate = (30, 40)
    assert np.array_equal(copy.affine.affine_matrix, place[0])
    assert np.array_equal(copy.translate, place[1])
    other = session.cohort.slides[0].path.parent / "other.png"
    other.write_bytes(session.cohort.slides[0].path.read_bytes())
    session.add_slides(other)
    session.show("other")
    session.remove_slides(["slide"])
    assert copy in viewer.layers
    assert ours not in viewer.layers
    if role == layers.SLIDE:  # its file is still read
        assert all(np.array_equal(now.compute(), then) for now, then in zip(copy.data, data, strict=True))
    else:
        assert np.array_equal(np.array(copy.data), data)
    viewer.layers.remove(copy)
    assert session.shown == "other"


def test_paint_in_a_copy_of_the_labels_stays(reviewed):
    session, viewer, _ = reviewed()
    (labels,) = layers.find(viewer, layers.LABELS)
    copy = duplicate(viewer, labels)
    copy.editable = True
    copy.data[0:3, 0:3] = 2
    session.set_threshold(0.99)
    assert (copy.data[0:3, 0:3] == 2).all()
    assert layers.tags_of(labels)["threshold"] == 0.99
    assert copy.metadata["distill2label"]["threshold"] == 0.5  # it shows what it showed


def test_paint_in_a_copy_of_the_corrections_is_no_correction(reviewed):
    session, viewer, _ = reviewed()
    (corrections,) = layers.find(viewer, layers.CORRECTIONS)
    copy = duplicate(viewer, corrections)
    copy.paint((1, 1), 2)
    assert len(session.corrections) == 0
    corrections.paint((1, 1), 2)
    assert len(session.corrections) == 1


def test_layers_made_from_ours_are_not_ours(reviewed):
    _, viewer, _ = reviewed()
    (labels,) = layers.find(viewer, layers.LABELS)
    before = set(viewer.layers)
    viewer.layers.selection = {labels}
    _convert_to_image(viewer.layers)
    scripted = viewer.add_layer(Layer.create(*labels.as_layer_data_tuple()))
    viewer.layers.selection.active = duplicate(viewer, layers.find(viewer, layers.SLIDE)[0])
    _split_rgb(viewer.layers)
    made = set(viewer.layers) - before
    assert scripted in made
    assert len(made) >= 3
    assert not any(layers.tags_of(layer) for layer in made)


def test_a_slide_that_napari_opens_is_ours_once(reviewed, tmp_path):
    session, viewer, _ = reviewed()
    other = tmp_path / "another.png"
    other.write_bytes((tmp_path / "slide.png").read_bytes())
    (data,) = read_slides(str(other))
    first, second = Layer.create(*data), Layer.create(*data)
    viewer.add_layer(first)
    assert session.shown == "another"
    viewer.add_layer(second)
    assert layers.find(viewer, layers.SLIDE) == [first]
    assert layers.tags_of(second) == {}
    first.translate = (3, 4)  # what is laid over it follows
    session.project.take_maps([session.predictions["slide"]["student"]])
    assert not layers.find(viewer, layers.LABELS)  # those are of the other slide
    session.show("slide")
    assert first not in viewer.layers
    assert second in viewer.layers


def test_the_writer_writes_what_the_layer_shows_or_nothing(reviewed, tmp_path):
    session, viewer, _ = reviewed()
    (labels,) = layers.find(viewer, layers.LABELS)
    copy = duplicate(viewer, labels)
    session.set_threshold(0.9)
    for name, layer, positive in (("ours", labels, (labels.data == 2).sum()), ("copy", copy, (copy.data == 2).sum())):
        data, meta, _ = layer.as_layer_data_tuple()
        (file,) = write_labels(str(tmp_path / f"{name}.csv"), data, meta)
        lines = Path(file).read_text("utf-8").splitlines()
        at = lines[0].split(",").index("label")
        assert sum(line.split(",")[at] == "tumour" for line in lines[1:]) == positive
    copy.data[0, 0] = 2
    data, meta, _ = copy.as_layer_data_tuple()
    with pytest.raises(BundleError, match="was painted in"):
        write_labels(str(tmp_path / "painted.csv"), data, meta)
    assert not (tmp_path / "painted.csv").exists()


def test_a_layer_that_the_user_removed_stays_away(reviewed):
    session, viewer, patch_map = reviewed()
    session.display.set_visible(layers.PROBABILITY, True)
    for role in (layers.LABELS, layers.PROBABILITY):
        viewer.layers.remove(layers.find(viewer, role)[0])
    session.set_threshold(0.7)
    session.project.take_maps([patch_map])
    assert not layers.find(viewer, layers.LABELS)
    session.display.set_visible(layers.LABELS, True)  # asked for again
    (labels,) = layers.find(viewer, layers.LABELS)
    assert not layers.find(viewer, layers.PROBABILITY)
    assert (labels.data == 2).sum() == (patch_map.probability[..., 1] >= 0.7).sum()
    session.canvas.predictions.lay_all()  # shown anew
    assert layers.find(viewer, layers.PROBABILITY)


def test_a_removed_layer_of_corrections_comes_back_with_the_next_correction(reviewed):
    session, viewer, _ = reviewed()
    session.correct("tumour", (2, 3))
    viewer.layers.remove(layers.find(viewer, layers.CORRECTIONS)[0])
    session.correct("normal", (0, 0))
    (corrections,) = layers.find(viewer, layers.CORRECTIONS)
    assert (corrections.data[2, 3], corrections.data[0, 0]) == (2, 1)
    assert len(layers.find(viewer, layers.OUTLINES)) == 1


def test_notes_live_as_long_as_their_layer(reviewed):
    import gc

    _, viewer, _ = reviewed()
    (labels,) = layers.find(viewer, layers.LABELS)
    before = len(ownership._notes)
    layers.remove(viewer, [labels])
    del labels
    gc.collect()
    assert len(ownership._notes) < before


@pytest.mark.parametrize("opened_before", [True, False])
def test_a_slide_that_napari_opens_has_our_undo_and_eye(tmp_path, reviewed, opened_before):
    reviewed()  # writes the picture
    picture = tmp_path / "slide.png"
    (data,) = read_slides(str(picture))
    viewer, layer = ViewerModel(), Layer.create(*data)
    session = None if opened_before else get_session(viewer)
    viewer.add_layer(layer)
    session = session or get_session(viewer)
    assert layers.tags_of(layer)["role"] == layers.SLIDE
    assert {"Ctrl+Z", "Ctrl+Shift+Z"} <= {str(key) for key in layer.keymap}
    session.shutdown()
