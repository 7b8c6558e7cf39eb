"""The rows of Table I and those added to it: which settings make which model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.settings import Settings, merged
from napari_distill2label.mil.pipeline import BASELINE_WEIGHTS

NETWORKS = {"mil": "baseline", "teacher": "teacher", "student": "student"}  # by the name of the row of results


@dataclass(frozen=True)
class Variant:
    """One training.

    `models` says which of its networks are measured (by role), and what each is called in `results.csv`; training
    stops at the last of them. `attention` names the rows that take a network's attention for its score. `against` is
    the row that it differs from in one choice.
    """

    models: Mapping[str, str]
    method: str = "paper"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    attention: Mapping[str, str] = field(default_factory=dict)
    against: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.models.values(), *self.attention.values())

    def settings(self, preset: str, seed: int, *layers: Mapping[str, Any]) -> Settings:
        """Preset < method < `layers` < this variant's own."""
        return build_settings(preset, self.method, merged({"seed": seed}, *layers, self.overrides))


def _teacher(**lambdas: float) -> dict[str, Any]:
    return {"teacher": {**BASELINE_WEIGHTS, **lambdas}}


def _without(name: str, **overrides: Mapping[str, Any]) -> dict[str, Variant]:
    """The method `recommended` with one of its parts left out."""
    row = f"recommended-{name}"
    return {row: Variant({"student": row}, method="recommended", overrides=overrides, against="recommended")}


def _one_choice(row: str, name: str, **overrides: Mapping[str, Any]) -> dict[str, Variant]:
    """The method `paper` with another choice for one of its networks."""
    return {name: Variant({NETWORKS[row]: f"{row}-{name}"}, overrides=overrides, against=row)}


def _one_term(name: str, **weight: float) -> dict[str, Variant]:
    """Plain MIL and one term of eq. (3)."""
    return {name: Variant({"teacher": f"teacher-{name}"}, overrides=_teacher(**weight), against="mil")}


def _everywhere(**setting: Any) -> dict[str, dict[str, Any]]:
    return dict.fromkeys(("teacher", "oof", "student"), setting)


VARIANTS: dict[str, Variant] = {
    # The paper's three rows, and what others draw: attention as the score of a patch.
    "paper": Variant(
        {"baseline": "mil", "teacher": "teacher", "student": "student"},
        attention={"baseline": "mil-attention", "teacher": "teacher-attention"},
    ),
    "recommended": Variant({"teacher": "recommended-teacher", "student": "recommended"}, method="recommended"),
    # Other pooling; a student of plain MIL; the terms of eq. (3) one by one; eq. (5) with the paper's sums.
    **_one_choice("mil", "mean", architecture={"pooling": "mean"}),
    **_one_choice("mil", "max", architecture={"pooling": "max"}),
    **_one_choice("student", "no-vat", **_teacher()),
    **_one_term("noise", lambda_n=0.5),
    **_one_term("ball", lambda_d=0.3),
    **_one_term("entropy", lambda_e=0.3),
    **_one_choice("student", "sum", student={"instance_reduction": "sum"}),
    # What the paper does not give: noise instances, size of subsets, radius of the ball, temperature.
    **_one_choice("teacher", "noise-0.2", teacher={"noise_ratio": 0.2}),
    **_one_choice("teacher", "noise-1", teacher={"noise_ratio": 1.0}),
    **_one_choice("teacher", "keep-0.1", teacher={"subset_fraction": 0.1}),
    **_one_choice("teacher", "keep-any", teacher={"subset_fraction": 1.0, "subset_size": "uniform"}),
    **_one_choice("teacher", "delta-5", teacher={"perturbation_radius": 5.0}),
    **_one_choice("student", "tau-1", student={"temperature": 1.0}),
    **_one_choice("student", "tau-5", student={"temperature": 5.0}),
    # What each part of `recommended` is worth.
    **_without("no-oof", student={"gamma_oof": 0.0, "gamma_i": 1.0}),
    **_without("oof-alone", oof={"teacher_weight": 0.0}),
    **_without("no-neighbours", oof={"smoothing_neighbours": 0}),
    **_without("no-stain", **_everywhere(stain_jitter=0.0)),
    **_without("no-rotation", **_everywhere(rotate_flip=False)),
    **_without("12-epochs", student={"epochs": 12}),
    **_without("bag-gradient", student={"slide_loss_trains": "all"}),
    **_without("uncalibrated", student={"calibrate": False}),
}
