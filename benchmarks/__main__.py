"""Run every benchmark and print its ratios; `--quick` for fewer repetitions."""

import argparse
import platform

import torch

from . import steps


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for line in steps.measure(repetitions=5 if options.quick else 30):
        print(line)


if __name__ == "__main__":
    main()
