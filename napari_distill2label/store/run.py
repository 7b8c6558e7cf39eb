"""The run folder: everything that a training saved. What the window shows can be rebuilt from it.

`cohort.csv` (with the splits), `settings.json` (`RunConfig`), `baseline/` `teacher/` `student/` (bundles),
`checkpoints/`, `history.csv`, `features/` (of a frozen encoder), `predictions/`.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core.errors import BundleError, FolderInUseError, SettingsError
from ..core.foreign_files import read_file
from ..core.inputs import Encoder, Inputs, TissueRegions
from ..core.label_map import COVERAGE
from ..core.messages import Remedy
from ..core.network_names import NETWORKS
from ..core.paths import PathLike
from ..core.settings import Settings
from ..core.text import first_problem
from .bundle_config import is_bundle
from .cohort import Cohort
from .files.atomic import Writing, atomic_path, clear_leftovers, has_leftovers, write_json, write_text
from .files.lock import has_lock, locked
from .files.outputs import Outputs
from .files.seal import SEAL, check_format, read_json, sealed, unsealed
from .learnt import FILE as SIGNATURES
from .maps.feature_map import EncoderIdentity
from .tables.csv_table import LARGEST
from .timing import NAME as TIMING

FORMAT = 2
FILES = ("cohort.csv", "settings.json", "history.csv", SIGNATURES, TIMING)


class RunConfig(BaseModel):
    """The request that a run was started with.

    `cohort_sha256` is of its cohort.csv without the paths, which change when slides are moved; `data_signature` is of
    every training patch. A `quick_trial` had few slides and epochs (`workflow.quick_trial`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = Field(FORMAT, ge=FORMAT, le=FORMAT)
    settings: Settings
    classes: tuple[str, ...] = Field(min_length=2)
    baseline: bool = False
    quick_trial: bool = False
    encoder: EncoderIdentity | None = None
    features: str | None = None
    centres: str | None = None
    corrections: str | None = None
    region_labels: str | None = None
    label_map: dict[str, str] = {}
    coverage: float = Field(COVERAGE, gt=0, le=1)
    tissue: str | dict[str, str] | None = None
    allow_non_brightfield: bool = False
    cohort_sha256: str = ""
    data_signature: str = ""

    @property
    def inputs(self) -> Inputs:
        """What the run reads beside its slides. The encoder's file is not trusted."""
        own = self.encoder
        return Inputs(
            centres=self.centres,
            tissue=None if self.tissue is None else TissueRegions(self.tissue),
            corrections=self.corrections,
            region_labels=self.region_labels,
            label_map=self.label_map,
            coverage=self.coverage,
            encoder=Encoder(None if own is None or own.from_features else own.path),
            features=self.features,
            allow_non_brightfield=self.allow_non_brightfield,
        )


def saved_inputs(inputs: Inputs) -> dict[str, Any]:
    """Return the inputs as a run's configuration keeps them: absolute paths, as text. Its encoder is kept apart."""
    own = inputs.absolute()
    tissue = None if own.tissue is None else own.tissue.source
    return {
        "centres": _text(own.centres),
        "tissue": {name: str(path) for name, path in tissue.items()} or None
        if isinstance(tissue, Mapping)
        else _text(tissue),
        "corrections": _text(own.corrections),
        "region_labels": _text(own.region_labels),
        "label_map": dict(own.label_map),
        "coverage": COVERAGE if own.coverage is None else own.coverage,
        "features": _text(own.features),
        "allow_non_brightfield": own.allow_non_brightfield,
    }


def _text(path: PathLike | None) -> str | None:
    return None if path is None else str(path)


class Run:
    """A run folder. Every file in it is written atomically."""

    def __init__(self, folder: str | os.PathLike[str], config: RunConfig) -> None:
        self.folder = Path(folder)
        self.config = config

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        config: RunConfig,
        cohort: Cohort,
        outputs: Outputs | None = None,
    ) -> "Run":
        """Start a run in a folder that holds none yet (`check_free`)."""
        outputs = outputs or Outputs()
        cls.check_free(folder, outputs)
        folder = Path(folder)
        with outputs.writing(folder / "cohort.csv") as temporary:  # beside the file: its paths are relative to it
            cohort.without_table().write(temporary)  # a user's other columns (age, site) do not belong into a model
        digest = _digest_of_cohort(folder / "cohort.csv")
        run = cls(folder, config.model_copy(update={"cohort_sha256": digest}))
        run.write_settings(outputs.writing)
        return run

    @staticmethod
    @contextmanager
    def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
        """Lock a run's folder for one training; what a killed one left half-written is removed first.

        `FolderInUseError` if another training is at work in it.
        """
        with locked(folder, "training"):
            for place in _written_by_training(folder):
                clear_leftovers(place, alone=True)
            yield

    def write_settings(self, writing: Writing = atomic_path) -> None:
        """`settings.json`, with its digest (`store.files.seal`)."""
        write_json(self.folder / "settings.json", sealed(self.config.model_dump(mode="json")), writing)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "Run":
        """Open an existing run. `BundleError` if the folder holds none."""
        path = Path(folder) / "settings.json"
        if not path.exists():
            raise BundleError(f"{folder}: is no run, it has no settings.json")
        cls._clear_after_kill(path.parent)
        try:
            content, whole = unsealed(read_json(path))
            check_format(path, content, FORMAT)
            config = RunConfig.model_validate(content)
        except ValidationError as error:
            raise BundleError(f"{path}: is no run's settings: {first_problem(error)}") from None
        except (OSError, ValueError) as error:
            raise BundleError(f"{path}: is no run's settings ({str(error).splitlines()[0]})") from None
        if not whole:
            raise BundleError(
                f"{path}: was altered after it was written (its sha256 differs): put it back, or train again in "
                f'another folder; if you changed it on purpose, remove its "{SEAL}"'
            )
        return cls(folder, config)

    @staticmethod
    def _clear_after_kill(folder: Path) -> None:
        """Finish what a killed training has left to others: its lock, half-written files, a model between two renames.

        A run that was finished all but for its end is not trained again, so whoever opens it does that. Nothing is
        done while a training runs, which does so itself, or where nothing may be written.
        """
        is_between = any(
            not is_bundle(folder / network) and [*folder.glob(f".{network}.*.old")] for network in NETWORKS
        )
        has_left = has_lock(folder) or any(map(has_leftovers, _written_by_training(folder)))
        if not ((is_between or has_left) and os.access(folder, os.W_OK)):
            return
        with suppress(FolderInUseError, OSError), locked(folder, "opening a run", patience=0):
            for place in _written_by_training(folder):
                clear_leftovers(place, alone=is_between)

    @classmethod
    def check_free(cls, folder: str | os.PathLike[str], outputs: Outputs | None = None) -> None:
        """`SettingsError` if this folder holds a run already, `OutputError` if a run would replace files of others."""
        if cls.is_run(folder):
            raise SettingsError(
                "The folder already holds a run.",
                file=folder,
                remedy=Remedy("resume", alternative=Remedy("other_folder")),
            )
        (outputs or Outputs()).check(Path(folder) / name for name in (*FILES, *NETWORKS, "checkpoints"))

    @staticmethod
    def is_run(folder: str | os.PathLike[str]) -> bool:
        return (Path(folder) / "settings.json").is_file()

    @property
    def cohort(self) -> Cohort:
        """The slides with their labels and splits. `BundleError` if they differ from those at the start of the run."""
        path = self.folder / "cohort.csv"
        if (digest := self.config.cohort_sha256) and digest != _digest_of_cohort(path):
            raise BundleError(
                f"{path}: was altered after the run was begun; put it back, or train again in another folder "
                "(only its paths may change)"
            )
        return Cohort.read(path).with_classes(self.config.classes)

    def bundle(self, network: str) -> Path:
        return self.folder / network

    def checkpoint(self, network: str) -> Path:
        return self.folder / "checkpoints" / f"{network}.safetensors"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions"

    @property
    def features(self) -> Path:
        return self.folder / "features"

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the networks that are trained, in the order baseline, teacher, student."""
        return tuple(network for network in NETWORKS if is_bundle(self.bundle(network)))

    def write_history(self, histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Write `history.csv`: one row per model and epoch; terms that a model does not have stay empty."""
        columns = ["model", *dict.fromkeys(key for rows in histories.values() for row in rows for key in row)]
        text = io.StringIO()
        table = csv.DictWriter(text, columns, lineterminator="\n")
        table.writeheader()
        for model, rows in histories.items():
            table.writerows({"model": model, **row} for row in rows)
        write_text(self.folder / "history.csv", text.getvalue())


def _written_by_training(folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Return the folders that a training writes files and models into."""
    return Path(folder), Path(folder) / "checkpoints"


def _digest_of_cohort(path: Path) -> str:
    """SHA-256 of the cells of a run's cohort.csv, without the column of paths. `BundleError` if it cannot be read."""
    try:
        rows = list(csv.reader(io.StringIO(read_file(path, LARGEST).decode("utf-8"))))
    except (OSError, ValueError, csv.Error) as error:
        raise BundleError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    keep = [column for column, name in enumerate(rows[0]) if name != "path"] if rows else []
    cells = [[row[column] for column in keep if column < len(row)] for row in rows if row]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()
