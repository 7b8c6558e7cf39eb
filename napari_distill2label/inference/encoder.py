"""A frozen encoder from a file, with a JSON of the same name beside it that describes its input."""

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core.errors import SettingsError
from ..core.messages import Remedy
from ..core.text import first_problem
from ..store.maps.feature_map import EncoderIdentity
from .known_encoders import known_encoder
from .runtimes import SUFFIXES, open_runtime, weight_files

MAX_JSON_BYTES = 2**16  # bytes of a description
BATCH_PIXELS = 32 * 224 * 224  # encoded at once: what a large vision transformer does in less than 1 GB
ENCODER_HELP = (
    "an encoder is an .onnx file with a .json beside it (name, patch_px, mpp, mean, std, features); any network of "
    "timm, torchvision or Hugging Face can be exported to one, see docs/how-to/frozen-encoders.md"
)


class TimmArguments(BaseModel):
    """Arguments of a network of timm. No argument names a file or an address, because timm would open it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    img_size: int | None = Field(None, ge=1, le=4096)
    patch_size: int | None = Field(None, ge=1, le=256)
    embed_dim: int | None = Field(None, ge=1, le=8192)
    depth: int | None = Field(None, ge=1, le=128)
    num_heads: int | None = Field(None, ge=1, le=256)
    mlp_ratio: float | None = Field(None, gt=0, le=32)
    init_values: float | None = Field(None, gt=0, le=100)
    reg_tokens: int | None = Field(None, ge=0, le=256)
    class_token: bool | None = None
    no_embed_class: bool | None = None
    dynamic_img_size: bool | None = None
    dynamic_img_pad: bool | None = None
    global_pool: Literal["", "avg", "avgmax", "map", "max", "token"] | None = None
    num_classes: Literal[0] | None = None

    def given(self) -> dict[str, bool | int | float | str]:
        """Return the arguments that the JSON gives."""
        return self.model_dump(exclude_unset=True, exclude_none=True)


_Text = Annotated[str, Field(max_length=2000)]
_Colour = Annotated[float, Field(ge=-1000, le=1000)]  # in units of an image whose values go from 0 to 1


class EncoderDescription(BaseModel):
    """The JSON beside an encoder: input side and scale, normalisation (0–1 units, RGB), number of features.

    `timm` and `arguments`: what network of timm a .safetensors file holds the weights of. The last fields are for
    people. A field that is not here is an error: it may be a misspelt one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    name: str = Field(min_length=1, max_length=200)
    patch_px: int = Field(224, ge=1, le=4096)
    minimum_px: int = Field(1, ge=1, le=4096)
    mpp: float | None = Field(None, ge=0.05, le=20)
    mean: tuple[_Colour, _Colour, _Colour] = (0.0, 0.0, 0.0)
    std: tuple[_Colour, _Colour, _Colour] = (1.0, 1.0, 1.0)
    features: int = Field(ge=1, le=65_536)
    timm: str | None = Field(None, max_length=200, pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$")
    arguments: TimmArguments = TimmArguments()
    input: _Text | None = None
    licence: _Text | None = None
    license: _Text | None = None
    source: _Text | None = None
    citation: _Text | None = None
    note: _Text | None = None

    @classmethod
    def read_beside(cls, encoder: str | os.PathLike[str]) -> "EncoderDescription":
        """Read the JSON beside an encoder's file, or what is known of an encoder that the file is called after.

        `SettingsError` if the file or its description is missing or invalid.
        """
        path = Path(encoder)
        if path.suffix.lower() not in SUFFIXES:
            raise SettingsError(f"{path}: is no encoder: {ENCODER_HELP}")
        # e.torchscript.pt is described by e.torchscript.json or e.json
        names = [path.with_suffix(".json"), path.with_suffix("").with_suffix(".json")]
        description = next((name for name in names if name.is_file()), names[0])
        known = known_encoder(path.name)
        if path.is_file() and not description.is_file() and known is not None:
            return cls.model_validate(known)
        for file in (path, description):
            if not file.is_file():
                raise SettingsError(f"{file}: no such file; {ENCODER_HELP}")
        try:
            if description.stat().st_size > MAX_JSON_BYTES:
                raise ValueError(f"it has more than {MAX_JSON_BYTES} bytes")
            return cls.model_validate(json.loads(description.read_text("utf-8")))
        except ValidationError as error:
            raise SettingsError(f"{description}: {first_problem(error)}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise SettingsError(f"{description}: is no JSON ({error})") from None

    @property
    def digest(self) -> str:
        """The digest of all fields that decide the features of a patch."""
        deciding = self.model_dump(include={"mean", "std", "timm"}) | {"arguments": self.arguments.given()}
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


class FrozenEncoder:
    """uint8 patches (n, 3, P, P) -> {"features": (n, D) float32}, whatever n: in batches of `BATCH_PIXELS`.

    On a GPU all n at once; `MemoryError` if its memory does not hold them.

    Threads may call it at once. It can be sent to another process, which opens the file again.

    Parameters
    ----------
    path
        .onnx; .pt, .ts (TorchScript) where `trusted`; .safetensors (timm).
    device
        As for training: auto, cpu, cuda, …
    trusted
        Whether a file that can hold a program may be opened.

    Raises
    ------
    SettingsError
        The file or its JSON is missing, does not fit, or must be trusted first.
    MissingDependencyError
        onnxruntime (timm) is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], device: str = "auto", trusted: bool = False) -> None:
        self.path = Path(path)
        self._opened_as = (str(path), device, trusted)
        self.description = EncoderDescription.read_beside(self.path)
        self._files = weight_files(self.path)
        self._runtime = open_runtime(
            self.path, device, trusted, self.description.timm, self.description.arguments.given()
        )
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
            raise SettingsError(
                f"The encoder {name!r} takes patches of {fixed} px only.",
                remedy=Remedy("set", "patches.size_px", fixed),
            )
        if patch_px < smallest:
            raise SettingsError(
                f"Patches of {patch_px} px are too small for {name!r}, which needs {smallest} or more.",
                remedy=Remedy("set", "patches.size_px", smallest),
            )

    @property
    def is_accelerated(self) -> bool:
        """Whether a GPU computes the features."""
        return self._runtime.accelerated

    def __call__(self, patches: np.ndarray) -> dict[str, np.ndarray]:
        features = np.empty((len(patches), self.description.features), np.float32)
        at_once = len(patches) if self.is_accelerated else BATCH_PIXELS // (patches.shape[2] * patches.shape[3])
        size = self._runtime.batch or max(1, at_once)
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
        found = np.asarray(self._runtime.run(normalised))
        if found.dtype.kind not in "fiu":
            raise SettingsError(f"{self.path}: gives {found.dtype}, not numbers")
        found = found.astype(np.float32, copy=False)
        given = found.size // len(normalised) if found.shape[:1] == normalised.shape[:1] else 0
        if given != self.description.features:
            raise SettingsError(
                f"{self.path}: gives {given} features, its JSON says {self.description.features} "
                f"(what it gives for {len(normalised)} patches is of shape {found.shape})"
            )
        return found.reshape(len(found), -1)[:n]
