"""Presets (the kind of images) and methods (the method): settings = defaults < preset < method < the user's."""

from collections.abc import Mapping
from typing import Any, Literal

from .errors import SettingsError
from .settings import Settings, merged, validated

PRESETS: dict[str, dict[str, Any]] = {
    # Thiagarajan 2019, IV: 500 × 500 px crops at about 0.55 µm/px, patches of 27 px, two convolutions.
    "colon": {
        "architecture": {"encoder": "colon"},
        "teacher": {"lambda_c": 1.0, "lambda_n": 0.5, "lambda_d": 0.3, "lambda_e": 0.3},
    },
    # 896 × 768 px, patches of 32 px, patches of >= 75 % white pixels dropped, five convolutions, five subsets. So few
    # images with so deep a network take long: in a trial of plain MIL on one split, the loss of the validation slides
    # fell until about epoch 40. (The method `recommended` sets its own number of epochs for the student.)
    "breast": {
        "patches": {"size_px": 32, "tissue": "white"},
        "architecture": {"encoder": "breast"},
        "teacher": {
            "lambda_c": 0.8,
            "lambda_n": 0.8,
            "lambda_d": 0.3,
            "lambda_e": 0.3,
            "n_subsets": 5,
            "epochs": 40,
        },
        "student": {"epochs": 40},
    },
    # Whole slides: features of a frozen encoder (`--encoder FILE`), which says patch side and scale, over tissue.
    "wsi": {
        "patches": {"tissue": "otsu"},
        "architecture": {"encoder": "features"},
    },
}

# What each is for, for people who have not read the paper.
PRESETS_IN_WORDS = {
    "colon": "Small crops of tissue, patches of about one cell (27 px).",
    "breast": "Fields of view with some glass around: patches of 32 px, white ones are left out.",
    "wsi": "Whole slides, on the features of a frozen encoder that you bring as a file.",
}
METHODS_IN_WORDS = {
    "recommended": "The best we know: teacher, helper models, a student whose scores are probabilities. Takes longer.",
    "paper": "The published method to the letter: a teacher and a student.",
}

STAIN = 0.15  # without it, the colours of a slide are a clue to its label
# Patches of several slides in one step.
PSEUDO_BAG_TRAINING: dict[str, Any] = {
    "keep_epoch": "last",
    "learning_rate": 3e-4,
    "schedule": "cosine",
    "batch_size": 4,
    "pseudo_bag_size": 32,
    "rotate_flip": True,
    "stain_jitter": STAIN,
}

METHODS: dict[str, dict[str, Any]] = {
    # The paper's letter, with the choices it leaves open written down in docs/architecture.md.
    "paper": {},
    # The best we know (docs/reproduction.md): the paper's teacher, which says what a slide was called positive for, and
    # out-of-fold classifiers, which say what patches of positive slides have in common; the student learns what both
    # say together.
    "recommended": {
        "teacher": {"rotate_flip": True, "stain_jitter": STAIN},
        "oof": {**PSEUDO_BAG_TRAINING, "epochs": 8, "teacher_weight": 0.5, "smoothing_neighbours": 4},
        "student": {
            **PSEUDO_BAG_TRAINING,
            "epochs": 24,
            "gamma_b": 0.0,
            "gamma_i": 0.0,
            "gamma_oof": 1.0,
            "gamma_e": 0.0,
            "temperature": 1.0,
            "slide_loss_trains": "attention",
            "calibrate": True,
        },
    },
}


def build_settings(
    preset: str = "colon", method: str = "recommended", overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Settings of a run; `overrides` is nested, {"teacher": {"epochs": 5}}. `SettingsError` if they do not fit."""
    for name, known, kind in ((preset, PRESETS, "preset"), (method, METHODS, "method")):
        if name not in known:
            raise SettingsError(f"unknown {kind} {name!r}: choose one of {', '.join(known)}")
    named = {"preset": preset, "method": method}
    below = merged(named, PRESETS[preset], METHODS[method])
    asked = (overrides or {}).get("patches", {})
    if isinstance(asked, Mapping) and None not in (asked.get("size_um"), asked.get("mpp")):
        # The preset's side in px gives way to what these two give.
        below["patches"] = {name: value for name, value in below.get("patches", {}).items() if name != "size_px"}
    return validated(Settings, merged(below, overrides or {}))


# What a quick trial on features in memory differs in from a training (`workflow.live`): few, large steps of a small
# network, no out-of-fold classifiers, and no noise, perturbed instances or subsets, which took half of the time and
# made no label better (docs/benchmarks.md).
LIVE: dict[str, Any] = {
    "architecture": {"hidden_dim": 128, "attention_dim": 64, "dropout": 0.25},
    "teacher": {
        "epochs": 8, "learning_rate": 2e-3, "schedule": "cosine", "batch_size": 8, "keep_epoch": "last",
        "lambda_n": 0.0, "lambda_d": 0.0, "lambda_e": 0.0,
    },
    "student": {
        "epochs": 6, "learning_rate": 2e-3, "schedule": "cosine", "batch_size": 8, "keep_epoch": "last",
        "gamma_n": 0.5, "initial_weights": "teacher", "calibrate": True,
    },
    "split": {"valid": 0.0, "test": 0.0},
}  # fmt: skip


def live_settings(seed: int = 0, bag: Literal["slide", "case"] = "slide") -> Settings:
    """Settings of the networks of the live loop."""
    return build_settings("wsi", "paper", merged(LIVE, {"seed": seed, "bag": bag, "device": "cpu"}))
