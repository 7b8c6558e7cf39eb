"""A quick trial: few slides of every label, few epochs, and a run that says what it is."""

from pathlib import Path

import pytest

import napari_distill2label as d2l
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.presets import METHODS, build_settings
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.run import Run
from napari_distill2label.workflow.quick_trial import EPOCHS, MOST_SLIDES, trial_settings, trial_slides


def cohort(labels, split=None):
    rows = (CohortSlide(f"s{number}", Path(f"s{number}.png"), label=label, split=split)
            for number, label in enumerate(labels))  # fmt: skip
    return Cohort(tuple(rows), ("normal", "tumour"))


def ids(slides):
    return [row.slide_id for row in slides]


def test_a_few_slides_of_every_label():
    many = cohort(["normal"] * 100 + [None] * 50 + ["tumour"] * 3)
    chosen = ids(trial_slides(many))
    assert len(chosen) == MOST_SLIDES
    assert chosen[-3:] == ["s150", "s151", "s152"]
    assert chosen == ids(trial_slides(many))
    assert ids(trial_slides(cohort(["normal", "tumour"]))) == ["s0", "s1"]


def test_slides_that_are_held_out_stay_so():
    assert ids(trial_slides(cohort(["normal", "tumour"], "test"))) == []


@pytest.mark.parametrize("method", METHODS)
def test_few_epochs_of_the_same_method(method):
    settings = build_settings("breast", method, {"student": {"epochs": 2}})
    trial = trial_settings(settings)
    assert (trial.teacher.epochs, trial.student.epochs) == (EPOCHS["teacher"], 2)
    assert trial.split.test == 0
    assert trial.architecture == settings.architecture
    assert trial.method == method
    assert not trial.student.rotate_flip


def test_a_trial_says_what_it_is_and_can_be_resumed(synthetic_cohort, tmp_path):
    slides = Cohort.read(synthetic_cohort)
    settings = build_settings("colon", "paper", {"teacher": {"epochs": 1}, "student": {"epochs": 1}})
    run = d2l.train(slides, tmp_path / "trial", settings, quick_trial=True)
    assert Run.open(tmp_path / "trial").config.quick_trial
    assert run.config.settings == trial_settings(settings)
    assert {row.split for row in run.cohort} <= {"train", "valid"}  # none is held out
    with pytest.raises(SettingsError, match="slides"):
        d2l.train(slides.with_slides(list(slides)[:4]), tmp_path / "trial", resume=True)
    for again in (run.cohort, slides):
        assert d2l.train(again, tmp_path / "trial", settings, resume=True).config == run.config
    long = d2l.train(slides, tmp_path / "long", settings)
    assert not long.config.quick_trial
    with pytest.raises(SettingsError, match="started with"):
        d2l.train(long.cohort, tmp_path / "long", quick_trial=True, resume=True)


def test_of_cases_whole_ones_are_taken_with_slides_that_have_no_label_of_their_own():
    rows = []
    for case in range(2 * MOST_SLIDES):
        label = "tumour" if case % 2 else "normal"
        rows += [CohortSlide(f"{case}-{k}", Path("s.png"), label if k == 0 else None, f"P{case}") for k in range(3)]
    chosen = trial_slides(Cohort(tuple(rows), ("normal", "tumour")), "case")
    assert len(chosen) == 3 * MOST_SLIDES
    assert {len(own) for own in chosen.by_case.values()} == {3}
    assert sum(row.label == "tumour" for row in chosen) == MOST_SLIDES / 2
