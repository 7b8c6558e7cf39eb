"""`times.csv` of an experiment: how long each task took, and the sentence that says it above the tables.

Beside `results.csv` and not in it: the same numbers come out again, the same seconds do not.
"""

import csv
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time

from napari_distill2label.store.files.atomic import write_text

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
    """Add a task to `times.csv`."""
    path = folder / NAME
    row = io.StringIO()
    csv.writer(row, lineterminator="\n").writerow([task, *(_plain(value) for value in astuple(elapsed))])
    before = path.read_text("utf-8", errors="replace") if path.exists() else ",".join(HEADER)
    write_text(path, before.rstrip("\n") + "\n" + row.getvalue())


def run_time(folder: Path) -> str:
    """Markdown: how long the tasks of `times.csv` took; "" if there are none. A line that is no row is passed over."""
    path = folder / NAME
    noted = {}  # a task whose rows were removed is done again: the last time counts
    if path.exists():
        for line in path.read_text("utf-8", errors="replace").splitlines():
            with suppress(ValueError, csv.Error):
                [(task, started, *seconds)] = csv.reader([line])
                clock, processor = map(float, seconds)
                if math.isfinite(clock) and math.isfinite(processor):
                    noted[task] = Elapsed(started, clock, processor)
    if not noted:
        return ""
    clock = sum(each.seconds for each in noted.values()) / 3600
    processor = [each.processor_seconds / 60 for each in noted.values()]
    return (
        f"Time of the {len(noted)} tasks in `{NAME}`: {clock:.1f} hours on the clock if one follows the other, "
        f"{sum(processor) / 60:.1f} hours of processors; a task took {min(processor):.1f} to {max(processor):.1f} "
        "minutes of them.\n"
    )


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.1f}"
