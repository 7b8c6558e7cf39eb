"""`export-model`: files for WSInfer, QuPath and ONNX."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import onnxruntime
import pytest
import tifffile
import torch

from napari_distill2label.core.errors import BundleError, SettingsError
from napari_distill2label.core.events import Progress
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.store.bundle import load_bundle
from napari_distill2label.workflow.commands import export_model as command
from napari_distill2label.workflow.commands.export_model import export_model

# What WSInfer's schema asks for (wsinfer-zoo 0.6, model-config.schema.json), in our words.
SCHEMA = {
    "type": "object",
    "required": [
        "spec_version", "architecture", "num_classes", "patch_size_pixels", "spacing_um_px", "class_names", "transform",
    ],
    "properties": {
        "spec_version": {"enum": ["1.0"]},
        "architecture": {"type": "string"},
        "num_classes": {"type": "integer", "minimum": 1},
        "patch_size_pixels": {"type": "integer", "minimum": 1},
        "spacing_um_px": {"type": "number", "exclusiveMinimum": 0},
        "class_names": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "transform": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "additionalProperties": False,
                "properties": {"name": {"enum": ["Resize", "ToTensor", "Normalize"]}, "arguments": {"type": "object"}},
            },
        },
    },
    "additionalProperties": False,
}  # fmt: skip


def test_for_wsinfer(trained, tmp_path, cli):
    status, out, err = cli("export-model", trained, tmp_path / "w", "--to", "wsinfer")
    assert status == 0, err
    names = ["torchscript_model.pt", "config.json", "model.json", "README.md"]
    assert [Path(line).name for line in out.splitlines()[:-1]] == names
    assert "differ from this program's by at most" in out
    config = json.loads((tmp_path / "w" / "config.json").read_text("utf-8"))
    jsonschema.validate(config, SCHEMA)
    assert (config["class_names"], config["patch_size_pixels"], config["spacing_um_px"]) == (
        ["normal", "tumour"],
        27,
        0.5,
    )
    about = json.loads((tmp_path / "w" / "model.json").read_text("utf-8"))
    bundle = load_bundle(trained / "student")
    assert about["weights_sha256"] == bundle.config.weights_sha256
    assert about["threshold"] == bundle.threshold
    assert about["largest_difference"] <= 1e-5
    card = (tmp_path / "w" / "README.md").read_text("utf-8")
    assert "What the context adds" in card
    assert "research use only" in card
    # Again: the files are ours. A file of somebody else is left alone.
    assert cli("export-model", trained, tmp_path / "w", "--to", "wsinfer", "--network", "teacher")[0] == 0
    (tmp_path / "w" / "config.json").write_text("mine")
    status, _, err = cli("export-model", trained, tmp_path / "w", "--to", "wsinfer")
    assert (status, "config.json" in err, "--overwrite" in err) == (2, True, True)


def test_as_onnx_it_gives_the_probabilities_of_a_slide(trained, cohort_csv, tmp_path, collect):
    """Patches of a slide cut by hand, through onnxruntime alone, against the logits of the patch map."""
    from napari_distill2label.workflow.commands.predict import predict

    events, exported = collect(export_model(trained, tmp_path, "onnx"))
    assert [type(event) for event in events] == [Progress] * 2
    assert [file.name for file in exported.files] == ["model.onnx", "model.json", "README.md"]
    assert exported.difference <= 1e-5
    slide = cohort_csv.parent / "slides" / "slide_001.ome.tif"
    _, (patch_map,) = collect(predict(trained, [slide]))
    pixels, corners = tifffile.imread(slide), patch_map.patches.corners
    whole = (corners >= 0).all(1) & (corners + 27 <= pixels.shape[:2]).all(1)
    cut = np.stack([pixels[y : y + 27, x : x + 27] for y, x in corners[whole]]).transpose(0, 3, 1, 2)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    logits, _ = session.run(None, {"patches": cut.astype(np.float32) / 255})
    bundle = load_bundle(trained / "student")
    (finding,) = bundle.config.calibration.findings
    own = patch_map.logit[patch_map.patches.scored][whole]
    expected = finding.patch.logit(own[:, 1] - own[:, 0])
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], expected, atol=1e-4)


def test_another_network_is_not_left_behind(trained, tmp_path, collect, monkeypatch):
    monkeypatch.setattr(command, "TOLERANCE", -1.0)
    with pytest.raises(BundleError, match="gives other probabilities"):
        collect(export_model(trained, tmp_path / "out", "onnx"))
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").glob("[!.]*")) == []


def test_what_cannot_be_exported_is_said(trained, tmp_path, collect):
    bundle = load_bundle(trained / "student")
    without = bundle._replace(config=bundle.config.model_copy(update={"mpp": None}))
    with pytest.raises(SettingsError, match="WSInfer cuts patches by µm/px"):
        collect(export_model(without, tmp_path / "a", "wsinfer"))
    _, exported = collect(export_model(without, tmp_path / "a", "wsinfer", inputs=Inputs(mpp=0.25)))
    assert json.loads(exported.files[1].read_text())["spacing_um_px"] == 0.25
    _, exported = collect(export_model(without, tmp_path / "b", "onnx"))
    assert json.loads(exported.files[1].read_text())["mpp"] is None
    with pytest.raises(SettingsError, match="wsinfer and onnx, not for 'tflite'"):
        collect(export_model(bundle, tmp_path / "c", "tflite"))
    with pytest.raises(SettingsError, match="no use for corrections"):
        collect(export_model(bundle, tmp_path / "c", "onnx", inputs=Inputs(corrections="a.csv")))


def test_findings_that_may_be_present_at_once_get_a_folder_each(trained, tmp_path, collect):
    bundle = load_bundle(trained / "student")
    architecture = bundle.config.architecture.model_copy(update={"multi_label": True})
    classes, calibration = ("normal", "a/b", "=c"), bundle.config.calibration
    findings = calibration.findings * 2
    config = bundle.config.model_copy(
        update={"architecture": architecture, "classes": classes,
                "calibration": calibration.model_copy(update={"findings": findings})}
    )  # fmt: skip
    model = bundle.model
    model.settings = architecture
    model.head = torch.nn.Linear(model.head.in_features, 3)
    several = bundle._replace(config=config, model=model.eval())
    _, exported = collect(export_model(several, tmp_path, "wsinfer"))
    folders = sorted({file.parent for file in exported.files})
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {tmp_path}
    configs = [json.loads((folder / "config.json").read_text()) for folder in folders]
    assert sorted(config["class_names"] for config in configs) == [["no =c", "=c"], ["no a/b", "a/b"]]
    _, exported = collect(export_model(several, tmp_path / "o", "onnx"))
    assert json.loads(exported.files[1].read_text())["multi_label"] is True
