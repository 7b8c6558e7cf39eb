"""What is said before a training is a function of slides and settings."""

import pytest

from napari_distill2label.core.presets import build_settings
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.workflow.advice import training_advice, training_problem

SETTINGS = build_settings()


def cohort(n_negative=20, n_positive=20, **fields):
    labels = ["normal"] * n_negative + ["tumour"] * n_positive
    slides = [CohortSlide(f"s{i}", f"s{i}.png", label, case_id=f"s{i}", mpp=0.5) for i, label in enumerate(labels)]
    return Cohort(tuple(slides), ("normal", "tumour"))


def advice(*args):
    """The advice as sentences."""
    return [str(notice) for notice in training_advice(*args)]


def changed(own, **by_id):
    from dataclasses import replace

    return own.with_slides(replace(row, **by_id.get(row.slide_id, {})) for row in own)


def only(lines, text):
    assert len(lines) == 1, lines
    assert text in lines[0]
    assert lines[0].endswith(".")
    return lines[0]


def test_nothing_to_say_of_a_good_cohort():
    assert training_problem(cohort(), SETTINGS) is None
    assert advice(cohort(), SETTINGS) == []


def test_few_negatives_come_first():
    lines = advice(cohort(1, 39), SETTINGS)
    assert "‘normal’" in lines[0]
    assert "Only 1 slide of" in lines[0]


def test_a_case_in_two_splits_blocks():
    own = changed(cohort(), s0={"case_id": "p", "split": "train"}, s1={"case_id": "p", "split": "test"})
    reason = str(training_problem(own, SETTINGS))
    assert "in two splits" in reason
    assert "'p'" in reason
    assert advice(own, SETTINGS) == []


def test_splits_that_leave_nothing_block():
    settings = build_settings(overrides={"split": {"valid": 0.6, "test": 0.4}})
    assert "leave no slide to train on" in str(training_problem(cohort(), settings))


def test_validation_that_says_little():
    no_valid = build_settings(overrides={"split": {"valid": 0.0}})
    only(advice(cohort(), no_valid), "No slide is held out for validation")
    few = advice(cohort(8, 8), SETTINGS)
    assert any("Only 2 slides check the training." in line for line in few), few
    split = {f"s{i}": {"split": "valid" if i < 5 else "train"} for i in range(40)}
    only(advice(changed(cohort(), **split), SETTINGS), "All validation slides (5) are negative")


def test_few_slides():
    assert any("only 6 slides to train on" in line for line in advice(cohort(4, 4), SETTINGS))


def without_mpp(own, *ids):
    return changed(own, **{name: {"mpp": None} for name in ids})


def test_scales():
    own = without_mpp(cohort(), *(f"s{i}" for i in range(40)))
    assert advice(own, SETTINGS) == []  # nobody has looked yet
    nobody = {f"s{i}": None for i in range(40)}
    only(advice(own, SETTINGS, nobody), "No slide has a pixel size.")
    known = {f"s{i}": 0.5 for i in range(40)}
    assert advice(own, SETTINGS, known) == []
    splits = {f"s{i}": {"split": "train" if i % 4 else "valid"} for i in range(40)}
    own = changed(own, **splits)
    only(advice(own, SETTINGS, known | {"s3": None}), "1 slide has no pixel size, but others do: s3.")
    many = only(
        advice(own, SETTINGS, known | dict.fromkeys(["s3", "s5", "s6", "s7", "s9"])),
        "s3, s5, s6, s7, s9",
    )
    assert "5 slides have no pixel size" in many
    only(advice(own, SETTINGS, known | {"s3": 0.25}), "differ in pixel size (0.25 to 0.5 µm/px)")
    scaled = build_settings(overrides={"patches": {"mpp": 0.5}})
    assert advice(own, scaled, known | {"s3": 0.25}) == []
    only(advice(own, scaled, known | {"s3": None}), "Training will stop.")


@pytest.mark.parametrize("mpp", [0.5, None])
def test_what_the_user_says_counts_more_than_the_file(mpp):
    own = changed(cohort(), **{f"s{i}": {"split": "train" if i % 4 else "valid"} for i in range(40)})
    assert advice(own, SETTINGS, {"s3": mpp and 7.0}) == []


def test_slides_without_a_label_are_mentioned():
    own = changed(cohort(), s39={"label": None})
    only(advice(own, SETTINGS), "1 slide has no label")
