"""DICOM whole slides: the files that belong together, and whether one is missing. OpenSlide reads the pixels.

OpenSlide opens any files: if the file of the finest level is missing, it shows a coarser level as the slide.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ...core.errors import SlideError
from ...core.foreign_files import read_at_most

_WSI = "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image Storage
_EXPLICIT = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.")  # transfer syntaxes: uncompressed, encapsulated
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_UNDEFINED = 0xFFFFFFFF
_SYNTAX, _PIXELS, _ITEM = 0x00020010, 0x7FE00010, 0xFFFEE000
_NUMBERS = (b"US", b"UL")
_WANTED = {
    _SYNTAX: "syntax",
    0x00080008: "image_type",
    0x00080016: "sop_class",
    0x0020000E: "series",
    0x00209311: "organization",
    0x00280008: "frames",
    0x00280010: "rows",
    0x00280011: "columns",
    0x00480006: "width",
    0x00480007: "height",
}


@dataclass(frozen=True)
class Instance:
    """Header of one file."""

    path: Path
    said: dict[str, str]

    @property
    def kind(self) -> tuple[str, ...]:
        """Return ImageType: ORIGINAL or DERIVED, PRIMARY, VOLUME or LABEL…, NONE or RESAMPLED."""
        return tuple(part.strip() for part in self.said.get("image_type", "").split("\\"))

    @property
    def is_volume(self) -> bool:
        """Whether it is a level of the slide, not a label or thumbnail."""
        return "VOLUME" in self.kind

    def number(self, name: str) -> int:
        """Return a number of the header; 0 if it is missing."""
        return int(self.said.get(name) or 0)


def instance_to_open(path: Path) -> Path:
    """Return the file to open for the slide of a folder, or for the slide that a file is part of.

    Raises
    ------
    SlideError
        The folder holds no slide or several, or files of it are missing.
    """
    folder = path if path.is_dir() else path.parent
    given = None if path.is_dir() else read_header(path)
    if path.is_file() and given is None:
        return path  # OpenSlide raises its own error
    found = [instance for file in sorted(folder.iterdir()) if (instance := read_header(file)) is not None]
    if given is not None:
        found = [instance for instance in found if instance.said.get("series") == given.said.get("series")]
    series = {instance.said.get("series") for instance in found}
    if not found:
        raise SlideError(f"{folder}: no DICOM slide among its files")
    if len(series) > 1:
        raise SlideError(f"{folder}: holds {len(series)} DICOM slides: give one of the files of the slide you mean")
    levels = [instance for instance in found if instance.is_volume]
    if not levels:
        raise SlideError(f"{folder}: the file with the slide itself (VOLUME) is missing: copy the whole folder again")
    finest = max(levels, key=lambda level: level.number("width"))
    if "RESAMPLED" in finest.kind:
        size = f"{finest.number('width')} × {finest.number('height')} px"
        raise SlideError(
            f"{folder}: the file of the finest level is missing, the finest there is ({size}) was made from it: "
            "copy the whole folder again"
        )
    for level in levels:
        _check_frames(folder, [other for other in levels if other.number("width") == level.number("width")])
    return finest.path


def _check_frames(folder: Path, parts: list[Instance]) -> None:
    """Raise `SlideError` if a tile is missing. A level may be split over several files."""
    level = parts[0]
    sizes = [level.number(name) for name in ("height", "rows", "width", "columns")]
    if level.said.get("organization", "").strip() != "TILED_FULL" or 0 in sizes:
        return
    expected = math.ceil(sizes[0] / sizes[1]) * math.ceil(sizes[2] / sizes[3])
    frames = sum(part.number("frames") for part in parts)
    if frames < expected:
        raise SlideError(
            f"{folder}: files are missing: {frames} of {expected} tiles of the level of {sizes[2]} × {sizes[0]} px "
            "are there: copy the whole folder again"
        )


def read_header(path: Path) -> Instance | None:
    """Return the header of a DICOM slide's file, or None for any other file."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            if file.read(132)[128:] != b"DICM":
                return None
            said = dict(_wanted(file))
    except (ValueError, OSError):
        return None
    return Instance(path, said) if said.get("sop_class", "").strip("\0 ") == _WSI else None


def _wanted(file: BinaryIO) -> Iterator[tuple[str, str]]:
    for tag, kind, length in _elements(file):
        if tag == _PIXELS:
            return
        if length == _UNDEFINED:
            _skip_sequence(file)
            continue
        if tag not in _WANTED:
            file.seek(length, 1)
            continue
        data = read_at_most(file, length)
        value = (
            str(int.from_bytes(data, "little")) if kind in _NUMBERS else data.decode("ascii", "replace").strip("\0 ")
        )
        if tag == _SYNTAX and not value.startswith(_EXPLICIT):
            raise ValueError(value)
        yield _WANTED[tag], value


def _elements(file: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """Yield (tag, kind, length) of the elements (explicit, little-endian); the caller reads or skips their values."""
    while len(head := file.read(8)) == 8:
        tag = int.from_bytes(head[:2], "little") << 16 | int.from_bytes(head[2:4], "little")
        if tag >> 16 == 0xFFFE:  # items have no kind
            yield tag, b"", int.from_bytes(head[4:], "little")
        elif head[4:6] in _LONG:
            yield tag, head[4:6], int.from_bytes(file.read(4), "little")
        else:
            yield tag, head[4:6], int.from_bytes(head[6:], "little")


def _skip_sequence(file: BinaryIO) -> None:
    """Skip to the end of a sequence or an item of undefined length."""
    depth = 1
    for tag, _, length in _elements(file):
        if length == _UNDEFINED:
            depth += 1
        elif tag in (0xFFFEE0DD, 0xFFFEE00D):  # of the sequence, of the item
            depth -= 1
            if depth == 0:
                return
        elif tag != _ITEM or length:
            file.seek(length, 1)
