"""How the training slides look, and whether another slide looks like them.

A network is right on slides like those it has learnt from. A slide of another stain, scanner or kind of tissue gets
probabilities too, and nothing in them says that they are worth less. So a bundle keeps how its training slides vector:
for each slide a short vector that describes some of its patches; of all slides mean and covariance. How far a slide is
from them is its Mahalanobis distance.

Each training slide is measured against the slides of the *other* patients. The distance that 9 of 10 new slides like
them keep follows from these distances (split conformal prediction, as in `core.promise`; here of slides): a slide
beyond it is unlike the training slides, and so is one in ten of those that are like them: among 50 training slides
are always some odd ones, and a rarer alarm would be theirs alone.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from .promise import conformal_quantile

MOST_PATCHES = 64  # of a slide, evenly spaced, which its vector describes
FEWEST_PATIENTS = 8  # below it nothing is said
FALSE_ALARM = 0.1  # share of slides like the training slides that are called unlike them
DIRECTIONS = 16  # that features are projected on
_EPSILON = 1e-3
_PALE = 0.02  # optical density below which differences mean little: JPEG, noise of the camera


class Appearance(BaseModel):
    """How training slides look.

    Attributes
    ----------
    mean, precision
        (L,) and (L, L): mean of the slides' vectors, and the inverse of their covariance.
    distances
        (n,) of each training slide from the slides of the other patients, ascending.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    mean: tuple[float, ...] = Field(min_length=1, max_length=100)
    precision: tuple[tuple[float, ...], ...]
    distances: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> "Appearance":
        if {len(self.mean)} != {len(self.precision), *map(len, self.precision)}:
            raise ValueError("mean and precision differ in length")
        return self

    @property
    def limit(self) -> float:
        """The distance that 9 of 10 new slides like these keep; of fewer than 9 slides, the largest one."""
        fewest = int(np.ceil(1 / FALSE_ALARM)) - 1
        return conformal_quantile(self.distances, FALSE_ALARM) if len(self.distances) >= fewest else self.distances[-1]

    def unlikeness(self, vector: np.ndarray) -> float:
        """Return the distance of a slide with this vector (L,), in units of `limit`: above 1 it is unlike these."""
        return _distance(vector, np.array(self.mean), np.array(self.precision)) / max(self.limit, _EPSILON)


def fit_appearance(vectors: np.ndarray, cases: Sequence[object]) -> Appearance | None:
    """Return how slides look, from their vectors (n, L) and their patients (n,). None: of too few patients."""
    patients = sorted(set(cases), key=str)
    if len(patients) < FEWEST_PATIENTS:
        return None
    of_case = np.array([patients.index(case) for case in cases])
    distances = np.empty(len(vectors))
    for number in range(len(patients)):
        own = of_case == number
        centre = _centre(vectors[~own])
        distances[own] = [_distance(vector, *centre) for vector in vectors[own]]
    mean, precision = _centre(vectors)
    return Appearance(
        mean=tuple(mean.tolist()),
        precision=tuple(map(tuple, precision.tolist())),
        distances=tuple(sorted(distances.tolist())),
    )


def _centre(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (L,) and inverse covariance (L, L) of vectors (n, L).

    With few slides the covariances between components are noise: of n slides they count n / (n + L).
    """
    n, length = vectors.shape
    covariance = np.cov(vectors, rowvar=False).reshape(length, length)
    variance = np.diag(covariance) + _EPSILON**2
    shrunk = covariance * (n / (n + length))
    np.fill_diagonal(shrunk, variance)
    return vectors.mean(0), np.linalg.inv(shrunk)


def _distance(vector: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> float:
    off = np.asarray(vector, np.float64) - mean
    return float(np.sqrt(max(0.0, off @ precision @ off)))


def sampled(count: int) -> np.ndarray:
    """Return the indices of at most `MOST_PATCHES` of so many patches, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_PATCHES)).round().astype(np.int64))


def appearance_vector(instances: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return the vector (L,) float64 of patches (k, 3, P, P) uint8, or of features (k, D).

    Of patches: the darker half, which is tissue where the rest may be glass; of each colour as optical density the
    mean, the contrast and the sharpness, as logarithms, and their medians over patches. Of features: they are
    standardised by `mean` and `std` (D,) and projected on fixed directions; the last number is how far they are from
    the mean altogether.
    """
    if instances.ndim == 2:
        standard = (instances.astype(np.float64) - mean) / np.where(std > 0, std, 1.0)  # 0: it does not vary
        projected = standard @ _directions(standard.shape[1]) / np.sqrt(standard.shape[1])
        return np.append(projected.mean(0), np.log(np.square(standard).mean() + _EPSILON))
    density = -np.log((instances.astype(np.float32) + 1) / 256)
    level = density.mean((2, 3))
    steps = np.abs(np.diff(density, axis=2)).mean((2, 3)) + np.abs(np.diff(density, axis=3)).mean((2, 3))
    parts = np.concatenate([level, density.std((2, 3)), steps], 1)
    darkness = level.mean(1)
    tissue = parts[darkness >= np.median(darkness)]
    middle: np.ndarray = np.median(np.log(tissue.astype(np.float64) + _PALE), 0)
    return middle


@lru_cache(maxsize=4)
def _directions(length: int) -> np.ndarray:
    """Return ±1 (length, DIRECTIONS), the same always and everywhere."""
    bits = hashlib.shake_256(b"appearance").digest(length * DIRECTIONS // 8)
    return 2.0 * np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(length, DIRECTIONS) - 1
