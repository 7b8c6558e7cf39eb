"""Reading files that come from outside: no device or pipe, and no more memory than there is to read."""

import stat
from pathlib import Path
from typing import BinaryIO

PIECE = 1 << 20  # bytes


def refuse_special_file(path: Path) -> None:
    """Raise `ValueError` for a device, a pipe or a socket (or a link to one).

    `/dev/zero` has no size, and no end; whoever opens a pipe waits until somebody writes into it.
    """
    kind = path.stat().st_mode
    if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
        raise ValueError("it is a device, not a file")
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
        raise ValueError("it is a pipe or a socket, not a file")


def read_file(path: Path, most: int) -> bytes:
    """Return a whole file. `ValueError` for a device, a pipe, and a file of more than `most` bytes."""
    refuse_special_file(path)
    with path.open("rb") as file:
        data = read_at_most(file, most + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most} bytes")
    return data


def read_at_most(file: BinaryIO, most: int) -> bytes:
    """Return the next bytes of a file, at most so many. `file.read(most)` would take that much memory at once."""
    data = bytearray()
    while len(data) < most and (piece := file.read(min(PIECE, most - len(data)))):
        data += piece
    return bytes(data)
