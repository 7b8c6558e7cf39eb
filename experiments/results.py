"""`results.csv` of an experiment: one row per number, written as soon as it is known; what makes experiments resume."""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.metrics import Metrics
from napari_distill2label.store.files.atomic import write_json, write_text
from napari_distill2label.store.files.outputs import Outputs

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Key:
    """Whose numbers: a model, on one kind of patches, in one fold, from one seed."""

    experiment: str
    model: str
    patches: str
    fold: int
    seed: int


@dataclass(frozen=True)
class Row:
    """One number. `threshold` is "0.5", "bags" (chosen on the labels of bags), or "" where the metric needs none."""

    experiment: str
    model: str
    patches: str
    fold: int
    seed: int
    level: str
    metric: str
    threshold: str
    value: float

    @property
    def key(self) -> Key:
        return Key(self.experiment, self.model, self.patches, self.fold, self.seed)


HEADER = tuple(field.name for field in fields(Row))
NEEDS_THRESHOLD = ("accuracy", "f1")


def rows_of(key: Key, level: str, metrics: Metrics, threshold: str = "0.5") -> list[Row]:
    """The defined ones of `core.metrics` as rows; with another threshold than 0.5 only those it changes."""
    return [
        Row(*astuple(key), level, name, threshold if name in NEEDS_THRESHOLD else "", float(value))
        for name, value in metrics.items()
        if value is not None and (threshold == "0.5" or name in NEEDS_THRESHOLD)
    ]


class Results:
    """The rows of an experiment in a folder.

    Parameters
    ----------
    folder
        Holds `results.csv` and `experiment.json`.
    about
        What was asked for, JSON values. `SettingsError` if the folder holds results of something else: their rows
        must not be mixed. What the folder does not know yet (rows and settings that a later version has) is added: a
        setting comes with a value that leaves the numbers of older rows as they are.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.path = folder / "results.csv"
        description = folder / "experiment.json"
        before = _described(description)
        if differing := sorted(name for name in before if not _holds(about.get(name), before[name])):
            raise SettingsError(f"{folder}: holds an experiment with other {', '.join(differing)}: name another folder")
        if before != about:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(description, about)
        self.rows = list(_read(self.path)) if self.path.exists() else []
        self.done = {row.key for row in self.rows}

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows: the file is written anew and renamed, so that all of them are in it or none."""
        # Rounded before they are kept: what is shown today must equal what is shown after reading the file.
        rows = [replace(row, value=float(f"{row.value:.6g}")) for row in rows]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(HEADER)
        table.writerows(map(astuple, [*self.rows, *rows]))
        write_text(self.path, text.getvalue())
        self.rows += rows
        self.done |= {row.key for row in rows}

    def frame(self) -> "pd.DataFrame":
        """All rows, tidy, with the columns of `Row`."""
        import pandas as pd

        return pd.DataFrame([astuple(row) for row in self.rows], columns=HEADER)


def _described(path: Path) -> dict[str, Any]:
    """What an experiment's folder says of it; nothing of a new one, which must hold nothing of others either."""
    if os.path.lexists(path):
        try:
            about = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            about = None
        if not isinstance(about, dict) or not about:
            raise SettingsError(f"{path}: is of no experiment of this program: name another folder")
        return about
    entries = os.scandir(path.parent) if path.parent.is_dir() else ()
    files = (Path(entry.path) for entry in entries if entry.name[0] != "." and not entry.is_dir())
    outputs = Outputs()
    if there := [file.name for file in files if outputs.standing(file) == "foreign"]:
        raise SettingsError(
            f"{path.parent}: holds {min(there)} and other files, and no experiment: name an empty folder or a new one"
        )
    return {}


def _holds(now: Any, before: Any) -> bool:
    """Is everything that was said before still said?"""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return all(name in now and _holds(now[name], value) for name, value in before.items())
    return now == before


def _read(path: Path) -> Iterable[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        if tuple(next(lines, ())) != HEADER:
            raise SettingsError(f"{path}: is no results.csv of an experiment")
        for number, line in enumerate(lines, 2):
            try:
                experiment, model, patches, fold, seed, level, metric, threshold, value = line
                yield Row(experiment, model, patches, int(fold), int(seed), level, metric, threshold, float(value))
            except ValueError:
                raise SettingsError(
                    f"{path}: line {number} is damaged: remove all lines of its model, fold and seed"
                ) from None
