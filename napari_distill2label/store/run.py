"""The run folder: everything a training kept. What the GUI shows can be rebuilt from it.

`cohort.csv` (with the splits), `settings.json` (`RunConfig`), `mil/` `teacher/` `student/` (bundles), `checkpoints/`,
`history.csv`, `features/` (of a frozen encoder), `predictions/`.
"""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core.errors import BundleError, SettingsError
from ..core.label_map import COVERAGE
from ..core.settings import Settings
from .bundle import ROLES, is_bundle
from .cohort import Cohort
from .features import EncoderIdentity
from .files import write_json, write_text
from .outputs import Outputs

FILES = ("cohort.csv", "settings.json", "history.csv", "timing.json")


class RunConfig(BaseModel):
    """What a run was asked to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = Field(1, ge=1, le=1)
    settings: Settings
    classes: tuple[str, ...] = Field(min_length=2)
    baseline: bool = False
    encoder: EncoderIdentity | None = None
    features: str | None = None
    centres: str | None = None
    corrections: str | None = None
    label_map: dict[str, str] = {}
    coverage: float = Field(COVERAGE, gt=0, le=1)
    tissue: str | dict[str, str] | None = None


class Run:
    """A run folder. Every file in it is written whole or not at all."""

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
        run = cls(folder, config)
        with outputs.writing(folder / "cohort.csv") as temporary:  # beside the file: its paths are relative to it
            cohort.plain().write(temporary)  # a user's other columns (age, site) are no part of a model
        write_json(folder / "settings.json", config.model_dump(mode="json"), outputs.writing)
        return run

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "Run":
        """Open an existing run. `BundleError` if the folder is none."""
        path = Path(folder) / "settings.json"
        try:
            return cls(folder, RunConfig.model_validate(json.loads(path.read_text("utf-8"))))
        except FileNotFoundError:
            raise BundleError(f"{folder}: is no run, it has no settings.json") from None
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise BundleError(f"{path}: is no run's settings: {field}: {first['msg']}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise BundleError(f"{path}: is no run's settings ({str(error).splitlines()[0]})") from None

    @classmethod
    def check_free(cls, folder: str | os.PathLike[str], outputs: Outputs | None = None) -> None:
        """`SettingsError` if this folder holds a run already, `OutputError` if a run would replace files of others."""
        if cls.is_run(folder):
            raise SettingsError(f"{folder}: already holds a run; add --resume to go on with it, or name another folder")
        (outputs or Outputs()).check(Path(folder) / name for name in (*FILES, *ROLES, "checkpoints"))

    @staticmethod
    def is_run(folder: str | os.PathLike[str]) -> bool:
        return (Path(folder) / "settings.json").is_file()

    @property
    def cohort(self) -> Cohort:
        return Cohort.read(self.folder / "cohort.csv").with_classes(self.config.classes)

    def bundle(self, role: str) -> Path:
        return self.folder / role

    def checkpoint(self, role: str) -> Path:
        return self.folder / "checkpoints" / f"{role}.safetensors"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions"

    @property
    def features(self) -> Path:
        return self.folder / "features"

    @property
    def models(self) -> tuple[str, ...]:
        """Roles of the models that are trained, in the order mil, teacher, student."""
        return tuple(role for role in ROLES if is_bundle(self.bundle(role)))

    def write_history(self, histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """`history.csv`: one row per model and epoch; a model lacks the terms it does not have."""
        columns = ["model", *dict.fromkeys(key for rows in histories.values() for row in rows for key in row)]
        text = io.StringIO()
        table = csv.DictWriter(text, columns, lineterminator="\n")
        table.writeheader()
        for model, rows in histories.items():
            table.writerows({"model": model, **row} for row in rows)
        write_text(self.folder / "history.csv", text.getvalue())
