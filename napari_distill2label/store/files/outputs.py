"""Protection of files: a call never writes onto its inputs, nor over files that this program did not write.

Every folder of results has a hidden record, `.distill2label.jsonl`: a line for each file that was written there, with
its size and its digest. A file that the record does not list, or that has changed since (somebody corrected the labels
in QuPath), is replaced only if the user allows it. While a call runs, it reserves the names that it writes: another
call, of this process or another one, may write other files into the folder, but not these.
"""

import errno
import hashlib
import json
import os
import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from filelock import FileLock, Timeout

from ...core.errors import FolderInUseError, OutputError
from ...core.foreign_files import read_file
from ...core.messages import Remedy
from ...core.paths import LARGEST_RECORD, RECORD, PathLike, is_url
from .atomic import atomic_path, clear_leftovers, make_folder, sync_folder, sync_open
from .lock import describe_holder, remove_empty, write_holder
from .own_groups import clear_begun, is_own_group
from .safe_names import folded

HEADER = {"napari-distill2label": "files written here", "version": 1}
MUTEX = ".distill2label-names.lock"
PATIENCE = 20.0  # s: names are taken in a moment
MAX_NAMED = 3  # files named in a message
CHUNK = 2**20  # bytes


class Outputs:
    """The files that one call writes, and protection of all others. A context manager: it frees the names at its end.

    Parameters
    ----------
    read
        Every file and folder that the call reads. Nothing is written onto one of them, nor into one of these folders,
        under whatever name (links, capitals), `overwrite` or not.
    overwrite
        Replace files that this program did not write, or that were changed since. Folders of others are never replaced.
    doing
        What the call does, for the message of others: "predicting".

    Raises
    ------
    OutputError
        From `claim` and `writing`: names what would have been lost. Nothing is written then.
    FolderInUseError
        From `claim`: another call that still runs writes one of these files.
    """

    def __init__(self, read: Iterable[PathLike] = (), overwrite: bool = False, doing: str = "writing") -> None:
        self.overwrite, self._doing = overwrite, doing
        self._inputs = _Inputs(read)
        self._records: dict[Path, _Record] = {}
        self._lock = threading.Lock()
        self._held = ExitStack()

    def __enter__(self) -> "Outputs":
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def claim(self, paths: Iterable[PathLike]) -> None:
        """Check all files and zarr groups that will be written, make their folders, and reserve these names."""
        places = [Path(path) for path in paths]
        self.check(places)
        folders: dict[Path, list[str]] = {}
        for path in places:
            folders.setdefault(path.parent, []).append(path.name)
        for folder, names in folders.items():
            self._held.callback(remove_empty, make_folder(folder))
            self._held.enter_context(_reserve(folder, names, self._doing))
            clear_leftovers(folder)
        for path in places:
            if path.is_dir() and is_own_group(path):
                clear_begun(path)

    def check(self, paths: Iterable[PathLike]) -> None:
        """Raise `OutputError` if writing these files and zarr groups would lose anything."""
        found = [(Path(path), standing) for path in paths if (standing := self.standing(path)) not in ("free", "ours")]
        for standing in ("input", "folder", "foreign"):
            lost = [path for path, has in found if has == standing]
            if lost and not (standing == "foreign" and self.overwrite):
                raise _error(lost, standing, self._damaged(lost))

    def standing(self, path: PathLike, exactly: bool = False) -> "Standing":
        """Return what is at `path`. Unless `exactly`, a file with the recorded size and time counts as ours."""
        path = Path(path)
        if self._inputs.contain(path):
            return "input"
        if not os.path.lexists(path):
            return "free"
        if path.is_dir() and not path.is_symlink():
            return "ours" if is_own_group(path, exactly) else "folder"
        return "ours" if self._record(path.parent).knows(path, exactly) else "foreign"

    @contextmanager
    def writing(self, path: PathLike) -> Iterator[Path]:
        """`atomic_path`, which replaces nothing that must stay, and whose file the folder's record knows."""
        path = Path(path)
        self._check_exactly(path)
        with atomic_path(path, partial(self._note, path)) as temporary:
            yield temporary

    def adopt(self, path: PathLike) -> None:
        """Count a file as one of ours: the user has opened it to continue it."""
        self._record(Path(path).parent).add(Path(path).name, Path(path))

    def _note(self, path: Path, temporary: Path) -> None:
        """Just before `temporary` becomes `path`: a kill between the two leaves a file that the record knows."""
        self._check_exactly(path)  # again: writing takes its time
        if temporary.is_file():
            self._record(path.parent).add(path.name, temporary)

    def _check_exactly(self, path: Path) -> None:
        standing = self.standing(path, exactly=True)
        if standing in ("input", "folder") or (standing == "foreign" and not self.overwrite):
            raise _error([path], standing, self._damaged([path]))

    def _record(self, folder: Path) -> "_Record":
        with self._lock:
            return self._records.setdefault(folder, _Record(folder))

    def _damaged(self, paths: Sequence[Path]) -> Path | None:
        """The record that cannot be used, where that is why files count as foreign."""
        return next((record.path for path in paths if (record := self._record(path.parent)).is_damaged), None)


Standing = Literal["free", "ours", "foreign", "folder", "input"]


def _error(paths: Sequence[Path], standing: str, damaged: Path | None) -> OutputError:
    """Return the error that says what is in the way."""
    folder = paths[0].parent
    names = [path.name if path.parent == folder else str(path) for path in paths[:MAX_NAMED]]
    listed = ", ".join(names) + (f" and {len(paths) - MAX_NAMED} more" if len(paths) > MAX_NAMED else "")
    if standing == "input":
        problem = "the results would be written onto what is read here."
    elif standing == "folder":
        problem = "this program did not make this folder, or it was changed since: it is left alone."
    else:
        why = f"the list {damaged.name} of what was written here is damaged" if damaged else "or that was changed since"
        problem = f"there is a file that this program did not write, {why}."
    replace = Remedy("set", "overwrite", True) if standing == "foreign" else None
    remedy = Remedy("other_folder", alternative=replace)
    return OutputError(f"{folder}: {listed}: {problem}", paths, standing, remedy)


# ---- what is read -------------------------------------------------------------------------------------------------


class _Inputs:
    """Files and folders that are read, identified by device and inode instead of by name."""

    def __init__(self, paths: Iterable[PathLike]) -> None:
        self._paths = [Path(path) for path in paths if not is_url(path)]
        self._found: tuple[set[_Identity], set[tuple[_Identity, str]]] | None = None
        self._around: dict[Path, list[_Identity]] = {}

    def contain(self, path: Path) -> bool:
        """Whether `path` is one of them, lies inside one, or is the same on some system."""
        if not self._paths:
            return False
        if self._found is None:
            self._found = self._look()
        files, names = self._found
        around = self._around.get(path.parent)
        if around is None:
            folder = Path(os.path.realpath(path.parent))  # where it is, and not how it is called: links, '..'
            folders = (folder, *folder.parents)
            around = self._around[path.parent] = [one for each in folders if (one := _identity(each))]
        itself = _identity(path)
        if (itself is not None and itself in files) or not files.isdisjoint(around):
            return True
        parent = _identity(path.parent)
        return parent is not None and (parent, folded(path.name)) in names

    def _look(self) -> "tuple[set[_Identity], set[tuple[_Identity, str]]]":
        files: set[_Identity] = set()
        names: set[tuple[_Identity, str]] = set()
        folders: dict[Path, _Identity | None] = {}
        for path in self._paths:
            for part in (path, path.with_suffix("")) if path.suffix.lower() == ".mrxs" else (path,):  # MIRAX: two parts
                if (itself := _identity(part)) is None:
                    continue
                files.add(itself)
                parent = folders.setdefault(part.parent, _identity(part.parent))
                if parent is not None:
                    names.add((parent, folded(part.name)))
        return files, names


class _Identity(NamedTuple):
    """The identity of a file, independent of its name."""

    device: int
    number: int


def _identity(path: Path) -> _Identity | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return _Identity(status.st_dev, status.st_ino)


# ---- what was written ---------------------------------------------------------------------------------------------


class _Record:
    """The files that were written into a folder: size, time and SHA-256 of each version, by name.

    A record that is not ours (a link, a folder, another kind of file), or whose head is damaged, is left as it is:
    then nothing in the folder counts as written by us.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RECORD
        self.is_damaged = False
        self._folder = folder
        self._read_to = 0
        self._known: dict[str, set[tuple[int, int, str]]] = {}
        self._lock = threading.Lock()

    def knows(self, path: Path, exactly: bool) -> bool:
        """Whether the file equals one that was written here under this name."""
        try:
            with self._lock:
                self._refresh()
                versions = set(self._known.get(path.name, ()))
            status = os.lstat(path)
            if path.is_symlink() or status.st_size not in {size for size, _, _ in versions}:
                return False
            if not exactly and any((status.st_size, status.st_mtime_ns) == version[:2] for version in versions):
                return True
            return _digest(path) in {digest for _, _, digest in versions}
        except OSError:
            return False

    def add(self, name: str, temporary: Path) -> None:
        """Record that `name` becomes what `temporary` is."""
        status = os.stat(temporary)
        version = (status.st_size, status.st_mtime_ns, _digest(temporary))
        line = json.dumps({"name": name, "size": version[0], "time": version[1], "sha256": version[2]})
        with self._lock:
            self._refresh()
            if version in self._known.get(name, ()) or self.is_damaged:
                return
            with suppress(PermissionError):  # somebody else's record: the file is written all the same
                self._append(line)
                self._known.setdefault(name, set()).add(version)

    def _append(self, line: str) -> None:
        """Add a line, in one piece: another process may do so too."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(self.path, flags, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            # In front of a line its end: one that a power cut has torn stays alone.
            data = (f"\n{line}" if size else f"{json.dumps(HEADER)}\n{line}").encode("utf-8")
            if os.write(descriptor, data) != len(data):
                os.truncate(self.path, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            sync_open(descriptor, self.path)  # before the file that it tells of has its name
            if not size:
                sync_folder(self.path.parent)
        finally:
            os.close(descriptor)

    def _refresh(self) -> None:
        """Read lines that were added since, by any process.

        `OSError` where the disk or a file server does not answer: that is no damage, and says nothing of what is there.
        """
        try:
            status = os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            self._known, self._read_to, self.is_damaged = {}, 0, False
            return
        if status.st_size == self._read_to and self.path.is_file():
            return
        if status.st_size < self._read_to:
            self._known, self._read_to = {}, 0
        try:
            if self.path.is_symlink() or not self.path.is_file() or status.st_size > LARGEST_RECORD:
                raise ValueError("no record")
            with self.path.open("rb") as file:
                if self._read_to == 0 and json.loads(file.readline(1000)) != HEADER:
                    raise ValueError("of something else")
                file.seek(max(file.tell(), self._read_to))
                for line in file.read(LARGEST_RECORD).splitlines():
                    self._add_line(line)
                self._read_to = file.tell()
        except (PermissionError, ValueError, RecursionError):
            self._known, self.is_damaged = {}, True
        else:
            self.is_damaged = False

    def _add_line(self, line: bytes) -> None:
        with suppress(ValueError, KeyError, TypeError, RecursionError):  # a torn line says nothing
            entry = json.loads(line)
            name, version = entry["name"], (entry["size"], entry["time"], entry["sha256"])
            if isinstance(name, str) and [type(part) for part in version] == [int, int, str]:
                self._known.setdefault(name, set()).add(version)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


# ---- who writes just now ------------------------------------------------------------------------------------------


@contextmanager
def _reserve(folder: Path, names: Iterable[str], doing: str) -> Iterator[None]:
    """Reserve names in a folder during the block. The system releases them when the process ends, however it ends."""
    mine = folder / f".distill2label-{secrets.token_hex(4)}.lock"
    lock = _file_lock(mine)
    with _mutex(folder):
        wanted = {folded(name): name for name in names}
        for left in folder.glob(".distill2label-*.json"):  # of a lock that a power cut has taken away
            if not left.with_suffix(".lock").exists():
                with suppress(OSError):
                    left.unlink()
        for other in sorted(folder.glob(".distill2label-*.lock")):
            taken = None if other.name == MUTEX else _names_reserved_by(other)
            if taken is not None and (common := sorted(wanted.keys() & taken) if taken else list(wanted)):
                who = describe_holder(_holder_file(other))
                raise FolderInUseError(
                    f"{folder}: {who} and writes {wanted[common[0]]}; wait for its end, or name another folder"
                )
        lock.acquire()
        write_holder(_holder_file(mine), doing, names=sorted(wanted))
    try:
        yield
    finally:
        for path in (_holder_file(mine), mine):  # Windows removes no open file: the next call does
            with suppress(OSError):
                path.unlink()
        lock.release()


@contextmanager
def _mutex(folder: Path) -> Iterator[None]:
    """Let one call at a time check the reservations."""
    lock = _file_lock(folder / MUTEX, PATIENCE)
    try:
        lock.acquire()
    except Timeout:
        raise FolderInUseError(f"{folder}: another process does not let go of {MUTEX}; end it") from None
    try:
        yield
    finally:
        with suppress(OSError):  # while it is held: whoever waits starts again with a new file
            (folder / MUTEX).unlink()
        lock.release()


def _names_reserved_by(path: Path) -> set[str] | None:
    """Return the names reserved by a lock (empty: unknown); None if its holder has ended, and then remove it."""
    lock = _file_lock(path)
    try:
        lock.acquire()
    except Timeout:
        try:
            names = json.loads(read_file(_holder_file(path), LARGEST_RECORD))["names"]
            return {str(name) for name in names}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return set()
    for left in (_holder_file(path), path):
        with suppress(OSError):
            left.unlink()
    lock.release()
    return None


def _file_lock(path: Path, timeout: float = 0.0) -> FileLock:
    return FileLock(path, timeout=timeout, thread_local=False)  # a generator may be closed in another thread


def _holder_file(lock: Path) -> Path:
    return lock.with_suffix(".json")
