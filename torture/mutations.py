"""Files altered a little, by a seed: bytes, values in JSON, cells of a table, tags of a TIFF."""

import json
import random
import struct
from pathlib import Path
from typing import Any

VALUES = (
    None, True, -1, 0, 1, 2, 2**31, 2**63, 2**70, 10**30, 0.5, 1e300, float("inf"), float("nan"), "", "a", "../x",
    "\x1b[2J", [], [0], [1, 2], [[]], {}, {"kind": "grid"}, "9" * 400, "pickle", "<b>x</b>", "=1+1",
)  # fmt: skip
CELLS = (
    "", "nan", "NA", "-1", "1e999", "0", "0,5", "../../x", "/etc/passwd", "=cmd()", "<b>", "\x1b[2J", "Ä", "A\u0308",
    '"', "a;b", "9" * 400, "1\n2", "\ufeff", "tumour ", "TUMOUR", "inf", "1 000", "http://x/y.svs",
)  # fmt: skip
EXTREME = (0, 1, 2, 3, 255, 256, 1000, 65_535, 100_000, 2**31 - 1, 2**31, 2**32 - 1)
TAGS = (
    254, 256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 330, 338, 339, 347, 530,
)  # fmt: skip
CODES = (*EXTREME, 5, 7, 8, 33003, 33005, 34712, 50000, 50001)
DESCRIBED = (".json", ".zattrs", ".zarray", ".zgroup", ".geojson")
JSON_LINES = 0.8  # of alterations of JSON: a value; else bytes


def alter(path: Path, draw: random.Random) -> None:
    """Alter a file, or one of the files in a folder, as its kind suggests."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    described = [file for file in files if file.suffix in DESCRIBED or file.name in DESCRIBED]
    file = draw.choice(described if described and draw.random() < 0.7 else files)
    data = file.read_bytes()
    if file in described and draw.random() < JSON_LINES:
        file.write_text(json.dumps(with_another_value(json.loads(data), draw)), "utf-8")
    elif file.suffix == ".csv" and draw.random() < 0.6:
        file.write_text(with_another_cell(data.decode("utf-8"), draw), "utf-8", newline="")
    elif file != path and draw.random() < 0.1:
        file.unlink()
    elif draw.random() < 0.5:
        file.write_bytes(with_other_header(data, draw))
    else:
        file.write_bytes(with_other_bytes(data, draw))


def with_other_bytes(data: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, cut out, doubled, zeroed; or the end cut off."""
    altered = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 5))):
        at, length = draw.randrange(len(altered) + 1), draw.choice((1, 1, 2, 4, 8, 100))
        how = draw.randrange(6)
        if how == 0:
            altered[at : at + length] = draw.randbytes(length)
        elif how == 1 and at < len(altered):
            altered[at] ^= 1 << draw.randrange(8)
        elif how == 2:
            del altered[at : at + length]
        elif how == 3:
            altered[at:at] = altered[at : at + length]
        elif how == 4:
            altered[at : at + length] = draw.choice((b"\x00", b"\xff")) * length
        elif how == 5 and draw.random() < 0.3:
            del altered[at:]
    return bytes(altered)


def with_other_header(data: bytes, draw: random.Random) -> bytes:
    """One to six small things wrong, most of them in the beginning, where headers are."""
    altered = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        if not altered:
            return b""
        at = draw.randrange(len(altered) if draw.random() < 0.4 else min(len(altered), 1200))
        how = draw.randrange(8)
        if how == 0:
            altered[at] ^= 1 << draw.randrange(8)
        elif how == 1:
            altered[at] = draw.choice((0, 255, 127, 128, 32))
        elif how == 2:
            altered[at : at + 4] = struct.pack("<I", draw.choice(EXTREME))
        elif how == 3:
            altered[at : at + 2] = struct.pack("<H", draw.choice(EXTREME) & 0xFFFF)
        elif how == 4:
            del altered[at + 1 : at + draw.choice((2, 5, 50, len(altered)))]
        elif how == 5:
            altered[at:at] = draw.randbytes(draw.choice((1, 8, 64)))
        elif how == 6:
            other = draw.randrange(len(altered))
            altered[at : at + 16] = altered[other : other + 16]
        elif altered[:4] == b"II*\0":
            _alter_tag(altered, draw)
    return bytes(altered)


def _alter_tag(data: bytearray, draw: random.Random) -> None:
    """Another number, kind, count or value of one of the first page's tags."""
    begin = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[begin : begin + 2], "little")
    if 0 < count < 100 and begin + 2 + 12 * count < len(data):
        entry = begin + 2 + 12 * draw.randrange(count)
        at, value = draw.choice(
            (
                (0, struct.pack("<H", draw.choice(TAGS))),
                (2, struct.pack("<H", draw.randrange(20))),
                (4, struct.pack("<I", draw.choice(EXTREME))),
                (8, struct.pack("<I", draw.choice(CODES))),
            )
        )
        data[entry + at : entry + at + len(value)] = value


def with_another_value(node: Any, draw: random.Random) -> Any:
    """The same JSON with one value in it replaced, or gone, or a new one."""
    if isinstance(node, dict) and node and draw.random() < 0.9:
        key = draw.choice(sorted(node))
        how = draw.random()
        if how < 0.1:
            return {name: value for name, value in node.items() if name != key}
        if how < 0.15:
            return {**node, draw.choice(("x", "consolidated_metadata", "storage_transformers")): draw.choice(VALUES)}
        return {**node, key: with_another_value(node[key], draw)}
    if isinstance(node, list) and node and draw.random() < 0.8:
        at = draw.randrange(len(node))
        return [with_another_value(value, draw) if index == at else value for index, value in enumerate(node)]
    return draw.choice(VALUES)


def with_another_cell(text: str, draw: random.Random) -> str:
    """A table in which cells, a row, a column or the delimiter is another."""
    rows = [line.split(",") for line in text.splitlines()]
    for _ in range(draw.choice((1, 1, 2, 4))):
        row = draw.randrange(len(rows))
        how = draw.randrange(5)
        if how <= 1 and rows[row]:
            rows[row][draw.randrange(len(rows[row]))] = draw.choice(CELLS)
        elif how == 2:
            rows.insert(draw.randrange(len(rows) + 1), list(rows[row]))
        elif how == 3 and rows[row]:
            del rows[row][draw.randrange(len(rows[row]))]
        elif len(rows) > 1:
            del rows[row]
    delimiter = draw.choice((",", ",", ",", ";", "\t"))
    return draw.choice(("\n", "\r\n", "\n")).join(delimiter.join(row) for row in rows)
