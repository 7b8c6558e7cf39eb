"""Too little of everything: room on the disk, rights, descriptors, memory; a disk that fails; a clock that went back.

A command that meets a shortage ends in a line, and not in a traceback. What was there before is whole, and nothing
half-written stays. Once there is enough again, the same command ends in the files of one that nothing happened to.
"""

import contextlib
import errno
import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from .disk import failing
from .forks import Ended, forked
from .kill import compare, crashed
from .verdict import SURVIVED, Verdict, lost
from .world import World, contents, copy_tree, differences, hidden
from .writers import WRITERS, Whole, Writer, after_of, lay_out, template_of, whole

DOES = "a full disk, a quota, no right to write, a failing disk, 64 descriptors, 2 GiB, another clock, zone or language"
NOBODY = 65_534
Limit = Callable[[], None]


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*"))


@contextlib.contextmanager
def _small_disk(world: World, writer: Writer, draw: random.Random) -> Iterator[Limit]:
    """A file system with room for a part of what is to be written."""
    place, before, after = world.place, template_of(world, writer), after_of(world, writer)
    needs = max(_size_of(after) - _size_of(before), 8192)
    room = _size_of(before) + 65_536 + int(needs * draw.uniform(0, 0.9))
    shutil.rmtree(place)
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room},mode=777", "none", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        raise NotHereError("no file system can be mounted")
    try:
        copy_tree_into(before, place)
        yield lambda: None
        subprocess.run(["mount", "-o", "remount,size=1g", str(place)], check=True)
        kept = world.folder / "kept"
        shutil.rmtree(kept, ignore_errors=True)
        copy_tree(place, kept)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
    shutil.rmtree(place)
    os.rename(kept, place)


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


@contextlib.contextmanager
def _few_descriptors(world: World, writer: Writer, draw: random.Random) -> Iterator[Limit]:
    yield lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (draw.choice((64, 64, 24)),) * 2)


@contextlib.contextmanager
def _little_memory(world: World, writer: Writer, draw: random.Random) -> Iterator[Limit]:
    def limit() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = used + draw.choice((2**31, 2**28, 2**26))
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))

    yield limit


@contextlib.contextmanager
def _clock_went_back(world: World, writer: Writer, draw: random.Random) -> Iterator[Limit]:
    """All that is there is of the future."""
    later = time.time() + 3e8
    for path in (world.place, *world.place.rglob("*")):
        os.utime(path, (later, later), follow_symlinks=False)
    yield lambda: None


@contextlib.contextmanager
def _elsewhere(world: World, writer: Writer, draw: random.Random) -> Iterator[Limit]:
    """Another time zone, and a language that writes a decimal comma, where the system has one."""
    import locale

    def limit() -> None:
        os.environ.update(TZ=draw.choice(("Pacific/Kiritimati", "America/St_Johns")), LANG="de_DE.UTF-8")
        time.tzset()
        for name in ("de_DE.UTF-8", "fr_FR.UTF-8"):
            with contextlib.suppress(locale.Error):
                locale.setlocale(locale.LC_ALL, name)

    yield limit


Shortage = Callable[[World, Writer, random.Random], AbstractContextManager[Limit]]
SHORTAGES: dict[str, Shortage] = {
    "a full disk": _small_disk, "files may not grow": _short_files, "no right to write": _no_rights,
    "one EIO": _failing(errno.EIO, False), "EIO for good": _failing(errno.EIO, True),
    "ENOSPC for good": _failing(errno.ENOSPC, True), "few descriptors": _few_descriptors,
    "little memory": _little_memory, "the clock went back": _clock_went_back, "another language": _elsewhere,
}  # fmt: skip
SUBJECTS = tuple(f"{writer}: {shortage}" for writer in reversed(WRITERS) for shortage in SHORTAGES)
SHORT = tuple(
    f"{writer}: {shortage}"
    for writer, shortage in zip(
        ("prediction", "export, again", "evaluation", "cohort", "features, zarr") * 2, SHORTAGES, strict=True
    )
)


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
        with SHORTAGES[shortage](world, writer, draw) as limit:
            ended = forked(lambda: writer.work(world, place), limits=limit)
    except NotHereError:
        return None
    if verdict := _while_short(writer, found, contents(place), ended, place):
        return verdict

    if ended.status == 0 and not differences(found.after, contents(place)):
        return SURVIVED  # it has made do with little: there is nothing to go on with

    def again() -> list[object]:
        status = writer.go_on(world, place)
        return [status, contents(place), hidden(place)]

    verdict = compare(found, forked(again))
    return verdict if verdict.outcome == "survived" else Verdict(verdict.outcome, f"afterwards: {verdict.evidence}")


def _while_short(writer: Writer, found: Whole, now: dict[str, str], ended: Ended, place: Path) -> Verdict | None:
    if wrong := ended.verdict(allowed=(0, 1, 2)):
        return wrong
    if ended.status and not ended.said.strip():
        return lost(f"ended with {ended.status} and said nothing")
    if files := crashed(writer, found, now):
        return lost(files)
    if left := hidden(place):
        return lost(f"left behind: {', '.join(left[:3])}")
    return None
