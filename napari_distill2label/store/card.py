"""The model card: what a bundle is, for the person who finds it."""

from collections.abc import Mapping
from typing import Any

RESEARCH_USE = (
    "**For research use only.** Not a medical device; not for diagnosis. Patch labels are inferred from slide labels."
)
ROLE_NAMES = {
    "mil": "plain attention MIL (Ilse 2018), the baseline",
    "teacher": "teacher: attention MIL with bag-consistency terms, eq. (3)",
    "student": "student: distilled from a teacher to label single patches, eq. (5)",
}


def _table(rows: Mapping[str, Any]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def _calibration(config: Mapping[str, Any]) -> str:
    one_of_many = len(config["classes"]) > 2 and not config["model"]["several"]  # see `pipeline.calibrate_head`
    if config["training"].get("calibrate", "none") == "none" or one_of_many:
        return "not calibrated"
    return "calibrated by the labels of the training slides; they can be off on other slides"


def model_card(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Markdown for a `BundleConfig` (as a dict) and the bag metrics of its validation split."""
    mpp = f"{config['mpp']:g} µm/px" if config["mpp"] else "the slides' own pixels (no µm/px known)"
    if config["n_mpp_assumed"]:
        mpp += f" (assumed for {config['n_mpp_assumed']} slides: a user gave it, not their file)"
    about = {
        "Model": ROLE_NAMES[config["role"]],
        "Classes": ", ".join(config["classes"]) + f" ({config['classes'][0]} is the negative one)",
        "Patch": f"{config['grid']['patch_px']} px at {mpp}",
        "Encoder": config["encoder"]["name"] if config["encoder"] else config["model"]["encoder"],
        "Preset and recipe": f"{config['preset']}, {config['recipe']}",
        "Probabilities of patches": _calibration(config),
        "Trained on": f"{config['n_train']} slides; epoch {config['epoch']}, {config['n_valid']} slides to choose it",
        "Patches corrected by a user": config["n_corrections"] or "none: no patch label was used in training",
        "Seed": config["seed"],
        "Data signature": config["data_signature"],
        "Versions": ", ".join(f"{name} {number}" for name, number in config["versions"].items()),
    }
    scores = {key: f"{value:.3f}" if isinstance(value, float) else value for key, value in metrics.items()}
    return f"""# Distill-to-Label: {config["role"]}

{RESEARCH_USE}

{_table(about)}

## Validation split, slides (bags)

{_table(scores) if scores else "No validation slides."}

## How to read its output

A patch is scored as a bag of one: attention plays no part in it. The model has learnt from slide labels what tells
positive slides from negative ones. Where something else than the finding does that (stain, scanner, tissue that comes
with it), patches of that are labelled too.

Method: J. J. Thiagarajan, S. Kashyap, A. Karargyris, *Distill-to-Label: Weakly Supervised Instance Labeling Using
Knowledge Distillation*, IEEE ICMLA 2019, arXiv:1907.12926.
"""
