"""Run every benchmark and print its ratios: medians over rounds, quartiles in brackets."""

import argparse
import platform
from pathlib import Path

import torch

from napari_distill2label.mil.device import choose_device, compute_dtype

from . import auroc, dense, epochs, reading, steps


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
    options = parser.parse_args()
    precision = str(compute_dtype("auto", choose_device("cpu"))).removeprefix("torch.")
    print(f"{_processor()}, {torch.get_num_threads()} thread(s), {precision}, torch {torch.__version__}")
    if options.auroc:
        lines = auroc.compare(options.auroc, options.epochs, options.seeds)
    elif options.reading:
        lines = reading.measure(options.quick)
    else:
        lines = (line for module in (steps, epochs, dense) for line in module.measure(options.quick))
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
