"""However the window is closed: a person is asked over running work, a script is not, and a training can go on."""

import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QCloseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_distill2label.gui.dock import DistillToLabel
from napari_distill2label.gui.panels.slides.save_status import CloseGuard
from napari_distill2label.store.checkpoint import load_checkpoint

from .conftest import LONG, TINY


@pytest.fixture
def training(make_unpainted_viewer, qtbot, cohort_csv, tmp_path):
    """(viewer, panel, job) of a training that has ended an epoch, in a window that is seen."""
    viewer = make_unpainted_viewer()
    panel = DistillToLabel(viewer)
    viewer.window.add_dock_widget(panel, name="Distill to Label")
    session = panel.session
    session.read_cohort(cohort_csv)
    session.configure(**TINY | {"teacher": {"epochs": 10_000}})
    job = session.train(tmp_path / "run", wait=False)
    qtbot.waitUntil((tmp_path / "run" / "checkpoints" / "teacher.safetensors").exists, timeout=LONG)
    yield viewer, panel, job
    session.shutdown()


@pytest.fixture
def answer(qtbot):
    """Click a button of the question that comes: `answer("Keep working")` -> the list of questions."""
    timer, asked = QTimer(), []

    def click(text):
        def look():
            for box in QApplication.topLevelWidgets():
                if isinstance(box, QMessageBox) and box.isVisible():
                    asked.append(box.text())
                    (button,) = [each for each in box.buttons() if each.text() == text]
                    QTest.mouseClick(button, Qt.MouseButton.LeftButton)

        timer.timeout.connect(look)
        timer.start(20)
        return asked

    yield click
    timer.stop()


def the_cross(window):
    window.windowHandle().close()  # as the window system says it


def file_close(window):
    window.close()  # napari's own Close, Exit and Ctrl+W come to this, after a question of its own


def test_a_person_is_asked_and_may_keep_working(training, answer):
    _, panel, job = training
    asked = answer("Keep working")
    for number, way in enumerate((the_cross, file_close), 1):
        way(panel.window())
        assert len(asked) == number
        assert asked[-1].startswith("Training is under way. Closing the window stops it.")
        assert "Resume" in asked[-1]
        assert panel.window().isVisible()
        assert job.state == "running"


def test_a_person_may_stop_the_work_and_close(training, answer):
    _, panel, _ = training
    window = panel.window()
    (guard,) = window.findChildren(CloseGuard)
    asked, event = answer("Stop and close"), QCloseEvent()
    panel.session.load_model("nothing", wait=False)
    assert guard.eventFilter(window, event) is False  # napari goes on to close
    assert event.isAccepted()
    assert "1 more waits and will not be begun" in asked[0]
    panel.session.cancel(panel.session.jobs.queue[0])
    panel.session.jobs.shutdown()
    assert guard.eventFilter(window, event) is False
    assert len(asked) == 1  # nothing is going on any more


def test_a_script_is_not_asked_and_the_run_goes_on_later(training, answer, qtbot, tmp_path, make_napari_viewer):
    viewer, panel, job = training
    asked, session = answer("Keep working"), panel.session
    del panel
    viewer.close()
    qtbot.waitUntil(lambda: job.state == "cancelled", timeout=LONG)
    assert job.finished.is_set()
    assert not asked
    assert not session.jobs.busy
    epoch = load_checkpoint(tmp_path / "run" / "checkpoints" / "teacher.safetensors").epoch
    panel = DistillToLabel(make_napari_viewer())
    settings = panel.session.configure(**TINY | {"teacher": {"epochs": epoch + 1}})
    run = panel.session.resume(tmp_path / "run", settings)
    assert (run.folder / "student" / "card.md").exists()
    assert load_checkpoint(run.checkpoint("teacher")).epoch == epoch + 1
    panel.session.shutdown()
