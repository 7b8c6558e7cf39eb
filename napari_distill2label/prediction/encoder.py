"""A frozen encoder from a file, with a JSON of the same name beside it that says what it wants to see."""

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core.errors import SettingsError
from ..store.features import EncoderIdentity
from .runtimes import SUFFIXES, open_runtime, parts_of

BATCH_PIXELS = 32 * 224 * 224  # encoded at once: what a large vision transformer does in less than 1 GB
HOW_TO_GET_ONE = (
    "an encoder is an .onnx file with a .json beside it (name, patch_px, mpp, mean, std, features); any network of "
    "timm, torchvision or Hugging Face can be exported to one, see docs/how-to/frozen-encoders.md"
)


class EncoderDescription(BaseModel):
    """The JSON beside an encoder: input side and scale, normalisation (0–1 units, RGB), number of features.

    `timm` and `arguments`: what network of timm a .safetensors file holds the weights of.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: str = Field(min_length=1, max_length=200)
    patch_px: int = Field(224, ge=1, le=4096)
    minimum_px: int = Field(1, ge=1, le=4096)
    mpp: float | None = Field(None, ge=0.05, le=20)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    features: int = Field(ge=1, le=65_536)
    timm: str | None = Field(None, pattern=r"^[A-Za-z0-9_.]+$")
    arguments: dict[str, bool | int | float | str] = {}

    @classmethod
    def beside(cls, encoder: str | os.PathLike[str]) -> "EncoderDescription":
        """What the JSON beside an encoder's file says. `SettingsError` if either is missing or does not fit."""
        path = Path(encoder)
        if path.suffix.lower() not in SUFFIXES:
            raise SettingsError(f"{path}: is no encoder: {HOW_TO_GET_ONE}")
        # e.torchscript.pt is described by e.torchscript.json or e.json
        names = [path.with_suffix(".json"), path.with_suffix("").with_suffix(".json")]
        description = next((name for name in names if name.is_file()), names[0])
        for file in (path, description):
            if not file.is_file():
                raise SettingsError(f"{file}: no such file; {HOW_TO_GET_ONE}")
        try:
            return cls.model_validate(json.loads(description.read_text("utf-8")))
        except ValidationError as error:
            first = error.errors()[0]
            raise SettingsError(f"{description}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        except (ValueError, RecursionError) as error:
            raise SettingsError(f"{description}: is no JSON ({error})") from None

    @property
    def digest(self) -> str:
        """Of what changes the features of a patch."""
        deciding = self.model_dump(include={"mean", "std", "timm", "arguments"})
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


class FrozenEncoder:
    """uint8 patches (n, 3, P, P) -> {"features": (n, D) float32}, whatever n: in batches of `BATCH_PIXELS`.

    Threads may call it at once. It can be sent to another process, which opens the file again.

    Parameters
    ----------
    path
        .onnx; .pt, .ts (TorchScript) where `trust` is given; .safetensors (timm).
    device
        As for training: auto, cpu, cuda, …
    trust
        May a file that can hold a program be opened?

    Raises
    ------
    SettingsError
        The file or its JSON is missing, does not fit, or needs trust.
    MissingDependencyError
        onnxruntime (timm) is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], device: str = "auto", trust: bool = False) -> None:
        self.path = Path(path)
        self._opened_as = (str(path), device, trust)
        self.description = EncoderDescription.beside(self.path)
        timm, arguments = self.description.timm, self.description.arguments
        self._files = parts_of(self.path)
        self._runtime = open_runtime(self.path, device, trust, timm, arguments)
        shape = (1, 3, 1, 1)
        mean, std = (np.array(own, np.float32).reshape(shape) for own in (self.description.mean, self.description.std))
        if not (std > 0).all():
            raise SettingsError(f"{self.path}: its JSON's std must be above 0")
        self._scale, self._offset = 1 / (255 * std), mean / std

    def __reduce__(self) -> tuple[type, tuple[str, str, bool]]:
        return FrozenEncoder, self._opened_as

    @cached_property
    def identity(self) -> EncoderIdentity:
        digest = hashlib.sha256()
        for file in self._files:
            with file.open("rb") as opened:
                while piece := opened.read(2**24):
                    digest.update(piece)
        return EncoderIdentity(
            name=self.description.name,
            path=str(self.path.absolute()),
            sha256=digest.hexdigest(),
            description_sha256=self.description.digest,
        )

    def check_side(self, patch_px: int) -> None:
        """`SettingsError` unless the encoder takes patches of this side."""
        name, fixed, smallest = self.description.name, self._runtime.side, self.description.minimum_px
        if fixed not in (None, patch_px):
            raise SettingsError(f"{name!r} takes patches of {fixed} px only: set --grid.patch_px {fixed}")
        if patch_px < smallest:
            raise SettingsError(
                f"patches of {patch_px} px are too small for {name!r}: set --grid.patch_px to {smallest} or more"
            )

    def __call__(self, patches: np.ndarray) -> dict[str, np.ndarray]:
        features = np.empty((len(patches), self.description.features), np.float32)
        size = self._runtime.batch or max(1, BATCH_PIXELS // (patches.shape[2] * patches.shape[3]))
        for start in range(0, len(patches), size):
            batch = patches[start : start + size]
            features[start : start + size] = self._encode(batch)
        return {"features": features}

    def _encode(self, patches: np.ndarray) -> np.ndarray:
        normalised = np.multiply(patches, self._scale, dtype=np.float32)
        normalised -= self._offset
        n, fixed = len(patches), self._runtime.batch
        if fixed is not None and n < fixed:  # the last batch, for a network that takes whole batches only
            normalised = np.concatenate([normalised, np.zeros((fixed - n, *normalised.shape[1:]), np.float32)])
        found = np.asarray(self._runtime.run(normalised), np.float32)
        if found.shape[:1] != normalised.shape[:1] or found[0].size != self.description.features:
            raise SettingsError(
                f"{self.path}: gives {found[0].size if found.ndim else 0} features, "
                f"its JSON says {self.description.features}"
            )
        return found.reshape(len(found), -1)[:n]
