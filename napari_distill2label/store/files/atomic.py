"""Atomic writing: every file is written under a temporary name in the same folder, then renamed.

A renamed file survives a power cut: it is synchronised before it gets its name, and its folder afterwards.
"""

import ctypes
import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from ...core.resource_errors import is_disk_full

# `.<name>.<computer>.<boot>.<process>.<random>.tmp` names its writer, so that others can see whether it still runs.
_MAX_NAME = 40  # characters of the name
_TEMPORARY = re.compile(
    r"\.(?P<name>.{1,40})\.(?P<computer>[0-9a-f]{8})\.(?P<boot>[0-9a-f]{8})\.(?P<process>\d{1,10})\.[0-9a-f]{8}\.(?P<kind>tmp|old)"
)
_CANNOT_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EROFS)  # some network shares do not know it

Writing = Callable[[str | os.PathLike[str]], AbstractContextManager[Path]]
"""A function that gives a writer its temporary path: `atomic_path`, or `Outputs.writing`, which also protects files."""


@contextmanager
def atomic_path(
    path: str | os.PathLike[str], before: Callable[[Path], None] = lambda temporary: None
) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` when the block ends without an error.

    The block makes a file or a folder there (the parent folder exists). An error leaves what was at `path` as it
    was and removes the temporary one; a folder that was at `path` is replaced as a whole.

    Parameters
    ----------
    before
        Called with the temporary path when all is written and synchronised, before it is renamed.
    """
    path = Path(path)
    make_folder(path.parent)
    _clear_once(path.parent.absolute())
    temporary = _temporary(path)
    try:
        yield temporary
        sync(temporary)
        before(temporary)
        if temporary.is_dir() and path.is_dir():  # a folder cannot be renamed over one that is not empty
            _replace_folder(temporary, path)
        else:
            os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if is_disk_full(error):  # found out while writing, which tells no name
            error.filename = str(path)
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


@contextmanager
def scratch_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new folder beside `path`, which is removed when the block ends. What a kill leaves is a leftover."""
    folder = _temporary(Path(path))
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """Return a name beside `path` that identifies this process: see `clear_leftovers`."""
    token = f"{_computer()}.{_boot()}.{os.getpid()}.{secrets.token_hex(4)}"
    return path.with_name(f".{path.name[:_MAX_NAME]}.{token}.tmp")


def _replace_folder(new: Path, path: Path) -> None:
    """Put the folder `new` in the place of `path`.

    At once, where the system can: `new` is then the name of the former one. Elsewhere there is a moment in which no
    folder is at `path`; a kill in it leaves that to `clear_leftovers`.
    """
    if exchange(new, path):
        return
    former = new.with_suffix(".old")
    os.replace(path, former)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(former, path)
        raise
    shutil.rmtree(former, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two files or folders in one atomic step. False if the system cannot do so."""
    call = _exchange_call()
    return call is not None and call(os.fsencode(one), os.fsencode(other)) == 0


@cache
def _exchange_call() -> Callable[[bytes, bytes], int] | None:
    """Return the system's call for `exchange`, which returns 0 on success; None if there is none."""
    AT_FDCWD, RENAME_EXCHANGE, RENAME_SWAP = -100, 2, 2  # fcntl.h and stdio.h of Linux and macOS
    if sys.platform == "linux" and (renameat2 := getattr(ctypes.CDLL(None), "renameat2", None)):
        return lambda one, other: renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE)
    if sys.platform == "darwin" and (renamex_np := getattr(ctypes.CDLL(None), "renamex_np", None)):
        return lambda one, other: renamex_np(one, other, RENAME_SWAP)
    return None


def write_bytes(path: str | os.PathLike[str], data: bytes, writing: Writing = atomic_path) -> Path:
    """Write a whole file at once; readers see the former content or the new one, never a part."""
    with writing(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_text(path: str | os.PathLike[str], text: str, writing: Writing = atomic_path) -> Path:
    """`write_bytes` of UTF-8 text, with line ends as they are on every system."""
    return write_bytes(path, text.encode("utf-8"), writing)


def write_json(path: str | os.PathLike[str], data: Any, writing: Writing = atomic_path) -> Path:
    """Write indented JSON. `ValueError` for NaN and infinity, which JSON does not have."""
    return write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n", writing)


# ---- through a power cut ------------------------------------------------------------------------------------------


def sync(path: Path) -> None:
    """Flush a file, or a folder with all its content, to the disk. `OSError` if the disk is full."""
    if not path.is_dir():
        _sync(path, os.O_RDWR)  # Windows synchronises only what is open for writing
        return
    for folder, _, names in os.walk(path):
        for path in (Path(folder, name) for name in names):
            if not path.is_symlink():  # which has no content of its own
                _sync(path, os.O_RDWR)
        sync_folder(Path(folder))


def make_folder(folder: Path) -> list[Path]:
    """Make `folder`, so that a power cut does not take its name away; return the folders that had to be made.

    The innermost is the first.
    """
    missing = []
    for path in (folder, *folder.parents):
        if path.exists():
            break
        missing.append(path)
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)
    return missing


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk. Windows has no such call and does not need one."""
    if os.name != "nt":
        with suppress(PermissionError):  # a folder may be written to and not read
            _sync(folder, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
    try:
        sync_open(descriptor, path)
    finally:
        os.close(descriptor)


def sync_open(descriptor: int, path: Path) -> None:
    """`sync` of a file that is open. `path` is for the message."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise OSError(error.errno, error.strerror, str(path)) from None


# ---- after a kill -------------------------------------------------------------------------------------------------


def clear_leftovers(folder: str | os.PathLike[str], alone: bool = False) -> list[Path]:
    """Remove what killed processes of this computer left half-written in a folder; return the removed paths.

    Only files without a living writer are removed: temporary names of ours, of an ended process of this computer.
    With `alone` the caller holds the folder's lock (`lock.locked`), and files whose writer cannot be checked are
    removed too: of other computers, of containers. Files of a living process stay: not every writer needs the lock.
    A folder that was being replaced when its process was killed is restored.
    """
    left = _left(Path(folder), alone)
    for path, match in left:
        with suppress(OSError):
            if match["kind"] == "old":
                _finish_replacement(path, match["name"])
            _remove(path)
    return [path for path, _ in left]


def has_leftovers(folder: str | os.PathLike[str]) -> bool:
    """Whether `clear_leftovers` would remove anything."""
    return bool(_left(Path(folder), False))


def _left(folder: Path, alone: bool) -> list[tuple[Path, re.Match[str]]]:
    try:
        found = sorted(folder.iterdir())  # an `.old` before the `.tmp` that was to take its place
    except OSError:
        return []
    ours = [(path, match) for path in found if (match := _TEMPORARY.fullmatch(path.name))]
    return [(path, match) for path, match in ours if _has_ended(path, match, unknown=alone)]


@cache
def _clear_once(folder: Path) -> None:
    """`clear_leftovers`, the first time that this process writes into a folder: of a window that was killed."""
    clear_leftovers(folder)


def discard(folder: Path) -> None:
    """Remove a folder that something else takes the place of. A kill leaves all of it, or a leftover."""
    aside = _temporary(folder)
    os.replace(folder, aside)
    sync_folder(folder.parent)  # before anything in it is gone
    shutil.rmtree(aside, ignore_errors=True)


def _finish_replacement(former: Path, name: str) -> None:
    """Finish a replacement that was killed between its two renames: the new, complete folder gets the name."""
    path, new = former.with_name(name), former.with_suffix(".tmp")
    if len(name) == _MAX_NAME or os.path.lexists(path):  # a longer name is not known as a whole: both are kept
        return
    os.replace(new if new.is_dir() else former, path)
    sync_folder(path.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _has_ended(path: Path, match: re.Match[str], unknown: bool) -> bool:
    """Whether the process that wrote a file has ended; `unknown` for other computers and undecidable cases."""
    if os.name == "nt" or match["computer"] != _computer():
        return unknown
    if match["boot"] != _boot():  # of a container beside this one, or of the time before the computer was started
        started = _boot_time()
        return unknown or (started is not None and path.lstat().st_mtime < started)
    try:
        os.kill(int(match["process"]), 0)  # asks, and sends nothing
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's: it lives
        return False
    return False


@cache
def _computer() -> str:
    return _digest(platform.node(), _text_of("/etc/machine-id"))


@cache
def _boot() -> str:
    """Return a digest of this start of the computer and of its process numbering (a container has its own)."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbers = ""
    return _digest(_text_of("/proc/sys/kernel/random/boot_id"), numbers)


def _boot_time() -> float | None:
    """Return the start time in seconds since the epoch; None if the system does not provide it."""
    found = re.search(r"^btime (\d+)$", _text_of("/proc/stat"), re.MULTILINE)
    return float(found[1]) if found else None


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text("ascii", "replace").strip()
    except OSError:
        return ""


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()[:8]
