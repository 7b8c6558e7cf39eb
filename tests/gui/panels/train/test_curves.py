"""Curves show what they are given, in the theme's colours, and never a colour alone."""

import math
import subprocess
import sys

import pytest

from napari_distill2label.gui import get_session
from napari_distill2label.gui.panels.train.curves import MARKS, NO_AUROC, NO_BREAK, CurvesView, readable

LONG = 20_000  # ms
TEACHER = {
    "epoch": [1.0, 2.0, 3.0], "loss": [3.0, 2.0, 1.0], "loss_class": [0.7, 0.6, 0.5],
    "valid_loss": [0.7, math.nan, 0.8], "valid_auroc": [0.5, 0.75, 1.0],
}  # fmt: skip
STUDENT = {"epoch": [1.0], "loss": [0.9], "loss_instance": [0.25]}


@pytest.fixture
def view(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    made = CurvesView(get_session(viewer))
    made.viewer = viewer
    viewer.window.add_dock_widget(made, name="curves")
    yield made
    get_session(viewer).shutdown()


def drawn(view, qtbot):
    qtbot.waitUntil(lambda: bool(view.plots), timeout=LONG)
    view.draw()
    return [[list(zip(*item.getData(), strict=True)) for item in plot.listDataItems()] for plot in view.plots]


def words(label):
    return label.text().replace(NO_BREAK, " ")


def test_importing_the_panel_does_not_import_pyqtgraph():
    code = "import sys, napari_distill2label.gui.panels.train.curves; assert 'pyqtgraph' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_to_show_takes_no_room(view):
    view.show_training({"teacher": TEACHER}, {}, {})
    assert not view.isHidden()
    view.show_training({}, {}, {})
    assert view.isHidden()


def test_one_training(view, qtbot):
    view.show_training({"teacher": TEACHER}, {"teacher": 2}, {"teacher": 16})
    assert drawn(view, qtbot)[0] == [[(1, 3), (2, 2), (3, 1)], [(1, 0.7), (3, 0.8)]]
    assert "slide label" not in words(view.losses)
    view.parts.click()
    losses, auroc = drawn(view, qtbot)
    assert losses == [
        [(1, 3), (2, 2), (3, 1)],
        [(1, 0.7), (2, 0.6), (3, 0.5)],
        [(1, 0.7), (3, 0.8)],  # an epoch without a value is left out
    ]
    assert auroc == [[(1, 0.5), (2, 0.75), (3, 1)]]
    for text in ("total 1.000", "slide label 0.500", "validation 0.800"):
        assert text in words(view.losses)
    assert "validation slides 1.000" in words(view.auroc)
    assert view.plots[0].viewRange()[0][1] == pytest.approx(16, abs=1)
    assert [line.value() for plot in view.plots for line in plot.items if hasattr(line, "value")] == [2, 2]
    axes = [plot.getAxis(side) for plot in view.plots for side in ("left", "bottom")]
    assert [axis.labelText for axis in axes if axis.label.isVisible()] == ["loss", "AUROC", "epoch"]


def test_it_follows_the_model_in_training_unless_told_otherwise(view, qtbot):
    view.show_training({"teacher": TEACHER}, {}, {})
    assert view.network.currentText() == "teacher"
    both = {"teacher": TEACHER, "oof-1": STUDENT, "student": STUDENT}
    view.show_training(both, {}, {})
    assert view.network.currentText() == "student"
    view.parts.click()
    losses, _ = drawn(view, qtbot)
    assert losses == [[(1, 0.9)], [(1, 0.25)]]
    assert "teacher, patches 0.250" in words(view.losses)
    assert view.auroc.text() == NO_AUROC
    assert not view.plots[1].isVisible()
    assert view.plots[0].getAxis("bottom").label.isVisible()
    view.network.setCurrentIndex(view.network.findText("helper model 1"))
    view.network.activated.emit(view.network.currentIndex())
    view.show_training(both, {}, {})
    assert view.network.currentText() == "helper model 1"


def test_runs_over_one_another(view, qtbot):
    view.show_runs({"a & b": {"teacher": TEACHER}, "second": {"teacher": TEACHER | {"valid_loss": [1.0, 1.0, 1.0]}}})
    losses, auroc = drawn(view, qtbot)
    assert losses == [[(1, 0.7), (3, 0.8)], [(1, 1), (2, 1), (3, 1)]]
    assert len(auroc) == 2
    assert "a &amp; b 0.800" in words(view.losses)
    assert "second 1.000" in words(view.losses)
    assert view.title.text() == "Compared"


def test_many_lines_differ_in_more_than_colour(view, qtbot):
    view.show_runs({f"run {index}": {"teacher": TEACHER} for index in range(7)})
    drawn(view, qtbot)
    pens = [item.opts["pen"] for item in view.plots[0].listDataItems()]
    assert len({(pen.color().name(), pen.style()) for pen in pens}) == 7
    assert MARKS[0] in view.losses.text()


def test_it_follows_the_theme(view, qtbot):
    view.show_training({"teacher": TEACHER}, {}, {})
    drawn(view, qtbot)
    dark = view._view.backgroundBrush().color().lightness()
    view.viewer.theme = "light"
    qtbot.waitUntil(lambda: view._view.backgroundBrush().color().lightness() > dark + 100)
    view.viewer.theme = "dark"
    qtbot.waitUntil(lambda: view._view.backgroundBrush().color().lightness() == dark)


@pytest.mark.parametrize("ground", ["#23242b", "#ebe7e6", "#000000", "#ffffff"])
@pytest.mark.parametrize("colour", [(240, 228, 66), (0, 114, 178), (213, 94, 0), (255, 255, 255)])
def test_lines_stand_out_from_their_ground(colour, ground):
    def luminance(parts):
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in (part / 255 for part in parts)]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    under = [int(ground[start : start + 2], 16) for start in (1, 3, 5)]
    dark, light = sorted((luminance(readable(colour, ground)), luminance(under)))
    assert (light + 0.05) / (dark + 0.05) >= 3
