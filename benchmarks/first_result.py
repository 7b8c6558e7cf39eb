"""From a start to a first patch map: the demo, a quick trial, the recommended method, and what the estimate says.

`python -m benchmarks.first_result [--busy 1]`. The commands, each in a process of its own, on 24 drawn crops of 500 px,
beside a busy process. A first map is that of one slide, predicted after the training. Seconds are those on the clock;
those of the processor stand beside them.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from napari_distill2label.core.settings import Settings
from napari_distill2label.mil.waiting import wait_passively
from napari_distill2label.store.timing import Timing

from .busy import MAIN, ROOT, busy
from .goals import Goal, figure

SLIDES, SIDE = 24, 500
ESTIMATE_GOAL, RIGHT_GOAL = Goal(10, "s"), Goal(0.3)  # an estimate's own time; how far it is from the training's


def command(*arguments: object) -> tuple[float, float]:
    """Seconds of the clock and of the processor that a command takes from its start to its end."""
    known = {**os.environ, "PYTHONPATH": str(ROOT)}
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)], env=known, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-1000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, spent


def told(what: str, taken: list[tuple[float, float]], goal: Goal) -> str:
    clock, processor = (sum(each) for each in zip(*taken, strict=True))
    return figure(f"{what}, {processor:.0f} s of a processor", [clock], "s", goal)


def measure(count: int = 1, slides: int = SLIDES, side: int = SIDE, more: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a line for each, beside `count` busy processes; `more` are options of every training."""
    from napari_distill2label.core.events import drain
    from napari_distill2label.core.presets import build_settings
    from napari_distill2label.slides.synthetic import write_cohort
    from napari_distill2label.store.cohort import Cohort
    from napari_distill2label.workflow.estimate import estimate
    from napari_distill2label.workflow.quick_trial import trial_settings, trial_slides

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = write_cohort(folder / "cohort", slides, shape=(side, side))
        cohort = Cohort.read(table)
        with busy(count):
            first = cohort.slides[1].path
            trial = command("train", table, "-o", folder / "trial", "--quick-trial")
            predicted = command("predict", folder / "trial", first, "-o", folder / "of-trial")
            yield told(f"quick trial to a first map, {slides} crops of {side} px", [trial, predicted], Goal(45, "s"))
            began = time.perf_counter()
            settings = trial_settings(build_settings())
            timing = drain(estimate(trial_slides(cohort), settings))
            yield figure("an estimate", [time.perf_counter() - began], "s", ESTIMATE_GOAL)
            measured = Timing.read(folder / "trial")
            assert measured is not None
            expected, taken = (_whole(each, settings) for each in (timing, measured))
            off = [abs(expected - taken) / taken]
            yield figure(f"an estimate, {expected:.0f} s for {taken:.0f} s: off by", off, goal=RIGHT_GOAL)
            full = command("train", table, "-o", folder / "run", *more)
            predicted = command("predict", folder / "run", first, "-o", folder / "of-run")
            yield told(f"method recommended to a first map, {slides} crops of {side} px", [full, predicted],
                       Goal(180, "s"))  # fmt: skip
            if not more:
                yield told("the demo", [command("demo", "--out", folder / "demo")], Goal(45, "s"))


def _whole(timing: Timing, settings: Settings) -> float:
    """Seconds of a whole training: reading, all epochs, and what lies between."""
    epochs = {"teacher": settings.teacher.epochs, "student": settings.student.epochs}
    networks = sum(each * epochs.get(name, settings.oof.epochs) for name, each in timing.epoch.items())
    return timing.reading + timing.between + networks


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_result", description=__doc__)
    parser.add_argument("--busy", type=int, default=1, help="number of busy processes")
    options = parser.parse_args()
    wait_passively()  # as the window and the command line do, before torch is imported: here the estimate is made
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before")
    for line in measure(options.busy):
        print(line, flush=True)


if __name__ == "__main__":
    main()
