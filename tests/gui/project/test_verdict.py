"""What a model says of a slide is told in plain words; what contradicts a label is known."""

import pytest

from napari_distill2label.gui.project.verdict import Verdict, verdict_of, verdict_of_case


def two(probability):
    return Verdict(("normal", "epithelial"), (1 - probability, probability))


def test_of_two_classes_the_probability_is_that_of_the_finding():
    assert str(two(0.01)) == "normal · P(epithelial) 0.01"
    assert str(two(0.93)) == "epithelial · P(epithelial) 0.93"
    assert two(0.5).said == ("epithelial",)
    assert two(0.4999).said == ("normal",)


def test_of_several_classes_the_likeliest():
    classes = ("normal", "benign", "malignant")
    assert str(Verdict(classes, (0.2, 0.5, 0.3))) == "benign · P(benign) 0.50"
    assert str(Verdict(classes, (0.6, 0.1, 0.3))) == "normal · P(malignant) 0.30"
    # Several findings at once: all that are likelier than not.
    assert str(Verdict(classes, (0.0, 0.7, 0.9), multi_label=True)) == "benign + malignant · P(malignant) 0.90"
    assert str(Verdict(classes, (0.7, 0.3, 0.2), multi_label=True)) == "normal · P(benign) 0.30"


@pytest.mark.parametrize(
    ("verdict", "label", "contradicts"),
    [
        (two(0.01), "epithelial", True),
        (two(0.01), "normal", False),
        (two(0.93), "normal", True),
        (two(0.93), None, False),
        (two(0.93), "unknown class", False),
        (Verdict(("n", "a", "b"), (0.2, 0.5, 0.3)), "b", True),
        (Verdict(("n", "a", "b"), (0.2, 0.5, 0.3)), "a", False),
        (Verdict(("n", "a", "b"), (0.0, 0.7, 0.9), multi_label=True), "a", True),
        (Verdict(("n", "a", "b"), (0.0, 0.7, 0.9), multi_label=True), "a;b", False),
        (Verdict(("n", "a", "b"), (0.9, 0.2, 0.1), multi_label=True), "n", False),
    ],
)
def test_what_contradicts_a_label(verdict, label, contradicts):
    assert verdict.contradicts(label) is contradicts


def test_what_is_not_known_says_nothing(make_patch_map):
    patch_map = make_patch_map((120, 160), size_px=20)
    patch_map.finish([0.8, 0.2])
    assert str(verdict_of(patch_map)) == "normal · P(tumour) 0.20"
    assert verdict_of(None) is None


def test_of_a_case_the_highest_slide_counts_once_all_are_known():
    assert verdict_of_case([two(0.1), two(0.9)]) == two(0.9)
    assert verdict_of_case([two(0.1), None]) is None  # the other one may have the finding
    assert verdict_of_case([]) is None
