"""Label, look, label again: every change of a label is followed by new colours, and only the last one counts."""

import threading

import pytest
from napari.components import ViewerModel

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.gui import get_session
from napari_distill2label.gui.actions.live import OFF
from napari_distill2label.gui.canvas import layers
from napari_distill2label.gui.project.preferences import Preferences

LONG = 30_000  # ms


@pytest.fixture
def headless(cohort_csv, feature_folder):
    viewer = ViewerModel()  # the session does not keep it alive
    yield (made := ready(get_session(viewer), cohort_csv, feature_folder))
    made.shutdown()


@pytest.fixture
def session(make_napari_viewer, cohort_csv, feature_folder):
    made = ready(get_session(make_napari_viewer()), cohort_csv, feature_folder)
    made.project.preferences = lambda: Preferences(live_delay_ms=60)
    yield made
    made.shutdown()


def ready(session, cohort_csv, folder):
    session.read_cohort(cohort_csv)
    session.feature_folder = folder
    return session


def shown(session):
    (labels,) = layers.find(session.viewer, layers.LABELS)
    return labels


def idle(session):
    return lambda: not session.live.busy and not session.jobs.busy


def test_without_a_window_a_change_is_followed_at_once(headless):
    session = headless
    session.show("slide_001")
    session.live.enabled = True
    assert session.live.status.startswith("Up to date: trained on 8 labelled slides")
    assert session.network == "live"
    assert session.networks == ("live",)
    assert (shown(session).data == 2).sum() > 5
    before = session.predictions["slide_001"]["live"]
    session.set_label("slide_001", "normal")
    assert session.predictions["slide_001"]["live"] is not before
    assert len(session.predictions) == 8
    session.live.enabled = False
    after = session.predictions["slide_001"]["live"]
    session.set_label("slide_001", "tumour")
    assert session.predictions["slide_001"]["live"] is after


def test_what_is_missing_is_said(headless):
    session = headless
    session.feature_folder = None
    session.live.enabled = True
    assert "features" in session.live.status
    session.live.enabled = False
    session.set_label([row.slide_id for row in session.cohort], None)
    session.feature_folder = "anywhere"
    session.live.enabled = True
    assert "Label at least one slide" in session.live.status
    with pytest.raises(SettingsError, match="no model to save yet"):
        session.live.save_as_run()
    assert session.live.result is None


def test_a_folder_without_features_is_told(headless, tmp_path):
    headless.feature_folder = tmp_path
    headless.live.enabled = True
    assert headless.live.status.startswith("Failed: ")
    assert "holds no features" in headless.live.status


def test_a_kept_trial_becomes_the_model(headless, tmp_path):
    session = headless
    session.live.enabled = True
    run = session.live.save_as_run(tmp_path / "kept")
    assert run.folder == tmp_path / "kept"
    assert session.model.networks == ("teacher", "student")
    assert session.model.features == session.feature_folder
    assert session.network == "student"
    assert session.live.status == "Saved as the run ‘kept’. Click Predict in step 3 to use it."
    assert session.networks == ("teacher", "student", "live")  # what it said is still to be looked at
    session.network = "live"
    maps = session.predict("slide_001")
    assert maps[0].model["network"] == "student"


def test_predicting_while_live_labels_are_shown_uses_the_run(headless, tmp_path):
    session = headless
    session.live.enabled = True
    session.live.save_as_run(tmp_path / "kept")
    session.live.update()
    assert session.network == "live"
    assert session.predict("slide_001")[0].model["network"] == "student"
    with pytest.raises(SettingsError, match="there is no baseline"):
        session.network = "baseline"
    session.network = "student"
    assert session.export(tmp_path / "out", ["csv"], slides="slide_001")


def test_in_the_window_the_layers_change_by_themselves(session, qtbot):
    session.show("slide_001")
    session.live.enabled = True
    qtbot.waitUntil(idle(session), timeout=LONG)
    layer = shown(session)
    first = layer.data.copy()
    assert (first == 2).any()
    session.set_label([row.slide_id for row in session.cohort if row.label == "normal"], None)
    session.set_label("slide_001", "normal")
    assert session.live.busy
    assert session.live.status == "Waiting for more changes…"
    qtbot.waitUntil(idle(session), timeout=LONG)
    assert session.live.status.startswith("Up to date")
    qtbot.waitUntil(lambda: (shown(session).data == 2).sum() < (first == 2).sum(), timeout=LONG)


def test_several_changes_are_one(session, qtbot):
    session.live.enabled = True
    qtbot.waitUntil(idle(session), timeout=LONG)
    trained = len(session.jobs.past)
    for label in ("normal", "tumour", None, "normal"):
        session.set_label("slide_001", label)
    qtbot.waitUntil(idle(session), timeout=LONG)
    assert len(session.jobs.past) == trained + 1


def test_a_newer_change_cancels_the_trial_in_hand(session, qtbot, monkeypatch):
    import napari_distill2label.workflow.live as workflow

    real, began = workflow.live, threading.Event()

    def slow(features, cohort, **more):
        if cohort["slide_001"].label == "normal":  # would never end by itself
            from napari_distill2label.core.events import Progress, Task

            while True:
                began.set()
                yield Progress(Task.TRAIN)
        return (yield from real(features, cohort, **more))

    session.live.enabled = True
    qtbot.waitUntil(idle(session), timeout=LONG)
    monkeypatch.setattr(workflow, "live", slow)
    session.set_label("slide_001", "normal")
    qtbot.waitUntil(began.is_set, timeout=LONG)
    stuck = session.jobs.current
    session.set_label("slide_001", "tumour")
    assert stuck.state == "cancelling"
    qtbot.waitUntil(idle(session), timeout=LONG)
    assert stuck.state == "cancelled"
    assert session.jobs.last.state == "done"
    assert session.live.status.startswith("Up to date")


def test_an_error_is_said_and_the_next_change_starts_anew(session, qtbot, monkeypatch):
    import torch

    import napari_distill2label.workflow.live as workflow

    session.live.enabled = True
    qtbot.waitUntil(idle(session), timeout=LONG)
    with monkeypatch.context() as patch:

        def broken(*args, **more):
            raise torch.OutOfMemoryError("out of memory")

        patch.setattr(workflow, "live", broken)
        session.set_label("slide_001", "normal")
        qtbot.waitUntil(idle(session), timeout=LONG)
    assert "out of memory" in session.live.status
    job = session.jobs.last
    assert job.retry is not None
    job.retry()
    qtbot.waitUntil(idle(session), timeout=LONG)
    assert session.live.status.startswith("Up to date")


def test_new_slides_are_read_and_changes_meanwhile_do_not_stop_that(session, qtbot, tmp_path):
    rows = [row.slide_id for row in session.cohort]
    session.live.enabled = True
    session.set_label(rows[0], None)  # while features are read
    qtbot.waitUntil(idle(session), timeout=LONG)
    assert [job.state for job in session.jobs.past if job.title == "Reading features"] == ["done"]
    assert session.live.status.startswith("Up to date: trained on 7 labelled")


def test_switched_off_it_stops(session, qtbot):
    session.live.enabled = True
    qtbot.waitUntil(lambda: session.jobs.busy, timeout=LONG)
    session.live.enabled = False
    qtbot.waitUntil(idle(session), timeout=LONG)
    assert session.live.status == OFF
    assert session.predictions == {}
