"""Names of files: fine ones stay, no two slides get one."""

import os

import pytest

from napari_distill2label.store.files.safe_names import folded, safe_name, safe_names


@pytest.mark.parametrize("name", ["slide 1", "Präparat_Ä-2", "TCGA-02.svs", "切片"])
def test_good_names_stay(name):
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../../etc/passwd", "a/b", "a\\b", "a:b", "x\n", "CON", "nul.txt", ".hid"]
)
def test_bad_names_become_plain_file_names(name, tmp_path):
    safe = safe_name(name)
    assert safe not in ("", ".", "..")
    assert not safe.startswith(".")
    assert not set(safe) & set('/\\:*?"<>|\n')
    (tmp_path / safe).write_text("fine")
    assert os.listdir(tmp_path) == [safe]


def test_names_that_differ_stay_apart_and_long_ones_fit(tmp_path):
    assert len({safe_name(name) for name in ("a/b", "a_b", "a\\b", "a//b")}) == 4
    for name in ("x" * 300, "切" * 300):
        (tmp_path / f"{safe_name(name)}.ome.tif").write_text("fine")


def test_a_slide_keeps_its_name_beside_a_slide_and_a_class_whatever_the_order():
    keys = [("a", "mask"), ("a_mask",), ("a",)]
    for order in (keys, keys[::-1]):
        names = safe_names(order)
        assert names["a_mask",] == "a_mask"
        assert names["a", "mask"] not in ("a", "a_mask")


def test_ids_that_some_systems_take_for_one_get_different_names():
    ids = ["a1", "A1", "\u00e4", "a\u0308", "\u00c4", "B", "stra\u00dfe", "STRASSE"]
    names = safe_names((slide_id,) for slide_id in ids)
    assert len({folded(name) for name in names.values()}) == len(ids)
    assert (names["a1",], names["B",]) == ("a1", "B")  # in small letters, or alone: as ever
    assert safe_names([("A1",)]) == {("A1",): "A1"}
    assert safe_names(reversed([(slide_id,) for slide_id in ids])) == names


def test_a_class_does_not_make_one_name_of_two():
    names = safe_names([("a", "b_c"), ("a_b", "c"), ("a", "c")])
    assert len(set(names.values())) == 3
    assert names["a", "c"] == "a_c"
