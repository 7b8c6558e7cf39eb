"""Tiles made of bands are streams that anybody unpacks."""

import gzip
import zlib

import numpy as np
import pytest

from napari_distill2label.exporters import bands as bands_module
from napari_distill2label.exporters.bands import Bands

SIDE = 96


@pytest.mark.parametrize("container", ["zlib", "gzip"])
def test_tiles_unpack_to_their_pixels(container):
    rng = np.random.default_rng(0)
    bands = Bands(SIDE, container)
    for _ in range(60):
        heights, widths = (np.diff([0, *np.sort(rng.choice(np.arange(1, SIDE), 5, False)), SIDE]) for _ in range(2))
        cells = rng.integers(0, rng.integers(2, 5), (6, 6)).astype(np.uint8)
        cells[rng.integers(0, 5)] = cells[5]
        stream = bands.tile(cells, heights, widths)
        pixels = np.repeat(np.repeat(cells, heights, 0), widths, 1).tobytes()
        assert zlib.decompress(bands.pack(np.frombuffer(pixels, np.uint8).reshape(SIDE, SIDE)), 47) == pixels
        # The checksums are checked here, and nothing may follow.
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | (16 if container == "gzip" else 0))
        assert unpacker.decompress(stream) == pixels
        assert unpacker.eof
        assert unpacker.unused_data == b""
        if container == "gzip":
            assert gzip.decompress(stream) == pixels


def test_bands_are_for_rows_that_repeat(monkeypatch):
    monkeypatch.setattr(bands_module, "MOST_ROWS", 3)
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[5] = 1  # three rows that differ from the one before
    assert zlib.decompress(Bands(SIDE, "zlib").pack(labels)) == labels.tobytes()
    assert Bands(SIDE, "zlib").pack(labels.astype(np.uint16)) is None
    labels[8] = 1
    assert Bands(SIDE, "zlib").pack(labels) is None


def test_a_wrong_checksum_would_be_noticed():
    stream = bytearray(Bands(SIDE, "gzip").tile(np.ones((1, 1), np.uint8), np.array([SIDE]), np.array([SIDE])))
    stream[-8] ^= 1
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(bytes(stream))
