"""Run benchmarks and print their ratios: medians over rounds, quartiles in brackets.

`--all` runs every script with its goal, one after the other: hours, on a machine that has nothing else to do.
"""

import argparse
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from napari_distill2label.mil.device import choose_device, compute_dtype

from . import auroc, busy, dense, epochs, reading, steps

# What is measured, the script and its arguments, and the goal.
ALL = (
    ("A busy machine", ("busy",), "≤ 1.25 times the best setting at 0, 1 and 2 busy processes"),
    ("Start", ("starting",), "--help < .15 s of a processor, predict's imports < .8 s"),
    ("Training", ("__main__",), "plain MIL ≥ 2.5 × the textbook, teacher ≤ 2.3 and student ≤ 1.15 plain steps"),
    ("Reading", ("__main__", "--reading"), "≥ 5 × OpenSlide and ≥ .85 × libjpeg-turbo per second of a processor"),
    ("Predicting", ("predicting",), "≥ 4 × WSInfer at 4,096² and 8,192² px"),
    ("Window: gaps", ("window",), "≤ 50 ms above idle"),
    ("Window: slide to slide", ("slide_changes",), "≤ .15 s for crops, ≤ .4 s for pyramids"),
    ("Window: table of 10,000 slides", ("slides_table",), "sort and filter ≤ 100 ms"),
    ("Live loop", ("live",), "≤ 2 s from a key to new colours"),
    ("Export", ("exporting",), "a million patches: OME-TIFF ≤ 20 s, ≤ 60 MB, < 500 MB of memory; GeoJSON ≤ 6 s"),
    ("Growth", ("growth",), "cost per slide flat from 10 to 10,000 slides"),
)


def run_all() -> Iterator[str]:
    """Run every script, and yield its goal and its lines. One that fails says so, and the others follow."""
    for what, (module, *arguments), goal in ALL:
        yield f"\n{what} (goal: {goal})"
        command = [sys.executable, "-m", "benchmarks" if module == "__main__" else f"benchmarks.{module}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        yield from done.stdout.splitlines()
        if done.returncode:
            yield f"not measured: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}"


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
    parser.add_argument("--all", action="store_true", help="every script, with its goal")
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
