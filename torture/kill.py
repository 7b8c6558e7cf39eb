"""SIGKILL right before and right after every step that a writer takes on the disk.

What goes on is killed too, twice: whoever is killed once is often killed again, and three kills share one end.

After it: of each former file the former content or the new one is there, whole. The same command (or `--resume`) then
ends in the very files of a writer that nothing happened to, and leaves no hidden file.
"""

import contextlib
import os
import random
import signal
import time

from .disk import killing
from .forks import Ended, forked
from .verdict import SURVIVED, Verdict, lost
from .world import World, contents, differences, hidden
from .writers import WRITERS, Whole, Work, Writer, lay_out, whole

AGAIN = 2  # kills of what goes on
TOLD = "told to stop: "  # by SIGTERM, as batch queues do, or by SIGHUP, as a terminal that is closed
SUBJECTS = (*WRITERS, *(f"{TOLD}{name}" for name in ("training", "longer training", "features, zarr", "prediction")))
SHORT = ("features, HDF5", "prediction", "export, again", "cohort", "project", "older files", f"{TOLD}training")
STOPPED = "distill2label: Stopped. Finished work is saved."
DOES = "killed (SIGKILL) before and after each fsync, rename and removal"


def _told_to_stop(world: World, writer: Writer, found: Whole, draw: random.Random) -> Verdict:
    """A signal at a random moment: it cleans up, says that it has stopped, and ends with a status that says so."""
    place, number = lay_out(world, writer), draw.choice((signal.SIGTERM, signal.SIGTERM, signal.SIGHUP))

    def stop(child: int) -> None:
        time.sleep(draw.uniform(0.02, 1) * found.seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    ended = forked(lambda: writer.work(world, place), during=stop)
    if ended.status == -number:
        return _went_on(world, writer, found)  # before the command could begin to listen
    if wrong := ended.verdict(allowed=(0, 128 + number)):
        return wrong
    if ended.status and ended.said.splitlines()[-1:] != [STOPPED]:
        return lost(f"told to stop, it said {ended.said[-300:]!r}")
    if left := hidden(place):
        return lost(f"told to stop, it left {', '.join(left[:3])}")
    return _went_on(world, writer, found)


def points(found: Whole, seed: int = 0) -> list[tuple[int, bool]]:
    """(step, after) of every kill, in random order: a sweep that is broken off says something of all of them."""
    every = [(step, after) for step in range(len(found.steps)) for after in (False, True)]
    random.Random(seed).shuffle(every)
    return every


def attempt(world: World, subject: str, seed: int) -> Verdict | None:
    """Kill number `seed`. None: there are no more."""
    writer = WRITERS[subject.removeprefix(TOLD)]
    found = whole(world, writer)
    if subject.startswith(TOLD):
        return _told_to_stop(world, writer, found, random.Random(f"{subject} {seed}"))
    every = points(found)
    if seed >= len(every):
        return None
    place, draw, where, kills = lay_out(world, writer), random.Random(f"{subject} {seed}"), "", 0
    more = [(draw.randrange(1 + step // 2), draw.random() < 0.5) for step in [every[seed][0]] * AGAIN]
    for number, (step, after) in enumerate([every[seed], *more]):
        go = writer.go_on if number else writer.work

        def work(go: Work = go, step: int = step, after: bool = after) -> int:
            with killing(step, after):
                return go(world, place)

        ended = forked(work)
        if ended.status != -signal.SIGKILL:  # threads may take fewer steps than before, and less may be left to do
            if wrong := ended.verdict():
                return Verdict(wrong.outcome, f"{where}: {wrong.evidence}")
            continue
        kills += 1
        where += f"{', ' if where else ''}killed {'after' if after else 'before'} step {step}"
        if files := crashed(writer, found, contents(place)):
            return lost(f"{where}: {files}")
    verdict = _went_on(world, writer, found)
    return Verdict(verdict.outcome, f"{where}: {verdict.evidence}" if verdict.evidence else "", max(1, kills))


def crashed(writer: Writer, found: Whole, now: dict[str, str]) -> str | None:
    """What is wrong with what a crash has left, before anything is mended."""
    for name in sorted(filter(writer.former, found.before.keys() | found.after.keys() | now.keys())):
        allowed = {found.before.get(name), found.after.get(name)}
        if name in now or name in found.before:
            if name not in found.before and name not in found.after:
                if not is_backup(name, now[name], found):
                    return f"{name} is new"
            elif now.get(name) not in allowed:
                return f"{name} is neither the former nor the new one" if name in now else f"{name} is gone"
    return None


def is_backup(name: str, digest: str, found: Whole) -> bool:
    """Whether it is a copy of a former file, which is made under a name of its own."""
    return ".bak" in name and digest in found.before.values()


def _went_on(world: World, writer: Writer, found: Whole) -> Verdict:
    """Go on as the user would; what is wrong then."""

    def again() -> list[object]:
        status = writer.go_on(world, world.place)
        return [status, contents(world.place), hidden(world.place)]

    return compare(found, forked(again))


def compare(found: Whole, ended: Ended) -> Verdict:
    """What is wrong with what is there in the end: `ended` told a status, digests and hidden files."""
    if wrong := ended.verdict():
        return wrong
    status, now, left = ended.told
    if status:
        return lost(f"could not be gone on with (status {status}): {ended.said[-300:]}")
    differ = [name for name in differences(found.after, now) if not is_backup(name, now.get(name, ""), found)]
    if differ:
        return lost(f"differs afterwards: {', '.join(differ[:4])}")
    if left:
        return lost(f"left behind: {', '.join(left[:3])}")
    return SURVIVED
