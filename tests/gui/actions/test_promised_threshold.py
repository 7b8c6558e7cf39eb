"""A threshold that keeps a promise about negative slides, from slides that are predicted in the window."""

import pytest

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.workflow import promise

from ..conftest import open_cohort
from .conftest import unseen_cohort


@pytest.fixture(scope="module")
def new_slides(tmp_path_factory) -> Cohort:
    """Eight slides that no run has seen, four of them negative; each of a patient of its own."""
    return unseen_cohort(tmp_path_factory.mktemp("new slides"), 8)


def called(session):
    """Share of each negative slide that is labelled as a finding."""
    negatives = [row.slide_id for row in session.cohort if row.label == session.classes[0]]
    maps = session.project.maps(negatives)
    return [(found.to_labels(session.threshold) > 1).sum() / found.scored.sum() for found in maps]


def test_the_threshold_keeps_the_promise(predicted):
    promise = predicted.promise_threshold(0.2, 0.3)
    assert (promise.n_slides, promise.n_patients) == (4, 4)
    assert predicted.threshold == promise.threshold
    assert predicted.project.promise == promise
    assert max(called(predicted)) <= 0.2  # at this risk, the largest of four thresholds


def test_another_threshold_promises_nothing(predicted):
    predicted.promise_threshold(0.2, 0.3)
    predicted.set_threshold(predicted.threshold)  # the same
    assert predicted.project.promise is not None
    predicted.set_threshold(0.9)
    assert predicted.project.promise is None
    predicted.promise_threshold(0.2, 0.3)
    predicted.network = "teacher"
    assert predicted.project.promise is None


def test_slides_that_the_run_learnt_from_promise_nothing(session, run_folder):
    session.load_model(run_folder)
    session.predict()
    learnt = [row for row in session.cohort if row.label == "normal" and row.split != "test"]
    with pytest.raises(SettingsError, match="needs negative slides of 9 patients"):
        session.promise_threshold()
    assert any(f"{len(learnt)} negative slides" in notice for notice in session.notices), session.notices
    assert session.project.promise is None


def test_what_is_missing_is_said(session, run_folder, new_slides):
    with pytest.raises(SettingsError, match="Predict slides labelled 'normal' first"):
        session.promise_threshold()
    open_cohort(session, new_slides)
    session.load_model(run_folder / "student")
    (run_folder / "student").rename(run_folder.parent / "alone")
    session.load_model(run_folder.parent / "alone")
    session.predict()
    with pytest.raises(SettingsError, match="Load the run"):
        session.promise_threshold(0.2, 0.3)


def test_a_promise_for_one_network_is_not_made_for_another(predicted, monkeypatch):
    find = promise.new_negatives

    def meanwhile(*given):
        predicted.network = "teacher"
        return find(*given)

    monkeypatch.setattr(promise, "new_negatives", meanwhile)
    job = predicted.promise_threshold(0.2, 0.3, wait=False)
    assert predicted.project.promise is None
    assert "Choose the promise again" in job.summary
