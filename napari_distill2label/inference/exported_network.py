"""A trained network as one graph of other programs: TorchScript (WSInfer, QuPath) or ONNX.

The graph takes patches (n, 3, P, P) float32, RGB in 0–1, and gives logits. Their softmax (sigmoid of each, where
several findings can be present at once) is the probability that this program gives to a patch by itself: calibrated,
without its context and its slide. TorchScript is deprecated and holds a pickle; it is written here alone, for programs
that know nothing else.
"""

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.calibration import Calibration
from ..core.errors import MissingDependencyError, SettingsError
from ..store.bundle import Bundle
from .classifier import PatchClassifier
from .encoder import EncoderDescription

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import ModelProto

ONNX_OPSET = 17
TRACED = 3  # patches that a network is traced with: not 1, which a tracer may take for a constant
CHECKED, BATCH = 48, 16  # patches of the comparison, and those in a batch of it
SEED = 20_190_712


class LogitsOfPatches(nn.Module):
    """The encoder, the head and the calibration of patches by themselves: (n, 3, P, P) in 0–1 -> logits (n, C).

    Without `finding` they are of all classes. With it they are of two, its absence and the finding itself, whose
    softmax is the probability of the finding; programs that know softmax alone can use a network of several findings.

    Of a network of features, it takes features (n, D).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, bundle: Bundle, finding: int | None = None) -> None:
        super().__init__()
        model, config = deepcopy(bundle.model).cpu().float().eval(), bundle.config
        self.encoder, self.head = model.encoder, model.head
        for parameter in self.parameters():
            parameter.requires_grad_(False)
            parameter.data = parameter.data.contiguous()
        self.multi_label, self.finding = config.architecture.multi_label, finding
        shape = (1, -1) if config.encoder else (1, -1, 1, 1)
        # As `MILModel.normalise`; a feature that does not vary is left out.
        inverse = torch.where(model.std > 0, 1 / model.std, torch.zeros(()))
        self.register_buffer("mean", model.mean.view(shape).clone())
        self.register_buffer("scale", inverse.view(shape).clone())
        self.lines = [] if config.calibration is None else lines_of(config.calibration)

    def forward(self, instances: Tensor) -> Tensor:
        """Return logits (n, C), or (n, 2) of one finding."""
        logits: Tensor = self.head(self.encoder((instances - self.mean) * self.scale))
        if self.lines:
            scores = logits[:, 1:] if self.multi_label else logits[:, 1:] - logits[:, :1]
            negative = logits[:, :1] if self.multi_label else torch.zeros_like(logits[:, :1])
            slope, offset = (scores.new_tensor(values) for values in zip(*self.lines, strict=True))
            logits = torch.cat([negative, scores * slope + offset], 1)
        if self.finding is None:
            return logits
        chosen = logits[:, self.finding : self.finding + 1]
        return torch.cat([torch.zeros_like(chosen), chosen], 1)


def lines_of(calibration: Calibration) -> list[tuple[float, float]]:
    """Return slope and offset of each finding's patches."""
    return [(finding.patch.slope, finding.patch.offset) for finding in calibration.findings]


class OnTorchScriptEncoder(nn.Module):
    """A network of features behind its frozen encoder: patches (n, 3, P, P) in 0–1 -> logits."""

    mean: Tensor
    scale: Tensor

    def __init__(self, encoder: torch.jit.ScriptModule, description: EncoderDescription, head: LogitsOfPatches) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.register_buffer("mean", torch.tensor(description.mean).view(1, 3, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(description.std).view(1, 3, 1, 1))

    def forward(self, patches: Tensor) -> Tensor:
        """Return logits (n, C)."""
        features = self.encoder((patches - self.mean) * self.scale)
        logits: Tensor = self.head(features.float().flatten(1))
        return logits


def save_torchscript(path: Path, classifier: PatchClassifier, finding: int | None = None) -> None:
    """Write the network as TorchScript. `SettingsError` for a network on an encoder that is no TorchScript."""
    network: nn.Module = LogitsOfPatches(classifier.bundle, finding)
    if (encoder := classifier.encoder) is not None:
        if encoder.path.suffix.lower() == ".onnx":
            raise SettingsError(
                f"{encoder.path}: WSInfer takes TorchScript, and this encoder is an ONNX file. Export to ONNX, or "
                "train on the features of the encoder's TorchScript file."
            )
        with _deprecations_ignored():
            script = torch.jit.load(str(encoder.path), map_location="cpu").eval()
        network = OnTorchScriptEncoder(script, encoder.description, network)  # type: ignore[arg-type]
    with torch.no_grad(), _deprecations_ignored():
        traced = torch.jit.trace(network.eval(), torch.rand(TRACED, 3, *patch_sides(classifier)), check_trace=False)
        written = BytesIO()
        torch.jit.save(traced, written)
    path.write_bytes(written.getvalue())  # not by torch's own writer: on a full disk that ends the process


def save_onnx(path: Path, classifier: PatchClassifier) -> None:
    """Write the network as ONNX, of any batch size: patches -> `logits` and `probabilities`.

    A frozen encoder is a part of the graph. `SettingsError` for one that is no ONNX file, `MissingDependencyError`
    without onnx.
    """
    network = _WithProbabilities(LogitsOfPatches(classifier.bundle))
    encoder = classifier.encoder
    if encoder is None:
        _export_onnx(path, network, torch.rand(TRACED, 3, *patch_sides(classifier)), "patches", ONNX_OPSET)
        return
    if encoder.path.suffix.lower() != ".onnx":
        raise SettingsError(
            f"{encoder.path}: this encoder is no ONNX file, and cannot be a part of one. Export to WSInfer, or train "
            "on the features of the encoder's ONNX file."
        )
    onnx = import_onnx(path)
    trunk = onnx.load(str(encoder.path))
    opset = next((own.version for own in trunk.opset_import if own.domain in ("", "ai.onnx")), ONNX_OPSET)
    features = torch.rand(TRACED, classifier.bundle.config.instance_shape[0])
    _export_onnx(path, network, features, "features", opset)
    onnx.save(_joined(trunk, onnx.load(str(path)), encoder.description, patch_sides(classifier), opset), str(path))


class _WithProbabilities(nn.Module):
    """A network that gives its logits, and the probabilities that they stand for."""

    def __init__(self, network: LogitsOfPatches) -> None:
        super().__init__()
        self.network = network

    def forward(self, instances: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(instances)
        return logits, logits.sigmoid() if self.network.multi_label else logits.softmax(1)


def _export_onnx(path: Path, network: nn.Module, example: Tensor, name: str, opset: int) -> None:
    axes = {each: {0: "n"} for each in (name, "logits", "probabilities")}
    with torch.no_grad(), _deprecations_ignored():
        torch.onnx.export(
            network.eval(),
            (example,),
            str(path),
            input_names=[name],
            output_names=["logits", "probabilities"],
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,
        )


def _joined(
    trunk: "ModelProto", head: "ModelProto", description: EncoderDescription, sides: tuple[int, int], opset: int
) -> "ModelProto":
    """Return patches -> normalisation -> encoder -> (n, D) float32 -> head as one graph."""
    from onnx import TensorProto, checker, helper

    constants: dict[str, Any] = {
        "mean": np.array(description.mean, np.float32),
        "scale": 1 / np.array(description.std, np.float32),
    }
    stored = {initializer.name for initializer in trunk.graph.initializer}
    (taken,) = (value for value in trunk.graph.input if value.name not in stored)
    kind = taken.type.tensor_type.elem_type
    before = helper.make_graph(
        [
            helper.make_node("Sub", ["patches", "mean"], ["centred"]),
            helper.make_node("Mul", ["centred", "scale"], ["scaled"]),
            helper.make_node("Cast", ["scaled"], ["normalised"], to=kind),
        ],
        "normalisation",
        [helper.make_tensor_value_info("patches", TensorProto.FLOAT, ["n", 3, *sides])],
        [helper.make_tensor_value_info("normalised", kind, ["n", 3, *sides])],
        [helper.make_tensor(name, TensorProto.FLOAT, (1, 3, 1, 1), value) for name, value in constants.items()],
    )
    given = trunk.graph.output[0].type.tensor_type.elem_type
    between = helper.make_graph(
        [
            helper.make_node("Cast", ["encoded"], ["unrounded"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["unrounded"], ["features"], axis=1),
        ],
        "features",
        [helper.make_tensor_value_info("encoded", given, None)],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", description.features])],
    )
    first, third = (
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]) for graph in (before, between)
    )
    whole = first
    for number, part in enumerate((trunk, third, head)):
        whole = _chained(whole, part, f"part{number}/", max(trunk.ir_version, head.ir_version))
    for node, output in zip(("logits", "probabilities"), whole.graph.output, strict=True):
        whole.graph.node.append(helper.make_node("Identity", [output.name], [node]))
        output.name = node
    checker.check_model(whole)
    return whole


def _chained(first: "ModelProto", second: "ModelProto", prefix: str, ir_version: int) -> "ModelProto":
    """Return a graph in which `second` takes the first output of `first`. Its names get the prefix."""
    from onnx import compose

    second = compose.add_prefix(second, prefix)  # names of two graphs may be equal
    first.ir_version = second.ir_version = ir_version
    stored = {initializer.name for initializer in second.graph.initializer}
    (taken,) = (value.name for value in second.graph.input if value.name not in stored)
    outputs = [output.name for output in second.graph.output]
    return compose.merge_models(first, second, io_map=[(first.graph.output[0].name, taken)], outputs=outputs)


# ---- is it the same network? -----------------------------------------------------------------------------------------


def run_torchscript(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Open a file of `save_torchscript`: patches (n, 3, P, P) in 0–1 -> probabilities, as WSInfer and QuPath do."""
    with _deprecations_ignored():
        network = torch.jit.load(str(path), map_location="cpu")

    @torch.no_grad()
    def run(patches: np.ndarray) -> np.ndarray:
        probabilities: np.ndarray = network(torch.from_numpy(patches)).softmax(1).numpy()
        return probabilities

    return run


def run_onnx(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Open a file of `save_onnx` with onnxruntime: patches (n, 3, P, P) in 0–1 -> probabilities."""
    try:
        import onnxruntime
    except ImportError:
        raise _missing(path, "onnxruntime") from None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(patches: np.ndarray) -> np.ndarray:
        probabilities: np.ndarray = session.run(["probabilities"], {"patches": patches})[0]
        return probabilities

    return run


def largest_difference(
    run: Callable[[np.ndarray], np.ndarray], classifier: PatchClassifier, finding: int | None = None
) -> float:
    """Return the largest difference of probabilities between an exported network and this program's own.

    Patches are noise and smooth colours, in batches of another size than the one that the network was traced with.
    """
    patches = _example_patches(patch_sides(classifier))
    own = classifier(patches)["probability"]
    if finding is not None:
        own = np.stack([1 - own[:, finding], own[:, finding]], 1)
    scaled = patches.astype(np.float32) / 255
    found = np.concatenate([run(scaled[start : start + BATCH]) for start in range(0, CHECKED, BATCH)])
    return float(np.abs(found - own).max())


def _example_patches(sides: tuple[int, int]) -> np.ndarray:
    """(`CHECKED`, 3, P, P) uint8: a half is noise, a half is as smooth as tissue out of focus."""
    rng = np.random.default_rng(SEED)
    noise = rng.integers(0, 256, (CHECKED // 2, 3, *sides), np.uint8)
    coarse = torch.from_numpy(rng.uniform(0, 255, (CHECKED - CHECKED // 2, 3, 4, 4)).astype(np.float32))
    smooth = nn.functional.interpolate(coarse, sides, mode="bilinear").round().to(torch.uint8).numpy()
    return np.concatenate([noise, smooth])


def patch_sides(classifier: PatchClassifier) -> tuple[int, int]:
    """(height, width) of the patches of a network."""
    side = classifier.bundle.config.patches.size_px
    return side, side


def import_onnx(path: Path) -> Any:
    """Import onnx. `MissingDependencyError` where it is not installed."""
    try:
        import onnx
        import onnx.compose
    except ImportError:
        raise _missing(path, "onnx") from None
    return onnx


def _missing(path: Path, package: str) -> MissingDependencyError:
    return MissingDependencyError(f"{path}: needs {package}: pip install 'napari-distill2label[encoders]'")


@contextmanager
def _deprecations_ignored() -> "Iterator[None]":
    """TorchScript, and the exporter that goes through it, are deprecated; WSInfer and QuPath read nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]  # not listed
        yield
