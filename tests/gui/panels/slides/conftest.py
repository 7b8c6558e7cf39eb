"""Step 1 in a real window, and what its tests do with the table."""

import shutil

import pytest
from qtpy.QtCore import QItemSelectionModel, Qt

from napari_distill2label.gui.panels.slides.model import NAME
from napari_distill2label.gui.panels.slides.panel import SlidesPanel
from napari_distill2label.gui.session import session_of
from napari_distill2label.gui.widgets.window_state import window_state

LONG = 30_000  # ms; two busy cores


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """No columns remembered, nothing left unsaved by another test."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    window_state().clear()


@pytest.fixture
def viewer(make_unpainted_viewer):
    return make_unpainted_viewer()


@pytest.fixture
def panel(viewer):
    made = SlidesPanel(session_of(viewer))
    viewer.window.add_dock_widget(made, name="slides")
    yield made
    made.disconnect_session()
    made.session.shutdown()


@pytest.fixture
def full(panel, cohort_csv, tmp_path, qtbot):
    """The panel with a cohort of its own, its first slide shown."""
    folder = shutil.copytree(cohort_csv.parent, tmp_path / "a cohort")
    panel.open_path(str(folder / "cohort.csv"))
    qtbot.waitUntil(lambda: panel.session.shown == "slide_000", timeout=LONG)
    return panel


def choose(panel, *rows):
    """Select rows of the table as Ctrl and the mouse do."""
    flags = QItemSelectionModel.SelectionFlag
    panel.table.clearSelection()
    for row in rows:
        panel.table.selectionModel().select(panel.model.index(row, NAME), flags.Select | flags.Rows)


def cell(panel, row, column, role=Qt.ItemDataRole.DisplayRole):
    return panel.model.index(row, column).data(role)


def editor(qtbot, panel, row, column, kind):
    index = panel.model.index(row, column)
    panel.table.setColumnHidden(column, False)
    panel.table.scrollTo(index)
    at = panel.table.visualRect(index).center()
    qtbot.mouseClick(panel.table.viewport(), Qt.MouseButton.LeftButton, pos=at)
    qtbot.mouseDClick(panel.table.viewport(), Qt.MouseButton.LeftButton, pos=at)
    qtbot.waitUntil(lambda: bool(panel.table.viewport().findChildren(kind)), timeout=LONG)
    return panel.table.viewport().findChildren(kind)[0]
