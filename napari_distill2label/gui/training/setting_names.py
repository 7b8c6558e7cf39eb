"""Settings in the words of people who have not read the paper. No Qt.

What a setting means, its range and its unit are declared in `core.settings`, once; here are only names and suffixes.
"""

from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ...core.settings import Settings

HIDDEN = ("preset", "recipe", "device")  # have boxes of their own
# What most people look at; everything else is folded away.
MAIN = ("teacher.epochs", "student.epochs", "grid.patch_px", "grid.tissue")

SECTIONS = {
    "grid": "Patches",
    "model": "Network",
    "teacher": "Teacher",
    "assistant": "Assistants",
    "student": "Student",
    "split": "Split of the slides",
    "seed": "Repeatability",
}
# By path, else by last name.
NAMES = {
    "teacher.epochs": "Teacher epochs",
    "student.epochs": "Student epochs",
    "assistant.epochs": "Epochs",
    "grid.patch_px": "Patch side",
    "grid.patch_um": "Side on the slide",
    "grid.stride_px": "Step",
    "grid.stride_um": "Step on the slide",
    "grid.mpp": "Patch scale",
    "grid.edge": "At the border",
    "grid.tissue": "Background",
    "grid.white_level": "White from",
    "grid.background_fraction": "Drop above",
    "model.encoder": "Encoder",
    "model.pooling": "Pooling",
    "model.hidden": "Width",
    "model.attention": "Attention width",
    "model.several": "Several classes",
    "select": "Keep epoch",
    "optimiser": "Optimiser",
    "schedule": "Rate over time",
    "batch_bags": "Slides per step",
    "bag_patches": "Patches per part",
    "max_bag_patches": "Most patches",
    "learning_rate": "Learning rate",
    "weight_decay": "Weight decay",
    "augment": "Turn patches",
    "stain": "Vary the stain",
    "precision": "Precision",
    "lambda_c": "λc: slide label",
    "lambda_n": "λn: noise",
    "lambda_d": "λδ: perturbation",
    "lambda_e": "λe: subsets",
    "noise": "Noise per patch",
    "delta": "δ: its size",
    "ball": "Perturb towards",
    "keep": "Subset share",
    "subset": "Subset size",
    "realizations": "Subsets per step",
    "parts": "Assistants",
    "teacher_share": "Teacher's share",
    "neighbours": "Neighbours",
    "gamma_c": "γc: slide label",
    "gamma_b": "γb: teacher, slide",
    "gamma_i": "γi: teacher, patch",
    "gamma_e": "γe: certainty",
    "gamma_n": "γn: negative slides",
    "gamma_a": "γa: assistants",
    "gamma_k": "γk: your corrections",
    "temperature": "τ: temperature",
    "instance_reduction": "Over patches",
    "bag_gradient": "Slide terms train",
    "init": "First weights",
    "calibrate": "Calibrate by",
    "split.valid": "Validation",
    "split.test": "Test",
    "seed": "Seed",
}
SUFFIXES = {
    "patch_px": " px", "patch_um": " µm", "stride_px": " px", "stride_um": " µm", "mpp": " µm/px",
    "epochs": " epochs", "bag_patches": " patches", "max_bag_patches": " patches",
    "neighbours": " patches",
}  # fmt: skip
NOT_SET = {
    "patch_um": "not set", "stride_px": "patch side", "stride_um": "not set", "mpp": "slide's own",
    "bag_patches": "whole slide",
}  # fmt: skip
# What the values of a choice are called where the value alone says too little.
CHOICES = {
    "tissue": {"all": "keep all", "white": "drop white", "otsu": "find tissue"},
    "edge": {"reflect": "keep", "drop": "drop"},
    "select": {"best": "the best", "last": "the last"},
    "augment": {"none": "no", "turns": "yes"},
    "schedule": {"constant": "constant", "cosine": "falling to 0"},
    "calibrate": {"none": "nothing", "slides": "slide labels"},
    "bag_gradient": {"all": "everything", "attention": "attention"},
    "init": {"fresh": "fresh", "teacher": "the teacher's"},
    "subset": {"fixed": "fixed", "uniform": "drawn"},
}


def setting_paths(kind: type[BaseModel] = Settings, prefix: str = "") -> list[str]:
    """'grid.patch_px', …, 'seed': every single setting that the form shows."""
    paths = []
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            paths += setting_paths(field.annotation, f"{prefix}{name}.")
        elif f"{prefix}{name}" not in HIDDEN:
            paths.append(f"{prefix}{name}")
    return paths


def field_of(path: str) -> FieldInfo:
    """The declaration of a setting."""
    *parts, name = path.split(".")
    kind: Any = Settings
    for part in parts:
        kind = kind.model_fields[part].annotation
    return kind.model_fields[name]


def nested(path: str, value: Any) -> dict[str, Any]:
    """('grid.mpp', 0.5) -> {'grid': {'mpp': 0.5}}."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def value_at(settings: Settings, path: str) -> Any:
    """The value of a setting."""
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def name_of(path: str) -> str:
    """What the form calls a setting."""
    last = path.split(".")[-1]
    return NAMES.get(path) or NAMES.get(last) or last.replace("_", " ").capitalize()


def value_in_words(path: str, value: Any) -> str:
    """A value as the form shows it: '27 px', 'keep all patches', "slide's own"."""
    last = path.split(".")[-1]
    if value is None:
        return NOT_SET.get(last, "not set")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return CHOICES.get(last, {}).get(value, value)
    return f"{value:g}{SUFFIXES.get(last, '')}"


def changed(settings: Settings, standard: Settings) -> list[str]:
    """Paths of the settings that are not what preset and recipe say."""
    return [path for path in setting_paths() if value_at(settings, path) != value_at(standard, path)]
