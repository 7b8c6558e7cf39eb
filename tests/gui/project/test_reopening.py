"""What was there when the window closed is there when it opens again: model, predictions, a stopped training."""

import shutil
import threading

import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_distill2label.core.events import EpochEnd
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.gui import get_session
from napari_distill2label.gui.actions import predict
from napari_distill2label.gui.canvas import layers
from napari_distill2label.gui.dock import DistillToLabel
from napari_distill2label.gui.panels.slides.panel import SlidesPanel
from napari_distill2label.gui.project.loaded_model import has_changed
from napari_distill2label.store.files.signature import file_signature
from napari_distill2label.store.project_file import project_file_of, read_project_file

from ..conftest import LONG, TINY, click


@pytest.fixture
def open_window(make_napari_viewer):
    sessions = []

    def make():
        sessions.append(get_session(make_napari_viewer()))
        return sessions[-1]

    yield make
    for session in sessions:
        session.shutdown()


@pytest.fixture
def folder(cohort_csv, tmp_path):
    return shutil.copytree(cohort_csv.parent, tmp_path / "cohort")


def test_model_network_threshold_and_predictions_come_back(open_window, qtbot, cohort_csv, run_folder):
    session = open_window()
    session.read_cohort(cohort_csv)
    qtbot.waitUntil(lambda: not session.reader.busy, timeout=LONG)
    session.load_model(run_folder)
    session.predict("slide_000", network="teacher")
    session.set_threshold(0.3)
    session.shutdown()
    kept = read_project_file(project_file_of(cohort_csv))
    assert (kept.model_path(cohort_csv.parent), kept.network) == (run_folder, "teacher")
    again = open_window()
    again.read_cohort(cohort_csv)
    qtbot.waitUntil(lambda: again.model is not None and not again.jobs.busy, timeout=LONG)
    assert again.model.path == run_folder
    assert again.network == "teacher"
    assert again.threshold == 0.3
    assert "teacher" in again.predictions["slide_000"]
    assert again.project.verdict("slide_000") is not None
    assert any(text.startswith("Loaded again: tiny run, teacher, with predictions of") for text in again.notices)
    again.show("slide_000")
    qtbot.waitUntil(lambda: bool(layers.find(again.viewer, layers.LABELS, "slide_000")), timeout=LONG)


def test_a_model_that_is_gone_is_said_in_a_line(open_window, qtbot, folder, run_folder, tmp_path):
    copy = shutil.copytree(run_folder, tmp_path / "run")
    session = open_window()
    session.read_cohort(folder / "cohort.csv")
    session.load_model(copy)
    session.shutdown()
    shutil.rmtree(copy)
    again = open_window()
    again.read_cohort(folder / "cohort.csv")
    qtbot.waitUntil(lambda: bool(again.notices), timeout=LONG)
    assert again.notices[-1] == (
        f"The model that was used the last time is gone: {copy}. Train, or load another one in step 3."
    )
    assert again.model is None


def test_a_model_that_the_user_has_chosen_stays(open_window, qtbot, folder, run_folder):
    session = open_window()
    session.read_cohort(folder / "cohort.csv")
    session.load_model(run_folder)
    session.shutdown()
    again = open_window()
    again.load_model(run_folder / "teacher")
    again.read_cohort(folder / "cohort.csv")
    qtbot.waitUntil(lambda: any("Another model was used" in text for text in again.notices), timeout=LONG)
    assert again.model.path == run_folder / "teacher"


def test_a_prediction_of_a_file_that_has_changed_is_not_shown(make_patch_map, tmp_path):
    slide = tmp_path / "slide.png"
    slide.write_bytes(b"pixels")
    patch_map = make_patch_map((120, 160), size_px=20)

    def of(path, signature):
        patch_map.slide = SlideInfo("slide", None if path is None else str(path))
        patch_map.model = patch_map.model | {"slide_signature": signature}
        return patch_map

    signature = file_signature(slide)
    assert not has_changed(of(slide, signature))
    slide.write_bytes(b"other pixels")
    assert has_changed(of(slide, signature))
    assert not has_changed(of(slide, "features-0123456789abcdef"))
    assert not has_changed(of(tmp_path / "gone.png", signature))
    assert not has_changed(of(None, signature))


def stopped_run(folder):
    """A training beside the slides of `folder` that was stopped after the teacher's first epoch of three."""
    session = get_session(viewer := ViewerModel())
    session.read_cohort(folder / "cohort.csv")
    session.configure(**TINY | {"teacher": {"epochs": 3}})

    def stop(job, event):
        if isinstance(event, EpochEnd):
            session.cancel()

    session.jobs.event.connect(stop)
    session.train(folder / "my run", wait=False)
    session.shutdown()
    del viewer
    return folder / "my run"


def test_a_stopped_training_is_offered_and_goes_on(make_unpainted_viewer, qtbot, folder, monkeypatch):
    run = stopped_run(folder)
    viewer = make_unpainted_viewer()
    panel = SlidesPanel(get_session(viewer))
    viewer.window.add_dock_widget(panel, name="slides")
    session, strip = panel.session, panel.stopped
    try:
        assert not strip.isVisibleTo(panel)
        panel.open_path(str(folder / "cohort.csv"))
        qtbot.waitUntil(lambda: session.stopped.offer is not None, timeout=LONG)
        assert strip.text.text() == "A training on these slides was stopped: my run, teacher, epoch 1 of 3."
        assert strip.isVisibleTo(panel)
        resumed = []
        monkeypatch.setattr(session, "resume", lambda folder, settings, wait: resumed.append((folder, wait)))
        click(qtbot, strip.resume)
        assert resumed == [(run, False)]
        click(qtbot, strip.later)
        assert not strip.isVisibleTo(panel)
        session.runs.look()
        qtbot.waitUntil(lambda: not session.reader.busy, timeout=LONG)
        assert session.stopped.offer is None
    finally:
        panel.disconnect_session()
        session.shutdown()


def test_a_stopped_training_of_other_slides_is_not_offered(open_window, qtbot, folder):
    stopped_run(folder)
    lines = (folder / "cohort.csv").read_text().splitlines()
    (folder / "few.csv").write_text("\n".join(lines[:4]) + "\n")
    session = open_window()
    session.read_cohort(folder / "few.csv")
    qtbot.waitUntil(lambda: bool(session.runs.found), timeout=LONG)
    qtbot.waitUntil(lambda: not session.reader.busy, timeout=LONG)
    assert session.stopped.offer is None


@pytest.mark.parametrize("closes_at_once", [True, False])
def test_a_label_set_by_a_key_is_kept(make_unpainted_viewer, qtbot, folder, closes_at_once):
    viewer = make_unpainted_viewer()
    panel = DistillToLabel(viewer)
    viewer.window.add_dock_widget(panel, name="Distill to Label")
    session = panel.session
    session.read_cohort(folder / "cohort.csv")
    session.show("slide_000")
    with qtbot.waitActive(panel.window(), timeout=LONG):
        panel.window().activateWindow()
    panel.slides.table.setFocus()
    QTest.keyClick(panel.slides.table, Qt.Key.Key_2, Qt.KeyboardModifier.AltModifier)
    path = project_file_of(folder / "cohort.csv")
    if closes_at_once:
        del panel
        viewer.close()
    else:
        qtbot.waitUntil(path.exists, timeout=LONG)  # within the delay, with the window open
        session.shutdown()
    labels = {row.slide_id: row.label for row in read_project_file(path).slides}
    assert labels["slide_000"] == "tumour"


def test_a_model_of_slides_that_were_left_is_not_that_of_the_next(
    open_window, qtbot, folder, run_folder, monkeypatch, tmp_path
):
    session = open_window()
    session.read_cohort(folder / "cohort.csv")
    qtbot.waitUntil(lambda: not session.reader.busy, timeout=LONG)
    session.load_model(run_folder)
    session.shutdown()
    shutil.copytree(folder, tmp_path / "next", ignore=shutil.ignore_patterns("*.d2l.json"))

    began, go_on, opened = threading.Event(), threading.Event(), predict.opened

    def slowly(path):
        began.set()
        assert go_on.wait(60)
        return opened(path)

    monkeypatch.setattr(predict, "opened", slowly)
    again = open_window()
    again.read_cohort(folder / "cohort.csv")
    qtbot.waitUntil(began.is_set, timeout=LONG)
    again.read_cohort(tmp_path / "next" / "cohort.csv")
    go_on.set()
    qtbot.waitUntil(lambda: not again.jobs.busy, timeout=LONG)
    qtbot.wait(50)
    assert again.model is None
    again.shutdown()
    assert read_project_file(project_file_of(folder / "cohort.csv")).model_path(folder) == run_folder


def test_a_prediction_waits_for_no_model_of_slides_that_were_left(open_window, qtbot, folder, run_folder):
    session = open_window()
    session.read_cohort(folder / "cohort.csv")
    session.autosave.reopen_model(run_folder, "student", lambda: False)  # as when other slides are opened meanwhile
    job = session.predict("slide_000", wait=False)
    qtbot.waitUntil(lambda: not session.jobs.busy, timeout=LONG)
    assert job.state == "cancelled"
    assert job.text.endswith("Other slides were opened meanwhile: there is no model to predict with.")
