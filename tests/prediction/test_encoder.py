"""The frozen encoder's file, without a real encoder: what is said of files that do not fit."""

import builtins

import pytest

from napari_distill2label.core.errors import MissingDependencyError, SettingsError
from napari_distill2label.prediction.encoder import EncoderDescription, FrozenEncoder


def test_the_description_knows_its_ranges():
    description = EncoderDescription(name="e", features=4, licence="ignored")
    assert (description.patch_px, description.mpp, description.mean) == (224, None, (0, 0, 0))
    for wrong in ({"features": 0}, {"patch_px": 0}, {"mpp": 100}, {"std": [1]}):
        with pytest.raises(ValueError, match="validation error"):
            EncoderDescription(**{"name": "e", "features": 4} | wrong)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(SettingsError, match=r"e\.onnx: no such file"):
        FrozenEncoder(tmp_path / "e.onnx")
    with pytest.raises(SettingsError, match=r"is no encoder: .*\.onnx"):
        FrozenEncoder(tmp_path / "e.exe")
    (tmp_path / "e.onnx").touch()
    with pytest.raises(SettingsError, match=r"e\.json: no such file"):
        FrozenEncoder(tmp_path / "e.onnx")


def test_without_onnxruntime_it_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "e.onnx").touch()
    (tmp_path / "e.json").write_text('{"name": "e", "features": 4}')
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "onnxruntime":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"pip install 'napari-distill2label\[encoders\]'"):
        FrozenEncoder(tmp_path / "e.onnx")
