"""The file of a random sample: patches that were drawn for a person to label, as CSV `slide_id,x,y,label,sample`.

`x` and `y` are the patch's centre in level-0 pixels, as in a file of corrections. `sample` says how the patches were
drawn, so that a sample can be told from patches that somebody has chosen.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.errors import CohortError
from ..core.foreign_files import refuse_special_file
from .files.atomic import Writing, atomic_path, write_text
from .tables.csv_table import escape_formula, read_table

HEADER = ("slide_id", "x", "y", "label", "sample")
_LONGEST_HEADER = 1000  # characters of a first line that are read
_DRAWN = re.compile(r"seed (\d+) of (\d+) patches")


@dataclass(frozen=True)
class SampledPatch:
    """A patch of a sample: its slide, its centre in level-0 px, and its label, "" before somebody gives one."""

    slide_id: str
    y: float
    x: float
    label: str = ""


@dataclass(frozen=True)
class Sample:
    """Patches in the order in which they were drawn, from `total` patches with the random `seed`."""

    patches: tuple[SampledPatch, ...]
    seed: int
    total: int


def drawn(count: int, total: int, seed: int) -> list[int]:
    """Return `count` different numbers below `total`, at random, the same always and everywhere."""
    found: dict[int, None] = {}
    attempt = 0
    while len(found) < min(count, total):
        digest = hashlib.sha256(f"{seed}:{total}:{attempt}".encode()).digest()
        found[int.from_bytes(digest[:8], "big") % total] = None
        attempt += 1
    return list(found)


def with_label(sample: Sample, index: int, label: str) -> Sample:
    """Return the sample with a label for one of its patches."""
    patches = list(sample.patches)
    patches[index] = replace(patches[index], label=label)
    return replace(sample, patches=tuple(patches))


def write_sample(path: Path, sample: Sample, writing: Writing = atomic_path) -> Path:
    """Write a sample. `OSError` if the file cannot be written, `OutputError` if it must not be."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEADER)
    how = f"seed {sample.seed} of {sample.total} patches"
    table.writerows(
        (escape_formula(own.slide_id), f"{own.x:.10g}", f"{own.y:.10g}", escape_formula(own.label), how)
        for own in sample.patches
    )
    return write_text(path, text.getvalue(), writing)


def is_own(path: Path) -> bool:
    """Whether a file has the columns of a sample and no others, so that writing it again loses nothing."""
    try:
        refuse_special_file(path)
        with path.open(encoding="utf-8") as file:
            return file.readline(_LONGEST_HEADER).rstrip("\r\n") == ",".join(HEADER)
    except (OSError, ValueError):  # of which a text that is no UTF-8 is one
        return False


def read_sample(path: Path) -> Sample:
    """Read a sample with its labels. `CohortError` if the file is something else."""
    rows = read_table(path, HEADER)
    how = {row["sample"] for row in rows}
    if len(how) != 1 or (found := _DRAWN.fullmatch(how.pop())) is None:
        raise CohortError(
            f"{path}: is no random sample, its column 'sample' was changed or rows of another were added: draw one"
        )
    return Sample(tuple(_patches(path, rows)), int(found[1]), int(found[2]))


def _patches(path: Path, rows: Iterable[dict[str, str]]) -> Iterable[SampledPatch]:
    for row in rows:
        try:
            y, x = float(row["y"]), float(row["x"])
        except ValueError:
            raise CohortError(f"{path}: x and y of {row['slide_id']!r} are no numbers") from None
        yield SampledPatch(row["slide_id"], y, x, row["label"])
