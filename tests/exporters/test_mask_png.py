"""The PNG mask, read by Pillow, against the mask."""

import json

import numpy as np
import pytest
from PIL import Image

from napari_distill2label.core.classes import palette
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.exporters import mask_png
from napari_distill2label.exporters.mask import ArrayPixels, Mask
from napari_distill2label.exporters.mask_png import write_mask_png
from napari_distill2label.slides.label_mask import read_label_mask

NAMES = {0: "not scored", 1: "normal", 2: "tu\nmour"}
COLOURS = dict(enumerate(palette(2), 1))


@pytest.mark.parametrize("reduced", [1, 2, 4])
def test_values_colours_and_texts(tmp_path, monkeypatch, reduced):
    grid = PatchGrid.over((95, 123), PatchSettings(size_px=10))
    labels = np.random.default_rng(0).integers(0, 3, grid.shape).astype(np.uint8)
    monkeypatch.setattr(mask_png, "MOST_PX", -(-95 * 123 // reduced**2))
    mask = Mask(labels, grid)
    monkeypatch.setattr(mask_png, "STRIP_PX", 500)
    steps = []
    path = drain(write_mask_png(tmp_path / "a.png", mask, NAMES, COLOURS, about={"slide_id": "é"}), steps.append)
    assert len(steps) > 1
    picture = Image.open(path)
    whole = mask.region(0, 0, 95, 123)
    ys, xs = (np.minimum(np.arange(0, size, reduced) + reduced // 2, size - 1) for size in (95, 123))
    assert np.array_equal(np.asarray(picture), whole[np.ix_(ys, xs)])
    assert picture.text["downsample"] == str(reduced)
    assert json.loads(picture.text["classes"]) == {"0": "not scored", "1": "normal", "2": "tu\\nmour"}
    assert json.loads(picture.text["provenance"]) == {"slide_id": "é"}
    colours = np.asarray(picture.convert("RGB"))
    assert {tuple(colour) for colour in colours[np.asarray(picture) == 2].tolist()} == {palette(2)[1]}
    assert {tuple(colour) for colour in colours[np.asarray(picture) == 0].tolist()} == {(255, 255, 255)}
    assert np.array_equal(read_label_mask(path).labels, np.asarray(picture))


def test_many_values_are_grey(tmp_path):
    labels = np.arange(60_000, dtype=np.uint16).reshape(200, 300)
    path = drain(write_mask_png(tmp_path / "a.png", ArrayPixels(labels), {}, {}))
    assert np.array_equal(np.asarray(Image.open(path)), labels)
    with pytest.raises(SettingsError, match="below 65,536"):
        drain(write_mask_png(tmp_path / "b.png", ArrayPixels(labels.astype(np.uint32)), {}, {}))


def test_closing_it_leaves_no_file(tmp_path):
    work = write_mask_png(tmp_path / "a.png", ArrayPixels(np.zeros((9, 9), np.uint8)), {}, {})
    next(work)
    work.close()
    assert not list(tmp_path.iterdir())
