"""The model bundle: a folder that holds a trained network and describes it. Loading it runs no code from it.

`model.safetensors` (weights), `config.json` (`BundleConfig`), `metrics.json` (metrics of the validation slides),
`card.md` (for people). `config.json` holds one digest of its own content (`store.files.seal`), and in it those of the
weights and of the metrics.
"""

import hashlib
import os
import platform
import shutil
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..core.appearance import Appearance
from ..core.calibration import Calibration
from ..core.errors import BundleError, OutputError, SettingsError
from ..core.messages import Remedy
from ..core.settings import ArchitectureSettings, PatchSettings, StudentSettings, TeacherSettings
from ..core.text import count_of, first_problem
from ..mil.model import MILModel
from ..mil.training import all_finite
from .files.atomic import atomic_path, write_bytes, write_json, write_text
from .files.seal import check_format, read_json, sealed, unsealed
from .maps.feature_map import EncoderIdentity

FILES = ("model.safetensors", "config.json", "metrics.json", "card.md")
FORMAT: Final = 2
DEFAULT_THRESHOLD = 0.5  # of a network without a calibration
NetworkName = Literal["baseline", "teacher", "student"]
NETWORKS: tuple[NetworkName, ...] = ("baseline", "teacher", "student")

RESEARCH_USE = (
    "**For research use only.** Not a medical device; not for diagnosis. Patch labels are inferred from slide labels."
)
NETWORK_TITLES = {
    "baseline": "plain attention MIL (Ilse 2018), the baseline",
    "teacher": "teacher: attention MIL with bag-consistency terms, eq. (3)",
    "student": "student: distilled from a teacher to label single patches, eq. (5)",
}


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
    restarts: int = Field(0, ge=0, description="how often it was trained anew, because it was stuck at chance")
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


class Bundle(NamedTuple):
    """A loaded model, ready to predict, and what is known about it."""

    model: MILModel
    config: BundleConfig
    path: Path

    @property
    def identity(self) -> dict[str, Any]:
        """The identity of the model, which is saved with its results."""
        calibration = self.config.calibration
        return {
            "network": self.config.network,
            "weights_sha256": self.config.weights_sha256,
            "pooling": self.config.architecture.pooling,
            "path": str(self.path),
            **({"calibration": calibration.digest} if calibration else {}),
            **({"bag": "case"} if self.config.bag == "case" else {}),
        }

    @property
    def threshold(self) -> float:
        """The probability from which on a patch is labelled, unless the user gives another."""
        return self.config.calibration.threshold if self.config.calibration else DEFAULT_THRESHOLD

    def probabilities(self, logits: torch.Tensor) -> np.ndarray:
        """Return probabilities (n, C) float32 of patches by themselves, without context, from logits (n, C)."""
        if self.config.calibration is None:
            return self.model.probabilities(logits).float().cpu().numpy()
        alone = self.config.calibration.patches_alone(logits.float().cpu().numpy(), self.model.settings.multi_label)
        return alone.astype(np.float32)


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    found = {"python": platform.python_version()}
    for package in ("napari-distill2label", "torch", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a source tree that is not installed
            found[package] = "unknown"
    return found


def save_bundle(
    folder: str | os.PathLike[str], model: MILModel, about: Mapping[str, Any], metrics: Mapping[str, Any]
) -> Path:
    """Write a bundle atomically. `about` holds the fields of `BundleConfig` that the network itself lacks.

    `ValueError` if a weight or a metric is not finite: such a network must not replace a good one.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if not all_finite(weights):
        raise ValueError(f"{folder}: a network with weights that are not finite is not kept")
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        write_bytes(temporary / "model.safetensors", data := save(weights))
        write_json(temporary / "metrics.json", dict(metrics))
        config = BundleConfig(
            **about,
            architecture=model.settings,
            instance_shape=model.instance_shape,
            mean=model.get_buffer("mean").tolist(),
            std=model.get_buffer("std").tolist(),
            weights_sha256=hashlib.sha256(data).hexdigest(),
            metrics_sha256=hashlib.sha256((temporary / "metrics.json").read_bytes()).hexdigest(),
            versions=versions(),
        )
        write_json(temporary / "config.json", sealed(config.model_dump(mode="json")))
        write_text(temporary / "card.md", _model_card(config.model_dump(), metrics))
        _carry_over(Path(folder), temporary)
    return Path(folder)


_OF_THE_NETWORK = (
    "format", "architecture", "instance_shape", "mean", "std", "weights_sha256", "metrics_sha256", "versions",
)  # fmt: skip


def rewrite_bundle(bundle: Bundle, folder: Path, calibration: Calibration, overwrite: bool = False) -> Path:
    """Write a bundle with another calibration to a folder. `OutputError` if something is there.

    With `overwrite` a bundle there is replaced, but never the given one.
    """
    other = Remedy("set", "out")
    if folder.resolve() == bundle.path.resolve():
        raise OutputError(
            f"{folder}: is the model itself, which is kept. Choose another folder.", [folder], "input", other
        )
    if folder.exists() and not (overwrite and is_bundle(folder)):
        standing = "foreign" if is_bundle(folder) else "folder"
        raise OutputError(f"{folder}: is there already. Choose another folder.", [folder], standing, other)
    about = bundle.config.model_dump(exclude=set(_OF_THE_NETWORK)) | {"calibration": calibration}
    metrics = bundle.path / "metrics.json"
    return save_bundle(folder, bundle.model, about, read_json(metrics) if metrics.is_file() else {})


def remove_bundle(folder: Path) -> None:
    """Remove a bundle, but not what somebody else has put into its folder."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # it is not there, or holds other files
        folder.rmdir()


def _carry_over(former: Path, new: Path) -> None:
    """Copy what is no file of a bundle from a folder to the one that takes its place: a user's notes, say."""
    for path in former.iterdir() if former.is_dir() else ():
        if path.name in FILES:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, new / path.name, symlinks=True)
        else:
            shutil.copy2(path, new / path.name, follow_symlinks=False)


def _build_network(config: BundleConfig, weights: Mapping[str, torch.Tensor]) -> MILModel:
    """Build the network of `config` with `weights`. `ValueError` if they do not match.

    They are compared before anything is allocated: an altered config may request too much memory.
    """
    with torch.device("meta"):
        model = MILModel(config.architecture, len(config.classes), config.instance_shape)
    expected = model.state_dict()
    for name in sorted(expected.keys() | weights.keys()):
        if name not in weights or name not in expected:
            raise ValueError(f"{name} is {'missing' if name in expected else 'no part of the network'}")
        wanted, got = expected[name], weights[name]
        if (wanted.shape, wanted.dtype) != (got.shape, got.dtype):
            raise ValueError(f"{name} is {tuple(got.shape)} {got.dtype}, not {tuple(wanted.shape)} {wanted.dtype}")
        if not got.isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite")
    if any(tuple(weights[name].tolist()) != getattr(config, name) for name in ("mean", "std")):
        raise ValueError("mean or std differ")
    model.load_state_dict(weights, assign=True)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads leave it out
    return model


def is_bundle(folder: str | os.PathLike[str]) -> bool:
    """Whether the folder looks like a bundle. `load_bundle` checks whether it is complete."""
    return (Path(folder) / "config.json").is_file() or (Path(folder) / "model.safetensors").is_file()


def load_bundle(folder: str | os.PathLike[str], device: torch.device | str = "cpu") -> Bundle:
    """Load and validate a bundle. `BundleError` names the file that is missing, altered or does not fit."""
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise BundleError(f"{folder}: is no model bundle, it has no {name}")
    config, whole = _read_config(folder / "config.json")
    try:
        data = (folder / "model.safetensors").read_bytes()
        metrics = (folder / "metrics.json").read_bytes() if (folder / "metrics.json").is_file() else None
    except OSError as error:
        raise BundleError(f"cannot be read ({error.strerror or error})", file=folder, remedy=Remedy("copy")) from None
    if hashlib.sha256(data).hexdigest() != config.weights_sha256:
        raise _altered_error(folder / "model.safetensors", "altered or truncated")
    try:
        model = _build_network(config, load(data))
    except (SafetensorError, SettingsError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"{folder / 'model.safetensors'}: does not fit its config.json ({reason})") from None
    if not whole:
        raise BundleError(
            "was altered after it was written (its sha256 differs)", file=folder / "config.json", remedy=Remedy("copy")
        )
    if metrics is not None and config.metrics_sha256 not in ("", hashlib.sha256(metrics).hexdigest()):
        raise _altered_error(folder / "metrics.json", "altered or truncated")
    return Bundle(model.to(device).eval(), config, folder)


def _read_config(path: Path) -> tuple[BundleConfig, bool]:
    """Read a bundle's config, and whether its seal is intact. `BundleError` if it is invalid."""
    try:
        content, whole = unsealed(read_json(path))
        check_format(path, content, FORMAT)
        return BundleConfig.model_validate(content), whole
    except ValidationError as error:
        raise BundleError(first_problem(error), file=path, remedy=Remedy("copy")) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot be read ({error})", file=path, remedy=Remedy("copy")) from None


def _altered_error(path: Path, how: str) -> BundleError:
    return BundleError(f"is not the file that config.json was written for ({how})", file=path, remedy=Remedy("copy"))


# ---- the model card: what a bundle is, for the person who finds it --------------------------------------------------


def _table(rows: Mapping[str, Any]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def _calibration(config: Mapping[str, Any]) -> str:
    if calibration := config.get("calibration"):
        return (
            "in their context and their slide, calibrated by classifiers that had not seen the "
            f"{calibration['n_slides']} slides; they can be off on slides of another kind"
        ) + _sample_in_words(calibration)
    one_of_many = len(config["classes"]) > 2 and not config["architecture"]["multi_label"]
    if not config["training"].get("calibrate") or one_of_many:  # see `pipeline.calibrate_head`
        return "not calibrated"
    return "calibrated by the labels of the training slides; they can be off on other slides"


def _sample_in_words(calibration: Mapping[str, Any]) -> str:
    if not calibration["n_sample"]:
        return ""
    biases = ", ".join(f"{bias:+.2f}" for bias in calibration["biases"])
    return (
        f". Then re-calibrated to another cohort by {calibration['n_sample']} patches of it, drawn at random and "
        f"labelled by a person: bias {biases} (log-odds)"
    )


def _reliability(config: Mapping[str, Any]) -> str:
    """Return the section on the slide's probability: predicted and observed, as a table with bars."""
    if not config.get("calibration"):
        return ""
    found = config["calibration"]["reliability"]
    rows = [
        f"| {predicted:.2f} | {observed:.2f} | {round(10 * observed) * '█' or '▏'} | {count} |"
        for predicted, observed, count in zip(found["predicted"], found["observed"], found["count"], strict=True)
    ]
    shares = ", ".join(
        f"{name} {own['prior']:.2f}"
        for name, own in zip(config["classes"][1:], config["calibration"]["findings"], strict=True)
    )
    lines = "\n".join(["| predicted | observed | | slides |", "|---|---|---|---|", *rows])
    return f"""## Reliability of the slide's probability

Training slides, each scored by a classifier that had not seen it.

{lines}

Estimated share of positive patches in slides with the finding: {shares}. Patches are labelled from
{config["calibration"]["threshold"]:.2f} on.

"""


def _model_card(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Markdown for a `BundleConfig` (as a dict) and the bag metrics of its validation split."""
    mpp = f"{config['mpp']:g} µm/px" if config["mpp"] else "the slides' own pixels (no µm/px known)"
    if config["n_mpp_from_user"]:
        mpp += f" (assumed for {config['n_mpp_from_user']} slides: a user gave it, not their file)"
    restarts = config["restarts"]
    bags = f"{config['bag']}s"
    about = {
        "Model": NETWORK_TITLES[config["network"]],
        "Classes": ", ".join(config["classes"]) + f" ({config['classes'][0]} is the negative one)",
        "Patch": f"{config['patches']['size_px']} px at {mpp}",
        "Encoder": config["encoder"]["name"] if config["encoder"] else config["architecture"]["encoder"],
        "Preset and method": f"{config['preset']}, {config['method']}",
        "Probabilities of patches": _calibration(config),
        "Trained on": f"{config['n_train']} {bags}; epoch {config['epoch']}, {config['n_valid']} {bags} to choose it",
        "Patches corrected by a user": config["n_corrections"] or "none: no patch label was used in training",
        **({"Regions labelled by a user": config["n_regions"]} if config["n_regions"] else {}),
        **({"Shares estimated by a user": f"of {count_of(own, 'slide')}"} if (own := config["n_shares"]) else {}),
        **({"Fit": "**no better than chance on its own training slides**"} if config["is_at_chance"] else {}),
        **({"Trained anew": f"{count_of(restarts, 'time')}, stuck at chance before"} if restarts else {}),
        "Seed": config["seed"],
        "Data signature": config["data_signature"],
        "Versions": ", ".join(f"{name} {number}" for name, number in config["versions"].items()),
    }
    scores = {key: f"{value:.3f}" if isinstance(value, float) else value for key, value in metrics.items()}
    return f"""# Distill-to-Label: {config["network"]}

{RESEARCH_USE}

{_table(about)}

## Validation split, {bags} (bags)

{_table(scores) if scores else "No validation slides."}

{_reliability(config)}## How to read its output

A patch is scored as a bag of one: attention plays no part in it. The model has learnt from slide labels what tells
positive slides from negative ones. Where something else than the finding does that (stain, scanner, tissue that comes
with it), patches of that are labelled too.

Method: J. J. Thiagarajan, S. Kashyap, A. Karargyris, *Distill-to-Label: Weakly Supervised Instance Labeling Using
Knowledge Distillation*, IEEE ICMLA 2019, arXiv:1907.12926.
"""
