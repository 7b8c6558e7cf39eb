"""`doctor`: says what is there and, of what is not, how to get it."""

import importlib.util

import pytest

from napari_distill2label.workflow.commands import doctor as module
from napari_distill2label.workflow.commands.doctor import doctor


def test_it_finds_this_installation():
    checks = {check.name: check for check in doctor()}
    assert {"torch", "zarr", "napari", "onnxruntime", "device", "whole slides (preset wsi)"} <= checks.keys()
    assert checks["torch"].ok
    assert checks["torch"].detail[0].isdigit()
    assert "threads" in checks["device"].detail
    assert all(check.remedy for check in checks.values() if not check.ok)


def test_it_says_which_slides_can_be_read():
    check = next(check for check in doctor() if check.name == "slide formats")
    assert ".svs" in check.detail.split(";")[0]
    installed = importlib.util.find_spec("openslide") is not None
    assert check.ok == installed
    assert (".mrxs" in check.detail.split(";")[0]) == installed


def test_what_is_missing_comes_with_a_remedy(monkeypatch, cli):
    found = module._version
    monkeypatch.setattr(module, "_version", lambda name: None if name in ("napari", "zarr") else found(name))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    checks = {check.name: check for check in doctor()}
    assert not checks["zarr"].ok
    assert "napari-distill2label[gui]" in checks["napari"].remedy
    assert ".onnx" in checks["whole slides (preset wsi)"].remedy
    status, out, _ = cli("doctor")
    assert status == 0
    assert "missing  napari: not installed\n         for the window: pip install" in out


@pytest.mark.parametrize("name", ["zarr", "torch"])
def test_names_are_those_pip_knows(name):
    assert name in module.BASE
