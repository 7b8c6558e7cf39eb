"""Pixels of label images, decoded tile by tile: those that other readers find, in any part, in bounded memory."""

import tracemalloc

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.exporters.mask import Mask
from napari_distill2label.exporters.ome_tiff import write_mask
from napari_distill2label.slides import tiled_labels
from napari_distill2label.slides.label_mask import read_label_mask
from napari_distill2label.slides.regions import find_areas
from napari_distill2label.slides.tiled_labels import TiledLabels

LABELS = np.random.default_rng(0).integers(0, 5, (90, 130)).astype(np.uint8)
LABELS[:40, :50] = 3  # whole tiles of one value
TIFFS = {
    "one strip": {},
    "strips": {"rowsperstrip": 7},
    "packed strips": {"rowsperstrip": 32, "compression": "zlib"},
    "tiles": {"tile": (16, 32)},
    "packed tiles": {"tile": (16, 32), "compression": "zlib", "predictor": True},
    "LZW": {"compression": "lzw"},
    "big-endian": {"byteorder": ">"},
    "packed big-endian": {"byteorder": ">", "tile": (32, 16), "compression": "zstd"},
}


LAYOUTS = [
    *((dtype, layout) for dtype in (np.uint8, np.uint16, np.int32) for layout in TIFFS),
    *((bool, layout) for layout in ("one strip", "strips", "packed strips", "tiles")),  # bits have no order of bytes
]


@pytest.mark.parametrize(("dtype", "layout"), LAYOUTS)
def test_any_layout_of_a_tiff(tmp_path, dtype, layout):
    options = TIFFS[layout]
    labels = LABELS.astype(dtype)
    if dtype in (np.uint16, np.int32):
        labels *= 250
    tifffile.imwrite(tmp_path / "a.tif", labels, **options)
    mask = read_label_mask(tmp_path / "a.tif")
    assert mask.pixels.dtype == dtype
    np.testing.assert_array_equal(mask.labels, tifffile.imread(tmp_path / "a.tif"))
    check_parts(mask.pixels, labels)


@pytest.mark.parametrize("chunks", [(1, 16, 32), (1, 90, 130), (1, 5000, 3)])
def test_a_zarr(tmp_path, monkeypatch, chunks):
    monkeypatch.setattr(tiled_labels, "ZARR_PIECE", 20)
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="w")
    group.create_array("0", data=LABELS[None], chunks=chunks)
    image = {"axes": [{"name": name} for name in "zyx"], "datasets": [{"path": "0"}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    check_parts(read_label_mask(tmp_path / "a.ome.zarr").pixels, LABELS)


def test_a_picture(tmp_path):
    Image.fromarray(LABELS).save(tmp_path / "a.png")
    check_parts(read_label_mask(tmp_path / "a.png").pixels, LABELS)


def check_parts(pixels, labels):
    """Any rows and columns of the pixels are those of the labels, and 0 outside."""
    rng = np.random.default_rng(1)
    padded = np.pad(labels, 20)
    for _ in range(10):
        ys, xs = (np.sort(rng.integers(-20, size + 20, 30)) for size in labels.shape)
        np.testing.assert_array_equal(pixels.at(ys, xs), padded[np.ix_(ys + 20, xs + 20)])
        y, x, h, w = (int(number) for number in rng.integers(-20, 60, 4).clip([-20, -20, 1, 1]))
        np.testing.assert_array_equal(pixels.read(y, x, h, w), padded[y + 20 :, x + 20 :][:h, :w])
    assert drain(pixels.values()) == set(np.unique(labels).tolist())
    small = pixels.as_type(np.dtype(np.uint32))
    np.testing.assert_array_equal(small.whole(), labels.astype(np.uint32))


def test_no_more_tiles_are_kept_than_have_room(monkeypatch):
    decoded = []

    def decode(row, col):
        decoded.append((row, col))
        return LABELS[row * 30 : row * 30 + 30, col * 65 : col * 65 + 65]

    monkeypatch.setattr(tiled_labels, "CACHE_BYTES", 2 * 30 * 65)
    pixels = TiledLabels(LABELS.shape, LABELS.dtype, (30, 65), decode)
    for col in (0, 0, 1, 0, 1):
        pixels.read(60, 65 * col, 30, 65)
    assert decoded == [(2, 0), (2, 1)]
    pixels.read(30, 65, 30, 65)
    pixels.read(60, 0, 30, 65)
    assert decoded == [(2, 0), (2, 1), (1, 1), (2, 0)]


def test_equal_tiles_are_decoded_once_and_memory_does_not_hold_the_mask(tmp_path):
    labels = np.ones((40, 40), np.uint8)
    labels[3:9, 5:20] = 2
    patches = PatchGrid.over((20_000, 20_000), PatchSettings(size_px=500))
    drain(write_mask(tmp_path / "a.ome.tif", Mask(labels, patches), {1: "normal", 2: "tumour"}))
    tracemalloc.start()
    mask = read_label_mask(tmp_path / "a.ome.tif")
    areas = drain(find_areas(mask, "a"))
    assert tracemalloc.get_traced_memory()[1] < 20e6  # of 400 MB
    tracemalloc.stop()
    assert areas.cells.shape == (3, 3)
    bounds = {thing.name: thing.geometry.bounds for thing in areas.objects()}
    assert bounds == {"normal": (0, 0, 20_000, 20_000), "tumour": (2500, 1500, 10_000, 4500)}


def test_a_tile_that_is_damaged_is_said_when_it_is_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", LABELS, tile=(16, 32), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        start = tiff.pages.first.dataoffsets[-1]
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[start : start + 9] = b"\0" * 9
    (tmp_path / "a.tif").write_bytes(data)
    mask = read_label_mask(tmp_path / "a.tif")
    np.testing.assert_array_equal(mask.pixels.read(0, 0, 50, 50), LABELS[:50, :50])
    for read in (lambda: mask.labels, lambda: drain(find_areas(mask, "a"))):
        with pytest.raises(CohortError, match=r"a\.tif: this mask cannot be read \(.+\)"):
            read()


def test_more_pixels_than_any_slide_has(tmp_path):
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="w")
    group.create_array("0", shape=(2**21, 2**21), chunks=(64, 64), dtype=np.uint8)
    group.attrs["ome"] = {"multiscales": [{"axes": ["y", "x"], "datasets": [{"path": "0"}]}]}
    with pytest.raises(CohortError, match="claims 2097152 × 2097152 px, more than a slide has"):
        read_label_mask(tmp_path / "a.ome.zarr")
