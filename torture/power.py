"""A power cut at any step: what was not synchronised is there, or not, or empty, or torn, each file for itself.

The idea is that of dm-log-writes and ALICE, without a block device: see `disk.Durable`. Of files that are written
whole, the former content or the new one must be there, and the new one once the command has ended. Maps that fill up in
place may lose blocks. In every case the same command ends afterwards in the files of one that nothing happened to.
"""

import os
import random
import shutil
import signal

from .disk import Durable, watched
from .forks import forked
from .kill import compare, crashed
from .verdict import SURVIVED, Verdict, lost
from .world import World, contents, hidden
from .writers import WRITERS, lay_out, whole

SUBJECTS = tuple(WRITERS)
SHORT = ("features, zarr", "prediction, again", "evaluation", "cohort", "corrections")
DOES = "the power is cut at a step; what was not synchronised is kept, lost, emptied or torn at random"


def attempt(world: World, subject: str, seed: int) -> Verdict | None:
    """Cut number `seed`. Every fifth is at the end, when the command has reported success."""
    writer = WRITERS[subject]
    found = whole(world, writer)
    draw = random.Random(seed)
    step = len(found.steps) if seed % 5 == 0 else draw.randrange(len(found.steps))
    harshness = draw.choice((1.0, 0.5, 0.2))  # how much of what was not synchronised is not as written
    place, left = lay_out(world, writer), world.folder / "left"
    for folder in (left, world.folder / "safe"):
        shutil.rmtree(folder, ignore_errors=True)

    def choose(what: str, states: tuple[str, ...]) -> str:
        return draw.choice(states[1:]) if draw.random() < harshness else states[0]

    def work() -> int:
        durable = Durable(place, world.folder / "safe")

        def cut(number: int, name: str, arguments: tuple[object, ...]) -> None:
            if number == step:
                durable.leave(left, choose)
                os.kill(os.getpid(), signal.SIGKILL)

        with watched(cut, durable.note):
            status = writer.work(world, place)
        durable.leave(left, choose)
        return status

    ended = forked(work)
    if ended.status != -signal.SIGKILL and (wrong := ended.verdict()):
        return wrong
    is_over = ended.status == 0
    where = "at the end" if is_over else f"at step {step} ({found.steps[step]})"
    shutil.rmtree(place)
    os.rename(left, place)
    now = contents(place)
    if is_over:
        missing = [
            name for name, digest in found.after.items() if not writer.in_place(name) and now.get(name) != digest
        ]
        if missing:
            return lost(f"the power was cut {where}: the command had ended, and {', '.join(missing[:3])} is not there")
    elif wrong_files := crashed(writer, found, now):
        return lost(f"the power was cut {where}: {wrong_files}")

    def again() -> list[object]:
        status = writer.go_on(world, place)
        return [status, contents(place), hidden(place)]

    verdict = compare(found, forked(again))
    if verdict.outcome == "survived":
        return SURVIVED
    return Verdict(verdict.outcome, f"the power was cut {where}: {verdict.evidence}")
