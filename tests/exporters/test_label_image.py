"""Label images of others, read back with other programs."""

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
from PIL import Image

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.exporters.label_image import (
    LabelImage,
    write_label_image,
    write_label_regions,
    write_label_table,
)
from napari_distill2label.slides.label_mask import is_label_mask, read_label_mask


@pytest.fixture
def ring():
    """A ring with a hole, a region that touches it in a corner, and one of another value."""
    labels = np.zeros((30, 40), np.int64)
    labels[5:15, 5:15] = 2
    labels[8:12, 8:12] = 0
    labels[15:20, 15:20] = 2
    labels[0, 39] = 7
    return labels


def outlines_of(path):
    return [
        (one["properties"]["classification"]["name"], shapely.geometry.shape(one["geometry"]))
        for one in json.loads(path.read_text("utf-8"))["features"]
    ]


def test_regions_have_the_pixels_of_the_labels(ring, tmp_path):
    image = LabelImage(ring, (0.5, 0.25), {2: 'Tumör "A", =1\n2', 7: "x"}, {2: (1, 2, 3)})
    found = outlines_of(write_label_regions(tmp_path / "a.geojson", image))
    assert [name for name, _ in found] == ['Tumör "A", =1\n2'] * 2 + ["x"]
    assert [outline.area for _, outline in found] == [84, 25, 1]
    assert all(outline.is_valid for _, outline in found)
    y, x = np.mgrid[:30, :40] + 0.5
    for value, name in image.names.items():
        area = shapely.union_all([outline for own, outline in found if own == name])
        assert np.array_equal(shapely.contains_xy(area, x, y), ring == value)
    colours = [one["properties"]["classification"].get("color")
               for one in json.loads((tmp_path / "a.geojson").read_text("utf-8"))["features"]]  # fmt: skip
    assert colours == [[1, 2, 3], [1, 2, 3], None]


@pytest.mark.parametrize(
    ("dtype", "most", "stored"), [("bool", 1, "uint8"), ("int64", 300, "uint16"), ("uint32", 10**6, "uint32")]
)
def test_a_mask_keeps_values_scale_and_place(tmp_path, dtype, most, stored):
    labels = np.zeros((1500, 1100), dtype)
    labels[700:, 3:7] = most
    image = LabelImage(labels, (0.5, 0.25), {1: "a\x00b"}, position=(3, -7.5), title="Präparat\n1")
    path = write_label_image(tmp_path / "a.ome.tif", image)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.series[0].dtype == stored
        assert [level.shape for level in tiff.series[0].levels] == [(1500, 1100), (750, 550)]
        assert np.array_equal(tiff.series[0].levels[1].asarray(), labels[1::2, 1::2])
        assert tiff.pages[0].tags["XResolution"].value[0] / tiff.pages[0].tags["XResolution"].value[1] == 40_000
    assert is_label_mask(path)
    mask = read_label_mask(path)
    assert np.array_equal(mask.labels, labels)
    assert (mask.mpp, mask.position, mask.classes) == ((0.5, 0.25), (3, -7.5), {1: "a\x00b"})


def test_a_mask_without_a_scale_claims_none(ring, tmp_path):
    mask = read_label_mask(write_label_image(tmp_path / "a.ome.tif", LabelImage(ring, position=(2, 0))))
    assert (mask.mpp, mask.position, mask.classes) == (None, (2, 0), {})


def test_a_png_holds_the_values(ring, tmp_path):
    assert np.array_equal(np.asarray(Image.open(write_label_image(tmp_path / "a.png", LabelImage(ring)))), ring)
    ring[0, 0] = 70_000
    with pytest.raises(SettingsError, match="below 65536, this has 70000"):
        write_label_image(tmp_path / "b.png", LabelImage(ring))
    assert not (tmp_path / "b.png").exists()


def test_the_table_has_a_row_for_every_value(ring, tmp_path):
    table = pd.read_csv(write_label_table(tmp_path / "a.csv", LabelImage(ring, (0.5, 0.25), {2: "=cmd()"})))
    assert table["value"].tolist() == [2, 7]
    assert table["class"].tolist() == ["'=cmd()", "7"]
    assert table["area_px"].tolist() == [109, 1]
    assert table["area_um2"].tolist() == [109 / 8, 1 / 8]
    assert table[["minx", "miny", "width", "height"]].to_numpy().tolist() == [[5, 5, 15, 15], [39, 0, 1, 1]]
    assert "area_um2" not in pd.read_csv(write_label_table(tmp_path / "b.csv", LabelImage(ring)))


def test_a_large_value_takes_no_more_memory_than_a_small_one(ring, tmp_path):
    tracemalloc.start()
    image = LabelImage(np.where(ring == 7, 50_000_000, ring))
    table = pd.read_csv(write_label_table(tmp_path / "a.csv", image))
    assert [name for name, _ in outlines_of(write_label_regions(tmp_path / "a.geojson", image))][-1] == "50000000"
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 20_000_000
    assert table["value"].tolist() == [2, 50_000_000]
    assert table[["x", "y"]].to_numpy()[1].tolist() == [39, 0]


@pytest.mark.parametrize("labels", [np.zeros((2, 3, 4), int), np.zeros((2, 3)), np.full((2, 3), -1)])
def test_what_is_no_label_image_is_refused(labels):
    with pytest.raises(SettingsError):
        LabelImage(labels)


def test_an_empty_image(tmp_path):
    image = LabelImage(np.zeros((4, 5), np.uint8))
    assert outlines_of(write_label_regions(tmp_path / "a.geojson", image)) == []
    assert len(pd.read_csv(write_label_table(tmp_path / "a.csv", image))) == 0
