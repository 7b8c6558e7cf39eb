"""Encoders for pathology that anybody may download without asking: what a JSON beside their file would say.

A file that is called after one of them (`phikon-v2.onnx`) needs no JSON. Nothing is ever downloaded: `source` says
where the weights are. Sides, scales and normalisations are those that the publishers state (20×: 0.5 µm/px).
"""

from typing import Any

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
_LUNIT = {"mean": (0.70322989, 0.53606487, 0.66096631), "std": (0.21716536, 0.26081574, 0.20723464)}
_HUB = "https://huggingface.co/"


def _encoder(
    features: int, normalisation: dict[str, Any], licence: str, source: str, mpp: float = 0.5
) -> dict[str, Any]:
    return {"features": features, "patch_px": 224, "mpp": mpp, "licence": licence, "source": source, **normalisation}


_KAIKO, _LUNIT_TERMS = "Kaiko, non-commercial", "Lunit, non-commercial"
KNOWN_ENCODERS: dict[str, dict[str, Any]] = {
    "phikon": _encoder(768, _IMAGENET, "Owkin, non-commercial", _HUB + "owkin/phikon"),
    "phikon-v2": _encoder(1024, _IMAGENET, "Owkin, non-commercial", _HUB + "owkin/phikon-v2"),
    "gpfm": _encoder(1024, _IMAGENET, "MIT", _HUB + "majiabo/GPFM"),
    "lunit-vits8": _encoder(384, _LUNIT, _LUNIT_TERMS, _HUB + "1aurent/vit_small_patch8_224.lunit_dino"),
    "lunit-vits16": _encoder(384, _LUNIT, _LUNIT_TERMS, _HUB + "1aurent/vit_small_patch16_224.lunit_dino"),
    "kaiko-vits16": _encoder(384, _HALF, _KAIKO, "https://github.com/kaiko-ai/towards_large_pathology_fms"),
    "kaiko-vitb16": _encoder(768, _HALF, _KAIKO, "https://github.com/kaiko-ai/towards_large_pathology_fms"),
    "kaiko-vitl14": _encoder(1024, _HALF, _KAIKO, "https://github.com/kaiko-ai/towards_large_pathology_fms"),
    "midnight": _encoder(1536, _HALF, "MIT", _HUB + "kaiko-ai/midnight"),
    "ctranspath": _encoder(768, _IMAGENET, "GPL-3.0", "https://github.com/Xiyue-Wang/TransPath", mpp=1.0),
}
for _name, _own in KNOWN_ENCODERS.items():
    _own["name"] = _name


def known_encoder(file_name: str) -> dict[str, Any] | None:
    """Return what is known of the encoder that a file is called after; None of others."""
    return KNOWN_ENCODERS.get(file_name.lower().split(".")[0])
