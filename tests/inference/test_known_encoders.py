"""Encoders that are known by name."""

import json
from pathlib import Path

import pytest

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.inference.encoder import EncoderDescription
from napari_distill2label.inference.known_encoders import KNOWN_ENCODERS

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "frozen-encoders.md"


@pytest.mark.parametrize("name", KNOWN_ENCODERS)
def test_a_file_of_its_name_needs_no_json(tmp_path, name):
    (file := tmp_path / f"{name.capitalize()}.onnx").write_bytes(b"")
    found = EncoderDescription.read_beside(file)
    assert (found.name, found.patch_px) == (name, 224)
    assert found.licence
    assert found.source.startswith("https://")
    assert all(0 < value < 1 for value in (*found.mean, *found.std))


def test_the_json_beside_it_comes_first(tmp_path):
    (file := tmp_path / "phikon-v2.onnx").write_bytes(b"")
    file.with_suffix(".json").write_text(json.dumps({"name": "mine", "features": 7}))
    assert EncoderDescription.read_beside(file).name == "mine"


def test_others_need_one(tmp_path):
    (file := tmp_path / "phikon-v3.onnx").write_bytes(b"")
    with pytest.raises(SettingsError, match=r"phikon-v3\.json: no such file"):
        EncoderDescription.read_beside(file)
    with pytest.raises(SettingsError, match=r"phikon-v2\.onnx: no such file"):
        EncoderDescription.read_beside(tmp_path / "phikon-v2.onnx")


def test_the_page_lists_them():
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    for name, encoder in KNOWN_ENCODERS.items():
        assert f"| `{name}` | {encoder['features']} | {encoder['licence']} | <{encoder['source']}> |" in rows
