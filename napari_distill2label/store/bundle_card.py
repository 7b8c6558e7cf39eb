"""The card of a model: what a bundle is, for the person who finds it."""

from collections.abc import Mapping
from typing import Any

from ..core.text import count_of

RESEARCH_USE = (
    "**For research use only.** Not a medical device; not for diagnosis. Patch labels are inferred from slide labels."
)
NETWORK_TITLES = {
    "baseline": "plain attention MIL (Ilse 2018), the baseline",
    "teacher": "teacher: attention MIL with bag-consistency terms, eq. (3)",
    "student": "student: distilled from a teacher to label single patches, eq. (5)",
}


def bundle_card(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Markdown for a `BundleConfig` (as a dict) and the bag metrics of its validation split."""
    mpp = f"{config['mpp']:g} µm/px" if config["mpp"] else "the slides' own pixels (no µm/px known)"
    if config["n_mpp_from_user"]:
        mpp += f" (assumed for {config['n_mpp_from_user']} slides: a user gave it, not their file)"
    restarts = config["restarts"]
    bags = f"{config['bag']}s"
    about = {
        "Model": NETWORK_TITLES[config["network"]],
        "Classes": ", ".join(config["classes"]) + f" ({config['classes'][0]} is the negative one)",
        "Patch": f"{config['patches']['size_px']} px at {mpp}",
        "Encoder": config["encoder"]["name"] if config["encoder"] else config["architecture"]["encoder"],
        "Preset and method": f"{config['preset']}, {config['method']}",
        "Probabilities of patches": _calibration(config),
        "Trained on": f"{config['n_train']} {bags}; epoch {config['epoch']}, {config['n_valid']} {bags} to choose it",
        "Patches corrected by a user": config["n_corrections"] or "none: no patch label was used in training",
        **({"Regions labelled by a user": config["n_regions"]} if config["n_regions"] else {}),
        **({"Shares estimated by a user": f"of {count_of(own, 'slide')}"} if (own := config["n_shares"]) else {}),
        **({"Fit": "**no better than chance on its own training slides**"} if config["is_at_chance"] else {}),
        **({"Restarted": f"{count_of(restarts, 'time')}, stuck at chance before"} if restarts else {}),
        "Seed": config["seed"],
        "Data signature": config["data_signature"],
        "Versions": ", ".join(f"{name} {number}" for name, number in config["versions"].items()),
    }
    scores = {key: f"{value:.3f}" if isinstance(value, float) else value for key, value in metrics.items()}
    return f"""# Distill-to-Label: {config["network"]}

{RESEARCH_USE}

{_table(about)}

## Validation split, {bags} (bags)

{_table(scores) if scores else "No validation slides."}

{_reliability(config)}## How to read its output

A patch is scored as a bag of one: attention plays no part in it. The model has learnt from slide labels what tells
positive slides from negative ones. Where something else than the finding does that (stain, scanner, tissue that comes
with it), patches of that are labelled too.

Method: J. J. Thiagarajan, S. Kashyap, A. Karagyris, *Distill-to-Label: Weakly Supervised Instance Labeling Using
Knowledge Distillation*, IEEE ICMLA 2019, arXiv:1907.12926.
"""


def _table(rows: Mapping[str, Any]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def _calibration(config: Mapping[str, Any]) -> str:
    if calibration := config.get("calibration"):
        return (
            "in their context and their slide, calibrated by classifiers that had not seen the "
            f"{calibration['n_slides']} slides; they can be off on slides of another kind"
        ) + _sample_in_words(calibration)
    one_of_many = len(config["classes"]) > 2 and not config["architecture"]["multi_label"]
    if not config["training"].get("calibrate") or one_of_many:  # see `pipeline.calibrate_head`
        return "not calibrated"
    return "calibrated by the labels of the training slides; they can be off on other slides"


def _sample_in_words(calibration: Mapping[str, Any]) -> str:
    if not calibration["n_sample"]:
        return ""
    biases = ", ".join(f"{bias:+.2f}" for bias in calibration["biases"])
    return (
        f". Then re-calibrated to another cohort by {calibration['n_sample']} patches of it, drawn at random and "
        f"labelled by a person: bias {biases} (log-odds)"
    )


def _reliability(config: Mapping[str, Any]) -> str:
    """Return the section on the slide's probability: predicted and observed, as a table with bars."""
    if not config.get("calibration"):
        return ""
    found = config["calibration"]["reliability"]
    rows = [
        f"| {predicted:.2f} | {observed:.2f} | {round(10 * observed) * '█' or '▏'} | {count} |"
        for predicted, observed, count in zip(found["predicted"], found["observed"], found["count"], strict=True)
    ]
    shares = ", ".join(
        f"{name} {own['prior']:.2f}"
        for name, own in zip(config["classes"][1:], config["calibration"]["findings"], strict=True)
    )
    lines = "\n".join(["| predicted | observed | | slides |", "|---|---|---|---|", *rows])
    return f"""## Reliability of the slide's probability

Training slides, each scored by a classifier that had not seen it.

{lines}

Estimated share of positive patches in slides with the finding: {shares}. Patches are labelled from
{config["calibration"]["threshold"]:.2f} on.

"""
