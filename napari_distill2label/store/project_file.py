"""`cohort.d2l.json`: what was done to a cohort in the window and stands in no table yet. Validated as it is read."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_jsonable_python

from ..core.classes import RGB
from ..core.errors import CohortError
from ..core.foreign_files import refuse_special_file
from ..core.paths import is_url, may_run_code
from ..core.settings import validated, without_keys
from ..core.text import first_problem
from ..slides.scale import LIMITS
from .cohort import Cohort, CohortSlide
from .files.atomic import write_json

SUFFIX = ".d2l.json"
VERSION = 2  # 1: slides were there whether they differed from the table or not
MOST_BYTES = 200_000_000  # a cohort of a million slides is smaller; what is larger is no such file

NOT_KEPT = ("device", "preset", "method")  # the one is of this computer, the others are said by name

Shade = Annotated[int, Field(ge=0, le=255)]


@dataclass(frozen=True)
class SavedChoices:
    """Preset, method, and `settings`: what was set beyond them, nested. A file of an encoder, a folder of features.

    What was set, and not the settings that come of it: these also follow from the slides and from the encoder. Without
    the device, which is of this computer. `own_features`: the folder's were computed of these slides, here.
    """

    preset: str
    method: str
    settings: Mapping[str, Any]
    encoder: Path | None = None
    features: Path | None = None
    own_features: bool = False

    def lasting(self) -> "SavedChoices":
        """Those that hold tomorrow: without an encoder that can hold a program, for which the user is asked again."""
        settings = to_jsonable_python(without_keys(self.settings, NOT_KEPT), fallback=str)
        encoder = None if self.encoder is None or may_run_code(self.encoder) else self.encoder
        return replace(self, settings=settings, encoder=encoder)

    def __str__(self) -> str:
        changed = _count(self.settings)
        settings = f"{changed or 'no'} setting{'s' * (changed != 1)} changed"
        return f"kind of images {self.preset}, method {self.method}, {settings}"


class SavedSlide(BaseModel):
    """A row of the cohort. `path` is relative to the file, from the root, or a URL."""

    model_config = ConfigDict(frozen=True)
    slide_id: str = Field(min_length=1)
    path: str = Field(min_length=1)
    label: str | None = None
    case_id: str = ""
    mpp: float | None = Field(None, ge=LIMITS[0], le=LIMITS[1])
    split: Literal["train", "valid", "test"] | None = None
    share: float | None = Field(None, ge=0, le=1)


class SavedTraining(BaseModel):
    """`SavedChoices`, with paths as in `SavedSlide`."""

    model_config = ConfigDict(frozen=True)
    preset: str
    method: str
    settings: dict[str, Any] = Field(default_factory=dict)
    encoder: str | None = None
    features: str | None = None
    own_features: bool = False


class ProjectFile(BaseModel):
    """All of it.

    Attributes
    ----------
    cohort_signature
        Size and time of the `cohort.csv` it goes with; None where there was none yet.
    slides
        All of them where they differ from the table, or there is none; else none.
    tissue
        GeoJSON files of tissue masks by slide id, and whether they are used.
    model, network
        The run or the bundle that predicted, with its path as in `SavedSlide`, and which of its networks was chosen.
    training
        A `SavedTraining`, which `choices` looks into: if it is damaged, nothing else is lost.
    """

    model_config = ConfigDict(frozen=True)
    schema_version: int = Field(VERSION, ge=1, le=VERSION)
    saved_at: datetime
    cohort_signature: str | None = None
    classes: tuple[str, ...] = ()
    colours: dict[str, tuple[Shade, Shade, Shade]] = Field(default_factory=dict)
    slides: tuple[SavedSlide, ...] = ()
    threshold: float = Field(0.5, ge=0, le=1)
    corrections: str | None = None
    tissue: dict[str, str] = Field(default_factory=dict)
    use_tissue: bool = False
    model: str | None = None
    network: str | None = None
    training: Any = None

    def cohort(self, folder: Path) -> Cohort:
        """The slides as they were. `CohortError` if two have one id."""
        rows = (
            CohortSlide(
                row.slide_id,
                _found(row.path, folder),
                row.label,
                row.case_id or row.slide_id,
                row.mpp,
                row.split,
                row.share,
            )
            for row in self.slides
        )
        return Cohort(tuple(rows), self.classes)

    def files(self, folder: Path) -> dict[str, Path]:
        """The tissue masks, from the root."""
        return {slide_id: Path(_found(path, folder)) for slide_id, path in self.tissue.items()}

    def model_path(self, folder: Path) -> Path | None:
        """The run or the bundle that predicted, from the root."""
        return None if not self.model else Path(_found(self.model, folder))

    def choices(self, folder: Path) -> SavedChoices | None:
        """What the next training would use, paths from the root; None if not kept. `SettingsError` if damaged."""
        if self.training is None:
            return None
        own = validated(SavedTraining, self.training, "training")
        encoder, features = (
            None if path is None else Path(_found(path, folder)) for path in (own.encoder, own.features)
        )
        return SavedChoices(own.preset, own.method, own.settings, encoder, features, own.own_features).lasting()


def project_file_of(cohort_path: Path) -> Path:
    """`cohort.d2l.json` beside `cohort.csv`."""
    return cohort_path.with_name(f"{cohort_path.stem}{SUFFIX}")


def to_project_file(
    folder: Path,
    *,
    classes: tuple[str, ...],
    slides: Iterable[CohortSlide],
    colours: dict[str, RGB],
    threshold: float,
    signature: str | None,
    corrections: Path | None,
    tissue: dict[str, Path],
    use_tissue: bool,
    choices: SavedChoices | None,
    model: Path | None = None,
    network: str | None = None,
) -> ProjectFile:
    """What is to be written into `folder`; `slides`: those to be kept. Any thread may call."""
    rows = tuple(
        SavedSlide.model_construct(
            slide_id=row.slide_id, path=_portable(row.path, folder), label=row.label, case_id=row.case_id, mpp=row.mpp,
            split=row.split,  # type: ignore[arg-type]  # `CohortSlide.split` is one of these, and `str` to mypy
            share=row.share,
        )
        for row in slides
    )  # fmt: skip
    return ProjectFile.model_construct(
        schema_version=VERSION, saved_at=datetime.now().astimezone(), cohort_signature=signature,
        classes=classes, colours=colours, slides=rows, threshold=threshold,
        corrections=None if corrections is None else _portable(corrections, folder),
        tissue={slide_id: _portable(path, folder) for slide_id, path in tissue.items()}, use_tissue=use_tissue,
        model=None if model is None else _portable(model, folder), network=network,
        training=None if choices is None else _saved_training(choices, folder).model_dump(),
    )  # fmt: skip


def _saved_training(choices: SavedChoices, folder: Path) -> SavedTraining:
    encoder, features = (
        None if path is None else _portable(path, folder) for path in (choices.encoder, choices.features)
    )
    return SavedTraining(
        preset=choices.preset,
        method=choices.method,
        settings=choices.settings,
        encoder=encoder,
        features=features,
        own_features=choices.own_features,
    )


def write_project_file(path: Path, saved: ProjectFile) -> Path:
    """Write it whole or not at all."""
    return write_json(path, saved.model_dump(mode="json"))


def read_project_file(path: Path) -> ProjectFile | None:
    """None if there is none. `CohortError` if it cannot be used: damaged, of a later version, or something else."""
    try:
        refuse_special_file(path)
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is too large")
        return ProjectFile.model_validate(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise CohortError(f"{path}: cannot be restored: {first_problem(error)}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CohortError(f"{path}: cannot be restored: {str(error).splitlines()[0]}") from None


def _portable(path: Path | str, folder: Path) -> str:
    """Relative where it lies in or beside the folder, so that both can be moved together."""
    if is_url(path):
        return str(path)
    try:
        relative = Path(os.path.relpath(path, folder.absolute()))
    except ValueError:  # another drive, on Windows
        return Path(path).as_posix()
    return Path(path).absolute().as_posix() if relative.parts[:2] == ("..", "..") else relative.as_posix()


def _found(path: str, folder: Path) -> Path | str:
    return path if is_url(path) else Path(os.path.abspath(folder / path))


def _count(settings: Mapping[str, Any]) -> int:
    return sum(_count(value) if isinstance(value, Mapping) else 1 for value in settings.values())
