"""The rows of Table I and those added to it: which settings make which model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.presets import build_settings
from ..core.settings import Settings, merged
from ..mil.curriculum import PLAIN


@dataclass(frozen=True)
class Variant:
    """One training.

    `models` says which of its networks are measured (by role), and what each is called in `results.csv`; training
    stops at the last of them. `attention` names the rows that take a network's attention for its score.
    """

    models: Mapping[str, str]
    recipe: str = "paper"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    attention: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.models.values(), *self.attention.values())

    def settings(self, preset: str, seed: int, *layers: Mapping[str, Any]) -> Settings:
        """Preset < recipe < `layers` < this variant's own."""
        return build_settings(preset, self.recipe, merged({"seed": seed}, *layers, self.overrides))


def _teacher(**lambdas: float) -> dict[str, Any]:
    return {"teacher": {**PLAIN, **lambdas}}


def _without(name: str, **overrides: Mapping[str, Any]) -> dict[str, Variant]:
    """The recipe `default` with one of its parts left out."""
    return {f"default-{name}": Variant({"student": f"default-{name}"}, recipe="default", overrides=overrides)}


def _everywhere(**setting: Any) -> dict[str, dict[str, Any]]:
    return dict.fromkeys(("teacher", "assistant", "student"), setting)


VARIANTS: dict[str, Variant] = {
    # The paper's three rows, and what others draw: attention as the score of a patch.
    "paper": Variant(
        {"mil": "mil", "teacher": "teacher", "student": "student"},
        attention={"mil": "mil-attention", "teacher": "teacher-attention"},
    ),
    "default": Variant({"teacher": "default-teacher", "student": "default"}, recipe="default"),
    # Other pooling; a student of plain MIL; the terms of eq. (3) one by one; eq. (5) with the paper's sums.
    "mean": Variant({"mil": "mil-mean"}, overrides={"model": {"pooling": "mean"}}),
    "max": Variant({"mil": "mil-max"}, overrides={"model": {"pooling": "max"}}),
    "no-vat": Variant({"student": "student-no-vat"}, overrides=_teacher()),
    "noise": Variant({"teacher": "teacher-noise"}, overrides=_teacher(lambda_n=0.5)),
    "ball": Variant({"teacher": "teacher-ball"}, overrides=_teacher(lambda_d=0.3)),
    "entropy": Variant({"teacher": "teacher-entropy"}, overrides=_teacher(lambda_e=0.3)),
    "sum": Variant({"student": "student-sum"}, overrides={"student": {"instance_reduction": "sum"}}),
    # What the paper does not give: noise instances, size of subsets, radius of the ball, temperature.
    "noise-0.2": Variant({"teacher": "teacher-noise-0.2"}, overrides={"teacher": {"noise": 0.2}}),
    "noise-1": Variant({"teacher": "teacher-noise-1"}, overrides={"teacher": {"noise": 1.0}}),
    "keep-0.1": Variant({"teacher": "teacher-keep-0.1"}, overrides={"teacher": {"keep": 0.1}}),
    "keep-any": Variant({"teacher": "teacher-keep-any"}, overrides={"teacher": {"keep": 1.0, "subset": "uniform"}}),
    "delta-5": Variant({"teacher": "teacher-delta-5"}, overrides={"teacher": {"delta": 5.0}}),
    "tau-1": Variant({"student": "student-tau-1"}, overrides={"student": {"temperature": 1.0}}),
    "tau-5": Variant({"student": "student-tau-5"}, overrides={"student": {"temperature": 5.0}}),
    # What each part of `default` is worth.
    **_without("no-assistants", student={"gamma_a": 0.0, "gamma_i": 1.0}),
    **_without("assistants-alone", assistant={"teacher_share": 0.0}),
    **_without("no-neighbours", assistant={"neighbours": 0}),
    **_without("no-stain", **_everywhere(stain=0.0)),
    **_without("no-turns", **_everywhere(augment="none")),
    **_without("12-epochs", student={"epochs": 12}),
    **_without("bag-gradient", student={"bag_gradient": "all"}),
    **_without("uncalibrated", student={"calibrate": "none"}),
}
