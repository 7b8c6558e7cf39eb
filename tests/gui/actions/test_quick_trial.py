"""Quick trial: a real run on a few slides that says what it is not."""

from pathlib import Path

import pytest

from napari_distill2label.core.presets import METHODS, build_settings
from napari_distill2label.gui.actions.quick_trial import EPOCHS, MOST_SLIDES, about, trial_settings, trial_slides
from napari_distill2label.gui.dock import DistillToLabel
from napari_distill2label.store.cohort import Cohort, CohortSlide

from ..conftest import LONG, TINY, click


def cohort(labels, split=None):
    rows = (CohortSlide(f"s{number}", Path(f"s{number}.png"), label=label, split=split)
            for number, label in enumerate(labels))  # fmt: skip
    return Cohort(tuple(rows), ("normal", "tumour"))


def test_a_few_slides_of_every_label():
    many = cohort(["normal"] * 100 + [None] * 50 + ["tumour"] * 3)
    chosen = trial_slides(many)
    assert len(chosen) == MOST_SLIDES
    assert chosen[-3:] == ["s150", "s151", "s152"]
    assert chosen == trial_slides(many)
    assert trial_slides(cohort(["normal", "tumour"])) == ["s0", "s1"]


def test_slides_that_are_held_out_stay_so():
    assert trial_slides(cohort(["normal", "tumour"], "test")) == []


@pytest.mark.parametrize("method", METHODS)
def test_few_epochs_of_the_same_method(method):
    settings = build_settings("breast", method, {"student": {"epochs": 2}})
    trial = trial_settings(settings)
    assert (trial.teacher.epochs, trial.student.epochs) == (EPOCHS["teacher"], 2)
    assert trial.split.test == 0
    assert trial.architecture == settings.architecture
    assert trial.method == method


def test_what_it_says(tmp_path):
    settings = trial_settings(build_settings())
    assert about(tmp_path / "trial", settings, 16) == (
        "A quick trial: 4 epochs on 16 slides. Use Train for a model to work with."
    )
    assert about(tmp_path / "trial_2", settings, 1).startswith("A quick trial: 4 epochs on 1 slide.")
    assert about(tmp_path / "trial", build_settings(), 16) == ""  # a long training in a folder of that name
    assert about(tmp_path / "trials", settings, 16) == ""


def test_a_trial_by_a_click_predicts(make_napari_viewer, qtbot, cohort_csv, tmp_path):
    import shutil

    table = shutil.copytree(cohort_csv.parent, tmp_path / "cohort") / "cohort.csv"
    viewer = make_napari_viewer(show=True)
    panel = DistillToLabel(viewer)
    viewer.window.add_dock_widget(panel, name="Distill to Label")
    session = panel.session
    session.read_cohort(table)
    session.configure(**TINY)
    panel.steps["train"].set_open(True)
    qtbot.waitUntil(panel.train.trial.isEnabled, timeout=LONG)
    click(qtbot, panel.train.trial)
    assert not panel.train.trial.isEnabled()
    assert panel.train.train.text() == "Cancel"
    qtbot.waitUntil(lambda: not session.jobs.busy, timeout=2 * LONG)
    said = "A quick trial: 1 epoch on 8 slides. Use Train for a model to work with."
    assert session.model.path == tmp_path / "cohort" / "trial"
    assert panel.status.text.text() == said
    qtbot.waitUntil(lambda: panel.train.progress.text().endswith(said), timeout=LONG)
    assert panel.train.headline() == said
    assert session.runs.free_folder("trial").name == "trial_2"
    assert panel.predict.model.text().endswith(said)
    session.predict("slide_000", wait=True)
    assert set(session.predictions) == {"slide_000"}
    session.shutdown()
