"""`times.csv` of an experiment: how long each task took, and the sentence that the tables end with.

Beside `results.csv` and not in it: the same numbers come out again, the same seconds do not.
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time

NAME = "times.csv"


@dataclass
class Elapsed:
    """`seconds` on the clock; `processor_seconds` of all threads of the process that did the task."""

    started: str
    seconds: float = 0.0
    processor_seconds: float = 0.0


HEADER = ("task", *(field.name for field in fields(Elapsed)))


@contextmanager
def timed() -> Iterator[Elapsed]:
    """Yield an `Elapsed` that is filled in when the block ends."""
    clock, processor = perf_counter(), process_time()
    elapsed = Elapsed(datetime.now(UTC).isoformat(timespec="seconds"))
    yield elapsed
    elapsed.seconds, elapsed.processor_seconds = perf_counter() - clock, process_time() - processor


def note(folder: Path, task: str, elapsed: Elapsed) -> None:
    """Append a task to `times.csv`."""
    path = folder / NAME
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        if new:
            table.writerow(HEADER)
        started, *seconds = astuple(elapsed)
        table.writerow((task, started, *(f"{value:.1f}" for value in seconds)))


def run_time(folder: Path) -> str:
    """Markdown: how long the tasks of `times.csv` took; "" if there is none."""
    import pandas as pd

    path = folder / NAME
    if not path.exists():
        return ""
    table = pd.read_csv(path).drop_duplicates("task", keep="last")  # one whose rows were removed is done again
    each = table.processor_seconds / 60
    return (
        f"Time ({len(table)} tasks in `{NAME}`): {each.sum() / 60:.1f} hours of a processor in all, "
        f"{each.min():.1f} to {each.max():.1f} minutes each.\n"
    )
