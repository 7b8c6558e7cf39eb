"""Between the program and the disk: steps are counted, killed at, refused, or noted for a power cut.

A step is one call that changes what a crash leaves: a file or folder synchronised, renamed, exchanged, removed, made.
"""

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from napari_distill2label.store.files import atomic

# `atomic.exchange` is one call of the system that Python does not have.
STEPS: tuple[tuple[Any, str], ...] = (
    (os, "fsync"), (os, "replace"), (os, "rename"), (os, "unlink"), (os, "rmdir"), (atomic, "exchange"),
)  # fmt: skip
Before = Callable[[int, str, tuple[Any, ...]], None]


def _nothing(number: int, name: str, arguments: tuple[Any, ...]) -> None:
    """Do nothing at a step."""


@contextlib.contextmanager
def watched(before: Before = _nothing, after: Before = _nothing) -> Iterator[list[str]]:
    """Call `before` and `after` around each step with its number, its name and its arguments; yield their names."""
    taken: list[str] = []
    originals = [(module, name, getattr(module, name)) for module, name in STEPS]

    def shim(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            if name == "unlink" and not named and not os.path.lexists(arguments[0]):  # of what is perhaps there
                return call(*arguments, **named)
            number = len(taken)
            taken.append(name)
            before(number, name, arguments)
            try:
                return call(*arguments, **named)
            finally:
                after(number, name, arguments)

        return step

    for module, name, call in originals:
        setattr(module, name, shim(name, call))
    try:
        yield taken
    finally:
        for module, name, call in originals:
            setattr(module, name, call)


def killing(step: int, after: bool) -> contextlib.AbstractContextManager[list[str]]:
    """SIGKILL of this process before or after a step."""

    def kill(number: int, name: str, arguments: tuple[Any, ...]) -> None:
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return watched(after=kill) if after else watched(before=kill)


def failing(step: int, error: int, forever: bool = False) -> contextlib.AbstractContextManager[list[str]]:
    """A step that the system refuses with this error number; with `forever` all that follow it too."""

    def refuse(number: int, name: str, arguments: tuple[Any, ...]) -> None:
        if name not in ("unlink", "rmdir") and (number >= step if forever else number == step):
            raise OSError(error, os.strerror(error))

    return watched(before=refuse)


# ---- a power cut ----------------------------------------------------------------------------------------------------


class Durable:
    """What a disk certainly holds of a folder: files as they were last synchronised, names as folders were.

    Begins with the folder as it stands. `note` is told of each `fsync`. `leave` then makes of the folder what a power
    cut can leave of it: of what was not synchronised `choose(what)` says, for each single file and name, whether it
    got to the disk: "new", "old", or (content alone) "empty" or "torn".
    """

    def __init__(self, folder: Path, safe: Path) -> None:
        self.folder, self.safe = folder, safe
        self.names: dict[int, dict[str, int]] = {}  # of each folder, by inode: its names and their inodes
        self.contents: set[int] = set()  # inodes of files whose content lies in `safe`
        self.folders: set[int] = set()  # inodes of folders that have a name in `names`
        safe.mkdir(parents=True)
        for place, _, files in os.walk(folder):
            for name in files:
                self._keep_content(os.stat(os.path.join(place, name)).st_ino, Path(place, name))
            self._keep_names(Path(place))

    def _keep_content(self, inode: int, path: Path) -> None:
        shutil.copyfile(path, self.safe / str(inode))
        self.contents.add(inode)

    def _keep_names(self, folder: Path) -> None:
        with os.scandir(folder) as entries:
            found = list(entries)
        self.names[os.stat(folder).st_ino] = {entry.name: entry.inode() for entry in found}
        self.folders |= {entry.inode() for entry in found if entry.is_dir(follow_symlinks=False)}

    def note(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        """After a step: only `fsync` makes anything durable."""
        if name != "fsync":
            return
        path = Path(os.readlink(f"/proc/self/fd/{arguments[0]}"))
        if path != self.folder and self.folder not in path.parents:
            return
        if path.is_dir():
            self._keep_names(path)
        elif path.is_file():
            self._keep_content(os.stat(path).st_ino, path)

    def leave(self, target: Path, choose: Callable[[str, tuple[str, ...]], str]) -> None:
        """Build what is left in `target`."""
        live: dict[int, Path] = {}
        for place, _, files in os.walk(self.folder):
            live[os.stat(place).st_ino] = Path(place)
            for name in files:
                live[os.stat(os.path.join(place, name)).st_ino] = Path(place, name)
        self._build(os.stat(self.folder).st_ino, target, live, choose)

    def _build(self, inode: int, target: Path, live: dict[int, Path], choose: Callable[..., str]) -> None:
        old = self.names.get(inode)
        new = None
        if inode in live:
            with os.scandir(live[inode]) as entries:
                new = {entry.name: entry.inode() for entry in entries}
        target.mkdir()
        for name in sorted((old or {}).keys() | (new or {}).keys()):
            before, now = (old or {}).get(name), None if new is None else new.get(name)
            one = now if before == now or choose(f"name {name}", ("new", "old")) == "new" else before
            if one is not None:
                self._place(one, target / name, live, choose)

    def _place(self, inode: int, target: Path, live: dict[int, Path], choose: Callable[..., str]) -> None:
        path = live.get(inode)
        if inode in self.folders or (path is not None and path.is_dir()):
            self._build(inode, target, live, choose)
            return
        kept = (self.safe / str(inode)).read_bytes() if inode in self.contents else None
        data = kept if path is None else path.read_bytes()
        if data is None:
            target.touch()
        elif kept == data:
            target.write_bytes(data)
        else:
            which, safe = choose(f"content of {target.name}", ("new", "old", "empty", "torn")), kept or b""
            if data.startswith(safe):  # what is appended to is not lost
                empty, torn = safe, data[: (len(safe) + len(data)) // 2]
            else:
                empty, torn = b"", data[: len(data) // 2]
            target.write_bytes({"new": data, "old": safe, "empty": empty, "torn": torn}[which])
        if path is not None:
            shutil.copystat(path, target)
