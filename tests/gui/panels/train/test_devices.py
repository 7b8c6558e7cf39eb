"""Devices are told by name and free memory."""

import torch

from napari_distill2label.gui.panels.train.devices import Device, find_devices, placeholder_devices


def test_memory_in_words():
    assert Device("cuda", "a GPU", 24_100_000_000, 25_400_000_000).memory == "24.1 of 25.4 GB free"
    assert Device("cuda", "a GPU").memory == ""


def test_what_is_there():
    devices = {device.name: device for device in find_devices()}
    assert {"auto", "cpu"} <= set(devices)
    assert 0 < devices["cpu"].free <= devices["cpu"].total
    kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    chosen = next(device for name, device in devices.items() if name.startswith(kind))
    assert devices["auto"].title == f"Automatic: {chosen.title}"
    assert any(name.startswith("cuda") for name in devices) == torch.cuda.is_available()


def test_before_torch_is_imported():
    assert [device.name for device in placeholder_devices()] == ["auto", "cpu", "cuda", "mps"]
