"""From slide to slide the layers stay and hold the next slide's: as new ones would, to the last setting and pixel."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_distill2label.gui import get_session
from napari_distill2label.gui.canvas import layers, ownership, slide_view, spares
from napari_distill2label.gui.canvas.layers import (
    ATTENTION,
    CONTRIBUTION,
    CORRECTIONS,
    LABELS,
    OUTLINES,
    PROBABILITY,
    SLIDE,
)  # fmt: skip

from ..conftest import LONG

SIDE = 20
SLIDES = {"a": ((120, 160), 0.25), "b": ((200, 100), 0.5), "without": ((140, 140), 0.5), "px": ((100, 120), None)}
ROLES = [SLIDE, PROBABILITY, ATTENTION, CONTRIBUTION, LABELS, CORRECTIONS, OUTLINES]
# Of a layer's state: what tells one map from another.
NOT_COMPARED = ("metadata", "data", "features", "properties", "property_choices", "feature_defaults")


def write(folder, name):
    shape, mpp = SLIDES[name]
    pixels = np.random.default_rng(len(name) + shape[0]).integers(0, 255, (*shape, 3), np.uint8)
    size = {} if mpp is None else {"PhysicalSizeX": mpp, "PhysicalSizeY": mpp, "PhysicalSizeXUnit": "µm"}
    size |= {} if mpp is None else {"PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(
        folder / f"{name}.ome.tif", pixels, photometric="rgb", tile=(64, 64), metadata={"axes": "YXS", **size}
    )


@pytest.fixture
def opened(tmp_path, make_patch_map, make_napari_viewer):
    """Opens a window with the four slides, all but one of them with a prediction."""
    for name in SLIDES:
        write(tmp_path, name)
    made = []

    def make(corrected=True):
        viewer = make_napari_viewer(show=True)
        session = get_session(viewer)
        made.append(session)
        session.add_slides(tmp_path)
        ids = dict(zip(sorted(SLIDES), sorted(row.slide_id for row in session.cohort), strict=True))
        session.project.network = "student"
        maps = []
        for name, (shape, mpp) in SLIDES.items():
            if name != "without":
                positive = np.random.default_rng(shape[0]).random((shape[0] // SIDE, shape[1] // SIDE))
                probability, places = np.stack([1 - positive, positive], -1), {"size_px": SIDE, "slide_id": ids[name]}
                maps.append(make_patch_map(shape, probability, mpp=None if mpp is None else (mpp, mpp), **places))
        session.project.take_maps(maps)
        for kind in session.display.visible:
            session.display.set_visible(kind, True)
        return session, ids

    yield make
    for session in made:
        session.shutdown()


def show(session, slide_id, qtbot):
    session.show(slide_id, wait=False)
    qtbot.waitUntil(lambda: session.shown == slide_id, timeout=LONG)
    if slide_id in session.project.predictions:
        qtbot.waitUntil(lambda: len(layers.find(session.viewer, slide_id=slide_id)) >= len(ROLES), timeout=LONG)
    qtbot.waitUntil(lambda: not (session.display.busy or session.reader.busy), timeout=LONG)


def by_role(viewer):
    return {ownership.tags_of(layer)["role"]: layer for layer in viewer.layers if ownership.tags_of(layer)}


def looks(viewer):
    """All there is to see of our layers, from the bottom up."""
    found = []
    for layer in layers.find(viewer):
        values, state, kind = layer.as_layer_data_tuple()
        values = [np.asarray(level).tolist() for level in values] if kind == "image" and state["multiscale"] else values
        controls = {name: getattr(layer, name, None) for name in (*spares.CONTROLS, "editable", "mode")}
        state = {name: value for name, value in state.items() if name not in NOT_COMPARED}
        noted = {key: value for key, value in ownership.tags_of(layer).items() if key not in ("patch_map", "ticket")}
        table = layer.features.to_dict("list") if hasattr(layer, "features") else {}
        found.append((kind, noted, np.asarray(values).tolist(), state, controls, table, layer.thumbnail.tolist()))
    return found


def differing(one, other):
    """Names of what differs between two states of a layer."""
    return [name for name in one if not spares._same(one[name], other[name])]


def assert_alike(one, other):
    assert [found[:2] for found in one] == [found[:2] for found in other]
    for mine, its in zip(one, other, strict=True):
        what = mine[1]["role"]
        assert mine[2] == its[2], what
        assert differing(mine[3], its[3]) == [], what
        assert mine[4:] == its[4:], what


def pixels(viewer):
    viewer.canvas.overlays.scale_bar.visible = False
    return viewer.screenshot(canvas_only=True, flash=False)


def test_layers_hold_the_next_slide_as_new_ones_would(opened, qtbot):
    """There and back between slides of other sizes and µm/px; every layer and every pixel as in a window of its own."""
    fresh, ids = opened()
    show(fresh, ids["b"], qtbot)
    fresh.correct("tumour", (1, 2))
    expected, picture = looks(fresh.viewer), pixels(fresh.viewer)
    fresh.viewer.close()

    session, ids = opened()
    show(session, ids["a"], qtbot)
    session.correct("normal", (0, 0))
    first, before, drawn = list(session.viewer.layers), looks(session.viewer), pixels(session.viewer)
    assert list(by_role(session.viewer)) == ROLES
    show(session, ids["b"], qtbot)
    session.correct("tumour", (1, 2))
    assert list(session.viewer.layers) == first
    assert_alike(looks(session.viewer), expected)
    np.testing.assert_array_equal(pixels(session.viewer), picture)
    assert session.viewer.layers.selection.active is by_role(session.viewer)[SLIDE]
    show(session, ids["a"], qtbot)
    assert_alike(looks(session.viewer), before)
    np.testing.assert_array_equal(pixels(session.viewer), drawn)


def test_what_a_user_did_to_a_layer_stays_with_its_slide(opened, qtbot):
    session, ids = opened()
    viewer = session.viewer
    show(session, ids["b"], qtbot)
    expected = looks(viewer)
    show(session, ids["a"], qtbot)
    there = by_role(viewer)
    there[SLIDE].rotate, there[SLIDE].gamma = 30, 2
    there[ATTENTION].metadata.clear()
    there[PROBABILITY].colormap, there[PROBABILITY].name, there[PROBABILITY].gamma = "gray", "mine", 0.5
    there[PROBABILITY].contrast_limits = (0.2, 0.3)
    there[LABELS].contour, there[LABELS].blending = 2, "additive"
    corrections = there[CORRECTIONS]
    viewer.layers.selection.active = corrections
    corrections.mode, corrections.selected_label = "paint", 1
    corrections.paint((0, 0), 2)
    corrections.brush_size = 3
    assert session.corrections.correction_at(ids["a"], (0, 0)) == "tumour"
    show(session, ids["b"], qtbot)
    assert_alike(looks(viewer), expected)
    corrections.undo()  # there is nothing to undo of another slide
    assert not corrections.data.any()
    assert session.corrections.slides == {ids["a"]: 1}
    corrections.mode = "paint"
    corrections.paint((1, 1), 2)
    assert session.corrections.correction_at(ids["b"], (1, 1)) == "tumour"
    corrections.undo()
    assert session.corrections.slides == {ids["a"]: 1}


def test_a_layer_that_is_not_ours_is_left_alone(opened, qtbot):
    session, ids = opened()
    viewer = session.viewer
    show(session, ids["a"], qtbot)
    (labels,) = layers.find(viewer, LABELS)
    own = viewer.add_labels(labels.data.copy(), name=labels.name, metadata=dict(labels.metadata))
    points = viewer.add_points([(3, 4)])
    viewer.layers.link_layers([labels, points], ("opacity",))
    before = own.data.copy(), own.name, points.opacity
    show(session, ids["b"], qtbot)
    np.testing.assert_array_equal(own.data, before[0])
    assert (own.name, points.opacity) == before[1:]
    assert own in viewer.layers
    (labels,) = layers.find(viewer, LABELS)
    labels.opacity = 0.33
    assert points.opacity == before[2]


def test_what_the_next_slide_has_no_use_for_goes(opened, qtbot, monkeypatch):
    monkeypatch.setattr(slide_view, "SPARES", 200)
    monkeypatch.setattr(slide_view, "FLICKER", LONG)
    session, ids = opened()
    show(session, ids["a"], qtbot)
    session.show(ids["without"], wait=False)
    qtbot.waitUntil(lambda: session.shown == ids["without"], timeout=LONG)
    assert spares.there(session.viewer)  # of the labels of one slide, nothing is ever seen over another
    assert not any(spare.visible for spare in spares.there(session.viewer))
    qtbot.waitUntil(lambda: list(by_role(session.viewer)) == [SLIDE] and len(session.viewer.layers) == 1, timeout=LONG)
    assert list(session.canvas.slide_view._open) == [ids["without"]]
    show(session, ids["b"], qtbot)
    assert list(by_role(session.viewer)) == ROLES


def test_a_slide_in_other_units_gets_layers_of_its_own(opened, qtbot):
    """Of layers in µm beside some in px, napari shows no scale."""
    session, ids = opened()
    show(session, ids["a"], qtbot)
    former = set(session.viewer.layers)
    show(session, ids["px"], qtbot)
    assert not former & set(session.viewer.layers)
    assert [str(unit) for unit in session.viewer.layers.units] == ["pixel", "pixel"]
    assert list(by_role(session.viewer)) == ROLES


def test_a_layer_that_was_removed_comes_with_the_next_slide(opened, qtbot):
    session, ids = opened()
    show(session, ids["a"], qtbot)
    session.viewer.layers.remove(by_role(session.viewer)[LABELS])
    qtbot.waitUntil(lambda: not session.display.busy, timeout=LONG)
    assert LABELS not in by_role(session.viewer)
    show(session, ids["b"], qtbot)
    assert list(by_role(session.viewer)) == ROLES


def test_what_is_hidden_stays_hidden(opened, qtbot):
    session, ids = opened()
    show(session, ids["a"], qtbot)
    session.display.set_visible(LABELS, False)
    session.display.set_blind(True)
    show(session, ids["b"], qtbot)
    there = by_role(session.viewer)
    assert not any(there[role].visible for role in (LABELS, PROBABILITY, ATTENTION, CONTRIBUTION))
    assert session.display.blind
    assert not session.display.visible[LABELS]
    session.display.set_blind(False)
    assert there[PROBABILITY].visible
    assert not there[LABELS].visible


def test_a_file_stays_open_while_something_draws_from_it(make_napari_viewer, tmp_path):
    """Tiles are read while they are drawn: napari ends where they cannot be."""
    session = get_session(make_napari_viewer())
    write(tmp_path, "a")
    Image.fromarray(tifffile.imread(tmp_path / "a.ome.tif")).save(tmp_path / "crop.png")
    session.add_slides([tmp_path / "crop.png", tmp_path / "a.ome.tif"])
    crop, tiled = (row.slide_id for row in session.cohort)
    for slide_id in (crop, tiled, crop, tiled):  # in px, and in µm
        session.show(slide_id)
        assert list(session.canvas.slide_view._open) == [slide_id]
    # Its file is another one now, which needs a layer in px.
    former = by_role(session.viewer)[SLIDE]
    rows = [replace(row, path=tmp_path / "crop.png") if row.slide_id == tiled else row for row in session.cohort]
    session.project.edit("file", session.cohort.with_slides(rows))
    session.show(tiled, again=True)
    assert former not in session.viewer.layers
    (slide,) = session.canvas.slide_view._open.values()
    assert slide.read(0, 0, 0, 8, 8).shape == (8, 8, 3)
    session.shutdown()
