"""Too little of everything: room on the disk, rights, descriptors, memory; a disk or a file server that fails and comes
back; a scheduler that goes away; a clock that went back.

A command that meets a shortage ends in a line, and not in a traceback. What was there before is whole, and nothing
half-written stays. Once there is enough again, the same command ends in the files of one that nothing happened to.
"""

import contextlib
import errno
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from .disk import failing, watched
from .forks import Ended, forked
from .kill import compare, crashed
from .verdict import SURVIVED, Verdict, lost
from .world import World, contents, copy_tree, differences, hidden
from .writers import (
    PREDICTED,
    WRITERS,
    Whole,
    Work,
    Writer,
    after_of,
    features,
    lay_out,
    prediction,
    template_of,
    whole,
)

DOES = "full, read-only, failing disks; servers that stall or go away; 64 descriptors, 2 GiB, another clock or language"
NOBODY = 65_534
Limit = Callable[[], None]


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*"))


@contextlib.contextmanager
def _own_disk(world: World, room: int, content: Path, short: str) -> Iterator[Limit]:
    """The place of the trial as a file system of `room` bytes, mounted anew with the options `short` for the trial."""
    place = world.place
    shutil.rmtree(place)
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room},mode=777", "none", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        raise NotHereError("no file system can be mounted")
    try:
        copy_tree_into(content, place)
        subprocess.run(["mount", "-o", f"remount,{short}", str(place)], check=True)
        yield lambda: None
        subprocess.run(["mount", "-o", "remount,rw,size=1g", str(place)], check=True)
        kept = world.folder / "kept"
        shutil.rmtree(kept, ignore_errors=True)
        copy_tree(place, kept)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
    shutil.rmtree(place)
    os.rename(kept, place)


def _small_disk(world: World, writer: Writer, draw: random.Random) -> AbstractContextManager[Limit]:
    """A file system with room for a part of what is to be written."""
    before, after = template_of(world, writer), after_of(world, writer)
    needs = max(_size_of(after) - _size_of(before), 8192)
    room = _size_of(before) + 65_536 + int(needs * draw.uniform(0, 0.9))
    return _own_disk(world, room, before, f"size={room}")


def _read_only_disk(world: World, writer: Writer, draw: random.Random) -> AbstractContextManager[Limit]:
    """A file system that cannot be written to, whoever one is."""
    return _own_disk(world, 2**30, template_of(world, writer), "ro")


@contextlib.contextmanager
def _short_files(world: World, writer: Writer, draw: random.Random) -> Iterator[Limit]:
    """A limit on the size of a file, as a quota is."""
    after = after_of(world, writer)
    largest = max((file.stat().st_size for file in after.rglob("*") if file.is_file()), default=2)
    limit = int(largest * draw.uniform(0.1, 0.9))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


@contextlib.contextmanager
def _no_rights(world: World, writer: Writer, draw: random.Random) -> Iterator[Limit]:
    """Folders that somebody may read and not write into."""
    for folder, _, _ in os.walk(world.place):
        os.chmod(folder, 0o555)

    "".encode("utf-8-sig")  # Python loads it when it is used first, from where nobody else may read

    def limit() -> None:
        if os.getuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)

    yield limit
    for folder, _, _ in os.walk(world.place):
        os.chmod(folder, 0o755)


def _failing(error: int, forever: bool) -> "Shortage":
    @contextlib.contextmanager
    def make(world: World, writer: Writer, draw: random.Random) -> Iterator[Limit]:
        steps = whole(world, writer).steps
        shim = failing(draw.randrange(len(steps)), error, forever)
        yield lambda: shim.__enter__() and None

    return make


def _descriptors(count: int) -> "Shortage":
    @contextlib.contextmanager
    def make(world: World, writer: Writer, draw: random.Random) -> Iterator[Limit]:
        yield lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))

    return make


def _memory(count: int) -> "Shortage":
    """So many bytes of address space more than what is in use."""

    @contextlib.contextmanager
    def make(world: World, writer: Writer, draw: random.Random) -> Iterator[Limit]:
        def limit() -> None:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + count, resource.RLIM_INFINITY))

        yield limit

    return make


class Server:
    """All files of the world lie on a server: a call that opens one, or reads a slide, may find it busy or gone.

    Python tells an audit hook of every file that it opens; slides that are open are read by `os.pread`.
    """

    def __init__(self, folder: Path, busy: Callable[[int], None]) -> None:
        self.folder, self.busy, self.asked = os.fspath(folder), busy, 0

    def __enter__(self) -> None:
        pread = os.pread

        def read(*arguments: int) -> bytes:
            self.ask()
            return pread(*arguments)

        def hear(event: str, arguments: tuple[object, ...]) -> None:
            if event == "open" and str(arguments[0]).startswith(self.folder):
                self.ask()

        os.pread = read
        sys.addaudithook(hear)

    def ask(self) -> None:
        self.asked += 1
        self.busy(self.asked)


@contextlib.contextmanager
def _slow_server(world: World, writer: Writer, draw: random.Random) -> Iterator[Limit]:
    """Some calls wait, and are answered in the end."""
    often = draw.randrange(5, 60)
    waits = [draw.uniform(0.1, 0.8) for _ in range(5)]

    def busy(asked: int) -> None:
        if asked % often == 0 and waits:
            time.sleep(waits.pop())

    yield lambda: Server(world.folder, busy).__enter__()


@contextlib.contextmanager
def _gone_server(world: World, writer: Writer, draw: random.Random) -> Iterator[Limit]:
    """From one call on it does not answer, and some calls later it does again."""
    first, number = draw.randrange(1, 120), draw.choice((1, 3, 20, 10**6))
    error = draw.choice((errno.ETIMEDOUT, errno.ESTALE, errno.EHOSTDOWN, errno.EIO))

    def busy(asked: int) -> None:
        if first <= asked < first + number:
            raise OSError(error, os.strerror(error))

    yield lambda: Server(world.folder, busy).__enter__()


@contextlib.contextmanager
def _clock_went_back(world: World, writer: Writer, draw: random.Random) -> Iterator[Limit]:
    """All that is there is of the future, but for slides: one of another time is another slide."""
    later = time.time() + 3e8
    for path in (world.place, *world.place.rglob("*")):
        if path.suffix in (".png", ".tif"):
            continue
        os.utime(path, (later, later), follow_symlinks=False)
    yield lambda: None


def _locales(world: World) -> Path | None:
    """A folder with a language that writes a decimal comma, made here; None where that cannot be done."""
    folder = world.folder / "locales"
    folder.mkdir()
    make = ["localedef", "-i", "de_DE", "-f", "UTF-8", str(folder / "de_DE.UTF-8")]
    with contextlib.suppress(OSError):
        if not subprocess.run(make, capture_output=True, check=False).returncode:
            return folder
    return None


@contextlib.contextmanager
def _elsewhere(world: World, writer: Writer, draw: random.Random) -> Iterator[Limit]:
    """Another time zone, and a language that writes a decimal comma."""
    import locale

    made = world.once("locales", lambda: _locales(world))
    if made is None:
        raise NotHereError("no language with a decimal comma")

    def limit() -> None:
        zone = draw.choice(("Pacific/Kiritimati", "America/St_Johns"))
        os.environ.update(TZ=zone, LANG="de_DE.UTF-8", LOCPATH=str(made))
        time.tzset()
        locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")
        if locale.localeconv()["decimal_point"] != ",":
            raise RuntimeError("the language was not changed")

    yield limit


GONE = "a server is gone"  # and what was half-written cannot be removed meanwhile
Shortage = Callable[[World, Writer, random.Random], AbstractContextManager[Limit]]
SHORTAGES: dict[str, Shortage] = {
    "a full disk": _small_disk, "files may not grow": _short_files, "no right to write": _no_rights,
    "a read-only disk": _read_only_disk, "one EIO": _failing(errno.EIO, False),
    "EIO for good": _failing(errno.EIO, True), "ENOSPC for good": _failing(errno.ENOSPC, True),
    "a slow server": _slow_server, GONE: _gone_server,
    "64 descriptors": _descriptors(64), "24 descriptors": _descriptors(24), "2 GiB": _memory(2**31),
    "64 MiB": _memory(2**26), "the clock went back": _clock_went_back, "another language": _elsewhere,
}  # fmt: skip
CLUSTER = "its scheduler goes away"
ON_CLUSTERS: dict[str, Callable[[str], Work]] = {
    "prediction": lambda address: prediction(0.5, PREDICTED, "--scheduler", address),
    "features, zarr": lambda address: features("zarr", "--scheduler", address),
}
SUBJECTS = (
    *(f"{writer}: {shortage}" for writer in reversed(WRITERS) for shortage in SHORTAGES),
    *(f"{writer}: {CLUSTER}" for writer in ON_CLUSTERS),
)
# One shortage each of what is quick, and a real full disk for all that have a way of their own to write.
SHORT = (
    *(f"{name}: a full disk" for name in ("training", "features, HDF5", "export, again", "model for WSInfer")),
    *(
        f"{name}: {shortage}"
        for name, shortage in zip(
            ("prediction", "export, again", "evaluation", "cohort", "features, zarr") * 3, SHORTAGES, strict=True
        )
    ),
)


# Words in which what there is too little of is said, where the command does not make do with it.
SAYS = dict.fromkeys(("a full disk", "files may not grow", "ENOSPC for good"), re.compile("disk is full|no room left"))


class NotHereError(Exception):
    """A shortage that this machine cannot make."""


def copy_tree_into(source: Path, target: Path) -> None:
    """The content of a folder into one that is there."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)


def attempt(world: World, subject: str, seed: int) -> Verdict | None:
    """A writer with one shortage. None: this machine cannot make it."""
    name, _, shortage = subject.rpartition(": ")
    writer = WRITERS[name]
    found = whole(world, writer)
    place, draw = lay_out(world, writer), random.Random(f"{subject} {seed}")
    try:
        if shortage == CLUSTER:
            ended = _without_scheduler(world, ON_CLUSTERS[name], place, draw.randrange(len(found.steps)))
        else:
            with SHORTAGES[shortage](world, writer, draw) as limit:
                ended = forked(lambda: writer.work(world, place), limits=limit)
    except NotHereError:
        return None
    left = [] if shortage == GONE else hidden(place)
    if verdict := _while_short(writer, shortage, found, contents(place), ended, left):
        return verdict

    if ended.status == 0 and not differences(found.after, contents(place)):
        return SURVIVED  # it has made do with little: there is nothing to go on with

    def again() -> list[object]:
        status = writer.go_on(world, place)
        return [status, contents(place), hidden(place)]

    verdict = compare(found, forked(again))
    return verdict if verdict.outcome == "survived" else Verdict(verdict.outcome, f"afterwards: {verdict.evidence}")


A_CLUSTER = """
import time
from distributed import LocalCluster
cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None)
print(cluster.scheduler_address, flush=True)
time.sleep(600)
"""


def _without_scheduler(world: World, make: Callable[[str], Work], place: Path, step: int) -> Ended:
    """Work on a cluster of dask, whose scheduler and workers are killed before a step on the disk."""
    cluster = subprocess.Popen([sys.executable, "-c", A_CLUSTER], stdout=subprocess.PIPE, text=True)
    try:
        assert cluster.stdout is not None
        if not (address := cluster.stdout.readline().strip()):
            raise NotHereError("no cluster can be started")

        def kill(number: int, name: str, arguments: tuple[object, ...]) -> None:
            if number == step:
                cluster.kill()

        def work() -> int:
            with watched(kill):
                return make(address)(world, place)

        return forked(work)
    finally:
        cluster.kill()
        cluster.wait()


def _while_short(
    writer: Writer, shortage: str, found: Whole, now: dict[str, str], ended: Ended, left: list[str]
) -> Verdict | None:
    if wrong := ended.verdict(allowed=(0, 1, 2)):
        return wrong
    words = SAYS.get(shortage)
    if ended.status and not (words.search(ended.said) if words else ended.said.strip()):
        return lost(f"ended with {ended.status} and said {ended.said[-300:]!r}")
    if files := crashed(writer, found, now):
        return lost(files)
    return lost(f"left behind: {', '.join(left[:3])}") if left else None
