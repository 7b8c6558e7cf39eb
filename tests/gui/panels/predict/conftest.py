"""The Predict panel in a real viewer. Tests of the other panels make their own."""

import pytest

from napari_distill2label.gui import get_session
from napari_distill2label.gui.panels.predict.panel import PredictPanel


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def panel(viewer):
    session = get_session(viewer)
    made = PredictPanel(session)
    viewer.window.add_dock_widget(made, name="Predict")
    yield made
    made.disconnect_session()
    session.shutdown()
