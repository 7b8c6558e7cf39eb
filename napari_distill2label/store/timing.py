"""Measured times of a training: `timing.json` of a run, from which the time of the next one is estimated."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .files.atomic import write_json
from .files.seal import read_json, sealed, unsealed

NAME = "timing.json"


class Timing(BaseModel):
    """Measured seconds of one training, for estimates only: no time decides anything in a run.

    Attributes
    ----------
    device
        Where it computed, in words: "cpu, 2 threads" or a GPU's name.
    n_slides, n_patches
        Training and validation slides, and their patches.
    reading
        s to read all slides and cut their patches (or compute their features).
    epoch
        Mean s of an epoch, validation included, by network: teacher, oof-1, …, student, baseline.
    between
        s spent outside epochs: the teacher's targets, calibration, saving.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    format: int = Field(1, ge=1, le=1)
    device: str = Field(max_length=200)
    n_slides: int = Field(ge=1)
    n_patches: int = Field(ge=1)
    reading: float = Field(ge=0)
    epoch: dict[str, float] = {}
    between: float = Field(0.0, ge=0)

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Write `timing.json` into a run folder, whole or not at all."""
        return write_json(Path(folder) / NAME, sealed(self.model_dump(mode="json")))

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> "Timing | None":
        """Read the timing of a run; None if it has none that can be read."""
        try:
            content, whole = unsealed(read_json(Path(folder) / NAME))
            return cls.model_validate(content) if whole else None
        except (OSError, ValidationError, ValueError):
            return None
