"""The model bundle: a folder that holds a trained network and describes it. Loading it runs no code from it.

`model.safetensors` (weights), `config.json` (`BundleConfig`), `metrics.json` (metrics of the validation slides),
`card.md` (for people). `config.json` holds one digest of its own content (`store.files.seal`), and in it those of the
weights and of the metrics.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..core.calibration import Calibration
from ..core.errors import BundleError, OutputError, SettingsError
from ..core.messages import Remedy
from ..mil.model import MILModel
from ..mil.training import all_finite
from .bundle_card import bundle_card
from .bundle_config import DEFAULT_THRESHOLD, FILES, BundleConfig, read_config, versions
from .files.atomic import atomic_path, write_bytes, write_json, write_text
from .files.seal import read_json, sealed


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
        write_text(temporary / "card.md", bundle_card(config.model_dump(), metrics))
        _carry_over(Path(folder), temporary)
    return Path(folder)


_OF_THE_NETWORK = (
    "format", "architecture", "instance_shape", "mean", "std", "weights_sha256", "metrics_sha256", "versions",
)  # fmt: skip


def rewrite_bundle(bundle: Bundle, folder: Path, calibration: Calibration, overwrite: bool = False) -> Path:
    """Write a bundle with another calibration to a folder. `OutputError` if something is there.

    With `overwrite` a bundle of the same network is replaced there, but never the given one.
    """
    other = Remedy("set", "out")
    if folder.resolve() == bundle.path.resolve():
        raise OutputError(
            f"{folder}: is the model itself, which is kept. Choose another folder.", [folder], "input", other
        )
    there = _network_in(folder)
    if folder.exists() and not (overwrite and there == bundle.config.network):
        standing = "foreign" if there else "folder"
        raise OutputError(f"{folder}: is there already. Choose another folder.", [folder], standing, other)
    about = bundle.config.model_dump(exclude=set(_OF_THE_NETWORK)) | {"calibration": calibration}
    metrics = bundle.path / "metrics.json"
    return save_bundle(folder, bundle.model, about, read_json(metrics) if metrics.is_file() else {})


def _network_in(folder: Path) -> str | None:
    """Return the network of the bundle in a folder; None if it is no bundle of ours, unaltered.

    Many programs call a file config.json.
    """
    try:
        config, is_whole = read_config(folder / "config.json")
    except BundleError:
        return None
    return config.network if is_whole else None


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


def load_bundle(folder: str | os.PathLike[str], device: torch.device | str = "cpu") -> Bundle:
    """Load and validate a bundle. `BundleError` names the file that is missing, altered or does not fit."""
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise BundleError(f"{folder}: is no model bundle, it has no {name}")
    config, whole = read_config(folder / "config.json")
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


def _altered_error(path: Path, how: str) -> BundleError:
    return BundleError(f"is not the file that config.json was written for ({how})", file=path, remedy=Remedy("copy"))
