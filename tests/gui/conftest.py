"""Isolate napari from the user's own settings before anything imports it, and draw a tiny cohort."""

import functools
import gc
import json
import os
import tempfile
import threading

_HOME = tempfile.mkdtemp(prefix="napari-home-")
os.environ["NAPARI_CONFIG"] = os.path.join(_HOME, "settings.yaml")
os.environ["NAPARI_ASYNC"] = "0"
for _name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
    os.environ[_name] = _HOME

import shutil  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402

from napari_distill2label.core.events import drain  # noqa: E402
from napari_distill2label.core.settings import PatchSettings  # noqa: E402

TINY = {
    "teacher": {"epochs": 1}, "oof": {"epochs": 1}, "student": {"epochs": 1},
    "architecture": {"hidden_dim": 16, "attention_dim": 8}, "device": "cpu",
}  # fmt: skip


LONG = 60_000  # ms; two busy cores


def click(qtbot, button):
    """A real click on a control that can be clicked; a box is ticked at its left end, not in the room beside it."""
    from qtpy.QtCore import QPoint, Qt

    assert button.isEnabled(), button.toolTip()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton, pos=QPoint(8, button.height() // 2))


def open_cohort(session, cohort):
    """Slides in place of those there are, as from a table."""
    from napari_distill2label.gui.project.open_slides import OpenSlides

    session.swap.start(OpenSlides(cohort, cohort, session.project.table))


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("gui")


def pytest_sessionfinish():
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def _what_there_was_is_no_garbage():
    """After every window napari's fixture collects garbage: it need not look through all older objects each time."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_napari():
    """For every window napari's fixture would read all manifests of plugins again, and save the settings five times."""
    import napari.plugins
    from napari.settings import get_settings

    napari.plugins._initialize_plugins()
    napari.plugins._initialize_plugins = functools.cache(lambda: None)
    get_settings()._save_on_change = False


@pytest.fixture(autouse=True)
def _new_user(tmp_path_factory):
    """No test finds the steps as another left them, nor what the window kept beside the slides or for recovery."""
    from napari_distill2label.gui.widgets.window_state import window_state

    window_state().clear()
    yield
    for cohort in tmp_path_factory.getbasetemp().glob("a cohort*"):
        for kept in (*cohort.glob("cohort.d2l*"), *cohort.glob("*corrections*.csv")):
            kept.unlink()
        for name in ("cohort.tissue", "cohort.regions"):
            shutil.rmtree(cohort / name, ignore_errors=True)


@pytest.fixture(scope="session")
def cohort_csv(tmp_path_factory) -> Path:
    """Eight drawn slides of 135 × 162 px, 0.5 µm/px, with labels."""
    from napari_distill2label.slides.synthetic import write_cohort

    return write_cohort(tmp_path_factory.mktemp("a cohort"), 8, shape=(135, 162))


@pytest.fixture(scope="session")
def _trained_run(cohort_csv, tmp_path_factory) -> Path:
    from napari_distill2label.core.presets import build_settings
    from napari_distill2label.store.cohort import Cohort
    from napari_distill2label.workflow.commands.train import train

    folder = tmp_path_factory.mktemp("run") / "tiny run"
    return drain(train(Cohort.read(cohort_csv), folder, build_settings(overrides=TINY))).folder


@pytest.fixture
def run_folder(_trained_run, tmp_path_factory) -> Path:
    """A run trained on `cohort_csv` with tiny settings: each test has a copy, which a window may write to."""
    return shutil.copytree(_trained_run, tmp_path_factory.mktemp("run") / _trained_run.name)


@pytest.fixture
def make_unpainted_viewer(make_napari_viewer):
    """Makes a shown window whose canvas paints nothing, for tests of what lies beside it: painting takes a third."""

    def make():
        viewer = make_napari_viewer(show=True)
        viewer.window._qt_viewer.canvas.native.setUpdatesEnabled(False)
        return viewer

    return make


@pytest.fixture
def session():
    """The session of a viewer without a window, in which long work blocks."""
    from napari.components import ViewerModel

    from napari_distill2label.gui import get_session

    viewer = ViewerModel()
    made = get_session(viewer)
    yield made
    made.shutdown()


@pytest.fixture
def reviewed(tmp_path, make_patch_map):
    """Makes (session, viewer, patch map): a slide of 6 × 8 patches of 20 px is shown, with a prediction over it.

    `probability` (6, 8) is that of tumour, or (6, 8, C).
    """
    import numpy as np
    from napari.components import ViewerModel
    from PIL import Image

    from napari_distill2label.gui import get_session

    alive = []

    def make(viewer=None, probability=None, name="slide", **grid):
        viewer = ViewerModel() if viewer is None else viewer
        alive.append(viewer)
        path = tmp_path / f"{name}.png"
        if not path.exists():
            pixels = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
            Image.fromarray(pixels).save(path)
        session = get_session(viewer)
        session.add_slides(path)
        session.show(name)
        session.project.network = "student"
        if probability is not None and probability.ndim == 2:
            probability = np.stack([1 - probability, probability], -1)
        patch_map = make_patch_map((120, 160), probability, size_px=20, **grid)
        session.project.take_maps([patch_map])
        return session, viewer, patch_map

    return make


@pytest.fixture(scope="session")
def feature_folder(cohort_csv, tmp_path_factory) -> Path:
    """Features of the slides of `cohort_csv`, 24 of each of 5 × 6 patches; half of a tumour slide's stand out."""
    import numpy as np

    from napari_distill2label.core.geometry import PatchGrid
    from napari_distill2label.store.cohort import Cohort
    from napari_distill2label.store.maps.feature_map import FeatureMap

    folder, rng = tmp_path_factory.mktemp("features é"), np.random.default_rng(0)
    grid = PatchGrid.over((135, 162), PatchSettings(size_px=27), (0.5, 0.5))
    for row in Cohort.read(cohort_csv):
        found = FeatureMap.open_or_create(folder / f"{row.slide_id}.zarr", grid, 24, {"encoder": "of a test"})
        for block in grid.blocks(1000):
            values = rng.normal(size=(len(block.corners), 24)).astype(np.float32)
            if row.label == "tumour":
                values[::2, :6] += 4.0
            found.write(block, values)
    return folder


@pytest.fixture
def described(tmp_path):
    """Makes an encoder's file that cannot be run, with a JSON beside it."""

    def make(name="Encoder ü", **about):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(b"")
        path.with_suffix(".json").write_text(json.dumps({"name": name, "features": 1536} | about))
        return path

    return make


class Held:
    """A function whose first call waits: `begun`, until `go`; then it has `ended`, for good or bad."""

    def __init__(self, function):
        self.begun, self.go, self.ended = threading.Event(), threading.Event(), threading.Event()
        self._function, self._is_first = function, True

    def __call__(self, *args, **kwargs):
        if not self._is_first:
            return self._function(*args, **kwargs)
        self._is_first = False
        self.begun.set()
        assert self.go.wait(LONG / 1000)
        try:
            return self._function(*args, **kwargs)
        finally:
            self.ended.set()


@pytest.fixture
def hold(monkeypatch):
    """Makes the first call of a module's function wait, in whichever thread: `hold(module, "name")` -> `Held`."""
    made = []

    def make(module, name):
        made.append(Held(getattr(module, name)))
        monkeypatch.setattr(module, name, made[-1])
        return made[-1]

    yield make
    for each in made:
        each.go.set()
