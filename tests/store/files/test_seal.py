"""A digest tells an accident to a JSON file from what was written."""

import json

import pytest

from napari_distill2label.store.files import seal
from napari_distill2label.store.files.seal import read_json, sealed, unsealed

DATA = {"b": [1, 2.5e-17, None, True, "ä\ud800"], "a": {"z": 1, "y": {}}}


def test_what_is_sealed_is_whole():
    assert unsealed(sealed(DATA)) == (DATA, True)
    assert unsealed(dict(reversed(sealed(DATA).items()))) == (DATA, True)


@pytest.mark.parametrize("change", [{"a": {"z": 2, "y": {}}}, {"c": 1}, {"sha256": ""}, {"sha256": None}, {"b": 1}])
def test_what_was_changed_is_not(change):
    assert not unsealed(sealed(DATA) | change)[1]


@pytest.mark.parametrize("data", [{}, {"a": 1}, [], 3, None, "text"])
def test_what_has_no_seal_passes(data):
    assert unsealed(data) == (data, True)


def test_one_and_true_are_not_the_same():
    assert seal.digest_of({"a": 1}) != seal.digest_of({"a": True}) != seal.digest_of({"a": 1.0})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe{", "no text in UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": ' * 200_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "limit"),
        (b'{"a": 1} 2', "Extra data"),
    ],
)
def test_what_is_no_json_is_a_value_error(tmp_path, content, said):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_json(tmp_path / "a.json")


def test_no_more_is_read_than_a_file_of_ours_has(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(10**12)  # a terabyte of nothing
    with pytest.raises(ValueError, match="more than 33554432 bytes"):
        read_json(tmp_path / "a.json")


def test_a_folder_in_place_of_a_file_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="directory"):
        read_json(tmp_path)


def test_what_is_nested_deeper_than_it_can_be_written_is_a_value_error():
    """JSON of some depths can be read and not be written again."""
    nested = []
    for _ in range(100_000):
        nested = [nested]
    for ask in (seal.digest_of, lambda data: unsealed({"sha256": "", "a": data})):
        with pytest.raises(ValueError, match="nested too deeply"):
            ask(nested)


@pytest.mark.parametrize("text", ["0", "-1", "0.5", "1e308", "1" + "0" * 308])
def test_numbers(text):
    assert seal.is_number(json.loads(text))


@pytest.mark.parametrize(
    "text", ["NaN", "-Infinity", "1e999", "1" + "0" * 400, "-1" + "0" * 400, "true", "null", '"1"']
)
def test_what_is_no_number_that_can_be_reckoned_with(text):
    assert not seal.is_number(json.loads(text))
