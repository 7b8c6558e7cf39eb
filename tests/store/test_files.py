"""Whole or not at all."""

import json
import os

import pytest

from napari_distill2label.store.files import atomic_path, file_signature, safe_name, write_bytes, write_json, write_text


def test_writing_replaces_the_whole_file(tmp_path):
    path = tmp_path / "päth with spaces" / "ä.txt"
    assert write_text(path, "one\n") == path
    write_text(path, "zwei ✓\n")
    assert path.read_bytes() == "zwei ✓\n".encode()
    write_bytes(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert os.listdir(path.parent) == ["ä.txt"]


def test_json_is_readable_and_refuses_what_json_cannot_say(tmp_path):
    path = write_json(tmp_path / "a.json", {"name": "µ", "n": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "µ", "n": 1}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"n": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8"))["n"] == 1


def test_an_error_keeps_the_former_file_and_leaves_nothing_behind(tmp_path):
    path = write_text(tmp_path / "a.txt", "former")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "former"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "bundle"
    for content in ("first", "second"):
        with atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / f"{content}.txt").write_text(content)
    assert os.listdir(path) == ["second.txt"]
    assert os.listdir(tmp_path) == ["bundle"]


def test_an_error_keeps_the_former_folder(tmp_path):
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "a.txt").write_text("former")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / "a.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert (path / "a.txt").read_text() == "former"
    assert os.listdir(tmp_path) == ["bundle"]


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


def test_the_signature_of_a_url_is_what_its_server_tells(tmp_path):
    file = tmp_path / "slide.tif"
    file.write_bytes(b"12345")
    first = file_signature(file.as_uri())
    assert first.startswith("5-")
    assert file_signature(file.as_uri()) == first
    file.write_bytes(b"123456")
    assert file_signature(file.as_uri()) != first
    assert file_signature("file:///no such/slide.tif") == "unknown"
