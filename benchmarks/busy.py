"""Training beside other work: how long it takes while 0, 1 and 2 other processes keep a core busy.

`python -m benchmarks.busy [--rounds N] [--slides N] [--busy 0,1,2]`. Every training is a process of its own,
`distill2label train` on drawn slides. Three ways take turns: as the command line trains, with threads that spin while
they wait (OpenMP's own way, which an import of torch before the command line keeps), and with one thread. A line gives
the medians in seconds, and the median ratio of our way to the best of the three in the same round.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .goals import Goal, figure

ROOT = Path(__file__).parents[1]
MAIN = "from napari_distill2label.cli.main import main; raise SystemExit(main())"
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "as it is": (MAIN, {}),
    "spinning": (f"import torch; {MAIN}", {}),
    "one thread": (MAIN, {"OMP_NUM_THREADS": "1"}),
}
SETTINGS = ["--method", "paper", "--teacher.epochs", "2", "--student.epochs", "1", "--split.test", "0"]
BUSY = (0, 1, 2)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that compute until the end."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def seconds(way: str, table: Path, out: Path) -> float:
    """Train once."""
    code, environment = WAYS[way]
    known = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
    known |= {"PYTHONPATH": str(ROOT), **environment}
    start = time.perf_counter()
    command = [sys.executable, "-c", code, "train", table, "-o", out, *SETTINGS]
    subprocess.run([str(part) for part in command], env=known, check=True, capture_output=True)
    return time.perf_counter() - start


def measure(rounds: int, slides: int, counts: Sequence[int] = BUSY) -> Iterator[str]:
    """A line for each number of busy processes."""
    from napari_distill2label.slides.synthetic import write_cohort

    with tempfile.TemporaryDirectory() as name:
        table = write_cohort(Path(name) / "cohort", slides, shape=(500, 500))
        for count in counts:
            taken: dict[str, list[float]] = {way: [] for way in WAYS}
            with busy(count):
                for number in range(rounds):
                    for way in WAYS:
                        taken[way].append(seconds(way, table, Path(name) / f"{way}-{count}-{number}"))
            best = np.min([taken[way] for way in WAYS], axis=0)
            ratios = np.array(taken["as it is"]) / best
            medians = ", ".join(f"{way} {np.median(taken[way]):.1f} s" for way in WAYS)
            yield figure(f"{count} busy, {medians}: ours / best", ratios, goal=Goal(1.25))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.busy", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slides", type=int, default=24)
    parser.add_argument("--busy", default=",".join(map(str, BUSY)), metavar="A,B", help="numbers of busy processes")
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before")
    for line in measure(options.rounds, options.slides, [*map(int, options.busy.split(","))]):
        print(line, flush=True)


if __name__ == "__main__":
    main()
