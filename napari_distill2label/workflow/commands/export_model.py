"""`export-model`: a trained network as the files of other programs, compared with the original."""

from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ...core.errors import BundleError, SettingsError
from ...core.events import Event, Progress, Task
from ...core.inputs import Inputs
from ...core.messages import Remedy
from ...core.paths import PathLike
from ...core.text import printable
from ...inference.classifier import PatchClassifier, open_classifier
from ...inference.exported_network import (
    largest_difference,
    run_onnx,
    run_torchscript,
    save_onnx,
    save_torchscript,
)
from ...store.bundle import Bundle
from ...store.bundle_card import RESEARCH_USE
from ...store.bundle_config import versions
from ...store.files.atomic import write_json, write_text
from ...store.files.outputs import Outputs
from ...store.files.safe_names import safe_names
from ...store.run import Run
from ..input_files import files_of_model
from .predict import find_model

Program = Literal["wsinfer", "onnx"]
PROGRAMS: tuple[Program, ...] = ("wsinfer", "onnx")
TORCHSCRIPT, CONFIG = "torchscript_model.pt", "config.json"  # names that WSInfer and QuPath look for
ONNX, ABOUT, CARD = "model.onnx", "model.json", "README.md"
TOLERANCE = 1e-4  # between a probability of the exported network and ours, beyond which it is another network


class ExportedModel(NamedTuple):
    """The files of an exported network, and its largest difference in a probability from this program."""

    files: list[Path]
    difference: float


def export_model(
    model: PathLike | Run | Bundle,
    out: PathLike,
    to: Program,
    *,
    network: str | None = None,
    inputs: Inputs = Inputs(),
    overwrite: bool = False,
) -> Generator[Event, None, ExportedModel]:
    """Write a trained network for other programs, and compare it with the original on drawn patches.

    The exported network gives the probability of a patch by itself. What this program makes of it besides (the patches
    around it, the slide) is described in the files beside it.

    Parameters
    ----------
    model
        A run, a bundle, or the folder of either; `network` picks a run's model (student, teacher, baseline).
    out
        Folder of the results. For WSInfer: `torchscript_model.pt` and `config.json`, for its command line and QuPath's
        extension; a folder for each finding of a network of several findings at once. For ONNX: `model.onnx`, of any
        batch size. Beside them `model.json` and `README.md`.
    to
        "wsinfer" or "onnx".
    inputs
        Of these: encoder, if the file of the frozen encoder has moved since training (it becomes a part of the graph);
        mpp, the µm/px of the patches of a network that was trained without one (WSInfer needs it).

    Raises
    ------
    SettingsError
        The network cannot be exported so: it has no µm/px, its patches are not RGB, or its encoder is of another kind.
    BundleError
        The exported network gives other probabilities. Nothing is left then.
    """
    if to not in PROGRAMS:
        raise SettingsError(f"Models are exported for {' and '.join(PROGRAMS)}, not for {to!r}.", field="to")
    inputs.check_only("Exporting a model", "encoder", "mpp")
    bundle = find_model(model, network, "cpu")
    classifier = open_classifier(bundle, inputs.encoder, "cpu")
    if classifier.takes_features and classifier.encoder is None:
        raise SettingsError(
            "The network was trained on features, and its frozen encoder is not here. It becomes a part of the "
            "exported model.",
            file=bundle.path,
            remedy=Remedy("choose", "inputs.encoder"),
        )
    if not classifier.takes_features and bundle.config.instance_shape[0] != 3:
        raise SettingsError(f"{bundle.path}: its patches have {bundle.config.instance_shape[0]} channels, not RGB")
    mpp = bundle.config.mpp or inputs.mpp
    if to == "wsinfer" and mpp is None:
        raise SettingsError(
            "The network was trained without a pixel size, and WSInfer cuts patches by µm/px.",
            file=bundle.path,
            remedy=Remedy("set", "inputs.mpp"),
        )
    folders = _folders(bundle, Path(out), to)
    main = ONNX if to == "onnx" else TORCHSCRIPT
    names = [main, *([CONFIG] if to == "wsinfer" else []), ABOUT, CARD]
    encoder = [] if classifier.encoder is None else [classifier.encoder.path]
    files: list[Path] = []
    differences = []
    with Outputs((*files_of_model(bundle.path), *encoder), overwrite, "exporting a model") as outputs:
        outputs.claim(folder / name for folder in folders for name in names)
        for done, (folder, finding) in enumerate(folders.items()):
            yield Progress(Task.SAVE_MODEL, done, len(folders))
            with outputs.writing(folder / main) as temporary:
                differences.append(_write_network(temporary, classifier, to, finding))
            about = _about(bundle, to, finding, mpp, differences[-1])
            if to == "wsinfer":
                write_json(folder / CONFIG, _wsinfer_config(about), outputs.writing)
            write_json(folder / ABOUT, about, outputs.writing)
            write_text(folder / CARD, _card(about), outputs.writing)
            files += [folder / name for name in names]
            yield Progress(Task.SAVE_MODEL, done + 1, len(folders))
    return ExportedModel(files, max(differences))


def _folders(bundle: Bundle, out: Path, to: Program) -> dict[Path, int | None]:
    """Return the finding of each folder; None: all classes. WSInfer knows softmax alone, so findings go one by one."""
    classes = bundle.config.classes
    if to == "onnx" or not bundle.config.architecture.multi_label:
        return {out: None}
    names = safe_names((name,) for name in classes[1:])
    return {out / names[name,]: finding for finding, name in enumerate(classes) if finding}


def _write_network(path: Path, classifier: PatchClassifier, to: Program, finding: int | None) -> float:
    """Write the network, and return its largest difference. `BundleError` if it is another network."""
    if to == "onnx":
        save_onnx(path, classifier)
        difference = largest_difference(run_onnx(path), classifier)
    else:
        save_torchscript(path, classifier, finding)
        difference = largest_difference(run_torchscript(path), classifier, finding)
    if not difference <= TOLERANCE:
        raise BundleError(
            f"{classifier.bundle.path}: the exported network gives other probabilities (they differ by up to "
            f"{difference:.2g}), so it was not written. Please report this."
        )
    return difference


def _about(bundle: Bundle, to: Program, finding: int | None, mpp: float | None, difference: float) -> dict[str, Any]:
    """Return what a program or a person needs to know of the exported network."""
    config, calibration = bundle.config, bundle.config.calibration
    classes = [printable(name) for name in config.classes]
    multi_label = config.architecture.multi_label and finding is None
    kind = "sigmoid of each" if multi_label else "softmax"
    return {
        "model": f"{config.network} of napari-distill2label",
        "for": to,
        "classes": classes if finding is None else [f"no {classes[finding]}", classes[finding]],
        "multi_label": multi_label,
        "architecture": config.encoder.name if config.encoder else config.architecture.encoder,
        "patch_px": config.patches.size_px,
        "mpp": mpp,
        "input": {"name": "patches", "shape": ["n", 3, config.patches.size_px, config.patches.size_px],
                  "type": "float32", "colours": "RGB, 0 to 1"},
        "output": {"logits": ["n", "classes"], "probabilities": kind},
        "probabilities": "calibrated, of a patch by itself" if calibration else "of a patch by itself",
        "threshold": bundle.threshold,
        "context": None if calibration is None else _context(calibration.neighbours),
        "largest_difference": difference,
        "weights_sha256": config.weights_sha256,
        "calibration_sha256": None if calibration is None else calibration.digest,
        "data_signature": config.data_signature,
        "versions": versions(),
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
        "research_use": RESEARCH_USE.replace("**", ""),
    }  # fmt: skip


def _context(neighbours: int) -> str:
    return (
        "This program also uses context, which the exported network does not: a patch's score is half its own and half "
        f"the mean of the eight patches around it (of the {neighbours} nearest ones at given points), and its "
        "probability is multiplied by that of the slide, which is made of the highest tenth of its patches. Without "
        "context, single patches are less certain, and slides without a finding have more patches above the threshold."
    )


def _wsinfer_config(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return WSInfer's configuration. Colours are normalised inside of the network."""
    transform = [
        {"name": "Resize", "arguments": {"size": about["patch_px"]}},
        {"name": "ToTensor"},
        {"name": "Normalize", "arguments": {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}},
    ]
    return {
        "spec_version": "1.0",
        "architecture": about["architecture"],
        "num_classes": len(about["classes"]),
        "class_names": about["classes"],
        "patch_size_pixels": about["patch_px"],
        "spacing_um_px": about["mpp"],
        "transform": transform,
    }


def _card(about: Mapping[str, Any]) -> str:
    """Return the description for people."""
    if about["for"] == "onnx":
        use = (
            f"`{ONNX}` takes `patches`, float32 (n, 3, {about['patch_px']}, {about['patch_px']}), RGB from 0 to 1, and "
            "gives `logits` and `probabilities` (n, classes). n is any number."
        )
    else:
        use = (
            f"WSInfer: `wsinfer run -c {CONFIG} -p {TORCHSCRIPT} -i SLIDES -o OUT`."
            "\n\nQuPath: put this folder into the folder `local` of WSInfer's models (*Extensions › WSInfer*), and "
            "choose it there under its name."
        )
    scale = f"{about['mpp']:g} µm/px" if about["mpp"] else "the slides' own pixels (no µm/px known)"
    facts = {
        "Classes": ", ".join(about["classes"]),
        "Patch": f"{about['patch_px']} px at {scale}",
        "Probabilities": about["probabilities"],
        "Threshold in this program": f"{about['threshold']:.3f}",
        "Largest difference from this program": f"{about['largest_difference']:.1e}",
        "Weights (SHA-256)": about["weights_sha256"],
        "Exported": about["exported"],
        "Versions": ", ".join(f"{name} {number}" for name, number in about["versions"].items()),
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    context = f"## What the context adds\n\n{about['context']}\n" if about["context"] else ""
    return (
        f"# {about['model']}\n\n**{about['research_use']}**\n\n| | |\n|---|---|\n{rows}\n\n## How to use it\n\n"
        f"{use}\n\n{context}"
    )
