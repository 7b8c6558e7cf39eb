"""The dock widget in a real viewer: the whole way by clicks and keys, and what must not happen on it."""

import gc
import shutil
import subprocess
import sys
import threading
import weakref

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QApplication, QComboBox, QLabel, QSlider

from napari_distill2label.core.events import Progress, Task
from napari_distill2label.gui import get_session, open_window
from napari_distill2label.gui.canvas import layers
from napari_distill2label.gui.dock import WIDTH, DistillToLabel
from napari_distill2label.gui.widgets.controls import WHEEL_SPEED
from napari_distill2label.gui.widgets.error_report import versions
from napari_distill2label.gui.widgets.steps import DONE, NEXT, RUNNING, mark_of, next_step

from .conftest import LONG, TINY, click

TRAIN = "napari_distill2label.workflow.commands.train.train"


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


def idle(panel):
    return lambda: not panel.session.jobs.busy


def slow_work(seen, error=None):
    """Work that goes on until it is closed, or fails."""

    def work(*args, **kwargs):
        try:
            for step in range(10_000):
                seen.append(step)
                threading.Event().wait(0.01)
                yield Progress(Task.TRAIN, step % 50, 50, "teacher", 1, 1)
                if error is not None and step == 3:
                    raise error
        finally:
            seen.append(threading.current_thread())

    return work


def test_the_whole_way_by_clicks_and_keys(make_napari_viewer, qtbot, cohort_csv, tmp_path):
    viewer = make_napari_viewer(show=True)
    panel = DistillToLabel(viewer)
    viewer.window.add_dock_widget(panel, name="Distill to Label")
    session = panel.session
    session.configure(**TINY)
    with qtbot.waitActive(panel.window(), timeout=LONG):
        panel.window().activateWindow()
    assert panel.steps["slides"].is_open
    assert not panel.steps["train"].is_open
    assert not panel.train.train.isEnabled()
    panel.slides.ask_files = lambda *args: [str(path) for path in sorted((cohort_csv.parent / "slides").iterdir())]
    click(qtbot, panel.slides.add)
    qtbot.waitUntil(lambda: session.shown == "slide_000", timeout=LONG)

    # Labels by keys alone: a digit, and on to the next slide.
    panel.slides.table.setFocus()
    for number, row in enumerate(session.cohort):
        qtbot.waitUntil(lambda row=row: session.shown == row.slide_id, timeout=LONG)
        qtbot.keyClick(
            panel.slides.table, Qt.Key.Key_1 if number % 2 == 0 else Qt.Key.Key_2, Qt.KeyboardModifier.AltModifier
        )
        qtbot.keyClick(panel.slides.table, Qt.Key.Key_Right, Qt.KeyboardModifier.AltModifier)
    assert [row.label for row in session.cohort] == ["normal", "tumour"] * 4

    qtbot.waitUntil(lambda: panel.steps["train"].is_open)  # what is next opens by itself
    panel.train.folder.setText(str(tmp_path / "a run"))
    click(qtbot, panel.train.train)
    assert panel.train.train.text() == "Cancel"
    assert panel.status.current.isVisibleTo(panel)
    qtbot.waitUntil(lambda: panel.steps["train"].header.mark.text() == "…")
    qtbot.waitUntil(idle(panel), timeout=LONG)
    assert panel.status.text.text().startswith("Training: done")
    assert "validation" in panel.status.details.toPlainText()  # eight slides are few, and this is said
    assert (tmp_path / "a run" / "student" / "config.json").exists()

    qtbot.waitUntil(lambda: panel.steps["predict"].is_open)
    panel.predict.slides.setCurrentText("all slides")
    click(qtbot, panel.predict.predict)
    qtbot.waitUntil(lambda: not session.jobs.busy and len(session.predictions) == 8, timeout=LONG)
    assert layers.find(viewer, layers.LABELS)
    before = session.threshold
    qtbot.keyClick(panel, Qt.Key.Key_PageUp, Qt.KeyboardModifier.AltModifier)
    assert session.threshold == pytest.approx(before + 0.01, abs=0.006)  # steps are whole hundredths

    click(qtbot, panel.steps["export"].header)
    assert panel.export.isVisible()
    panel.export.folder.setText(str(tmp_path / "out"))
    panel.export.formats["png"].setChecked(False)
    qtbot.waitUntil(panel.export.export.isEnabled)
    click(qtbot, panel.export.export)
    qtbot.waitUntil(lambda: not session.jobs.busy and bool(session.exported), timeout=LONG)
    assert (
        len(list((tmp_path / "out").glob("[!.]*"))) == 8 * 4
    )  # a table has the file beside it that says where it comes from
    qtbot.waitUntil(lambda: str(tmp_path / "out") in panel.export.result.text())
    opened = []
    panel.export.open_folder = opened.append
    click(qtbot, panel.export.reveal)
    assert opened == [session.exported[0]]
    qtbot.waitUntil(lambda: panel.steps["export"].header.mark.text() == "✓")
    session.shutdown()


def test_cancel_in_the_middle(panel, qtbot, cohort_csv, monkeypatch):
    seen = []
    monkeypatch.setattr(TRAIN, slow_work(seen))
    panel.session.read_cohort(cohort_csv)
    panel.session.train(wait=False)
    qtbot.waitUntil(lambda: len(seen) > 5)
    qtbot.waitUntil(lambda: panel.status.bar.maximum() == 50)
    wheels = [label.movie() for label in panel.window().findChildren(QLabel) if label.movie() is not None]
    assert [wheel.speed() for wheel in wheels] == [WHEEL_SPEED]  # every picture of napari's draws the whole window
    click(qtbot, panel.status.current.cancel)
    assert panel.train.train.text() == "Cancelling…"
    assert not panel.train.train.isEnabled()
    assert not panel.status.current.cancel.isEnabled()
    qtbot.waitUntil(idle(panel))
    assert seen[-1] is not threading.main_thread()  # closed, and in the worker's thread
    assert panel.status.text.text() == "Training: cancelled"
    assert not panel.status.current.isVisibleTo(panel)
    assert panel.train.train.text() == "Train"


@pytest.mark.parametrize("kind", ["runtime", "memory"])
def test_an_error_in_the_worker_is_shown_and_the_panel_goes_on(panel, qtbot, cohort_csv, monkeypatch, kind):
    import torch

    error = RuntimeError("boom") if kind == "runtime" else torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(TRAIN, slow_work([], error))
    panel.session.read_cohort(cohort_csv)
    panel.session.train(wait=False)
    qtbot.waitUntil(idle(panel))
    card = panel.status.card
    assert ("boom" if kind == "runtime" else "out of memory") in card.text.text()
    assert card.is_error
    assert card.sign.isVisibleTo(panel)
    assert card.fold.isVisibleTo(panel)
    assert not card.details.isVisibleTo(panel)  # folded
    assert "Traceback" in card.details.toPlainText()
    click(qtbot, card.copy)
    copied = QApplication.clipboard().text()
    assert card.text.text() in copied
    assert "Traceback" in copied
    assert "napari-distill2label" in copied
    panel.session.add_slides([])  # other work goes on
    panel.status.show_text("something else")
    assert card.is_error  # until it is closed, or tried again
    assert panel.train.train.isEnabled()
    monkeypatch.setattr(TRAIN, slow_work(seen := []))
    panel.session.train(wait=False)
    qtbot.waitUntil(lambda: len(seen) > 2)
    qtbot.waitUntil(lambda: not card.isVisibleTo(panel))


def test_an_error_can_be_closed_and_tried_again(panel, qtbot):
    again = []
    panel.status.card.show_message("it failed", "details", error=True, retry=lambda: again.append(1))
    click(qtbot, panel.status.card.retry)
    assert again == [1]
    assert not panel.status.card.isVisibleTo(panel)
    panel.status.show_problem("no such file")
    click(qtbot, panel.status.card.close_card)
    assert not panel.status.card.isVisibleTo(panel)


def test_steps_fold_and_it_is_remembered(panel, viewer, qtbot):
    step = panel.steps["export"]
    assert not step.is_open
    click(qtbot, step.header)
    assert step.is_open
    assert step.panel.isVisibleTo(panel)
    qtbot.keyClick(panel.steps["slides"].header, Qt.Key.Key_Return)
    assert not panel.steps["slides"].is_open
    again = DistillToLabel(viewer)
    assert again.steps["export"].is_open
    assert not again.steps["slides"].is_open
    again.steps["train"].offer()
    assert again.steps["train"].is_open
    click(qtbot, again.steps["train"].header)
    again.steps["train"].offer()  # it was folded by hand
    assert not again.steps["train"].is_open
    again.deleteLater()


def test_headers_say_how_things_stand(panel, qtbot, cohort_csv, run_folder, monkeypatch, tmp_path):
    session = panel.session
    run = shutil.copytree(run_folder, tmp_path / "run", ignore=shutil.ignore_patterns("predictions"))
    assert (next_step(session), mark_of("slides", session), mark_of("train", session)) == ("slides", NEXT, "")
    session.read_cohort(cohort_csv)
    assert (next_step(session), mark_of("slides", session), mark_of("train", session)) == ("train", DONE, NEXT)
    monkeypatch.setattr(TRAIN, slow_work(seen := []))
    session.train(wait=False)
    qtbot.waitUntil(lambda: len(seen) > 2)
    assert mark_of("train", session) == RUNNING
    header = panel.steps["train"].header
    qtbot.waitUntil(lambda: header.said.startswith("teacher: epoch 1 of 1, "))
    assert header.accessibleName().startswith("2  Train: at work, teacher")
    session.cancel()
    qtbot.waitUntil(idle(panel))
    session.load_model(run)
    assert (next_step(session), mark_of("train", session), mark_of("predict", session)) == ("predict", DONE, NEXT)
    qtbot.waitUntil(lambda: panel.steps["predict"].header.mark.text() == "●")
    assert panel.steps["export"].header.beside.text() == "nothing to export yet"


def test_two_widgets_share_the_session(panel, viewer, qtbot, cohort_csv):
    other = DistillToLabel(getattr(viewer, "__wrapped__", viewer))
    viewer.window.add_dock_widget(other, name="Distill to Label (2)")
    assert other.session is panel.session
    panel.session.read_cohort(cohort_csv)
    for each in (panel, other):
        assert each.slides.table.model().rowCount() == 8
    panel.session.project.history.push("a change", lambda: None, lambda: None)
    assert other.undo.isEnabled()
    viewer.window.remove_dock_widget(other)
    other.deleteLater()
    qtbot.wait(50)
    panel.session.set_threshold(0.2)  # nobody calls into the widget that is gone
    getattr(viewer, "__wrapped__", viewer).theme = "light"
    assert len(panel.session.cohort) == 8


@pytest.mark.parametrize("start", ["cohort", "run", "nothing", "missing"])
def test_open_window(make_napari_viewer, qtbot, monkeypatch, cohort_csv, run_folder, start):
    monkeypatch.setattr("napari.Viewer", lambda: make_napari_viewer())
    path = {"cohort": cohort_csv, "run": run_folder, "nothing": None, "missing": cohort_csv.with_name("no.csv")}[start]
    session = get_session(open_window(path))
    slides = 8 if start in ("cohort", "run") else 0
    qtbot.waitUntil(lambda: not session.jobs.busy and len(session.cohort) == slides, timeout=LONG)
    assert (session.model is not None) == (start == "run")
    session.shutdown()


def test_waiting_from_the_console_keeps_the_window_alive(panel, qtbot, run_folder):
    from qtpy.QtCore import QTimer

    beats, timer = [], QTimer()
    timer.timeout.connect(lambda: beats.append(1))
    timer.start(5)
    model = panel.session.load_model(run_folder)
    assert model.classes == ("normal", "tumour")
    assert beats


def test_closing_the_viewer_stops_the_work(make_napari_viewer, qtbot, cohort_csv, monkeypatch):
    seen = []
    monkeypatch.setattr(TRAIN, slow_work(seen))
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
    panel.show_help()
    session, widget = weakref.ref(panel.session), weakref.ref(panel)
    viewer.close()
    del panel, viewer
    qtbot.wait(50)
    gc.collect()
    assert session() is None
    assert widget() is None


def test_closing_the_dock_loses_nothing(panel, viewer, cohort_csv, qtbot):
    panel.session.read_cohort(cohort_csv)
    session = panel.session
    viewer.window.remove_dock_widget(panel)
    panel.deleteLater()
    qtbot.wait(20)
    again = DistillToLabel(viewer)
    viewer.window.add_dock_widget(again)
    assert again.session is session
    assert again.slides.table.model().rowCount() == 8


def test_every_control_has_a_tooltip_and_a_name(panel, cohort_csv):
    panel.session.read_cohort(cohort_csv)
    for kind in (QAbstractButton, QAbstractSpinBox, QComboBox, QSlider):
        for control in panel.findChildren(kind):
            if control.objectName().startswith("qt_") or "QTableCornerButton" in control.metaObject().className():
                continue
            name = control.accessibleName() or (control.text() if isinstance(control, QAbstractButton) else "")
            assert name, control
            assert control.toolTip() or "Collapsible" in type(control.parent()).__name__, name


def test_it_fits_a_small_screen(make_napari_viewer, qtbot, cohort_csv, run_folder):
    """1366 × 768 px: nothing is cut off sideways, and the window may be as low as that."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1366, 768)
    panel = DistillToLabel(viewer)
    viewer.window.add_dock_widget(panel, area="right")
    panel.session.read_cohort(cohort_csv)
    panel.session.load_model(run_folder)
    panel.session.predict("slide_000")  # one column more, and longer headers
    for step in panel.steps.values():
        step.set_open(True)
    panel.window().resizeDocks([panel.parent()], [WIDTH], Qt.Orientation.Horizontal)
    qtbot.waitUntil(lambda: panel.width() == WIDTH, timeout=LONG)
    assert panel.slides.table.horizontalScrollBar().maximum() == 0
    for step in panel.steps.values():
        for said in (step.header.beside, step.header.below):
            room = said.contentsRect
            qtbot.waitUntil(lambda s=said, r=room: s.fontMetrics().horizontalAdvance(s.text()) <= r().width())
    assert panel.minimumSizeHint().height() < 500
    content = panel.scroll_area.widget()
    assert content.minimumSizeHint().width() <= panel.scroll_area.viewport().width()
    for label in content.findChildren(QLabel):
        if label.isVisible() and label.text() and type(label) is QLabel and not label.wordWrap():
            assert label.width() >= label.minimumSizeHint().width(), label.text()
    assert panel.research_use.text().startswith("For research use only")
    panel.session.shutdown()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_its_colours_are_the_themes(panel, viewer, theme):
    from napari.utils.theme import get_theme

    raw = getattr(viewer, "__wrapped__", viewer)
    raw.theme = "light" if theme == "dark" else "dark"
    raw.theme = theme
    assert get_theme(theme).foreground.as_hex() in panel.styleSheet()
    assert get_theme(theme).error.as_hex() in panel.styleSheet()


@pytest.mark.parametrize("path", ["teacher.epochs", "teacher.noise_ratio"])  # the second is made when it is looked for
def test_the_wheel_does_not_change_values(panel, path):
    box = panel.train.form.row_of(path).editor.widget
    before = box.value()
    event = QWheelEvent(
        QPointF(5, 5), QPointF(5, 5), QPoint(0, 120), QPoint(0, 120), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(box, event)
    assert box.value() == before
    boxes = [box for kind in (QAbstractSpinBox, QComboBox) for box in panel.findChildren(kind)]
    assert {box.focusPolicy() for box in boxes} <= {Qt.FocusPolicy.StrongFocus, Qt.FocusPolicy.NoFocus}
    assert all(label.textFormat() != Qt.TextFormat.AutoText for label in panel.findChildren(QLabel))


def test_the_session_is_in_the_console(viewer, panel):
    raw = getattr(viewer, "__wrapped__", viewer)
    backlog = raw.window._qt_viewer.console_backlog
    assert any("session" in entry for entry in backlog)
    assert get_session(viewer) is panel.session


def test_the_widget_is_imported_without_the_heavy_packages():
    """What makes opening the dock slow is not imported with it."""
    code = "import napari_distill2label.gui.dock, sys; print(*sorted(name.split('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "openslide", "matplotlib", "pyqtgraph", "sklearn", "zarr", "pandas", "dask"} & set(
        done.stdout.split()
    )
    assert "Python" in versions()
