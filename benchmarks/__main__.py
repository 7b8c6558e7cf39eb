"""Run benchmarks and print their ratios: medians over rounds, quartiles in brackets.

`--all` runs every script, with goals and verdicts, one after the other: hours, on a machine with no other work.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from napari_distill2label.mil.device import choose_device, compute_dtype

from . import auroc, busy, dense, epochs, reading, steps
from .goals import VERDICTS

# What is measured, and the script with its arguments. Its lines have goals and verdicts (`goals.judged`).
ALL = (
    ("A busy machine", ("busy",)),
    ("First result", ("first_result",)),
    ("Start", ("starting",)),
    ("Training", ("__main__",)),
    ("Reading", ("__main__", "--reading")),
    ("Predicting", ("predicting",)),
    ("Window: opening", ("opening",)),
    ("Window: gaps", ("window",)),
    ("Window: slide to slide", ("next_slide",)),
    ("Window: threshold", ("recolouring",)),
    ("Window: table of 10,000 slides", ("slides_table",)),
    ("Live loop", ("live",)),
    ("Export", ("exporting",)),
    ("Growth", ("growth",)),
    ("A GPU", ("gpu",)),
)


def run_all(scripts: Sequence[tuple[str, tuple[str, ...]]] = ALL) -> Iterator[str]:
    """Run every script and yield its lines, then how many goals are met. One that fails says so, the others follow."""
    missed, met = [], 0
    for what, (module, *arguments) in scripts:
        yield f"\n{what}"
        command = [sys.executable, "-m", "benchmarks" if module == "__main__" else f"benchmarks.{module}", *arguments]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "verdicts.jsonl"
            environment = {**os.environ, VERDICTS: str(path)}
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            verdicts = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
        yield from done.stdout.splitlines()
        met += sum(each["verdict"] == "met" for each in verdicts)
        missed += [f"{what}: {each['line']}" for each in verdicts if each["verdict"] != "met"]
        if done.returncode:
            yield (failed := f"not measured: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
            missed.append(f"{what}: {failed}")
    yield f"\n{met} goals are met. Missed or not measured: {len(missed)}"
    yield from missed


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, fewer bags")
    parser.add_argument("--auroc", type=Path, metavar="DATA", help="only: does ours learn what the textbook learns?")
    parser.add_argument("--seeds", type=int, default=2, help="of --auroc")
    parser.add_argument("--epochs", type=int, default=16, help="of --auroc")
    parser.add_argument("--reading", action="store_true", help="only: reading slides, ours and other libraries")
    parser.add_argument("--busy", action="store_true", help="only: training beside 0, 1 and 2 busy processes")
    parser.add_argument("--all", action="store_true", help="every script, with goals and verdicts")
    options = parser.parse_args()
    precision = str(compute_dtype("auto", choose_device("cpu"))).removeprefix("torch.")
    print(f"{_processor()}, {torch.get_num_threads()} thread(s), {precision}, torch {torch.__version__}")
    lines: Iterable[str]
    if options.all:
        lines = run_all()
    elif options.busy:
        lines = busy.measure(rounds=3, slides=24)
    elif options.auroc:
        lines = auroc.compare(options.auroc, options.epochs, options.seeds)
    elif options.reading:
        lines = reading.measure(options.quick)
    else:
        lines = (line for module in (steps, epochs, dense) for line in module.measure(options.quick))
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
