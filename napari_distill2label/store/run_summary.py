"""A run on disk in a line, and its curves. No Qt, no torch: small JSON and CSV files, checked as they are read."""

import csv
import errno
import io
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ..core.foreign_files import read_file
from ..core.network_names import NETWORKS, in_words
from ..core.settings import Settings
from .files.seal import LARGEST, is_number, read_json
from .timing import Timing

MOST = 500  # folders looked at; a folder of more runs than that is no place to choose one from

Curve = dict[str, list[float]]  # column of history.csv -> a value per epoch, NaN where there is none
Curves = dict[str, Curve]  # model -> its curve


class _Asked(BaseModel):
    """What is needed here of a run's settings.json, which may have been written by anybody."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    settings: Settings
    classes: tuple[str, ...]
    baseline: bool = False
    quick_trial: bool = False
    corrections: str | None = None


class _Made(BaseModel):
    """And of a bundle's config.json."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    epoch: int = 0
    n_train: int = 0
    n_valid: int = 0
    n_corrections: int = 0


@dataclass(frozen=True)
class RunSummary:
    """One run, in a line.

    Attributes
    ----------
    problem
        Why it cannot be used, in words; else empty.
    curves
        Losses per epoch, by model.
    epoch
        The epoch that the student's weights are of (else the teacher's); 0 before there are any.
    """

    folder: Path
    started: datetime
    settings: Settings = field(default_factory=Settings)
    classes: tuple[str, ...] = ()
    baseline: bool = False
    models: tuple[str, ...] = ()
    curves: Curves = field(default_factory=dict, compare=False)
    n_corrections: int = 0
    asked_corrections: bool = False
    n_train: int = 0
    n_valid: int = 0
    epoch: int = 0
    auroc: float | None = None
    timing: Timing | None = None
    quick_trial: bool = False
    problem: str = ""

    @property
    def name(self) -> str:
        return self.folder.name

    def epochs(self, network: str) -> tuple[int, int]:
        """(done, asked for) of a model."""
        part = {"baseline": "teacher"}.get(network, network.split("-")[0])
        return len(self.curves.get(network, {}).get("epoch", ())), getattr(self.settings, part).epochs

    @property
    def is_finished(self) -> bool:
        wanted = NETWORKS if self.baseline else NETWORKS[1:]
        done, asked = self.epochs("student")
        return not self.problem and set(wanted) <= set(self.models) and done >= asked

    @property
    def can_resume(self) -> bool:
        return not self.problem and not self.is_finished

    @property
    def state(self) -> str:
        """finished; stopped, and where; or the problem."""
        if self.problem:
            return self.problem
        if self.is_finished:
            return "finished"
        return f"stopped: {where(self)}"

    @property
    def outcome(self) -> str:
        """What a training gave: 'student, best epoch 9, validation loss 0.31'."""
        network = next((network for network in ("student", "teacher", "baseline") if network in self.models), None)
        if network is None:
            return ""
        best = (
            "best epoch"
            if getattr(self.settings, {"baseline": "teacher"}.get(network, network)).keep_epoch == "best"
            else "epoch"
        )
        loss = f", validation loss {self.valid_loss:.2f}" if self.valid_loss is not None else ""
        return f"{in_words(network)}, {best} {self.epoch}{loss}"

    @property
    def valid_loss(self) -> float | None:
        """Of the student (else the teacher), at the epoch its bundle is of."""
        for network in ("student", "teacher"):
            values = [v for v in self.curves.get(network, {}).get("valid_loss", ()) if not math.isnan(v)]
            if values:
                last = getattr(self.settings, network).keep_epoch == "last"
                return values[-1] if last else min(values)
        return None


def where(run: RunSummary) -> str:
    """How far an unfinished run has come: 'teacher, epoch 3 of 16'."""
    if not run.curves:
        return "before the first epoch"
    network = list(run.curves)[-1]
    done, asked = run.epochs(network)
    return f"{in_words(network)}, epoch {done} of {asked}"


def summarise(folder: Path) -> RunSummary:
    """Read a run's line; what cannot be read becomes its `problem`. `FileNotFoundError` if the folder is no run."""
    path = folder / "settings.json"
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    started = datetime.fromtimestamp(path.stat().st_mtime)
    try:
        asked = _Asked.model_validate(read_json(path))
    except (ValidationError, ValueError, OSError):
        return RunSummary(folder, started, problem="damaged: its settings.json cannot be read")
    made = {network: made for network in NETWORKS if (made := _made(folder / network)) is not None}
    best = next((network for network in ("student", "teacher", "baseline") if network in made), None)
    about = made[best] if best else _Made()
    return RunSummary(
        folder, started, asked.settings, asked.classes, asked.baseline, tuple(made), read_curves(folder),
        about.n_corrections, asked.corrections is not None, about.n_train, about.n_valid, about.epoch,
        _auroc(folder / best) if best else None, Timing.read(folder), asked.quick_trial,
    )  # fmt: skip


def _made(bundle: Path) -> _Made | None:
    try:
        return _Made.model_validate(read_json(bundle / "config.json"))
    except (ValidationError, ValueError, OSError):
        return None


def _auroc(bundle: Path) -> float | None:
    try:
        value = read_json(bundle / "metrics.json")["auroc"]
    except (ValueError, OSError, KeyError, TypeError):
        return None
    return float(value) if is_number(value) else None


def read_curves(folder: Path) -> Curves:
    """A run's `history.csv` by model; what is not a number is NaN. Empty where there is none."""
    curves: Curves = {}
    try:
        text = read_file(folder / "history.csv", LARGEST).decode("utf-8")
        for row in csv.DictReader(io.StringIO(text, newline="")):
            model = row.pop("model", None) or ""
            append(curves, model, {name: _number(value) for name, value in row.items() if isinstance(name, str)})
    except (OSError, csv.Error, ValueError):
        return curves
    return {
        model: {name: values for name, values in curve.items() if not all(map(math.isnan, values))}
        for model, curve in curves.items()
    }


def append(curves: Curves, model: str, row: Mapping[str, float]) -> None:
    """Add an epoch to a model's curve; columns it lacks are filled with NaN.

    An epoch that is not after the last one begins the curve again: a network that was stuck is trained again.
    """
    curve = curves.setdefault(model, {})
    if any(row.get("epoch", math.nan) <= last for last in curve.get("epoch", ())[-1:]):
        curve.clear()
    length = max((len(values) for values in curve.values()), default=0)
    for name in {**curve, **row}:
        curve.setdefault(name, [math.nan] * length).append(row.get(name, math.nan))


def _number(text: object) -> float:
    try:
        return float(text)  # type: ignore[arg-type]  # whatever is no number is NaN
    except (TypeError, ValueError):
        return math.nan


def scan(folders: Iterable[Path]) -> list[RunSummary]:
    """The runs that these folders are or hold, the latest first. What cannot be read is passed over."""
    found: dict[Path, RunSummary] = {}
    for folder in folders:
        try:
            inside = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())[:MOST]]
        except OSError:
            continue
        for path in inside:
            if path not in found and (path / "settings.json").is_file():
                try:
                    found[path] = summarise(path)
                except OSError:
                    continue
    return sorted(found.values(), key=lambda run: run.started, reverse=True)
