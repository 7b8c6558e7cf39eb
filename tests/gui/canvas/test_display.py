"""Layers over the shown slide: seen or not, how strongly, filled while predicting, and what the pointer is on."""

import errno
import shutil
import threading
from itertools import pairwise

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.gui import get_session
from napari_distill2label.gui.canvas import layers, map_layers, prediction_layers
from napari_distill2label.gui.canvas.layers import (
    ATTENTION,
    CONTRIBUTION,
    CORRECTIONS,
    LABELS,
    OUTLINES,
    PREDICTED,
    PROBABILITY,
)
from napari_distill2label.gui.plugin.writer import shown_colours
from napari_distill2label.inference import engine
from napari_distill2label.store.maps import patch_map_view


def layer(viewer, role):
    (found,) = layers.find(viewer, role)
    return found


def seen(viewer):
    return [layers.tags_of(each)["role"] for each in layers.find(viewer) if each.visible]


def test_what_is_seen(reviewed):
    session, viewer, _ = reviewed()
    assert seen(viewer) == ["slide", LABELS, CORRECTIONS, OUTLINES]
    session.display.set_visible(PROBABILITY, True)
    assert seen(viewer) == ["slide", PROBABILITY, LABELS, CORRECTIONS, OUTLINES]
    session.display.toggle_overlays()
    assert seen(viewer) == ["slide"]
    session.display.toggle_overlays()
    assert seen(viewer) == ["slide", PROBABILITY, LABELS, CORRECTIONS, OUTLINES]
    session.display.set_opacity(0.3)
    assert {each.opacity for each in viewer.layers if layers.tags_of(each)["role"] in PREDICTED} == {0.3}
    for wrong in (lambda: session.display.set_opacity(2), lambda: session.display.set_visible("x", True)):
        with pytest.raises(SettingsError):
            wrong()


def test_naparis_own_eye_and_slider_count(reviewed):
    session, viewer, _ = reviewed()
    layer(viewer, ATTENTION).visible = True
    layer(viewer, LABELS).visible = False
    layer(viewer, LABELS).opacity = 0.25
    assert session.display.visible[ATTENTION]
    assert not session.display.visible[LABELS]
    assert session.display.opacity == 0.25
    session.show("slide", again=True)  # the choice stays
    assert seen(viewer) == ["slide", ATTENTION, CORRECTIONS, OUTLINES]
    assert layer(viewer, ATTENTION).opacity == 0.25


def test_an_eye_that_was_shut_stays_shut(reviewed, make_patch_map):
    session, viewer, _ = reviewed()
    corrections = layer(viewer, CORRECTIONS)
    corrections.visible = False
    session.display.set_opacity(0.5)
    assert not corrections.visible
    assert not layer(viewer, OUTLINES).visible
    session.display.toggle_overlays()
    session.display.toggle_overlays()
    assert seen(viewer) == ["slide", LABELS]
    session.show("slide", again=True)
    assert seen(viewer) == ["slide", LABELS]
    layer(viewer, CORRECTIONS).visible = True
    assert seen(viewer) == ["slide", LABELS, CORRECTIONS, OUTLINES]
    classes, probability = ("normal", "tumour", "necrosis"), np.full((6, 8, 3), 0.9)
    session.project.take_maps([make_patch_map((120, 160), probability, classes, multi_label=True, size_px=20)])
    tumour, necrosis = layers.find(viewer, LABELS)
    necrosis.visible = False
    session.display.set_opacity(0.7)
    assert (tumour.visible, necrosis.visible) == (True, False)
    tumour.visible = False  # and so none is
    assert not session.display.visible[LABELS]
    session.display.set_visible(LABELS, True)
    assert tumour.visible
    assert necrosis.visible


def test_a_new_prediction_fills_the_layers_that_are_there(reviewed, make_patch_map):
    session, viewer, _ = reviewed(probability=np.zeros((6, 8)))
    before = list(viewer.layers)
    viewer.layers.selection = {before[0]}
    other = np.full((6, 8), 0.9)
    session.project.take_maps([make_patch_map((120, 160), np.stack([1 - other, other], -1), size_px=20)])
    assert list(viewer.layers) == before
    assert (layer(viewer, LABELS).data == 2).all()
    np.testing.assert_allclose(layer(viewer, PROBABILITY).data, 0.9, atol=1e-6)
    assert layers.patch_map_of(layers.tags_of(layer(viewer, LABELS))) is session.predictions["slide"]["student"]
    session.project.take_maps([make_patch_map((120, 160), size_px=40)])  # another grid: other layers
    assert layer(viewer, LABELS).data.shape == (3, 4)
    assert viewer.layers.selection == {before[0]}
    assert [layers.tags_of(each)["role"] for each in viewer.layers[-2:]] == [CORRECTIONS, OUTLINES]


def test_a_map_of_another_size_than_its_slide_is_not_laid_over_it(reviewed, make_patch_map):
    """As those are that an earlier version made of a slide with a scanned area: they counted from its canvas."""
    session, viewer, _ = reviewed()
    before = layer(viewer, LABELS).data.copy()
    session.project.take_maps([make_patch_map((240, 320), size_px=20)])
    assert np.array_equal(layer(viewer, LABELS).data, before)
    assert session.failures["slide"] == "what was predicted has another size than the slide: predict again"


def test_a_map_whose_disk_has_gone_says_so(reviewed, make_patch_map, monkeypatch):
    def gone(patch_map):
        raise OSError(errno.EIO, "Input/output error", "slide.zarr")

    session, _, _ = reviewed()
    monkeypatch.setattr(patch_map_view, "read", gone)
    session.project.take_maps([make_patch_map((120, 160), size_px=20)])
    assert session.failures["slide"] == "slide.zarr: Input/output error"


def test_layers_fill_in_while_blocks_finish(run_folder, monkeypatch):
    monkeypatch.setattr(prediction_layers, "FILLING_INTERVAL", 0.0)
    monkeypatch.setattr(prediction_layers, "FILLING_SHARE", np.inf)  # look at every block, however slow the machine
    monkeypatch.setattr("napari_distill2label.gui.runner.draining.MIN_INTERVAL", 0.0)
    monkeypatch.setattr(engine, "BLOCK_PIXELS", 27**2)
    shutil.rmtree(run_folder / "predictions", ignore_errors=True)
    viewer = ViewerModel()
    session = get_session(viewer)
    session.load_model(run_folder)
    session.show("slide_001")
    counted = []

    def look(job, event):
        for each in layers.find(viewer, LABELS):
            filled = int((each.data > 0).sum())
            counted.append((filled, each.data.size))
            for role in (PROBABILITY, ATTENTION):
                assert int(np.isfinite(layer(viewer, role).data).sum()) == filled

    session.jobs.event.connect(look)
    session.predict("slide_001")
    filled = [count for count, _ in counted]
    size = counted[0][1]
    assert filled == sorted(filled)
    assert len({count for count in filled if 0 < count < size}) > 3
    assert filled[-1] == size
    patch_map = session.predictions["slide_001"]["student"]
    assert (layer(viewer, LABELS).data == patch_map.to_labels(session.threshold)).all()


def test_maps_are_not_read_in_the_gui_thread(qtbot, make_napari_viewer, run_folder, monkeypatch):
    threads = []
    init = patch_map_view.PatchMapView.__init__

    def noted(self, patch_map):
        threads.append(threading.current_thread())
        init(self, patch_map)

    monkeypatch.setattr(patch_map_view.PatchMapView, "__init__", noted)
    shutil.rmtree(run_folder / "predictions", ignore_errors=True)
    viewer = make_napari_viewer()
    session = get_session(viewer)
    session.load_model(run_folder)
    qtbot.waitUntil(lambda: session.shown == "slide_000", timeout=30_000)
    session.predict(["slide_000", "slide_001"])
    qtbot.waitUntil(lambda: bool(layers.find(viewer, LABELS)), timeout=30_000)
    session.show("slide_001")
    qtbot.waitUntil(lambda: bool(layers.find(viewer, LABELS, "slide_001")), timeout=30_000)
    assert len(threads) >= 2
    assert threading.main_thread() not in threads
    first = session.predictions["slide_000"]["student"]
    qtbot.waitUntil(lambda: patch_map_view.known(first) is None, timeout=30_000)  # its memory is given back
    session.shutdown()


def test_cancelling_leaves_the_prediction_before(reviewed, make_patch_map):
    from napari_distill2label.core.events import ItemStarted
    from napari_distill2label.gui.runner.jobs import Cancelled, Job
    from napari_distill2label.store.maps.patch_map import PatchMap

    session, viewer, patch_map = reviewed(probability=np.full((6, 8), 0.9))
    begun = PatchMap.create(
        None, patch_map.patches, patch_map.classes, SlideInfo("slide"), model={"network": "student"}
    )
    patch_map_view.read(begun)
    job = Job("predict", "Predicting")
    session.jobs.event.emit(job, ItemStarted("slide", begun))
    assert (layer(viewer, LABELS).data == 0).all()
    job._end(Cancelled())
    session.jobs.changed.emit(job)
    assert (layer(viewer, LABELS).data == 2).all()
    assert session.display.map is patch_map


def test_colours_follow(reviewed):
    session, viewer, _ = reviewed(probability=np.full((6, 8), 0.9))
    session.correct("tumour", (0, 0))
    session.set_colour("tumour", (0, 0, 255))
    for role in (LABELS, CORRECTIONS):
        rgba = layer(viewer, role).colormap.map(np.array([2]))[0]
        np.testing.assert_allclose(rgba[:3], (0, 0, 1), atol=1e-6)
    np.testing.assert_allclose(layer(viewer, OUTLINES).edge_color[-1], (0, 0, 1, 1), atol=1e-6)


def test_the_patch_under_the_pointer(reviewed):
    session, viewer, _ = reviewed(probability=np.full((6, 8), 0.8))
    session.display.point_at((30.0, 45.0))
    assert session.display.hovered == ("slide", (1, 2))
    text = session.display.hovered_text
    assert text.startswith("tumour · probability of tumour 0.80 · attention 1 × average")
    # Whichever layer is selected, napari's status bar and tooltip say it too.
    for active in viewer.layers:
        viewer.layers.selection = {active}
        viewer.status = "[30 45]: 7"
        assert viewer.status == f"[30 45]  {text}"
        viewer.status = {"coordinates": "[30 46]: 7", "layer_base": "x", "source_type": "", "plugin": ""}
        assert viewer.status["coordinates"] == f"[30 46]  {text}"
    viewer.tooltip.text = "something else"
    assert viewer.tooltip.text.splitlines()[0] == "tumour"
    session.correct("normal")
    assert session.display.hovered_text.endswith("corrected: normal")
    session.display.point_at((-500.0, 0.0))
    assert session.display.hovered is None
    viewer.status = "[1 1]: 7"
    assert viewer.status == "[1 1]: 7"


def test_the_status_counts_the_slides_own_pixels_too(reviewed):
    session, viewer, _ = reviewed()
    session.set_mpp("slide", 0.5)
    session.display.point_at((10.0, 30.0))  # µm
    viewer.status = "[10 30]: 7"
    assert viewer.status.startswith("[10 30]  y 20, x 60 px")
    session.display.point_at((10.0, 300.0))  # beside the slide
    viewer.status = "[10 300]: 7"
    assert viewer.status == "[10 300]: 7"


def test_the_mouse_moves_it(reviewed):
    from types import SimpleNamespace

    session, viewer, _ = reviewed()
    for callback in viewer.mouse_move_callbacks:
        callback(viewer, SimpleNamespace(position=(30.0, 45.0)))
    assert session.display.hovered == ("slide", (1, 2))
    viewer.mouse_over_canvas = True
    viewer.mouse_over_canvas = False  # it left: nothing is pointed at any more
    assert session.display.hovered is None


def test_no_layer_holds_an_object_per_patch(reviewed):
    _, viewer, _ = reviewed()
    for each in layers.find(viewer):
        assert len(getattr(each, "features", ())) <= 3


def test_points_have_values_too(reviewed):
    session, viewer, patch_map = reviewed(centres=[(20, 30), (100, 100)])
    session.display.set_visible(PROBABILITY, True)
    colours = layer(viewer, PROBABILITY).face_color
    assert not np.allclose(colours[0], colours[1])
    session.set_colour("tumour", (0, 0, 255))
    np.testing.assert_allclose(layer(viewer, "points").face_color[1, :3], (0, 0, 1), atol=1e-6)
    added = map_layers.add_map(viewer, patch_map, None, 0.5)
    assert [layers.tags_of(each)["role"] for each in added] == [PROBABILITY, ATTENTION, "contribution", "points"]


def test_the_window_has_its_turn_between_two_layers(reviewed, make_napari_viewer, qtbot):
    from qtpy.QtCore import QTimer

    viewer, turns, clock = make_napari_viewer(), [], QTimer()
    viewer.add_points([(1, 1)], name="mine")
    viewer.layers.events.inserted.connect(lambda event: turns.append(layers.tags_of(event.value)["role"]))
    clock.timeout.connect(lambda: turns.append("turn"))
    clock.start(0)
    session, _, _ = reviewed(viewer)
    viewer.layers.selection = {viewer.layers["mine"]}
    qtbot.waitUntil(lambda: ATTENTION in turns and not session.display.busy, timeout=30_000)
    clock.stop()
    there = ["slide", PROBABILITY, ATTENTION, CONTRIBUTION, LABELS, CORRECTIONS, OUTLINES]
    assert [role for each in viewer.layers if (role := layers.tags_of(each).get("role"))] == there
    added = [role for role in turns if role in there]
    # What is seen comes first.
    assert added == ["slide", LABELS, CORRECTIONS, OUTLINES, PROBABILITY, ATTENTION, CONTRIBUTION]
    assert all("turn" in (one, other) for one, other in pairwise(turns[turns.index(LABELS) :]))
    assert set(viewer.layers.selection) == {viewer.layers.selection.active} == {viewer.layers["mine"]}
    session.shutdown()


def test_layers_of_a_slide_that_went_are_not_added(reviewed, make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    session, _, patch_map = reviewed(viewer)
    qtbot.waitUntil(lambda: session.display.busy, timeout=30_000)
    session.remove_slides([patch_map.slide_id])
    qtbot.waitUntil(lambda: not session.display.busy, timeout=30_000)
    assert not layers.find(viewer)
    session.shutdown()


def test_only_findings_are_coloured_unless_asked(reviewed):
    session, viewer, _ = reviewed()
    (labels,) = layers.find(viewer, layers.LABELS)

    def alphas():
        return [float(labels.colormap.map(np.array([value], np.uint8))[0, 3]) for value in (0, 1, 2)]

    assert alphas() == [0, 0, pytest.approx(layers.POSITIVE_ALPHA)]
    session.display.set_negatives(True)
    assert alphas() == [0, pytest.approx(layers.NEGATIVE_ALPHA), pytest.approx(layers.POSITIVE_ALPHA)]
    session.set_colour("normal", (1, 2, 3))  # another colour, and as visible
    assert alphas()[1] == pytest.approx(layers.NEGATIVE_ALPHA)
    session.display.set_negatives(False)
    session.set_colour("tumour", (1, 2, 3))
    assert alphas() == [0, 0, pytest.approx(layers.POSITIVE_ALPHA)]
    # What the pointer says, and what is written, is as before.
    session.display.point_at((10, 10))
    assert session.display.hovered_text.startswith("normal · probability of tumour 0.00")
    _, meta, _ = labels.as_layer_data_tuple()
    assert shown_colours(meta, ("normal", "tumour")) == {"normal": (1, 2, 3), "tumour": (1, 2, 3)}


def test_negative_points_are_not_coloured_unless_asked(reviewed):
    session, viewer, _ = reviewed(centres=[(30, 30), (60, 100), (90, 40)])  # of probability 0, 0.5 and 1
    (points,) = layers.find(viewer, layers.POINTS)
    assert points.face_color[:, 3].tolist() == [0, 1, 1]
    session.set_threshold(0.7)
    assert points.face_color[:, 3].tolist() == [0, 0, 1]
    session.display.set_negatives(True)
    assert points.face_color[:, 3].tolist() == [1, 1, 1]
    session.display.set_negatives(False)  # it is kept for the windows to come
