"""A frozen encoder from a file: ONNX, with a JSON of the same name beside it that says what it wants to see."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core.errors import MissingDependencyError, SettingsError
from ..store.bundle import EncoderIdentity


class EncoderDescription(BaseModel):
    """The JSON beside an encoder: input side and scale, normalisation (0–1 units, RGB), number of features."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: str
    patch_px: int = Field(224, ge=1, le=4096)
    minimum_px: int = Field(1, ge=1, le=4096)
    mpp: float | None = Field(None, ge=0.05, le=20)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    features: int = Field(ge=1, le=65_536)


class FrozenEncoder:
    """uint8 patches (n, 3, P, P) -> {"features": (n, D) float32}. Nothing but the ONNX graph is run.

    `SettingsError` if the file or its JSON is missing or does not fit, `MissingDependencyError` without onnxruntime.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.description = self._describe()
        try:
            import onnxruntime
        except ImportError:
            raise MissingDependencyError(
                f"{self.path}: frozen encoders need onnxruntime: pip install 'napari-distill2label[slides]'"
            ) from None
        try:
            self._session = onnxruntime.InferenceSession(
                self.path.read_bytes(), providers=onnxruntime.get_available_providers()
            )
        except Exception as error:  # noqa: BLE001  onnxruntime has a class of its own for each way of failing
            raise SettingsError(f"{self.path}: is no usable ONNX model ({str(error).splitlines()[0][:120]})") from None
        self._input = self._session.get_inputs()[0].name
        shape = (1, 3, 1, 1)
        self._mean = np.array(self.description.mean, np.float32).reshape(shape)
        self._std = np.array(self.description.std, np.float32).reshape(shape)

    def _describe(self) -> EncoderDescription:
        if self.path.suffix.lower() != ".onnx":
            raise SettingsError(f"{self.path}: frozen encoders are read from .onnx files, with a .json beside them")
        description = self.path.with_suffix(".json")
        for file in (self.path, description):
            if not file.is_file():
                raise SettingsError(f"{file}: no such file; an encoder is an .onnx file and a .json of the same name")
        try:
            return EncoderDescription.model_validate(json.loads(description.read_text("utf-8")))
        except ValidationError as error:
            first = error.errors()[0]
            raise SettingsError(f"{description}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        except ValueError as error:
            raise SettingsError(f"{description}: is no JSON ({error})") from None

    @property
    def identity(self) -> EncoderIdentity:
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return EncoderIdentity(name=self.description.name, path=str(self.path.absolute()), sha256=digest)

    def __call__(self, patches: np.ndarray) -> dict[str, np.ndarray]:
        normalised = (patches.astype(np.float32) / 255 - self._mean) / self._std
        features = self._session.run(None, {self._input: normalised})[0]
        features = np.asarray(features, np.float32).reshape(len(patches), -1)
        if features.shape[1] != self.description.features:
            raise SettingsError(
                f"{self.path}: gives {features.shape[1]} features, its JSON says {self.description.features}"
            )
        return {"features": features}
