"""The Train panel in a real viewer: real clicks, real trainings of tiny networks, real folders."""

import shutil
import threading
from pathlib import Path

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox

from napari_distill2label.core.events import EpochEnd, Progress, Task
from napari_distill2label.core.inputs import Encoder, Inputs
from napari_distill2label.gui import get_session
from napari_distill2label.gui.panels.train.panel import TrainPanel
from napari_distill2label.gui.runner.times import NO_BREAK

from ...conftest import LONG, TINY, click


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    return make_napari_viewer_proxy()


@pytest.fixture
def panel(viewer, qtbot):
    made = TrainPanel(get_session(viewer))
    made.problems = []
    made.problem.connect(made.problems.append)
    viewer.window.add_dock_widget(made, name="Train")
    made.session.configure(**TINY)
    yield made
    made.session.shutdown()
    made.disconnect_session()


@pytest.fixture
def ready(panel, qtbot, cohort_csv):
    """A panel whose slides have been read, and thought about."""
    panel.session.read_cohort(cohort_csv)
    qtbot.waitUntil(lambda: bool(panel.warnings.text()), timeout=LONG)
    return panel


@pytest.fixture
def stopped(run_folder, tmp_path):
    """A run that was stopped after the teacher's first epoch, which is all it was to have."""
    folder = shutil.copytree(run_folder, tmp_path / "stopped run")
    shutil.rmtree(folder / "student")
    for checkpoint in (folder / "checkpoints").iterdir():
        if checkpoint.stem != "teacher":
            checkpoint.unlink()
    history = folder / "history.csv"
    history.write_text("\n".join(history.read_text().splitlines()[:2]) + "\n")
    return folder


def words(label):
    return label.text().replace(NO_BREAK, " ")


def idle(panel):
    return lambda: not panel.session.jobs.busy


def name_folder(panel, qtbot, folder):
    """Type a run folder, and wait until it has been looked at."""
    panel.folder.setText(str(folder))
    qtbot.waitUntil(lambda: panel._there is not None, timeout=LONG)


def test_what_is_missing_is_said_beside_the_button(panel, qtbot, cohort_csv):
    assert panel.reason.text() == "Add slides first."
    assert not panel.train.isEnabled()
    assert panel.headline() == "not trained yet"
    assert not panel.time.isVisibleTo(panel)
    panel.session.read_cohort(cohort_csv)
    assert panel.train.isEnabled()
    panel.session.set_label([row.slide_id for row in panel.session.cohort], "tumour")
    assert "the negative class" in panel.reason.text()


def test_what_is_unwise_is_said_beside_it_too(ready, qtbot, cohort_csv):
    assert "only 6 slides to train on" in ready.warnings.text()
    assert "No slide is held out for validation" in ready.warnings.text()
    assert ready.train.isEnabled()
    assert ready.folder.placeholderText() == str(cohort_csv.parent / "distill2label_run")


def test_a_case_in_two_splits_stops_it_before_it_starts(ready, qtbot, tmp_path):
    rows = ["slide_id,path,label,case_id,split"]
    splits = ("train", "test", "train", "train", "valid", "valid", "train", "train")
    for number, (row, split) in enumerate(zip(ready.session.cohort, splits, strict=True)):
        rows.append(f"{row.slide_id},{row.path},{row.label},case{number // 2},{split}")
    (tmp_path / "cohort.csv").write_text("\n".join(rows) + "\n")
    ready.session.read_cohort(tmp_path / "cohort.csv")
    qtbot.waitUntil(lambda: "in two splits" in ready.reason.text(), timeout=LONG)
    assert not ready.train.isEnabled()
    assert ready.reason.text().startswith("Case 'case0'")


def test_training_by_a_click(ready, qtbot, tmp_path):
    panel, session = ready, ready.session
    session.configure(teacher={"epochs": 3})
    panel.folder.setText(str(tmp_path / "first run"))
    click(qtbot, panel.train)
    assert panel.train.text() == "Cancel"
    assert not panel.warnings.isVisibleTo(panel)
    qtbot.waitUntil(lambda: "epoch" in panel.progress.text(), timeout=LONG)
    assert "so far" in panel.progress.text()
    assert panel.curves.isVisibleTo(panel)
    qtbot.waitUntil(idle(panel), timeout=LONG)
    assert panel.progress.text().startswith("Student, epoch 1 of 1. Best epoch: 1")
    assert panel.progress.text().endswith("Finished.")
    assert session.runs.live["teacher"]["epoch"] == [1, 2, 3]
    qtbot.waitUntil(lambda: panel.runs_fold.toggle.text() == "Runs (1)", timeout=LONG)
    (run,) = panel.runs.model.rows
    assert (run.folder, run.is_finished) == (tmp_path / "first run", True)
    assert panel.headline().startswith("Trained: student, ")
    # What it took tells what it would take.
    qtbot.waitUntil(lambda: "first run" in panel.time.text() or panel._there is not None, timeout=LONG)
    panel.folder.clear()
    assert words(panel.time) == "Will take less than 10 s (measured in the run ‘first run’)."
    session.configure(teacher={"epochs": 100_000})
    assert "min (measured" in words(panel.time) or " h (measured" in words(panel.time)
    session.configure(patches={"size_px": 30})
    assert panel.time.text() == "How long it takes is not known yet."
    assert panel.measure.isVisibleTo(panel)


def test_the_time_can_be_measured_first(ready, qtbot, cohort_csv):
    panel = ready
    before = sorted(cohort_csv.parent.rglob("*"))
    click(qtbot, panel.measure)
    assert panel.measure.text() == "Cancel"
    qtbot.waitUntil(idle(panel), timeout=LONG)
    assert panel.problems == []
    qtbot.waitUntil(lambda: "measured just now" in panel.time.text(), timeout=LONG)
    assert not panel.measure.isVisibleTo(panel)
    assert panel.train.isEnabled()
    assert sorted(cohort_csv.parent.rglob("*")) == before  # nothing is kept


def test_training_calls_the_trial_off(ready, qtbot, monkeypatch, tmp_path):
    def endless(*args, **kwargs):
        for _ in range(100_000):
            threading.Event().wait(0.01)
            yield Progress(Task.MEASURE, 1, 2, "teacher")

    monkeypatch.setattr("napari_distill2label.workflow.estimate.estimate", endless)
    monkeypatch.setattr("napari_distill2label.workflow.commands.train.train", endless)
    panel, jobs = ready, ready.session.jobs
    click(qtbot, panel.measure)
    qtbot.waitUntil(lambda: jobs.current is not None and jobs.current.done == 1, timeout=LONG)
    trial = jobs.current
    panel.folder.setText(str(tmp_path / "a run"))
    click(qtbot, panel.train)  # nobody has to wait for the trial
    qtbot.waitUntil(lambda: jobs.current is not None and jobs.current.kind == "train", timeout=LONG)
    assert trial.state == "cancelled"
    assert panel.problems == []
    jobs.cancel()
    qtbot.waitUntil(idle(panel), timeout=LONG)


def test_cancel_shows_nothing_of_what_comes_late(ready, qtbot, monkeypatch):
    seen = []

    def endless(*args, **kwargs):
        try:
            for number in range(1, 100_000):
                threading.Event().wait(0.01)
                seen.append(number)
                yield Progress(Task.TRAIN, 1, 1, "teacher", number, 100_000)
                yield EpochEnd("teacher", number, 100_000, {"loss": 1.0})
        finally:
            seen.append(threading.current_thread())

    monkeypatch.setattr("napari_distill2label.workflow.commands.train.train", endless)
    click(qtbot, ready.train)
    qtbot.waitUntil(lambda: len(ready.session.runs.live.get("teacher", {}).get("epoch", ())) > 2, timeout=LONG)
    click(qtbot, ready.train)
    assert ready.train.text() == "Cancelling…"
    assert not ready.train.isEnabled()
    at_cancel = len(seen)
    qtbot.waitUntil(idle(ready), timeout=LONG)
    assert len(seen) - at_cancel < 20  # steps of 10 ms
    assert seen[-1] is not threading.main_thread()
    assert ready.train.text() == "Train"
    assert ready.headline() == "not trained yet"
    assert ready.progress.text().endswith("Training stopped. Resume it under ‘Runs’.")


def test_a_stopped_run_is_offered_and_goes_on(ready, qtbot, stopped):
    panel = ready
    name_folder(panel, qtbot, stopped)
    assert panel.resume.isVisibleTo(panel)
    assert panel.resume_about.text() == "Stopped: teacher, epoch 1 of 1."
    assert not panel.train.isEnabled()
    assert "tick the box under Settings to resume it" in panel.reason.text()
    panel.session.configure(patches={"size_px": 40})  # the run's own settings count
    click(qtbot, panel.resume)
    click(qtbot, panel.train)
    qtbot.waitUntil(idle(panel), timeout=LONG)
    assert panel.session.jobs.last.state == "done", panel.session.jobs.last.text
    assert (stopped / "student" / "config.json").exists()
    assert panel.session.model.path == stopped
    qtbot.waitUntil(lambda: panel.session.runs.live.get("teacher", {}).get("epoch") == [1], timeout=LONG)
    assert panel.session.runs.live["student"]["epoch"] == [1]


def test_a_finished_run_can_be_trained_further_but_not_over(ready, qtbot, run_folder, tmp_path):
    panel = ready
    folder = shutil.copytree(run_folder, tmp_path / "run")
    name_folder(panel, qtbot, folder)
    assert not panel.resume.isVisibleTo(panel)
    assert panel.reason.text() == "There is a run in this folder already: name another folder."
    panel.session.configure(student={"epochs": 2})
    assert panel.resume.isVisibleTo(panel)
    click(qtbot, panel.resume)
    click(qtbot, panel.train)
    qtbot.waitUntil(idle(panel), timeout=LONG)
    assert panel.session.jobs.last.state == "done", panel.session.jobs.last.text
    assert panel.session.runs.asked["student"] == 2
    panel.folder.setText(str(tmp_path / "another"))
    assert panel.train.isEnabled()


def test_the_list_of_runs(ready, qtbot, run_folder, stopped, tmp_path):
    panel, runs = ready, ready.runs
    finished = shutil.copytree(run_folder, tmp_path / "finished run")
    panel.ask_folder = lambda *args: str(finished)
    click(qtbot, runs.from_disk)
    qtbot.waitUntil(lambda: panel.session.model is not None and len(runs.model.rows) == 1, timeout=LONG)
    assert panel.headline().startswith("Loaded: student, epoch 1")
    panel.session.runs.add(stopped)
    qtbot.waitUntil(lambda: len(runs.model.rows) == 2, timeout=LONG)
    panel.runs_fold.toggle.click()
    states = {run.name: runs.model.data(runs.model.index(number, 1)) for number, run in enumerate(runs.model.rows)}
    assert states == {"finished run": "✓ finished", "stopped run": "■ stopped: teacher, epoch 1 of 1"}
    assert runs.use.toolTip() == "Select one run in the list."
    row_of = {run.name: number for number, run in enumerate(runs.model.rows)}
    runs.table.selectRow(row_of["stopped run"])
    assert runs.use.isEnabled()  # its teacher
    assert runs.go_on.isEnabled()
    runs.table.selectRow(row_of["finished run"])
    assert runs.go_on.toolTip() == "This run is finished."
    opened = []
    runs.open_folder = opened.append
    click(qtbot, runs.reveal)
    assert opened == [finished]
    assert str(finished) in runs.model.data(runs.model.index(row_of["finished run"], 0), Qt.ItemDataRole.ToolTipRole)
    runs.model.sort(0, Qt.SortOrder.DescendingOrder)
    assert [run.name for run in runs.model.rows] == ["stopped run", "finished run"]


def test_runs_are_compared(ready, qtbot, run_folder, tmp_path):
    panel, runs = ready, ready.runs
    for name in ("one", "two"):
        folder = shutil.copytree(run_folder, tmp_path / name)
        (folder / "history.csv").write_text("model,epoch,loss,valid_loss,valid_auroc\nstudent,1,1,0.5,0.7\n")
    panel.session.runs.add(tmp_path)
    qtbot.waitUntil(lambda: len(runs.model.rows) == 2, timeout=LONG)
    panel.runs_fold.toggle.click()
    assert not runs.over.isEnabled()
    assert "Ctrl+click" in runs.over.toolTip()
    runs.table.selectAll()
    click(qtbot, runs.over)
    assert panel.curves.is_comparison
    assert set(panel.curves.curves) == {"one", "two"}
    qtbot.waitUntil(lambda: "two" in panel.curves.losses.text(), timeout=LONG)
    click(qtbot, runs.over)
    assert not panel.curves.isVisibleTo(panel)  # nothing was trained in this window


def test_resuming_from_the_list(ready, qtbot, stopped):
    panel = ready
    panel.session.runs.add(stopped)
    qtbot.waitUntil(lambda: len(panel.runs.model.rows) == 1, timeout=LONG)
    panel.runs_fold.toggle.click()
    panel.runs.table.selectRow(0)
    click(qtbot, panel.runs.go_on)
    qtbot.waitUntil(idle(panel), timeout=LONG)
    assert panel.session.jobs.last.state == "done", panel.session.jobs.last.text


def test_encoders_that_can_hold_a_program_are_asked_about(panel, qtbot, tmp_path):
    panel.preset.textActivated.emit("wsi")
    assert panel.encoder_row.isVisibleTo(panel)
    asked = []
    panel.ask_file = lambda *args: str(tmp_path / "encoder.pt")
    panel.encoder_row.ask_trust = lambda path: asked.append(path)  # no
    click(qtbot, panel.encoder_row.choose)
    assert asked == [tmp_path / "encoder.pt"]
    assert (panel.session.encoder, panel.session.trusted) == (None, None)
    panel.encoder_row.ask_trust = lambda path: True
    click(qtbot, panel.encoder_row.choose)
    assert panel.session.encoder == panel.session.trusted == tmp_path / "encoder.pt"
    assert panel.encoder_row.file.text() == str(tmp_path / "encoder.pt")
    panel.ask_file = lambda *args: str(tmp_path / "encoder.onnx")
    panel.encoder_row.ask_trust = lambda path: pytest.fail("an .onnx file holds no program")
    click(qtbot, panel.encoder_row.choose)
    assert panel.session.encoder == tmp_path / "encoder.onnx"
    assert panel.encoder_row.reason.text() == "Add slides first."
    panel.ask_folder = lambda *args: str(tmp_path)
    click(qtbot, panel.encoder_row.choose_folder)
    assert panel.encoder_row.folder.text() == str(tmp_path)


def test_only_the_file_that_was_trusted_is(ready, monkeypatch, tmp_path):
    given = []

    def work(*args, **kwargs):
        given.append(kwargs["inputs"].encoder)
        yield Progress(Task.EXPORT, 1, 1)
        raise RuntimeError("enough")

    monkeypatch.setattr("napari_distill2label.workflow.commands.train.train", work)
    session = ready.session
    session.trusted = tmp_path / "mine.pt"
    for encoder in (tmp_path / "mine.pt", tmp_path / "other.pt", None):
        job = session.train(inputs=Inputs(encoder=Encoder(encoder)), wait=False)
        session.jobs.wait(job)
    assert given == [Encoder(tmp_path / "mine.pt", trusted=True), Encoder(tmp_path / "other.pt"), Encoder()]


def test_preset_method_and_device(panel, qtbot):
    panel.preset.textActivated.emit("breast")
    assert panel.session.settings.teacher.n_subsets == 5
    assert "white ones are left out" in panel.preset_about.text()
    panel.method.textActivated.emit("paper")
    assert panel.session.settings.student.gamma_oof == 0
    assert "published" in panel.method_about.text()
    panel.device.again.click()
    qtbot.waitUntil(lambda: "GB free" in panel.device.memory.text(), timeout=LONG)
    names = [panel.device.box.itemData(index) for index in range(panel.device.box.count())]
    assert names[:2] == ["auto", "cpu"]
    panel.device.box.activated.emit(0)
    assert panel.session.settings.device == "auto"
    panel.session.configure(device="cuda:7")
    assert panel.device.memory.text() == "not on this machine: choose another"
    assert panel.device.box.currentText() == "cuda:7"


def test_two_panels_show_the_same(panel, viewer, qtbot, cohort_csv, tmp_path):
    session = panel.session
    session.read_cohort(cohort_csv)
    session.train(tmp_path / "run")
    other = TrainPanel(session)
    viewer.window.add_dock_widget(other, name="Train (2)")
    assert other.curves.curves == panel.curves.curves
    assert other.progress.text() == panel.progress.text() != ""
    assert other.headline() == panel.headline()
    other.disconnect_session()


def test_no_file_is_read_in_the_window_s_thread(ready, qtbot, monkeypatch, stopped):
    """History, settings and headers are opened by other threads alone."""
    main = []
    real = Path.open, Path.read_text

    def watched(which):
        def call(self, *args, **kwargs):
            if threading.current_thread() is threading.main_thread() and "distill2label" not in str(self):
                main.append(self)
            return real[which](self, *args, **kwargs)

        return call

    monkeypatch.setattr(Path, "open", watched(0))
    monkeypatch.setattr(Path, "read_text", watched(1))
    ready.session.runs.add(stopped)
    qtbot.waitUntil(lambda: len(ready.runs.model.rows) == 1, timeout=LONG)
    name_folder(ready, qtbot, stopped)
    ready.session.configure(split={"valid": 0.2})
    qtbot.waitUntil(lambda: not ready.session.reader.busy, timeout=LONG)
    assert main == []


def test_every_control_has_a_name_and_a_tooltip(ready):
    for kind in (QAbstractButton, QAbstractSpinBox, QComboBox):
        for control in ready.findChildren(kind):
            if control.objectName().startswith("qt_") or "QTableCornerButton" in control.metaObject().className():
                continue
            assert control.accessibleName() or getattr(control, "text", str)(), control
            assert control.toolTip() or "Header" in type(control.parent()).__name__, control.accessibleName()


def test_it_fits_a_narrow_dock(ready, qtbot):
    ready.form.fold.toggle.click()
    for fold in ready.form.sections.values():
        fold.toggle.click()
    ready.runs_fold.toggle.click()
    assert ready.minimumSizeHint().width() <= 340
