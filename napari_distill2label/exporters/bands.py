"""Tiles of labels packed by deflate without packing every pixel: a tile is made of bands, which repeat.

A band is the pixel rows of a tile that are all equal, because they lie in one row of cells. A stream of zlib (RFC 1950)
or gzip (RFC 1952) is a head, blocks of deflate (RFC 1951), and checksums. Blocks that end on a whole byte and refer to
nothing before them can be put together in any order, and so can the checksums.
"""

import zlib
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple

import numpy as np

LEVEL = 9  # of deflate: rows of a grid take a third of the space that level 6 needs, in the same time
MOST_BANDS = 50_000  # packed bands that are remembered: some 20 MB
MOST_ROWS = 64  # of a tile that differ from the row before
ADLER = 65521  # the modulus of zlib's checksum (RFC 1950, 8.2)
END = b"\x03\x00"  # the last block, which is empty

Container = Literal["zlib", "gzip"]


class _Band(NamedTuple):
    data: bytes  # blocks of deflate
    adler: int
    crc: int
    size: int  # bytes that it holds


class Bands:
    """Packs tiles of `side` px whose labels follow from cells.

    Parameters
    ----------
    container
        What the stream is: of zlib (as in TIFF and zarr's format 2) or of gzip (a codec of zarr's format 3).
    """

    HEADS: ClassVar[dict[Container, bytes]] = {"zlib": b"\x78\xda", "gzip": b"\x1f\x8b\x08\0\0\0\0\0\x02\xff"}

    def __init__(self, side: int, container: Container) -> None:
        self._side, self._container = side, container
        self._known: dict[tuple[bytes, bytes, int], _Band] = {}

    def tile(self, cells: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> bytes:
        """Return a packed tile whose cells (R, C) uint8 are `rows` (R,) px high and `columns` (C,) px wide."""
        widths, bands = columns.tobytes(), []
        start = 0
        for stop in (*np.flatnonzero((cells[1:] != cells[:-1]).any(1)) + 1, len(cells)):
            height = int(rows[start:stop].sum())
            row = cells[start].tobytes()
            # Of one label, the width of cells does not matter.
            key = (row[:1], b"", height) if row.count(row[:1]) == len(row) else (row, widths, height)
            if (band := self._known.get(key)) is None:
                band = self._add(key, cells[start], columns)
            bands.append(band)
            start = stop
        end = _adler(bands) if self._container == "zlib" else _crc_and_size(bands)
        return b"".join((self.HEADS[self._container], *(band.data for band in bands), END, end))

    def pack(self, labels: np.ndarray) -> bytes | None:
        """Return a packed tile of (side, side) labels. None if few of its rows repeat, or labels are no bytes."""
        if labels.dtype != np.uint8:
            return None
        rows = np.flatnonzero(np.concatenate([[True], (labels[1:] != labels[:-1]).any(1)]))
        if len(rows) > MOST_ROWS:
            return None
        few = labels[rows]
        columns = np.flatnonzero(np.concatenate([[True], (few[:, 1:] != few[:, :-1]).any(0)]))
        heights, widths = (
            np.diff(starts, append=size) for starts, size in zip((rows, columns), labels.shape, strict=True)
        )
        return self.tile(few[:, columns], heights, widths)

    def _add(self, key: tuple[bytes, bytes, int], cells: np.ndarray, columns: np.ndarray) -> _Band:
        pixels = np.repeat(cells, columns).tobytes() * key[2]
        packer = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        data = packer.compress(pixels) + packer.flush(zlib.Z_FULL_FLUSH)
        if len(self._known) >= MOST_BANDS:
            self._known.clear()
        self._known[key] = band = _Band(data, zlib.adler32(pixels), zlib.crc32(pixels), len(pixels))
        return band


def _adler(bands: list[_Band]) -> bytes:
    """Return the checksum of bands after one another: two sums (RFC 1950, 2.2)."""
    low, high = 1, 0
    for band in bands:
        high = (high + (band.adler >> 16) + (low - 1) * band.size) % ADLER
        low = (low + (band.adler & 0xFFFF) - 1) % ADLER
    return (high << 16 | low).to_bytes(4, "big")


def _crc_and_size(bands: list[_Band]) -> bytes:
    """Return the checksum and the size of bands after one another (RFC 1952, 2.3.1)."""
    crc = 0
    for band in bands:
        # What went before changes the checksum of a band by a linear function of it, whatever the band holds.
        change, bits = 0, crc
        for column in _crc_columns(band.size):
            if bits & 1:
                change ^= column
            bits >>= 1
        crc = change ^ band.crc
    size = sum(band.size for band in bands)
    return crc.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")


@lru_cache(4096)
def _crc_columns(size: int) -> tuple[int, ...]:
    """Return how each bit of a checksum changes that of `size` bytes after it."""
    zeros = bytes(size)
    unchanged = zlib.crc32(zeros, 0)
    return tuple(zlib.crc32(zeros, 1 << bit) ^ unchanged for bit in range(32))
