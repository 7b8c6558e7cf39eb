"""A user does anything to the layers, in any order and also while a prediction fills them: nothing is raised, no layer
lies over another slide than its own, and what the user made himself stays as he made it.
"""

import random
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers._layer_actions import _duplicate_layer

from napari_distill2label.core.errors import Distill2LabelError
from napari_distill2label.gui import get_session
from napari_distill2label.gui.canvas import layers
from napari_distill2label.gui.canvas.display import KINDS

ACTIONS = 150  # in one walk
PLACES = ("translate", "scale", "rotate", "shear", "affine")


class User:
    """Chooses what to do by a seed. Actions return nothing; those that are not possible now do nothing."""

    def __init__(self, session, seed: int) -> None:
        self.session, self.viewer = session, session.viewer
        self.random = random.Random(seed)
        self.own: dict = {}  # layers of the user's, with what is in them
        self.did: list[str] = []

    def one(self, found):
        found = list(found)
        return self.random.choice(found) if found else None

    def act(self, among: "list[Callable] | None" = None) -> None:
        action = self.one(among or self.everything)
        self.did.append(action.__name__)
        with suppress(Distill2LabelError):  # told to the user: not possible now
            action()
        self.check()

    @property
    def everything(self) -> "list[Callable]":
        return [*self.harmless, self.show_slide, self.predict, self.undo, self.redo, self.remove_slide, self.open_again]

    @property
    def harmless(self) -> "list[Callable]":
        """What may happen while a prediction goes on."""
        return [
            self.move, self.remove, self.clear, self.rename, self.reorder, self.lock, self.units, self.duplicate,
            self.paint, self.correct, self.click, self.threshold, self.look, self.eye, self.colour, self.opacity,
            self.metadata, self.add_own, self.point, self.tissue,
        ]  # fmt: skip

    # ---- in napari ----

    def move(self):
        layer, name = self.one(self.viewer.layers), self.one(PLACES)
        if layer is None or layer.ndim != 2:
            return
        angle = self.random.uniform(-180, 180)
        value = {
            "translate": (self.random.uniform(-50, 50), self.random.uniform(-50, 50)),
            "scale": (self.random.uniform(0.2, 3), self.random.uniform(0.2, 3)),
            "rotate": angle,
            "shear": [self.random.uniform(-0.5, 0.5)],
            "affine": np.array([[0.9, 0.1, 5], [-0.2, 1.1, -3], [0, 0, 1]]),
        }[name]
        setattr(layer, name, value)
        if layer in self.own:
            self.own[layer] = self.state(layer)

    def remove(self):
        layer = self.one(self.viewer.layers)
        if layer is not None:
            self.own.pop(layer, None)
            self.viewer.layers.remove(layer)

    def clear(self):
        if self.random.random() < 0.2:
            self.own.clear()
            self.viewer.layers.clear()

    def rename(self):
        if layer := self.one(self.viewer.layers):
            layer.name = self.one(("labels", "slide", "a · labels (student)", "<b>x</b>"))

    def reorder(self):
        if n := len(self.viewer.layers):
            self.viewer.layers.move(self.random.randrange(n), self.random.randrange(n))

    def lock(self):
        if layer := self.one(self.viewer.layers):
            layer.editable = self.random.random() < 0.5

    def units(self):
        if layer := self.one(layers.find(self.viewer, layers.SLIDE)):
            layer.units = self.one((("um", "um"), ("mm", "mm"), ("pixel", "pixel")))

    def duplicate(self):
        layer = self.one(self.viewer.layers)
        if layer is None:
            return
        before = set(self.viewer.layers)
        self.viewer.layers.selection = {layer}
        _duplicate_layer(self.viewer.layers)
        (copy,) = set(self.viewer.layers) - before
        if isinstance(copy.data, np.ndarray) and copy.data.dtype == np.uint8:
            copy.editable = True
            copy.data[0, 0] = self.random.randrange(3)
        self.own[copy] = self.state(copy)

    def add_own(self):
        layer = self.viewer.add_labels(np.full((9, 9), self.random.randrange(5), np.uint8))
        self.own[layer] = self.state(layer)

    def metadata(self):
        if layer := self.one(self.viewer.layers):
            layer.metadata = self.one(
                ({}, {"distill2label": None}, {"distill2label": {"role": "labels", "slide_id": "slide_000"}})
            )

    def eye(self):
        if layer := self.one(self.viewer.layers):
            layer.visible = not layer.visible

    def opacity(self):
        if layer := self.one(self.viewer.layers):
            layer.opacity = self.random.random()

    # ---- in the panel and on the canvas ----

    def paint(self):
        layer = self.one(layers.find(self.viewer, layers.CORRECTIONS))
        if layer is not None and layer.editable and layer.data.ndim == 2 and layer.data.dtype == np.uint8:
            layer.paint((self.random.randrange(layer.data.shape[0]), 1), self.random.randrange(3))

    def correct(self):
        self.session.next_uncertain()
        self.session.answer(self.one((*self.session.classes, None)))

    def click(self):
        self.session.canvas.corrections.choose_at((self.random.uniform(-20, 150), self.random.uniform(-20, 150)))

    def point(self):
        self.session.display.point_at((self.random.uniform(-20, 150), self.random.uniform(-20, 150)))
        assert isinstance(self.session.display.hovered_text, str)

    def threshold(self):
        self.session.set_threshold(round(self.random.random(), 2))

    def look(self):
        display = self.session.display
        see = self.random.random() < 0.5
        self.one((display.toggle_overlays, lambda: display.set_visible(self.one(KINDS), see)))()

    def colour(self):
        self.session.set_colour(self.session.classes[1], tuple(self.random.randrange(256) for _ in range(3)))
        self.session.display.set_negatives(self.random.random() < 0.5)

    def tissue(self):
        self.one((self.session.tissue_layer.show, self.session.tissue_layer.hide))()

    def show_slide(self):
        self.session.show(self.one(self.session.cohort).slide_id)

    def predict(self):
        self.session.predict(self.session.shown)

    def undo(self):
        self.session.undo()

    def redo(self):
        self.session.redo()

    def remove_slide(self):
        if len(self.session.cohort) > 4:
            self.session.remove_slides([self.session.cohort.slides[-1].slide_id])

    def open_again(self):
        if self.session.shown:
            self.session.show(self.session.shown, again=True)

    # ---- what is true all the time ----

    @staticmethod
    def state(layer):
        data = layer.data
        kept = np.array(data) if isinstance(data, np.ndarray) else None
        return kept, np.array(layer.translate), np.array(layer.affine.affine_matrix)

    def check(self):
        session, viewer = self.session, self.viewer
        over = layers.find(viewer)
        assert not set(over) & set(self.own)
        for layer, (data, translate, affine) in self.own.items():
            assert layer in viewer.layers
            assert data is None or np.array_equal(layer.data, data, equal_nan=True)  # a copy while it was filled
            assert np.array_equal(layer.translate, translate)
            assert np.array_equal(layer.affine.affine_matrix, affine)
        slides = layers.find(viewer, layers.SLIDE)
        assert len(slides) <= 1
        if session.shown is None or not slides:
            return
        (slide,) = slides
        assert layers.tags_of(slide)["slide_id"] == session.shown
        assert {layers.tags_of(layer)["slide_id"] for layer in over} == {session.shown}
        patch_map = session.display.map
        for layer in over:
            role = layers.tags_of(layer)["role"]
            if role not in (layers.LABELS, layers.CORRECTIONS, *layers.PREDICTED[:3]):
                continue
            patches = session.display.view.patches if session.display.view else patch_map.patches
            corner = np.array(patches.corners_of(np.array([[1, 2]]))[0]) + (patches.side - 1) / 2
            np.testing.assert_allclose(layer.data_to_world((1, 2)), slide.data_to_world(corner), atol=1e-6)
            # Predictions of another model lie in the run too, once other tests have made some.
            own = patch_map is not None and layers.tags_of(layer).get("model") == layers.network_of(patch_map)
            if role == layers.LABELS and own and patch_map.is_complete:
                shown = session.display.view.labels(session.threshold, layers.tags_of(layer)["class_index"])
                assert np.array_equal(layer.data, shown)


@pytest.fixture
def session(cohort_csv, run_folder):
    viewer = ViewerModel()
    made = get_session(viewer)
    made.read_cohort(cohort_csv)
    made.load_model(run_folder)
    made.show("slide_000")
    yield made
    made.display.set_negatives(False)
    made.shutdown()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2, 3))])
def test_anything_in_any_order(session, seed):
    user = User(session, seed)
    session.predict("slide_000")
    for _ in range(ACTIONS):
        user.act()
    session.show("slide_001")
    session.predict("slide_001")
    assert layers.find(session.viewer, layers.LABELS, "slide_001")
    user.check()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))])
def test_anything_while_a_prediction_fills_the_layers(session, seed):
    user = User(session, seed)

    def happen(job, event):
        if job.kind == "predict":
            for _ in range(10):
                user.act(user.harmless)

    session.jobs.event.connect(happen)
    for name in ("slide_000", "slide_001", "slide_000", "slide_002"):
        session.show(name)
        session.predict(name)
        user.check()
    session.jobs.event.disconnect(happen)
    assert len(user.did) > 30
