"""The dock widget in a real viewer: clicks on real widgets, work in real threads."""

import gc
import threading
import weakref

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QApplication, QComboBox, QSlider

from napari_distill2label.core.events import Progress
from napari_distill2label.core.settings import Settings
from napari_distill2label.gui import get_session, layers, open_window
from napari_distill2label.gui.forms import setting_paths
from napari_distill2label.gui.slides_model import LABEL, STATUS
from napari_distill2label.gui.widget import DistillToLabel

from .conftest import TINY

LONG = 60_000  # ms; two busy cores


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    return make_napari_viewer_proxy()


@pytest.fixture
def panel(viewer):
    made = DistillToLabel(viewer)
    viewer.window.add_dock_widget(made, name="Distill to Label")
    made.session.configure(**TINY)
    yield made
    made.session.shutdown()


def click(qtbot, button):
    assert button.isEnabled(), button.toolTip()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def idle(panel):
    return lambda: not panel.session.jobs.busy


def slow_work(seen, error=None):
    """Work that goes on until it is closed, or fails."""

    def work(*args, **kwargs):
        try:
            for step in range(10_000):
                seen.append(step)
                threading.Event().wait(0.01)
                yield Progress("teacher: epoch 1", step % 50, 50)
                if error is not None and step == 3:
                    raise error
        finally:
            seen.append(threading.current_thread())

    return work


def test_the_whole_path_by_clicks(panel, viewer, qtbot, cohort_csv, tmp_path):
    session = panel.session
    assert not panel.train.train.isEnabled()
    assert "Add slides" in panel.train.reason.text()
    slides = sorted((cohort_csv.parent / "slides").iterdir())
    panel.slides.ask_files = lambda *args: [str(path) for path in slides]
    click(qtbot, panel.slides.add)
    assert panel.slides.model.rowCount() == 8
    assert session.shown == "slide_000"
    assert layers.find(viewer, layers.SLIDE, "slide_000")
    # Label: one by the table's own combo box, the others by selecting them and pressing a button.
    model = panel.slides.model
    assert model.setData(model.index(1, LABEL), "tumour")
    for label, rows in (("normal", (0, 2, 4, 6)), ("tumour", (3, 5, 7))):
        panel.slides.table.clearSelection()
        selection = panel.slides.table.selectionModel()
        for row in rows:
            selection.select(model.index(row, 0), selection.SelectionFlag.Select | selection.SelectionFlag.Rows)
        index = list(session.classes).index(label)
        click(qtbot, panel.slides.labels.itemAt(index).widget())
    assert "4 normal, 4 tumour" in panel.slides.counts.text()
    panel.slides.ask_save = lambda *args: str(tmp_path / "cohort.csv")
    click(qtbot, panel.slides.save)
    assert (tmp_path / "cohort.csv").exists()

    panel.train.folder.setText(str(tmp_path / "a run"))
    click(qtbot, panel.train.train)
    assert panel.train.train.text() == "Cancel"
    assert not panel.predict.predict.isEnabled()
    qtbot.waitUntil(idle(panel), timeout=LONG)
    assert panel.status.text.text().startswith("Training: done")
    assert "validation" in panel.status.details.toPlainText()  # eight slides are few, and this is said
    assert (tmp_path / "a run" / "student" / "config.json").exists()

    panel.predict.slides.setCurrentText("all slides")
    click(qtbot, panel.predict.predict)
    qtbot.waitUntil(idle(panel), timeout=LONG)
    assert len(session.predictions) == 8
    assert model.data(model.index(0, STATUS)).startswith("tumour 0.")
    (labels,) = layers.find(viewer, layers.LABELS)
    panel.predict.slider.setValue(0)
    assert session.threshold == 0
    assert panel.predict.number.value() == 0
    assert (labels.data == 2).all()
    assert f"{labels.data.size} patches" in panel.predict.legend.text()
    panel.predict.number.setValue(1.0)
    assert panel.predict.slider.value() == 100

    panel.export.folder.setText(str(tmp_path / "out"))
    panel.export.formats["png"].setChecked(False)
    click(qtbot, panel.export.export)
    qtbot.waitUntil(idle(panel), timeout=LONG)
    assert len(list((tmp_path / "out").iterdir())) == 8 * 3
    assert str(tmp_path / "out") in panel.export.result.text()
    opened = []
    panel.export.open_folder = opened.append
    click(qtbot, panel.export.reveal)
    assert opened == [tmp_path / "out"]


def test_selecting_a_row_shows_its_slide(panel, viewer, qtbot, cohort_csv):
    panel.slides.ask_file = lambda *args: str(cohort_csv)
    click(qtbot, panel.slides.open)
    assert panel.slides.selected() == ["slide_000"]
    panel.slides.table.selectRow(3)
    qtbot.waitUntil(lambda: panel.session.shown == "slide_003")
    assert [layers.about(layer)["slide_id"] for layer in viewer.layers] == ["slide_003"]
    panel.session.show("slide_005")
    assert panel.slides.selected() == ["slide_005"]


def test_cancel_in_the_middle(panel, qtbot, cohort_csv, monkeypatch):
    seen = []
    monkeypatch.setattr("napari_distill2label.workflow.train.train", slow_work(seen))
    panel.session.read_cohort(cohort_csv)
    click(qtbot, panel.train.train)
    qtbot.waitUntil(lambda: len(seen) > 5)
    qtbot.waitUntil(lambda: panel.status.bar.maximum() == 50)
    click(qtbot, panel.train.train)
    assert panel.train.train.text() == "Cancelling…"
    assert not panel.train.train.isEnabled()
    qtbot.waitUntil(idle(panel))
    assert seen[-1] is not threading.main_thread()  # closed, and in the worker's thread
    assert panel.status.text.text() == "Training: cancelled"
    assert panel.train.train.text() == "Train"
    assert panel.train.train.isEnabled()


def test_a_cancelled_training_can_go_on(panel, qtbot, cohort_csv, tmp_path):
    panel.session.read_cohort(cohort_csv)
    panel.session.configure(teacher={"epochs": 400})
    panel.train.folder.setText(str(tmp_path / "run"))
    click(qtbot, panel.train.train)
    qtbot.waitUntil(lambda: (tmp_path / "run" / "checkpoints" / "teacher.safetensors").exists(), timeout=LONG)
    click(qtbot, panel.train.train)
    qtbot.waitUntil(idle(panel), timeout=LONG)
    panel.session.configure(teacher={"epochs": 1})
    click(qtbot, panel.train.train)
    qtbot.waitUntil(idle(panel), timeout=LONG)
    assert "already holds a run" in panel.status.text.text()
    panel.train.resume.setChecked(True)
    click(qtbot, panel.train.train)
    qtbot.waitUntil(idle(panel), timeout=LONG)
    assert panel.status.text.text().startswith("Training: done")


@pytest.mark.parametrize("kind", ["runtime", "memory"])
def test_an_error_in_the_worker_is_shown_and_the_panel_goes_on(panel, qtbot, cohort_csv, monkeypatch, kind):
    import torch

    error = RuntimeError("boom") if kind == "runtime" else torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr("napari_distill2label.workflow.train.train", slow_work([], error))
    panel.session.read_cohort(cohort_csv)
    click(qtbot, panel.train.train)
    qtbot.waitUntil(idle(panel))
    assert ("boom" if kind == "runtime" else "out of memory") in panel.status.text.text()
    assert panel.status.fold.isVisibleTo(panel)
    assert "Traceback" in panel.status.details.toPlainText()
    assert panel.train.train.isEnabled()
    monkeypatch.setattr("napari_distill2label.workflow.train.train", slow_work(seen := []))
    click(qtbot, panel.train.train)
    qtbot.waitUntil(lambda: len(seen) > 2)


def test_errors_before_a_job_are_shown_too(panel, qtbot, tmp_path):
    panel.slides.ask_file = lambda *args: str(tmp_path / "missing.csv")
    click(qtbot, panel.slides.open)
    assert "missing.csv" in panel.status.text.text()
    panel.slides.classes.setText("one")
    panel.slides.set_classes()
    assert "two or more" in panel.status.text.text()
    assert panel.slides.classes.text() == "normal, tumour"


def test_two_widgets_share_the_session(panel, viewer, qtbot, cohort_csv):
    other = DistillToLabel(getattr(viewer, "__wrapped__", viewer))
    viewer.window.add_dock_widget(other, name="Distill to Label (2)")
    assert other.session is panel.session
    panel.session.read_cohort(cohort_csv)
    assert other.slides.model.rowCount() == 8
    other.predict.number.setValue(0.7)
    assert panel.predict.slider.value() == 70
    viewer.window.remove_dock_widget(other)
    other.deleteLater()
    qtbot.wait(50)
    panel.session.set_threshold(0.2)  # nobody calls into the widget that is gone
    assert len(panel.session.cohort) == 8


def test_load_a_run(panel, qtbot, run_folder, tmp_path):
    panel.predict.ask_folder = lambda *args: str(tmp_path)
    click(qtbot, panel.predict.load)
    qtbot.waitUntil(idle(panel), timeout=LONG)
    assert "no model bundle" in panel.status.text.text()
    panel.predict.ask_folder = lambda *args: str(run_folder)
    click(qtbot, panel.predict.load)
    qtbot.waitUntil(idle(panel), timeout=LONG)
    assert panel.slides.model.rowCount() == 8
    assert [panel.predict.role.itemText(index) for index in range(2)] == ["student", "teacher"]
    assert panel.session.shown == "slide_000"
    assert panel.predict.predict.isEnabled()


@pytest.mark.parametrize("start", ["cohort", "run", "nothing", "missing"])
def test_open_window(make_napari_viewer, qtbot, monkeypatch, cohort_csv, run_folder, start):
    monkeypatch.setattr("napari.Viewer", lambda: make_napari_viewer())
    path = {"cohort": cohort_csv, "run": run_folder, "nothing": None, "missing": cohort_csv.with_name("no.csv")}[start]
    session = get_session(open_window(path))
    qtbot.waitUntil(lambda: not session.jobs.busy, timeout=LONG)
    assert len(session.cohort) == (8 if start in ("cohort", "run") else 0)
    assert (session.model is not None) == (start == "run")
    session.shutdown()


def test_waiting_from_the_console_keeps_the_window_alive(panel, qtbot, run_folder):
    from qtpy.QtCore import QTimer

    beats, timer = [], QTimer()
    timer.timeout.connect(lambda: beats.append(1))
    timer.start(5)
    model = panel.session.load_bundle(run_folder)
    assert model.classes == ("normal", "tumour")
    assert beats


def test_closing_the_viewer_stops_the_work(make_napari_viewer, qtbot, cohort_csv, monkeypatch):
    seen = []
    monkeypatch.setattr("napari_distill2label.workflow.train.train", slow_work(seen))
    viewer = make_napari_viewer()
    panel = DistillToLabel(viewer)
    viewer.window.add_dock_widget(panel)
    session = panel.session
    session.read_cohort(cohort_csv)
    session.show("slide_000")
    job = session.train(wait=False)
    qtbot.waitUntil(lambda: len(seen) > 3)
    del panel
    viewer.close()
    qtbot.waitUntil(job.finished.is_set)
    assert isinstance(seen[-1], threading.Thread)
    qtbot.waitUntil(lambda: not session.jobs.busy)
    session.shutdown()
    session.shutdown()


def test_the_window_is_freed(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    panel = DistillToLabel(viewer)
    viewer.window.add_dock_widget(panel)
    session = weakref.ref(panel.session)
    viewer.close()
    del panel, viewer
    qtbot.wait(50)
    gc.collect()
    assert session() is None


def test_closing_the_dock_loses_nothing(panel, viewer, cohort_csv, qtbot):
    panel.session.read_cohort(cohort_csv)
    session = panel.session
    viewer.window.remove_dock_widget(panel)
    panel.deleteLater()
    qtbot.wait(20)
    again = DistillToLabel(viewer)
    viewer.window.add_dock_widget(again)
    assert again.session is session
    assert again.slides.model.rowCount() == 8


def test_every_setting_is_in_the_form(panel):
    assert set(panel.train.form.editors) == set(setting_paths())
    assert len(setting_paths()) > 40
    form = panel.train.form.editors
    assert form["grid.patch_px"].value() == Settings().grid.patch_px
    form["grid.patch_px"].setValue(40)
    assert panel.session.settings.grid.patch_px == 40
    form["grid.mpp"].setValue(0.5)
    assert panel.session.settings.grid.mpp == 0.5
    form["grid.mpp"].setValue(form["grid.mpp"].minimum())
    assert panel.session.settings.grid.mpp is None
    form["grid.tissue"].textActivated.emit("otsu")
    assert panel.session.settings.grid.tissue == "otsu"
    panel.train.preset.textActivated.emit("breast")
    assert panel.session.settings.teacher.realizations == 5
    assert form["teacher.realizations"].value() == 5
    panel.train.reset.click()
    assert form["grid.patch_px"].value() == 32
    panel.train.preset.textActivated.emit("wsi")
    assert panel.train.encoder_row.isVisibleTo(panel)


def test_every_control_has_a_tooltip_and_a_name(panel, cohort_csv):
    panel.session.read_cohort(cohort_csv)
    for kind in (QAbstractButton, QAbstractSpinBox, QComboBox, QSlider):
        for control in panel.findChildren(kind):
            if control.objectName().startswith("qt_") or "QTableCornerButton" in control.metaObject().className():
                continue
            name = control.accessibleName() or (control.text() if isinstance(control, QAbstractButton) else "")
            assert name, control
            assert control.toolTip() or "Fold" in type(control.parent()).__name__, name


def test_it_fits_a_small_screen(panel, qtbot):
    assert panel.minimumSizeHint().height() < 500
    assert panel.minimumWidth() <= 400
    assert panel.research_use.text().startswith("For research use only")


def test_the_wheel_does_not_change_values(panel, qtbot):
    box = panel.train.form.editors["teacher.epochs"]
    before = box.value()
    event = QWheelEvent(
        QPointF(5, 5), QPointF(5, 5), QPoint(0, 120), QPoint(0, 120), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(box, event)
    assert box.value() == before


def test_d2l_is_in_the_console(viewer, panel):
    raw = getattr(viewer, "__wrapped__", viewer)
    backlog = raw.window._qt_viewer.console_backlog
    assert any("d2l" in entry for entry in backlog)
    assert get_session(viewer) is panel.session
