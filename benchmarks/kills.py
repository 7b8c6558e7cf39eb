"""What is left of a training that is killed at any moment: `python -m benchmarks.kills`.

A training with every network there is (plain MIL, teacher, out-of-fold classifiers, student) writes some hundred times.
Each of its steps on the disk (a file or folder synchronised, renamed, exchanged or removed) is a point at which it is
killed once before and once after; then it is resumed. A kill counts as survived if afterwards the run has the very
weights and rows of history of one that nothing has happened to, and no file that is half-written. With `--signals` it
is told to stop (SIGTERM) at random moments instead, and has to end with status 143 and leave nothing half-written by
itself.

Every training is a fork of one process that has imported torch and trained nothing: POSIX alone.
"""

import argparse
import contextlib
import hashlib
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_distill2label.cli.main import main as command_line
from napari_distill2label.core.paths import RECORD
from napari_distill2label.slides.synthetic import write_cohort
from napari_distill2label.store.bundle import NETWORKS
from napari_distill2label.store.files import atomic

FLAGS = (
    "--baseline", "--device=cpu", "--architecture.hidden_dim=16", "--architecture.attention_dim=8",
    "--teacher.learning_rate=0.001",
    "--teacher.epochs=2", "--oof.epochs=1", "--student.epochs=2",
)  # fmt: skip
# What a training changes on the disk, by the module that does it.
STEPS = (
    (os, "fsync"), (os, "replace"), (os, "rename"), (os, "unlink"), (os, "rmdir"), (atomic, "exchange"),
)  # fmt: skip


@dataclass(frozen=True)
class Whole:
    """A training that nothing happened to: what it is compared with, and the steps that it took on the disk."""

    cohort: Path
    kept: dict[str, str]
    steps: tuple[str, ...]
    seconds: float


def prepare(folder: Path) -> Whole:
    """Draw a small cohort and train on it undisturbed."""
    cohort = write_cohort(folder / "cohort", 10, seed=3, shape=(80, 80))
    run, told = folder / "whole", folder / "told"
    for _ in ("once for what is imported on the way", "once for the steps, and how long they take"):
        shutil.rmtree(run, ignore_errors=True)
        start = time.monotonic()
        status = _forked(lambda: _train(cohort, run), told=told)
        if status != 0:
            raise RuntimeError(f"the training that nothing should happen to ended with {status}")
        steps, modules = told.read_text().split("\n\n")
        for name in modules.split():  # in this process, not in each of its forks
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    return Whole(cohort, kept(run), tuple(steps.split()), time.monotonic() - start)


def kept(run: Path) -> dict[str, str]:
    """Digests of what a run is there for, and the names of what should not be there."""
    found = {network: _digest(run / network / "model.safetensors") for network in NETWORKS}
    found |= {path.name: _digest(path) for path in sorted((run / "checkpoints").glob("*.safetensors"))}
    found["history.csv"] = _digest(run / "history.csv")
    return found | {path.name: "half-written" for path in half_written(run)}


def half_written(run: Path) -> list[Path]:
    """Hidden files and folders, but for the record of what was written."""
    return [path for path in run.rglob(".*") if path.name != RECORD]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"


def _train(cohort: Path, run: Path, *more: str) -> int:
    return command_line(["train", str(cohort), "-o", str(run), *FLAGS, *more])


def _resume(cohort: Path, run: Path) -> int:
    """As its user would: resume where there is a run, else begin."""
    return _train(cohort, run, *(["--resume"] if (run / "settings.json").is_file() else []))


def killed_at(whole: Whole, folder: Path, step: int, after: bool) -> str | None:
    """Kill a training at a step and resume it; what is wrong afterwards, or None."""
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    status = _forked(lambda: _train(whole.cohort, run), kill=(step, after))
    if status != -signal.SIGKILL:
        return f"was not killed but ended with {status}"
    status = _forked(lambda: _resume(whole.cohort, run))
    return _compared(whole, run, status)


def stopped_after(whole: Whole, folder: Path, seconds: float) -> tuple[str, str | None]:
    """Tell a training to stop after some time; how it ended, and what is wrong after it was resumed."""
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    status = _forked(lambda: _train(whole.cohort, run), stop=seconds)
    if status == 0:
        return "was over before", _compared(whole, run, status)
    if status != 128 + signal.SIGTERM:
        return f"ended with {status}", f"ended with {status}"
    if left := half_written(run):
        return "stopped", f"left {left[0].name}"
    return "stopped", _compared(whole, run, _forked(lambda: _resume(whole.cohort, run)))


def _compared(whole: Whole, run: Path, status: int) -> str | None:
    if status != 0:
        return f"ended with {status}"
    now = kept(run)
    differs = [name for name in now.keys() | whole.kept.keys() if now.get(name) != whole.kept.get(name)]
    return ", ".join(sorted(differs)) + " differs" if differs else None


def _forked(
    work: Callable[[], int],
    *,
    told: Path | None = None,
    kill: tuple[int, bool] | None = None,
    stop: float | None = None,
) -> int:
    """Exit status of `work` in a fork of this process; −n if signal n has killed it."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
            with _counted(told, kill):
                status = work()
        finally:
            os._exit(status)
    if stop is not None:
        time.sleep(stop)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    _, code = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(code)


@contextlib.contextmanager
def _counted(told: Path | None, kill: tuple[int, bool] | None) -> Iterator[None]:
    """Count the steps on the disk: note them down, or be killed before or after one."""
    taken: list[str] = []

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            if name == "unlink" and not os.path.lexists(arguments[0]):  # of what is perhaps there
                return call(*arguments, **named)
            taken.append(name)
            number = len(taken) - 1
            if kill == (number, False):
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return call(*arguments, **named)
            finally:
                if kill == (number, True):
                    os.kill(os.getpid(), signal.SIGKILL)

        return step

    for module, name in STEPS:
        setattr(module, name, counted(name, getattr(module, name)))
    yield
    if told is not None:
        told.write_text("\n".join(taken) + "\n\n" + "\n".join(sys.modules))


def sweep(folder: Path, sample: int | None = None, seed: int = 0) -> Iterator[str]:
    """Kill at every step, or at some; a line for each that is not survived, and the figures."""
    whole = prepare(folder)
    points = [(step, after) for step in range(len(whole.steps)) for after in (False, True)]
    random.Random(seed).shuffle(points)  # so that a sweep that is broken off says something of all of them
    points = points[:sample]
    steps = ", ".join(f"{count} {name}" for name, count in sorted(Counter(whole.steps).items()))
    yield f"a training takes {len(whole.steps)} steps on the disk ({steps})"
    lost = 0
    for number, (step, after) in enumerate(points):
        if number and number % 20 == 0:
            yield f"{number - lost} of {number} so far"
        if wrong := killed_at(whole, folder, step, after):
            lost += 1
            yield f"LOST: killed {'after' if after else 'before'} step {step} ({whole.steps[step]}): {wrong}"
    yield f"{len(points) - lost} of {len(points)} kills survived"


def signals(folder: Path, count: int, seed: int = 0) -> Iterator[str]:
    """Stop at random moments; the same."""
    whole, draw, ended, lost = prepare(folder), random.Random(seed), Counter[str](), 0
    for _ in range(count):
        after = draw.uniform(0, whole.seconds)
        how, wrong = stopped_after(whole, folder, after)
        ended[how] += 1
        if wrong:
            lost += 1
            yield f"LOST: told to stop after {after:.3f} s: {wrong}"
    yield f"{count - lost} of {count} signals survived ({', '.join(f'{n} {how}' for how, n in ended.items())})"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, metavar="N", help="kill at N points only, drawn at random")
    parser.add_argument("--signals", type=int, metavar="N", help="stop by SIGTERM at N random moments instead")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    survived = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = (
            signals(folder, options.signals, options.seed)
            if options.signals
            else sweep(folder, options.sample, options.seed)
        )
        for line in lines:
            survived &= not line.startswith("LOST")
            print(line, flush=True)
    return 0 if survived else 1


if __name__ == "__main__":
    sys.exit(main())
