"""A random sample of new slides in a session: drawn, labelled, measured, and a model re-calibrated by it."""

import csv

import pytest

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.gui.canvas import layers, ownership
from napari_distill2label.gui.canvas.display import BLIND
from napari_distill2label.gui.widgets.shortcuts import Actions
from napari_distill2label.store.bundle import load_bundle
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.sample import read_sample

from ..conftest import open_cohort
from .conftest import unseen_cohort


@pytest.fixture
def new_slides(tmp_path) -> Cohort:
    """Three slides that no run has seen."""
    return unseen_cohort(tmp_path / "new slides", 3)


def test_a_person_labels_the_patches_one_after_the_other_without_seeing_what_the_model_says(predicted):
    session = predicted
    path = session.draw_sample(30)
    drawn = read_sample(path).patches
    assert path.name == "cohort_sample.csv"
    assert len(drawn) == 30
    for number, patch in enumerate(drawn):
        assert session.sample.position == number
        assert session.shown == patch.slide_id
        slide_id, cell = session.canvas.corrections.framed
        assert slide_id == patch.slide_id
        patches = session.display.view.patches
        y, x = patches.corners_of([cell])[0] + (patches.side - 1) / 2
        assert (y, x) == (patch.y, patch.x)
        labels = ownership.find(session.viewer, layers.LABELS, slide_id)
        assert labels
        assert not any(layer.visible for layer in labels)
        assert session.display.text_of(slide_id, cell) == BLIND
        session.label_sampled("tumour" if number % 2 else "normal")
        assert [own.label for own in read_sample(path).patches[: number + 1]][-1] in ("normal", "tumour")
    assert session.sample.position is None
    assert any(layer.visible for layer in ownership.find(session.viewer, layers.LABELS, session.shown))
    assert len(session.corrections) == 0  # they are none
    with path.open(newline="", encoding="utf-8") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["normal", "tumour"] * 15


def test_a_label_can_be_changed_and_the_model_is_measured_as_by_the_command(predicted, run_folder):
    from napari_distill2label.core.events import drain
    from napari_distill2label.workflow.commands.recalibrate import recalibrate

    session = predicted
    keys = Actions(session, {}, lambda: None)
    path = session.draw_sample(25, seed=3)
    for _ in range(19):
        session.label_sampled("normal")
    with pytest.raises(SettingsError, match="Label 20 patches of a random sample first: 19 are"):
        session.measure_sample()
    session.label_sampled("normal")
    session.go_to_sampled(4)
    keys.correct(2)  # Ctrl+2
    assert session.sample.position == 5
    other = next(cell for cell in [(0, 0), (1, 1)] if cell != session.canvas.corrections.framed[1])
    session.center_on(other)  # a patch that the user has chosen: now the key means a correction
    keys.correct(2)
    assert session.sample.position == 5
    assert session.corrections.correction_at(session.shown, other) == "tumour"
    session.go_to_sampled(24)  # not beyond the first without a label
    assert session.sample.position == 20
    assert session.sample.n_labelled == 20
    there = set(run_folder.rglob("*"))
    report = session.measure_sample()
    assert report == session.sample.report
    assert (report.n, report.findings["tumour"].n_positive) == (20, 1)
    assert report == drain(recalibrate(session.project.maps(), path, threshold=session.threshold))
    assert set(run_folder.rglob("*")) == there
    session.go_to_sampled(20)
    session.label_sampled("tumour")
    assert session.sample.report is None  # it was of other labels


def test_the_recalibrated_model_is_another_one_and_says_that_a_promise_is_over(predicted, run_folder, tmp_path):
    session = predicted
    before = load_bundle(run_folder / "student").config
    session.draw_sample(20)
    for _ in range(20):
        session.label_sampled("tumour")
    session.project.change(promise=object())
    report = session.recalibrate(tmp_path / "here")
    assert load_bundle(run_folder / "student").config == before
    assert load_bundle(tmp_path / "here").config.calibration.biases == report.biases
    assert session.model.path == tmp_path / "here"
    assert session.project.promise is None
    assert not session.predictions
    (told,) = [notice for notice in session.notices if "re-calibrated model ‘here’ is loaded" in notice]
    assert "Predict the slides again" in told
    assert "use ‘Promise…’ again" in told
    session.predict()
    with pytest.raises(SettingsError, match="is re-calibrated already, by 20 patches"):
        session.draw_sample(20)
    # The run still says what the model has learnt from: a promise can be asked for.
    negative = "normal"
    session.set_label([row.slide_id for row in session.cohort], negative)
    assert session.promise_threshold(0.5, 0.5).n_slides == 3


def test_slides_that_the_model_has_learnt_from_are_no_new_cohort(session, run_folder):
    session.load_model(run_folder)
    with pytest.raises(SettingsError, match="Predict the slides of the new cohort first"):
        session.draw_sample(20)
    session.predict()
    session.draw_sample(20)
    splits = {row.slide_id: row.split for row in session.model.cohort}
    assert {splits[own.slide_id] for own in session.sample.patches} == {"test"}
    session.network = "teacher"
    with pytest.raises(SettingsError, match="Only a calibrated student"):
        session.measure_sample()


def test_a_sample_is_gone_on_with_another_day(predicted, tmp_path, new_slides):
    session = predicted
    path = session.draw_sample(30)
    for _ in range(7):
        session.label_sampled("normal")
    open_cohort(session, Cohort((), ("normal", "tumour")))
    assert session.sample.path is None
    open_cohort(session, new_slides)
    session.predict()
    session.open_sample(path)
    assert session.sample.position == session.sample.n_labelled == 7
    session.label_sampled("tumour")
    assert read_sample(path).patches[7].label == "tumour"
    # A table with columns of somebody else is theirs.
    text = path.read_text("utf-8").splitlines()
    theirs = tmp_path / "theirs.csv"
    theirs.write_text("\n".join(f"{line},{'note' if at == 0 else 'mine'}" for at, line in enumerate(text)), "utf-8")
    before = theirs.read_bytes()
    session.open_sample(theirs)
    session.label_sampled("normal")
    assert theirs.read_bytes() == before
    assert session.sample.path != theirs
    assert read_sample(session.sample.path).patches[8].label == "normal"


def test_what_somebody_else_changed_in_the_file_is_not_written_over(predicted):
    session = predicted
    path = session.draw_sample(20)
    session.label_sampled("normal")
    path.write_text(path.read_text("utf-8") + "\n", "utf-8")
    there = path.read_bytes()
    session.label_sampled("normal")
    assert path.read_bytes() == there
    assert any("labels of the sample are not saved" in notice for notice in session.notices)
    with pytest.raises(SettingsError, match="there is no class 'no such'"):
        session.label_sampled("no such")
