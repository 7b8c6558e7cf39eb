"""What labels mean: exactly a class, nearly one, something else, or what the user says."""

import pytest

from napari_distill2label.core.bag import UNLABELLED
from napari_distill2label.core.errors import CohortError, SettingsError
from napari_distill2label.core.label_map import (
    check_label_map,
    class_of_labels,
    is_left_out,
    parse_label_map,
)
from napari_distill2label.core.text import count_of, list_briefly

CLASSES = ("normal", "tumour", "grade 1")


def index(*labels, label_map=None):
    return class_of_labels(labels, CLASSES, label_map, "truth.csv")


def test_labels_are_classes_or_unknown():
    assert index("tumour", "normal", "lymphocyte", "") == {
        "tumour": 1,
        "normal": 0,
        "lymphocyte": UNLABELLED,
        "": UNLABELLED,
    }


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Tumour", "tumour"), ("tumor", "tumour"), ("TUMOR ", "tumour"), ("tumours", "tumour"), ("Nörmal", "normal"),
        ("norm al", "normal"), ("Grade-1", "grade 1"), ("Tumor: Positive", "tumour"),
    ],
)  # fmt: skip
def test_what_is_nearly_a_class_is_an_error_that_offers_the_map(label, name):
    with pytest.raises(CohortError) as caught:
        index(label, "normal")
    line = str(caught.value)
    assert line.startswith("truth.csv: ")
    assert "\n" not in line
    assert repr({label: name}) in line
    assert index(label, label_map={label: name}) == {label: CLASSES.index(name)}
    assert index(label, label_map={label: ""}) == {label: UNLABELLED}


@pytest.mark.parametrize("label", ["grade 2", "grade 11", "stroma", "necrosis", "others", "fibroblast", "metastasis"])
def test_other_things_are_no_slips(label):
    assert index(label) == {label: UNLABELLED}


def test_a_derived_class_is_of_the_class_it_is_derived_from():
    assert index("tumour: Positive", "tumour: Negative") == {"tumour: Positive": 1, "tumour: Negative": 1}
    assert class_of_labels(["a: b"], ("a", "a: b"), None, "t")["a: b"] == 1


def test_a_label_is_what_the_map_says_of_the_one_it_is_derived_from():
    label_map = {"Carcinoma": "tumour", "Carcinoma: Negative": "normal", "uncertain": "", "*": "grade 1"}
    assert index(
        "Carcinoma: Positive", "Carcinoma: Positive: 2+", "Carcinoma: Negative", "uncertain: a", "x: y",
        label_map=label_map,
    ) == {
        "Carcinoma: Positive": 1, "Carcinoma: Positive: 2+": 1, "Carcinoma: Negative": 0, "uncertain: a": UNLABELLED,
        "x: y": 2,
    }  # fmt: skip
    check_label_map({"Carcinoma": "tumour"}, ["Carcinoma: Positive"], CLASSES, "truth.csv")
    assert index("Tumor: Positive", label_map={"Tumor": "tumour"}) == {"Tumor: Positive": 1}
    assert is_left_out("uncertain: a", label_map)
    assert not is_left_out("Carcinoma: Positive", label_map)
    assert is_left_out("x", {"*": ""})
    assert not is_left_out("x", {"y": ""})


def test_the_map_comes_first_and_the_star_is_for_all_others():
    assert index("tumour", "Tumour", "x", "", label_map={"x": "", "*": "normal", "tumour": "grade 1"}) == {
        "tumour": 2, "Tumour": 0, "x": UNLABELLED, "": UNLABELLED,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("label_map", "said"),
    [
        ({"x": "cancer"}, "'cancer', which is no class of the model"),
        ({"y": "tumour"}, "There is no label 'y' to map .*The labels are x"),
    ],
)
def test_a_map_to_no_class_or_of_no_label_is_an_error(label_map, said):
    with pytest.raises(CohortError, match=said):
        check_label_map(label_map, ["x"], CLASSES, "truth.csv")
    if "x" in label_map:
        with pytest.raises(CohortError, match=said):
            index("x", label_map=label_map)
    check_label_map({"x": "tumour", "*": ""}, ["x"], CLASSES, "truth.csv")


def test_parsing():
    assert parse_label_map(["Tumor=tumour", "a=b=c", "artefact=", " * = normal "]) == {
        "Tumor": "tumour", "a=b": "c", "artefact": "", "*": "normal",
    }  # fmt: skip
    for wrong in ("Tumor", "=tumour", ""):
        with pytest.raises(SettingsError, match="LABEL=CLASS"):
            parse_label_map([wrong])


def test_many_names_in_one_line():
    assert list_briefly("abc") == "a, b, c"
    assert list_briefly([]) == "none"
    assert list_briefly(map(str, range(9))) == "0, 1, 2, 3, 4 and 4 more"
    assert len(list_briefly(["x" * 10**6])) < 80
    assert [count_of(1, "slide"), count_of(2, "slide"), count_of(0, "patch")] == ["1 slide", "2 slides", "0 patches"]
