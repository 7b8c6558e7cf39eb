"""A lock for one writer at a time in a folder. It names its holder, and a crash releases it.

The operating system releases the lock when its process ends, however it ends. Two small hidden files may remain; the
next process that locks the folder removes them afterwards.
"""

import json
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ...core.errors import FolderInUseError
from ...core.foreign_files import read_file
from .atomic import make_folder

LOCK, HOLDER = ".distill2label.lock", ".distill2label.lock.json"
TIMEOUT = 1.0  # s: a holder that is just leaving is waited for
_LARGEST = 2**20  # bytes of a holder's file
_LONGEST = 100  # characters of a holder's name: it comes from a file


@contextmanager
def locked(folder: str | os.PathLike[str], doing: str, patience: float | None = None) -> Iterator[Path]:
    """Hold `folder` during the block, against other processes and threads; yield the folder.

    The folder is made if it is not there, and goes again if the block leaves nothing in it. The lock is not
    reentrant: a block inside must not lock the same folder. On file systems without locks (some network shares) the
    library `filelock` falls back to a marker file with the process's number in it.

    Parameters
    ----------
    doing
        What the holder does, for the message of others: "training".
    patience
        How long to wait for somebody else, in s; None: for one that is just leaving.

    Raises
    ------
    FolderInUseError
        Somebody else holds it; the message names the process, its computer and since when.
    """
    folder = Path(folder)
    made = make_folder(folder)
    try:
        lock = FileLock(  # a generator may be closed elsewhere
            folder / LOCK, timeout=TIMEOUT if patience is None else patience, thread_local=False
        )
        try:
            lock.acquire()
        except Timeout:
            raise FolderInUseError(
                f"{folder}: {describe_holder(folder / HOLDER)}; wait for its end, or name another folder"
            ) from None
        try:
            write_holder(folder / HOLDER, doing)
            yield folder
        finally:
            for name in (HOLDER, LOCK):  # while it is held: whoever waits for it starts again with a new file
                with suppress(OSError):  # Windows removes no open file; the lock itself is gone all the same
                    (folder / name).unlink()
            lock.release()
    finally:
        remove_empty(made)


def has_lock(folder: Path) -> bool:
    """Whether files of a lock are there: somebody holds it, or was killed."""
    return any((folder / name).exists() for name in (LOCK, HOLDER))


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that stayed empty, the innermost first."""
    for empty in folders:
        with suppress(OSError):  # not empty: something was written
            empty.rmdir()


def write_holder(path: Path, doing: str, **more: object) -> None:
    """Write beside a lock that this process holds it."""
    about = {
        "process": os.getpid(),
        "computer": platform.node(),
        "since": f"{datetime.now():%Y-%m-%d %H:%M}",
        "doing": doing,
        **more,
    }
    with suppress(OSError):  # the lock holds without a name too
        path.unlink(missing_ok=True)  # of a killed one, or a link: what it leads to is not ours
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(about))


def describe_holder(path: Path) -> str:
    """Describe the holder of a lock, from the file that `write_holder` wrote beside it."""
    try:
        about = json.loads(read_file(path, _LARGEST))
        process, computer, since, doing = (
            "".join(c for c in str(about[key])[:_LONGEST] if c.isprintable())
            for key in ("process", "computer", "since", "doing")
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process writes into this folder"
    return f"process {process} on {computer} has been {doing} in this folder since {since}"
