"""Starting: seconds of a processor until the list of commands is printed, and for what `predict` imports.

`python -m benchmarks.starting [--rounds N]`. Processes take turns: an empty Python, `distill2label --help`,
`distill2label predict --help`, the imports of `predict`, and `import torch` alone, which predicting cannot do without.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .goals import Goal, figure

ROOT = Path(__file__).parents[1]
MAIN = (
    "import contextlib, sys\nfrom napari_distill2label.cli.main import main\nwith contextlib.suppress(SystemExit): main"
)
STARTS = {
    "empty": "pass",
    "--help": f"{MAIN}(['--help'])",
    "predict --help": f"{MAIN}(['predict', '--help'])",
    "predict's imports": "import napari_distill2label.cli.commands, napari_distill2label.workflow.commands.predict",
    "import torch": "import torch",
}
GOALS = {"--help": Goal(0.15, "s"), "predict's imports": Goal(0.8, "s")}  # on an idle machine


def seconds(code: str) -> float:
    """Seconds that the processor spends on a process."""
    before = os.times()
    subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def measure(rounds: int) -> Iterator[str]:
    """A line for each start: median and range, and its share of `import torch`."""
    taken = np.array([[seconds(code) for code in STARTS.values()] for _ in range(rounds + 1)])[
        1:
    ]  # the first reads disks
    for number, name in enumerate(STARTS):
        own, torch = taken[:, number], taken[:, -1]
        share = np.median(own / torch)
        yield figure(f"{name}, {share:.2f} of import torch", own, "s of a processor", GOALS.get(name))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starting", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    for line in measure(parser.parse_args().rounds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
