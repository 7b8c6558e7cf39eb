"""Names, links and bombs: what somebody means harm with. Subjects of `lie`, each with a batch of its own."""

import io
import json
import random
import shutil
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .world import World, command

ESCAPES = "\x1b\x07\x9b\u202e\x00\n"  # that move a cursor, ring, or turn a line round
IDS = (
    "a", "A", "ß", "SS", "Ä", "A\u0308", "\ufb01x", "fix", "ﬀ", "../up", "..", "a/b", "/etc/x", "CON", "nul.txt", "x.",
    " x", "x ", "\x1b[2Jx", "\x9b31mx", "x\u202egpj", "=1+1", "+1", "@x", "<b>x</b>", "&amp;", "%00", "x\u200b",
    "n" * 300, "日本", "-o", "--help", ".hidden", "x.zarr", "~", "$HOME", "`id`", "a;b", "1e5", "NaN", "\U0001f52c",
)  # fmt: skip


def names(world: World, place: Path, draw: random.Random) -> str:
    """Two ids of a cohort: a file for each, none outside the folder, and nothing said that moves a cursor."""
    import csv
    from contextlib import redirect_stderr

    ids = draw.sample(IDS, 2)
    if draw.random() < 0.4:  # that differ in case or in Unicode's form alone
        ids[1] = draw.choice((str.swapcase, str.upper, lambda name: unicodedata.normalize("NFD", name)))(ids[0])
        ids[1] = f"{ids[0]}2" if ids[0] == ids[1] else ids[1]
    with world.few.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:2]
    table, out, said = place / "t" / "cohort.csv", place / "t" / "out", io.StringIO()
    table.parent.mkdir()
    for row, name in zip(rows, ids, strict=True):
        row["slide_id"], row["path"] = name, str(world.cohort.parent / row["path"])
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    with redirect_stderr(said):
        status = command("segment-tissue", table, "-o", out)
    text = said.getvalue()
    if status not in (0, 1, 2):
        return f"{ids}: ends with {status}"
    if any(sign in text.replace("\n", "") for sign in ESCAPES):
        return f"{ids}: says {text!r}"
    if status == 2 and "distill2label: " not in text:
        return f"{ids}: says {text!r}"
    if strange := [path for path in place.rglob("*") if path.is_file() and out not in path.parents and path != table]:
        return f"{ids}: writes {strange[0]}"
    made = list(out.rglob("*.geojson")) if out.exists() else []
    if status == 0 and len(made) != len(ids):
        return f"{ids}: makes {[path.name for path in made]} and says nothing of it"
    return ""


# ---- links and other things that are no files -----------------------------------------------------------------------


def _circle(path: Path, whole: Path) -> None:
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


# No pipes: a table may be one (`--truth <(zcat truth.csv.gz)`), and who names one that nobody writes to waits.
THINGS: dict[str, Callable[[Path, Path], None]] = {
    "a link in a circle": _circle,
    "a link to nothing": lambda path, whole: path.symlink_to("gone"),
    "a link to its folder": lambda path, whole: path.symlink_to(path.parent),
    "a link to /dev/zero": lambda path, whole: path.symlink_to("/dev/zero"),
    "a link to the whole file": lambda path, whole: path.symlink_to(whole),
    "an empty folder": lambda path, whole: path.mkdir(),
    "an empty file": lambda path, whole: path.touch(),
}


def put_thing(whole: Path, path: Path, draw: random.Random) -> None:
    """In place of a file, or of one of the files of a folder: something that is none."""
    for old in path.parent.iterdir():
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    thing = THINGS[draw.choice(list(THINGS))]
    if whole.is_file() or draw.random() < 0.2:
        thing(path, whole)
        return
    shutil.copytree(whole, path)
    inner = draw.choice(sorted(file for file in path.rglob("*") if file.is_file()))
    inner.unlink()
    thing(inner, whole / inner.relative_to(path))


# ---- bombs ----------------------------------------------------------------------------------------------------------

MUCH = 3 << 30  # bytes that a bomb unpacks to
NESTED = 100_000


def _zeros(pack: Any, finish: bytes = b"") -> bytes:
    piece = bytes(1 << 24)
    return b"".join(pack.compress(piece) for _ in range(MUCH >> 24)) + pack.flush() + finish


def _tiff(width: int, height: int, data: bytes, compression: int, photometric: int = 2) -> bytes:
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, photometric),
        (273, 4, 1, 0), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(data)), (284, 3, 1, 1),
    ]  # fmt: skip
    begin = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", *(tag[:3]), begin if tag[0] == 273 else tag[3]) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def _png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def write_bombs(folder: Path) -> None:
    """Small files that claim to be, or unpack to, gigabytes; by the name of the reader that they are for."""
    import h5py
    import zarr

    packed = _zeros(zlib.compressobj(9))
    for name in ("slides", "annotations", "cohort", "hdf5", "project", "truth", "corrections", "encoder"):
        (folder / name).mkdir(parents=True)
    side = int((MUCH / 3) ** 0.5)
    slides = folder / "slides"
    (slides / "deflate.tif").write_bytes(_tiff(side, side, packed, 8))
    (slides / "short.tif").write_bytes(_tiff(64, 64, packed, 8))
    (slides / "deflate.png").write_bytes(_png(side, side, packed))
    (slides / "short.png").write_bytes(_png(64, 64, packed))
    group = zarr.create_group(slides / "a.zarr", zarr_format=2)
    group.create_array("0", shape=(side, side, 3), chunks=(side, side, 3), dtype="u1", compressors=None)
    about = json.loads((slides / "a.zarr" / "0" / ".zarray").read_text())
    about["compressor"] = {"id": "zlib", "level": 9}
    (slides / "a.zarr" / "0" / ".zarray").write_text(json.dumps(about))
    (slides / "a.zarr" / "0" / "0.0.0").write_bytes(packed)
    group.attrs.update({"multiscales": [{"axes": list("yxc"), "datasets": [{"path": "0"}]}]})
    own = folder / "annotations"
    own.joinpath("a.geojson.gz").write_bytes(_zeros(zlib.compressobj(9, zlib.DEFLATED, 31)))
    own.joinpath("nested.geojson").write_text("[" * NESTED)
    own.joinpath("objects.geojson").write_text('{"type":' * NESTED)
    own.joinpath("nested.xml").write_text("<a>" * NESTED)
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    own.joinpath("laughs.xml").write_text(f'<!DOCTYPE a [<!ENTITY l0 "ha">{laughs}]><Annotations>&l11;</Annotations>')
    numbers = {"type": "Point", "coordinates": [10**30, -(10**30)]}
    own.joinpath("far.geojson").write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": numbers}))
    for name in ("cohort", "truth", "corrections"):
        table = folder / name / f"{name}.csv"
        table.write_text("slide_id,path,label,x,y," + ",".join(f"c{n}" for n in range(200_000)) + "\na,b,c,1,2\n")
        table.with_name("long.csv").write_text('slide_id,path,label,x,y\n"' + "x" * 30_000_000)
    (folder / "project" / "cohort.d2l.json").write_text('{"a":' * NESTED)
    (folder / "encoder" / "e").mkdir()
    (folder / "encoder" / "e" / "encoder.json").write_text("[" * NESTED)
    (folder / "encoder" / "e" / "encoder.onnx").write_bytes(bytes(100))
    with h5py.File(folder / "hdf5" / "a.h5", "w") as file:
        file.create_dataset("coords", data=np.zeros((1, 2), np.int64))
        file.create_dataset(
            "features", shape=(MUCH >> 12, 1024), dtype="f4", chunks=(1 << 10, 1024), compression="gzip"
        )
    with h5py.File(folder / "hdf5" / "b.h5", "w") as file:
        shape = (MUCH >> 4, 2)
        file.create_dataset("coords", shape=shape, dtype="i8", chunks=(1 << 16, 2), compression="gzip")
        file.create_dataset("features", shape=(shape[0], 1), dtype="f4", chunks=(1 << 16, 1), compression="gzip")
