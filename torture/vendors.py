"""Tiny slides of MIRAX and DICOM, written by hand: no library here writes them. OpenSlide reads both."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

TILE = 64
SYNTAX = "1.2.840.10008.1.2.4.50"  # JPEG, 8 bits
SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image


def _jpeg(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "jpeg", quality=90)
    return file.getvalue()


def write_mirax(path: Path, image: np.ndarray) -> None:
    """A slide of two levels, `path` and the folder beside it. The sides of `image` are multiples of 128 px.

    The layout is that of OpenSlide's page on MIRAX: the index has pages for each level, with an item for each tile.
    """
    rows, cols = image.shape[0] // TILE, image.shape[1] // TILE
    folder = path.with_suffix("")
    folder.mkdir()
    path.write_bytes(_jpeg(image[::4, ::4]))
    data, levels = bytearray(b"01.02tiny"), []
    for level in range(2):
        step, items = 2**level, []
        for y in range(0, rows, step):
            for x in range(0, cols, step):
                piece = image[y * TILE : (y + step) * TILE : step, x * TILE : (x + step) * TILE : step]
                tile = _jpeg(piece)
                items.append((y * cols + x, len(data), len(tile), 0))
                data += tile
        levels.append(items)
    (folder / "Data0000.dat").write_bytes(data)
    head = b"01.02tiny"
    root = len(head) + 8
    at = root + 4 * len(levels)
    table, pages = b"", b""
    for items in levels:
        table += struct.pack("<i", at + len(pages))
        page = at + len(pages) + 8
        pages += struct.pack("<4i", 0, page, len(items), 0) + b"".join(struct.pack("<4i", *item) for item in items)
    (folder / "Index.dat").write_bytes(head + struct.pack("<2i", root, root) + table + pages)
    text = f"""[GENERAL]
SLIDE_VERSION = 01.02
SLIDE_ID = tiny
IMAGENUMBER_X = {cols}
IMAGENUMBER_Y = {rows}
OBJECTIVE_MAGNIFICATION = 20
CameraImageDivisionsPerSide = 1
[HIERARCHICAL]
INDEXFILE = Index.dat
HIER_COUNT = 1
HIER_0_NAME = Slide zoom level
HIER_0_COUNT = 2
HIER_0_VAL_0_SECTION = LEVEL_0
HIER_0_VAL_1_SECTION = LEVEL_1
NONHIER_COUNT = 0
[DATAFILE]
FILE_COUNT = 1
FILE_0 = Data0000.dat
"""
    for level in range(2):
        text += f"""[LEVEL_{level}]
OVERLAP_X = 0
OVERLAP_Y = 0
MICROMETER_PER_PIXEL_X = {0.5 * 2**level}
MICROMETER_PER_PIXEL_Y = {0.5 * 2**level}
IMAGE_FILL_COLOR_BGR = 16777215
DIGITIZER_WIDTH = {TILE}
DIGITIZER_HEIGHT = {TILE}
IMAGE_FORMAT = JPEG
IMAGE_CONCAT_FACTOR = {min(level, 1)}
"""
    (folder / "Slidedat.ini").write_text(text)


def _element(tag: int, kind: str, value: str | int | bytes) -> bytes:
    """An explicit little-endian data element."""
    if isinstance(value, str):
        value = value.encode() + (b"\0" if kind == "UI" else b" ") * (len(value) % 2)
    elif isinstance(value, int):
        value = struct.pack({"US": "<H", "UL": "<I"}[kind], value)
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, kind.encode())
    if kind in ("OB", "SQ"):
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def _elements(*each: tuple[int, str, str | int | bytes]) -> bytes:
    return b"".join(_element(*one) for one in each)


def _item(content: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def write_dicom(path: Path, image: np.ndarray) -> None:
    """A slide of one level, TILED_FULL, as one file. The sides of `image` are multiples of 64 px."""
    height, width = image.shape[:2]
    tiles = [_jpeg(image[y : y + TILE, x : x + TILE]) for y in range(0, height, TILE) for x in range(0, width, TILE)]
    tiles = [tile + b"\0" * (len(tile) % 2) for tile in tiles]
    meta = _elements(
        (0x00020001, "OB", b"\0\1"), (0x00020002, "UI", SLIDE), (0x00020003, "UI", "1.2.3.4"),
        (0x00020010, "UI", SYNTAX), (0x00020012, "UI", "1.2.3"),
    )  # fmt: skip
    spacing = _element(0x00280030, "DS", "0.0005\\0.0005")
    measures = _element(0x00289110, "SQ", _item(_element(0x00180050, "DS", "0.001") + spacing))
    path_of_light = _item(_element(0x00480106, "SH", "1"))
    body = _elements(
        (0x00080008, "CS", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"), (0x00080016, "UI", SLIDE), (0x00080018, "UI", "1.2.3.4"),
        (0x00080060, "CS", "SM"), (0x0020000D, "UI", "1.2.3.5"), (0x0020000E, "UI", "1.2.3.6"),
        (0x00209311, "CS", "TILED_FULL"), (0x00280002, "US", 3), (0x00280004, "CS", "YBR_FULL_422"),
        (0x00280006, "US", 0), (0x00280008, "IS", str(len(tiles))), (0x00280010, "US", TILE), (0x00280011, "US", TILE),
        (0x00280100, "US", 8), (0x00280101, "US", 8), (0x00280102, "US", 7), (0x00280103, "US", 0),
        (0x00480006, "UL", width), (0x00480007, "UL", height), (0x00480105, "SQ", path_of_light),
        (0x52009229, "SQ", _item(measures)),
    )  # fmt: skip
    starts, at = [], 0
    for tile in tiles:
        starts.append(at)
        at += 8 + len(tile)
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + _item(
        struct.pack(f"<{len(starts)}I", *starts)
    )
    pixels += b"".join(map(_item, tiles)) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    path.write_bytes(bytes(128) + b"DICM" + _element(0x00020000, "UL", len(meta)) + meta + body + pixels)
