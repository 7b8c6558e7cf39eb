"""Steps fold by themselves when they are done, say in a line what was done, and never under the user's hand."""

import threading

import pytest

from napari_distill2label.core.events import EpochEnd, Progress, Task
from napari_distill2label.gui.dock import DistillToLabel
from napari_distill2label.gui.widgets.steps import RUNNING, State

from ..conftest import LONG, click

TRAIN = "napari_distill2label.workflow.commands.train.train"


@pytest.fixture
def panel(make_unpainted_viewer, qtbot):
    viewer = make_unpainted_viewer()
    made = DistillToLabel(viewer)
    viewer.window.add_dock_widget(made, name="Distill to Label")
    with qtbot.waitActive(made.window(), timeout=LONG):
        made.window().activateWindow()
    yield made
    made.session.shutdown()


@pytest.fixture
def training(panel, qtbot, cohort_csv, monkeypatch):
    """A panel in which Train was clicked; it trains until it is told to stop, with an epoch that is over."""
    stop = threading.Event()

    def work(*args, **kwargs):
        yield EpochEnd("teacher", 1, 5, {"loss": 0.9}, {"valid_loss": 0.7}, best=True)
        yield EpochEnd("teacher", 2, 5, {"loss": 0.8}, {"valid_loss": 0.8}, best=False)
        while not stop.wait(0.01):
            yield Progress(Task.TRAIN, 1, 50, "teacher", 3, 5)

    monkeypatch.setattr(TRAIN, work)
    panel.session.read_cohort(cohort_csv)
    panel.steps["train"].set_open(True)
    qtbot.waitUntil(panel.train.train.isEnabled, timeout=LONG)
    click(qtbot, panel.train.train)
    qtbot.waitUntil(lambda: "epoch 2" in panel.train.progress.text(), timeout=LONG)
    yield panel
    stop.set()


def stop(panel, qtbot):
    panel.session.cancel()
    qtbot.waitUntil(lambda: not panel.session.jobs.busy, timeout=LONG)


def test_what_goes_on_comes_into_view(training, qtbot):
    panel, step = training, training.steps["train"]
    assert panel.train.progress.text().startswith("Teacher, epoch 2 of 5. Best so far: epoch 1 (validation loss 0.700)")
    assert not panel.train.settings_fold.content.isVisible()
    assert panel.train.now.y() < panel.train.settings_fold.y()
    qtbot.waitUntil(lambda: panel.train.curves.plots != (), timeout=LONG)
    scrolled = panel.scroll_area.verticalScrollBar()
    at_top = lambda: scrolled.value() in (step.y(), scrolled.maximum())  # noqa: E731
    qtbot.waitUntil(at_top, timeout=LONG)
    assert step.header.visibleRegion().boundingRect().height() == step.header.height()


def test_curves_stay_when_it_is_over_until_settings_are_opened(training, qtbot):
    panel = training.train
    stop(training, qtbot)
    assert "Best epoch: 1" in panel.progress.text()
    assert panel.now.y() < panel.settings_fold.y()
    click(qtbot, panel.settings_fold.toggle)
    qtbot.waitUntil(lambda: panel.now.y() > panel.train.y(), timeout=LONG)
    assert panel.settings_fold.content.isVisible()


def test_settings_stay_open_while_they_are_in_use(training, qtbot):
    stop(training, qtbot)
    panel = training.train
    click(qtbot, panel.settings_fold.toggle)
    panel.folder.setFocus()
    panel.session.train(wait=False)
    qtbot.waitUntil(lambda: training.session.jobs.current is not None, timeout=LONG)
    qtbot.wait(100)
    assert panel.settings_fold.content.isVisible()


def test_a_step_that_is_done_shrinks_to_a_line(training, qtbot):
    step = training.steps["slides"]
    assert not step.is_open  # Train was clicked
    assert step.header.accessibleName() == "1  Slides: done, 8 slides, 4 normal, 4 tumour"
    click(qtbot, step.header)
    assert step.is_open
    stop(training, qtbot)
    training.session.train(wait=False)
    qtbot.wait(100)
    assert step.is_open  # the user has opened it again


def test_a_step_in_use_does_not_shrink(panel, qtbot, cohort_csv, monkeypatch):
    panel.session.read_cohort(cohort_csv)
    panel.slides.table.setFocus()
    panel.steps["slides"].shrink()
    assert panel.steps["slides"].is_open
    panel.steps["train"].set_open(True)
    panel.train.folder.setFocus()
    panel.steps["train"].shrink()
    assert panel.steps["train"].is_open  # it is not done
    panel.steps["slides"].shrink()
    assert not panel.steps["slides"].is_open


def test_a_long_line_stands_below_the_title(panel, qtbot, cohort_csv):
    panel.session.read_cohort(cohort_csv)
    step = panel.steps["slides"]
    step.set_open(False)
    panel.slides.headline = lambda: "22 of 23 slides predicted. " + "img12c could not be read. " * 3
    step.refresh()
    assert step.header.below.isVisible()
    assert step.header.beside.text() == ""
    step.set_open(True)
    assert step.header.below.isVisible()
    step.header.show_state(State(RUNNING, step.header.said))  # it changes all the time: nothing may jump
    assert not step.header.below.isVisible()
    assert step.header.beside.text() == step.header.said
    panel.slides.headline = lambda: "short"
    step.set_open(False)
    step.refresh()
    assert not step.header.below.isVisible()
    assert step.header.beside.text() == "short"
