"""Presets (the kind of images) and recipes (the method): settings = defaults < preset < recipe < the user's."""

from collections.abc import Mapping
from typing import Any

from .errors import SettingsError
from .settings import Settings, merged, validated

PRESETS: dict[str, dict[str, Any]] = {
    # Thiagarajan 2019, IV: 500 × 500 px crops at about 0.55 µm/px, patches of 27 px, two convolutions.
    "colon": {
        "model": {"encoder": "colon"},
        "teacher": {"lambda_c": 1.0, "lambda_n": 0.5, "lambda_d": 0.3, "lambda_e": 0.3},
    },
    # 896 × 768 px, patches of 32 px, patches of >= 75 % white pixels dropped, five convolutions, five subsets. So few
    # images with so deep a network take long: in a trial of plain MIL on one split, the loss of the validation slides
    # fell until about epoch 40. (The recipe `default` says by itself how long its student trains.)
    "breast": {
        "grid": {"patch_px": 32, "tissue": "white"},
        "model": {"encoder": "breast"},
        "teacher": {
            "lambda_c": 0.8,
            "lambda_n": 0.8,
            "lambda_d": 0.3,
            "lambda_e": 0.3,
            "realizations": 5,
            "epochs": 40,
        },
        "student": {"epochs": 40},
    },
    # Whole slides: features of a frozen encoder (`--encoder FILE`), which says patch side and scale, over tissue.
    "wsi": {
        "grid": {"tissue": "otsu"},
        "model": {"encoder": "features"},
    },
}

# What each is for, for people who have not read the paper.
PRESETS_IN_WORDS = {
    "colon": "Small crops of tissue, patches of about one cell (27 px).",
    "breast": "Fields of view with some glass around: patches of 32 px, white ones are left out.",
    "wsi": "Whole slides, on the features of a frozen encoder that you bring as a file.",
}
RECIPES_IN_WORDS = {
    "default": "The best we know: a teacher, assistants and a student whose scores are probabilities. Takes longer.",
    "paper": "The published method to the letter: a teacher and a student.",
}

STAIN = 0.15  # without it, the colours of a slide are a clue to its label
# Patches of several slides in one step.
PSEUDO_BAG_TRAINING: dict[str, Any] = {
    "select": "last",
    "learning_rate": 3e-4,
    "schedule": "cosine",
    "batch_bags": 4,
    "bag_patches": 32,
    "augment": "turns",
    "stain": STAIN,
}

RECIPES: dict[str, dict[str, Any]] = {
    # The paper's letter, with the choices it leaves open written down in docs/architecture.md.
    "paper": {},
    # The best we know (docs/reproduction.md): the paper's teacher, which says what a slide was called positive for, and
    # assistants, which say what patches of positive slides have in common; the student learns what both say together.
    "default": {
        "teacher": {"augment": "turns", "stain": STAIN},
        "assistant": {**PSEUDO_BAG_TRAINING, "epochs": 8, "teacher_share": 0.5, "neighbours": 4},
        "student": {
            **PSEUDO_BAG_TRAINING,
            "epochs": 24,
            "gamma_b": 0.0,
            "gamma_i": 0.0,
            "gamma_a": 1.0,
            "gamma_e": 0.0,
            "temperature": 1.0,
            "bag_gradient": "attention",
            "calibrate": "slides",
        },
    },
}


def build_settings(
    preset: str = "colon", recipe: str = "default", overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Settings of a run; `overrides` is nested, {"teacher": {"epochs": 5}}. `SettingsError` if they do not fit."""
    for name, known, kind in ((preset, PRESETS, "preset"), (recipe, RECIPES, "recipe")):
        if name not in known:
            raise SettingsError(f"unknown {kind} {name!r}: choose one of {', '.join(known)}")
    named = {"preset": preset, "recipe": recipe}
    below = merged(named, PRESETS[preset], RECIPES[recipe])
    asked = (overrides or {}).get("grid", {})
    if isinstance(asked, Mapping) and None not in (asked.get("patch_um"), asked.get("mpp")):
        # The preset's side in px gives way to what these two give.
        below["grid"] = {name: value for name, value in below.get("grid", {}).items() if name != "patch_px"}
    return validated(Settings, merged(below, overrides or {}))


# What a quick trial on features in memory differs in from a training (`workflow.live`): few, large steps of a small
# network, and no assistants.
LIVE: dict[str, Any] = {
    "model": {"hidden": 128, "attention": 64, "dropout": 0.25},
    "teacher": {"epochs": 8, "learning_rate": 2e-3, "schedule": "cosine", "batch_bags": 8, "select": "last"},
    "student": {
        "epochs": 6, "learning_rate": 2e-3, "schedule": "cosine", "batch_bags": 8, "select": "last",
        "gamma_n": 0.5, "init": "teacher", "calibrate": "slides",
    },
    "split": {"valid": 0.0, "test": 0.0},
}  # fmt: skip


def live_settings(seed: int = 0) -> Settings:
    """Settings of the networks of the live loop."""
    return build_settings("wsi", "paper", merged(LIVE, {"seed": seed, "device": "cpu"}))
