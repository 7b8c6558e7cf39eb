import pytest

from napari_distill2label.core.classes import class_indices, order_classes, split_label
from napari_distill2label.core.errors import CohortError


@pytest.mark.parametrize("negative", ["0", "neg", "Negative", "NORMAL", "benign"])
def test_the_negative_class_is_recognised_and_comes_first(negative):
    # alphabetical order would put it behind
    assert order_classes(["!", negative, "!"])[0] == negative
    assert order_classes(["a", negative, "Z"]) == (negative, "Z", "a")


def test_given_classes_decide():
    assert order_classes(["metastasis", "normal"], ["metastasis", " normal "]) == ("metastasis", "normal")
    assert order_classes([], ["normal", "rare"]) == ("normal", "rare")


@pytest.mark.parametrize(
    ("labels", "given", "message"),
    [
        (["luminal", "basal"], None, "Which of basal, luminal is the negative class.*classes="),
        (["normal", "benign", "tumour"], None, "Which of"),
        (["normal", "normal"], None, "every labelled slide is 'normal'"),
        ([], None, "no slide has a label"),
        (["normal", "tumor"], ["normal", "tumour"], "unknown label 'tumor': the classes are normal, tumour"),
        (["normal"], ["normal"], "Two or more different names"),
        (["normal"], ["normal", "normal"], "Two or more different names"),
    ],
)
def test_classes_that_cannot_be_ordered_are_one_plain_line(labels, given, message):
    with pytest.raises(CohortError, match=rf"^[^\n]*{message}[^\n]*$"):
        order_classes(labels, given)


def test_several_classes_at_once_are_written_with_a_semicolon():
    assert split_label("a;b") == ("a", "b")
    assert split_label(" a ; b ;") == ("a", "b")
    assert order_classes(["normal", "a;b", "b"]) == ("normal", "a", "b")
    assert class_indices("b;a", ("normal", "a", "b")) == (1, 2)
    assert class_indices("a;a", ("normal", "a", "b")) == (1,)


@pytest.mark.parametrize("label", ["c", "a;c", "", ";"])
def test_a_label_that_names_no_class_is_refused(label):
    with pytest.raises(CohortError, match=f"unknown label '{label}'"):
        class_indices(label, ("normal", "a", "b"))
