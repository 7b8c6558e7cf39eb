"""Exported networks, run by onnxruntime and by TorchScript alone, give the probabilities of this program."""

import json
import warnings

import numpy as np
import onnxruntime
import pytest
import torch

from napari_distill2label.core.calibration import Calibration, FindingCalibration, Line
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.settings import ArchitectureSettings, PatchSettings, StudentSettings
from napari_distill2label.inference.classifier import PatchClassifier
from napari_distill2label.inference.encoder import FrozenEncoder
from napari_distill2label.inference.exported_network import (
    largest_difference,
    run_onnx,
    run_torchscript,
    save_onnx,
    save_torchscript,
)
from napari_distill2label.mil.model import MILModel
from napari_distill2label.store.bundle import load_bundle, save_bundle

onnx = pytest.importorskip("onnx", reason="ONNX export was NOT tested: onnx is not installed")

ALL = ("normal", "a", "b")


@pytest.fixture
def classifier(tmp_path):
    """`classifier(classes, multi_label, calibrated, encoder)`: a network of random weights, ready to predict."""

    def make(classes=ALL[:2], multi_label=False, calibrated=True, encoder=None, patch_px=27):
        torch.manual_seed(1)
        shape = (3, patch_px, patch_px) if encoder is None else (encoder.description.features,)
        architecture = ArchitectureSettings(encoder="features" if encoder else "colon", multi_label=multi_label)
        model = MILModel(architecture, len(classes), shape).eval()
        model.mean.copy_(torch.linspace(0.2, 0.8, len(model.mean)))
        model.std.copy_(torch.linspace(0.1, 0.3, len(model.std)))
        if encoder:
            model.std[::7] = 0  # features that do not vary
        findings = [
            FindingCalibration(prior=0.3, patch=Line(slope=1.5, offset=-0.4 * i), slide=Line())
            for i, _ in enumerate(classes[1:])
        ]
        about = {
            "network": "student", "classes": classes, "patches": PatchSettings(size_px=patch_px), "mpp": 0.5,
            "training": StudentSettings(), "encoder": encoder and encoder.identity,
            "calibration": Calibration(findings=findings) if calibrated else None,
        }  # fmt: skip
        return PatchClassifier(load_bundle(save_bundle(tmp_path / "bundle", model, about, {})), encoder)

    return make


@pytest.fixture
def patches():
    """`patches(n, side)`: (n, 3, P, P) uint8."""
    return lambda n, side=27: np.random.default_rng(n).integers(0, 256, (n, 3, side, side), np.uint8)


@pytest.mark.parametrize(
    ("classes", "multi_label", "calibrated"),
    [(ALL[:2], False, True), (ALL[:2], False, False), (ALL, False, False), (ALL, True, True), (ALL, True, False)],
)
def test_onnx_of_any_batch_size(classifier, patches, tmp_path, classes, multi_label, calibrated):
    own = classifier(classes, multi_label, calibrated)
    save_onnx(tmp_path / "m.onnx", own)
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    assert (taken.name, taken.shape, taken.type) == ("patches", ["n", 3, 27, 27], "tensor(float)")
    for n in (1, 5, 33):
        given = patches(n)
        logits, found = session.run(["logits", "probabilities"], {"patches": given.astype(np.float32) / 255})
        np.testing.assert_allclose(found, own(given)["probability"], atol=1e-5)
        if not calibrated:
            np.testing.assert_allclose(logits, own(given)["logit"], atol=1e-4)
    assert largest_difference(run_onnx(tmp_path / "m.onnx"), own) <= 1e-5


def test_the_comparison_notices_another_network(classifier, tmp_path):
    own = classifier()
    save_onnx(tmp_path / "m.onnx", own)
    with torch.no_grad():
        own.bundle.model.head.bias[1] += 0.1
    assert largest_difference(run_onnx(tmp_path / "m.onnx"), own) > 1e-3


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("finding", [None, 1, 2])
def test_torchscript_whose_softmax_is_the_probability(classifier, patches, tmp_path, calibrated, finding):
    own = classifier(ALL[:2] if finding is None else ALL, finding is not None, calibrated)
    save_torchscript(tmp_path / "m.pt", own, finding)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script = torch.jit.load(tmp_path / "m.pt")
    for n in (1, 5):
        given = patches(n)
        logits = script(torch.from_numpy(given).float() / 255)
        assert logits.shape == (n, 2)
        assert not logits.requires_grad
        found = logits.softmax(1)[:, 1].numpy()
        np.testing.assert_allclose(found, own(given)["probability"][:, finding or 1], atol=1e-5)
    assert largest_difference(run_torchscript(tmp_path / "m.pt"), own, finding) <= 1e-5


def test_with_a_frozen_encoder_in_the_graph(classifier, patches, tmp_path, data_dir):
    encoder = FrozenEncoder(data_dir / "encoders" / "mobilenet_v2_imagenet.onnx", "cpu")
    own = classifier(encoder=encoder, patch_px=64)
    save_onnx(tmp_path / "m.onnx", own)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_outputs()] == ["logits", "probabilities"]
    given = patches(3, 64)
    _, found = session.run(None, {"patches": given.astype(np.float32) / 255})
    np.testing.assert_allclose(found, own(given)["probability"], atol=1e-5)
    with pytest.raises(SettingsError, match="takes TorchScript, and this encoder is an ONNX file"):
        save_torchscript(tmp_path / "m.pt", own)


def test_with_a_frozen_encoder_of_torchscript(classifier, patches, tmp_path, data_dir):
    encoder = FrozenEncoder(data_dir / "encoders" / "mobilenet_v2_imagenet.torchscript.pt", "cpu", trusted=True)
    own = classifier(encoder=encoder, patch_px=64)
    save_torchscript(tmp_path / "m.pt", own)
    assert largest_difference(run_torchscript(tmp_path / "m.pt"), own) <= 1e-5
    with pytest.raises(SettingsError, match="is no ONNX file"):
        save_onnx(tmp_path / "m.onnx", own)


def test_an_encoder_whose_names_are_those_of_our_graph(classifier, patches, tmp_path):
    """Every name that the joined graph uses may occur in an encoder too."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Identity", ["features"], ["mean"]),
        helper.make_node("ReduceMean", ["mean"], ["normalised"], axes=[2, 3], keepdims=1),
        helper.make_node("Identity", ["normalised"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "probabilities", [helper.make_tensor_value_info("features", kind, ["n", 3, None, None])],
        [helper.make_tensor_value_info("logits", kind, ["n", 3, 1, 1])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.save(model, tmp_path / "e.onnx")
    about = {"name": "e", "features": 3, "patch_px": 27, "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.25, 2.0]}
    (tmp_path / "e.json").write_text(json.dumps(about))
    own = classifier(encoder=FrozenEncoder(tmp_path / "e.onnx", "cpu"))
    save_onnx(tmp_path / "m.onnx", own)
    assert largest_difference(run_onnx(tmp_path / "m.onnx"), own) <= 1e-5
