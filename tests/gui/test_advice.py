"""What is said before a training is a function of slides and settings."""

import pytest

from napari_distill2label.core.presets import build_settings
from napari_distill2label.gui.training.advice import blocker, unwise
from napari_distill2label.store.cohort import Cohort, CohortSlide

SETTINGS = build_settings()


def cohort(n_negative=20, n_positive=20, **fields):
    labels = ["normal"] * n_negative + ["tumour"] * n_positive
    slides = [CohortSlide(f"s{i}", f"s{i}.png", label, case_id=f"s{i}", mpp=0.5) for i, label in enumerate(labels)]
    return Cohort(tuple(slides), ("normal", "tumour"))


def changed(own, **by_id):
    from dataclasses import replace

    return own.with_slides(replace(row, **by_id.get(row.slide_id, {})) for row in own)


def only(lines, text):
    assert len(lines) == 1, lines
    assert text in lines[0]
    assert lines[0].endswith(".")
    return lines[0]


def test_nothing_to_say_of_a_good_cohort():
    assert blocker(cohort(), SETTINGS) is None
    assert unwise(cohort(), SETTINGS) == []


def test_few_negatives_come_first():
    lines = unwise(cohort(1, 39), SETTINGS)
    assert "‘normal’" in lines[0]
    assert "Only 1 slide of" in lines[0]


def test_a_case_in_two_splits_blocks():
    own = changed(cohort(), s0={"case_id": "p", "split": "train"}, s1={"case_id": "p", "split": "test"})
    reason = blocker(own, SETTINGS)
    assert "in two splits" in reason
    assert "'p'" in reason
    assert unwise(own, SETTINGS) == []


def test_splits_that_leave_nothing_block():
    settings = build_settings(overrides={"split": {"valid": 0.6, "test": 0.4}})
    assert "leave no slide to train on" in blocker(cohort(), settings)


def test_validation_that_says_little():
    no_valid = build_settings(overrides={"split": {"valid": 0.0}})
    only(unwise(cohort(), no_valid), "No slide is held out for validation")
    few = unwise(cohort(8, 8), SETTINGS)
    assert any("Only 2 slides check the training." in line for line in few), few
    split = {f"s{i}": {"split": "valid" if i < 5 else "train"} for i in range(40)}
    only(unwise(changed(cohort(), **split), SETTINGS), "All validation slides (5) are negative")


def test_few_slides():
    assert any("only 6 slides to train on" in line for line in unwise(cohort(4, 4), SETTINGS))


def without_mpp(own, *ids):
    return changed(own, **{name: {"mpp": None} for name in ids})


def test_scales():
    own = without_mpp(cohort(), *(f"s{i}" for i in range(40)))
    assert unwise(own, SETTINGS) == []  # nobody has looked yet
    nobody = {f"s{i}": None for i in range(40)}
    only(unwise(own, SETTINGS, nobody), "No slide says how large its pixels are")
    known = {f"s{i}": 0.5 for i in range(40)}
    assert unwise(own, SETTINGS, known) == []
    splits = {f"s{i}": {"split": "train" if i % 4 else "valid"} for i in range(40)}
    own = changed(own, **splits)
    only(unwise(own, SETTINGS, known | {"s3": None}), "s3 has no µm/px, the others do")
    many = only(unwise(own, SETTINGS, known | dict.fromkeys(["s3", "s5", "s6", "s7", "s9"])), "s3, s5, s6 and 2 more")
    assert "have no µm/px" in many
    only(unwise(own, SETTINGS, known | {"s3": 0.25}), "differ in scale (0.25 to 0.5 µm/px)")
    scaled = build_settings(overrides={"patches": {"mpp": 0.5}})
    assert unwise(own, scaled, known | {"s3": 0.25}) == []
    only(unwise(own, scaled, known | {"s3": None}), "training will stop")


@pytest.mark.parametrize("mpp", [0.5, None])
def test_what_the_user_says_counts_more_than_the_file(mpp):
    own = changed(cohort(), **{f"s{i}": {"split": "train" if i % 4 else "valid"} for i in range(40)})
    assert unwise(own, SETTINGS, {"s3": mpp and 7.0}) == []


def test_slides_without_a_label_are_mentioned():
    own = changed(cohort(), s39={"label": None})
    only(unwise(own, SETTINGS), "1 slide has no label")
