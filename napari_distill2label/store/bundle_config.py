"""The description of a trained network: everything in a model bundle but its weights. Reading it needs no torch."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..core.appearance import Appearance
from ..core.calibration import Calibration
from ..core.errors import BundleError
from ..core.messages import Remedy
from ..core.network_names import NetworkName
from ..core.settings import ArchitectureSettings, PatchSettings, StudentSettings, TeacherSettings
from ..core.text import first_problem
from .files.seal import check_format, read_json, unsealed
from .maps.feature_map import EncoderIdentity

FILES = ("model.safetensors", "config.json", "metrics.json", "card.md")
FORMAT: Final = 2
DEFAULT_THRESHOLD = 0.5  # of a network without a calibration


class BundleConfig(BaseModel):
    """The description of a trained network: everything but its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[2] = FORMAT
    network: NetworkName
    classes: tuple[str, ...] = Field(min_length=2, max_length=200)
    architecture: ArchitectureSettings
    patches: PatchSettings
    training: TeacherSettings | StudentSettings
    instance_shape: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field(min_length=1, max_length=3)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    encoder: EncoderIdentity | None = None
    preset: str = ""
    method: str = ""
    seed: int = 0
    epoch: int = Field(0, ge=0, description="the epoch the weights are of")
    mpp: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="µm/px of the patches; None: the slides' own, which had none"
    )
    n_mpp_from_user: int = Field(0, ge=0, description="training slides whose µm/px a user gave, not their file")
    bag: Literal["slide", "case"] = Field("slide", description="what a label is of: n_train and n_valid count these")
    n_train: int = 0
    n_valid: int = 0
    n_corrections: int = 0
    n_regions: int = Field(0, ge=0, description="regions of which a user said none, some or all")
    n_shares: int = Field(0, ge=0, description="slides of which a user estimated the share of positive patches")
    restarts: int = Field(0, ge=0, description="how often it was trained again, because it was stuck at chance")
    is_at_chance: bool = Field(False, description="it is no better than chance on its own training slides")
    data_signature: str = ""
    calibration: Calibration | None = None
    appearance: Appearance | None = Field(None, description="how the training slides look; None: of too few patients")
    weights_sha256: str
    metrics_sha256: str = ""
    versions: dict[str, str] = {}

    @model_validator(mode="after")
    def _consistent(self) -> "BundleConfig":
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("two classes have the same name")
        on_features = self.architecture.encoder == "features"
        if on_features != (len(self.instance_shape) == 1) or on_features != (self.encoder is not None):
            raise ValueError("encoder and instance shape differ")
        if not on_features and self.instance_shape[1:] != (self.patches.size_px,) * 2:
            raise ValueError("the patch size of the settings and of the network differ")
        if (self.network == "student") != isinstance(self.training, StudentSettings):
            raise ValueError("network and training settings differ")
        if self.calibration and len(self.calibration.findings) != len(self.classes) - 1:
            raise ValueError("classes and calibration differ")
        return self


def is_bundle(folder: str | os.PathLike[str]) -> bool:
    """Whether the folder looks like a bundle. `store.bundle.load_bundle` checks whether it is complete."""
    return (Path(folder) / "config.json").is_file() or (Path(folder) / "model.safetensors").is_file()


def read_config(path: Path) -> tuple[BundleConfig, bool]:
    """Read a bundle's config, and whether its seal is intact. `BundleError` if it is invalid."""
    try:
        content, whole = unsealed(read_json(path))
        check_format(path, content, FORMAT)
        return BundleConfig.model_validate(content), whole
    except ValidationError as error:
        raise BundleError(first_problem(error), file=path, remedy=Remedy("copy")) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot be read ({error})", file=path, remedy=Remedy("copy")) from None


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    found = {"python": platform.python_version()}
    for package in ("napari-distill2label", "torch", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a source tree that is not installed
            found[package] = "unknown"
    return found
