"""A bundle comes back as it went in, and whatever is wrong with one is a plain line; nothing in it is ever run."""

import hashlib
import json
import pickle  # noqa: TID251 (to make the file that must be refused)
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_distill2label.core.errors import BundleError
from napari_distill2label.core.settings import ArchitectureSettings, PatchSettings, StudentSettings, TeacherSettings
from napari_distill2label.mil.model import MILModel
from napari_distill2label.store.bundle import load_bundle, remove_bundle, save_bundle
from napari_distill2label.store.bundle_config import is_bundle

SIDE = 12
SHA = "0" * 64


def make_model(encoder="colon", n_classes=2, **settings):
    torch.manual_seed(0)
    shape = (6,) if encoder == "features" else (3, SIDE, SIDE)
    model = MILModel(ArchitectureSettings(encoder=encoder, hidden_dim=8, attention_dim=4, **settings), n_classes, shape)
    model.mean.copy_(torch.linspace(0.1, 0.7, len(model.mean)))
    model.std.fill_(0.3)
    return model.eval()


def about(**changes):
    return {
        "network": "student",
        "classes": ("normal", "tumour"),
        "patches": PatchSettings(size_px=SIDE, stride_px=5),
        "training": StudentSettings(epochs=3),
        "preset": "colon",
        "method": "paper",
        "seed": 7,
        "epoch": 2,
        "mpp": 0.5,
        "n_train": 10,
        "n_valid": 2,
        "data_signature": "abc",
    } | changes


@pytest.fixture
def bundle(tmp_path):
    return save_bundle(tmp_path / "student", make_model(), about(), {"auroc": 0.9, "accuracy": None, "n": 2})


def altered(bundle: Path, **changes) -> Path:
    """Change fields of config.json; dotted names reach inside."""
    config = json.loads((bundle / "config.json").read_text("utf-8"))
    for name, value in changes.items():
        part = config
        *path, last = name.split("__")
        for key in path:
            part = part[key]
        part[last] = value
    (bundle / "config.json").write_text(json.dumps(config), "utf-8")
    return bundle


def with_weights(bundle: Path, content: bytes) -> Path:
    """Other weights, and the config made to agree."""
    (bundle / "model.safetensors").write_bytes(content)
    return altered(bundle, weights_sha256=hashlib.sha256(content).hexdigest())


def refused(bundle: Path, message: str):
    with pytest.raises(BundleError, match=rf"^[^\n]*{message}[^\n]*$") as caught:
        load_bundle(bundle)
    assert str(bundle) in str(caught.value)


@pytest.mark.parametrize(
    "kind", [{}, {"pooling": "attention"}, {"pooling": "max", "multi_label": True}, {"encoder": "lenet5"}]
)
@torch.no_grad()
def test_a_network_gives_the_same_answers_after_a_round_trip(tmp_path, kind):
    side = 16 if kind.get("encoder") == "lenet5" else SIDE
    model = MILModel(ArchitectureSettings(hidden_dim=8, attention_dim=4, **kind), 3, (3, side, side)).eval()
    model.mean.fill_(0.6)
    changes = {"classes": ("normal", "a", "b"), "patches": PatchSettings(size_px=side)}
    folder = save_bundle(tmp_path / "Modell Ä 1", model, about(**changes), {})
    torch.manual_seed(4)
    before = torch.get_rng_state()
    loaded = load_bundle(folder)
    assert torch.equal(torch.get_rng_state(), before)  # loading draws no random numbers
    assert not loaded.model.training
    patches = torch.randint(0, 256, (7, 3, side, side), dtype=torch.uint8)
    for mine, other in zip(model(patches), loaded.model(patches), strict=True):
        assert torch.equal(mine, other)
    assert loaded.model.settings == model.settings
    for (name, mine), other in zip(model.named_parameters(), loaded.model.parameters(), strict=True):
        assert mine.stride() == other.stride(), name
        assert other.requires_grad


def test_a_network_on_features(tmp_path):
    encoder = {"name": "resnet", "path": "/models/resnet.onnx", "sha256": SHA}
    folder = save_bundle(
        tmp_path / "m", make_model("features"), about(encoder=encoder, patches=PatchSettings(size_px=224)), {}
    )
    assert load_bundle(folder).config.encoder.sha256 == SHA
    refused(altered(folder, encoder=None), "encoder and instance shape differ")


def test_a_bundle_says_what_it_is(bundle):
    config = load_bundle(bundle).config
    assert (config.network, config.classes, config.mpp, config.seed, config.epoch) == (
        "student",
        ("normal", "tumour"),
        0.5,
        7,
        2,
    )
    assert config.patches == PatchSettings(size_px=SIDE, stride_px=5)
    assert config.training == StudentSettings(epochs=3)
    assert config.mean == pytest.approx((0.1, 0.4, 0.7))
    assert {"python", "torch", "numpy", "napari-distill2label"} == set(config.versions)
    assert config.data_signature == "abc"
    assert json.loads((bundle / "metrics.json").read_text()) == {"auroc": 0.9, "accuracy": None, "n": 2}
    assert sorted(file.name for file in bundle.iterdir()) == [
        "card.md",
        "config.json",
        "metrics.json",
        "model.safetensors",
    ]
    identity = load_bundle(bundle).identity
    assert identity["network"] == "student"
    assert identity["weights_sha256"] == hashlib.sha256((bundle / "model.safetensors").read_bytes()).hexdigest()


def test_a_bundle_is_replaced_whole(bundle):
    save_bundle(bundle, make_model(), about(network="teacher", training=TeacherSettings()), {})
    assert load_bundle(bundle).config.network == "teacher"
    assert [path.name for path in bundle.parent.iterdir()] == ["student"]


def test_a_bundle_that_cannot_be_written_leaves_the_former_one(bundle):
    with pytest.raises(ValueError, match="Out of range float"):
        save_bundle(bundle, make_model(), about(network="teacher", training=TeacherSettings()), {"auroc": float("nan")})
    assert load_bundle(bundle).config.network == "student"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    assert is_bundle(bundle)
    refused(bundle, f"it has no {name}")


def test_a_folder_that_is_no_bundle(tmp_path):
    assert not is_bundle(tmp_path)
    refused(tmp_path, "is no model bundle")
    refused(tmp_path / "absent", "is no model bundle")


@pytest.mark.parametrize("at", [0, 8, 100, -1])
def test_altered_weights_are_noticed(bundle, at):
    content = bytearray((bundle / "model.safetensors").read_bytes())
    content[at] ^= 1
    (bundle / "model.safetensors").write_bytes(content)
    refused(bundle, r"model\.safetensors: is not the file that config\.json was written for")


@pytest.mark.parametrize("kept", [0, 7, 500, -1])
def test_truncated_weights_are_noticed(bundle, kept):
    content = (bundle / "model.safetensors").read_bytes()[:kept]
    (bundle / "model.safetensors").write_bytes(content)
    refused(bundle, "altered or truncated")
    refused(with_weights(bundle, content), r"model\.safetensors: does not fit its config\.json")


class Bomb:
    """What a pickle may do when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("agreeing", [False, True])
@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_is_refused_and_never_run(bundle, tmp_path, agreeing, writer):
    proof = tmp_path / "it ran"
    if writer == "pickle":
        content = pickle.dumps(Bomb(proof))
    else:
        torch.save({"head.weight": Bomb(proof)}, tmp_path / "model.pt")
        content = (tmp_path / "model.pt").read_bytes()
    if agreeing:
        refused(with_weights(bundle, content), "does not fit")
    else:
        (bundle / "model.safetensors").write_bytes(content)
        refused(bundle, "altered or truncated")
    assert not proof.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["normal", "a", "b"]}, "does not fit.*head.bias is .2,.*not .3,"),
        ({"classes": ["normal"]}, "config.json: classes: "),
        ({"classes": ["normal", "normal"]}, "two classes have the same name"),
        ({"patches__size_px": SIDE + 1}, "the patch size of the settings and of the network differ"),
        ({"patches__size_px": 40, "instance_shape": [3, 40, 40]}, "does not fit.*encoder.connected.0.weight"),
        ({"patches__size_px": 5, "instance_shape": [3, 5, 5]}, "too small for the encoder"),
        ({"instance_shape": [3, SIDE]}, "the patch size of the settings and of the network differ"),
        ({"instance_shape": []}, "config.json: instance_shape"),
        ({"instance_shape": [0, SIDE, SIDE]}, r"config.json: instance_shape\.0"),
        ({"instance_shape": [4, SIDE, SIDE]}, "does not fit"),
        ({"instance_shape": [10**30, SIDE, SIDE]}, "config.json: instance_shape"),
        (
            {"patches__size_px": 4096, "instance_shape": [3, 4096, 4096], "architecture__hidden_dim": 8192},
            "does not fit",
        ),
        ({"architecture__hidden_dim": 10**400}, "config.json"),
        ({"architecture__hidden_dim": 16}, "does not fit"),
        ({"architecture__pooling": "mean"}, "pooling.* is no part of the network"),
        ({"architecture__encoder": "breast"}, "too small|does not fit"),
        ({"architecture__encoder": "features"}, "encoder and instance shape differ"),
        ({"network": "teacher"}, "network and training settings differ"),
        ({"network": "oracle"}, "config.json: network"),
        ({"format": 1}, "config.json: has format 1, and this version of the program reads format 2"),
        ({"mean": [0.0, 0.0, 0.0]}, "mean or std differ"),
        ({"mpp": float("inf")}, "config.json: mpp"),
        ({"mpp": -1}, "config.json: mpp"),
        ({"seed": 1e400}, "config.json: seed"),
        ({"extra": 1}, "config.json: extra"),
        ({"architecture__extra": 1}, r"config.json: architecture\.extra"),
        ({"weights_sha256": SHA}, "altered or truncated"),
    ],
)
def test_an_altered_config_is_noticed(bundle, changes, message):
    refused(altered(bundle, **changes), message)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", "[" * 200_000, '{"seed": ' + "9" * 5000 + "}", '{"network": "student"}', "\xff"],
)
def test_a_config_that_is_none(bundle, text):
    (bundle / "config.json").write_bytes(text.encode("latin-1"))
    refused(bundle, "Copy it from its source again")


@pytest.mark.parametrize("kind", ["missing", "extra", "dtype", "nan"])
def test_weights_that_are_not_those_of_the_network(bundle, kind):
    path = bundle / "model.safetensors"
    weights = load_file(path)
    if kind == "missing":
        del weights["head.bias"]
    elif kind == "extra":
        weights["head.more"] = torch.zeros(1)
    elif kind == "dtype":
        weights["head.bias"] = weights["head.bias"].double()
    else:
        weights["head.bias"][0] = float("nan")
    save_file(weights, path)
    refused(with_weights(bundle, path.read_bytes()), r"does not fit its config\.json \(head\.(bias|more) ")


def test_a_bundle_on_cuda_answers_as_on_the_cpu(bundle):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine: that a bundle works there was NOT tested")
    patches = torch.randint(0, 256, (7, 3, SIDE, SIDE), dtype=torch.uint8)
    with torch.no_grad():
        cpu, cuda = (load_bundle(bundle, device).model(patches).bag_logits.cpu() for device in ("cpu", "cuda"))
    assert torch.allclose(cpu, cuda, atol=1e-2)


# ---- digests -------------------------------------------------------------------------------------------------------


def test_swapped_classes_are_noticed(bundle):
    refused(altered(bundle, classes=["tumour", "normal"]), r"config\.json: was altered after it was written")


@pytest.mark.parametrize("change", [{"mpp": 0.25}, {"epoch": 1}, {"patches__stride_px": 7}, {"training__epochs": 4}])
def test_so_is_whatever_else_of_the_config_is_plausible(bundle, change):
    refused(altered(bundle, **change), r"config\.json: was altered after it was written")


def test_altered_metrics_are_noticed(bundle):
    (bundle / "metrics.json").write_text('{"auroc": 0.99}')
    refused(bundle, r"metrics\.json: is not the file that config\.json was written for")


def test_white_space_and_the_order_of_keys_are_no_alteration(bundle):
    config = json.loads((bundle / "config.json").read_text("utf-8"))
    (bundle / "config.json").write_text(json.dumps(dict(reversed(config.items()))), "utf-8")
    assert load_bundle(bundle).config.classes == ("normal", "tumour")


def test_a_bundle_of_an_earlier_version_is_read(bundle):
    config = json.loads((bundle / "config.json").read_text("utf-8"))
    for name in ("sha256", "metrics_sha256"):
        del config[name]
    (bundle / "config.json").write_text(json.dumps(config), "utf-8")
    assert load_bundle(bundle).config.metrics_sha256 == ""


def test_a_network_that_is_not_finite_takes_no_good_one_s_place(bundle):
    model = make_model()
    with torch.no_grad():
        model.head.bias[0] = float("inf")
    with pytest.raises(ValueError, match="not finite"):
        save_bundle(bundle, model, about(), {})
    assert load_bundle(bundle).config.epoch == 2


def test_what_is_no_file_of_a_bundle_stays_when_it_is_replaced_or_removed(bundle):
    (bundle / "notes.txt").write_text("mine", "utf-8")
    (bundle / "figures").mkdir()
    (bundle / "figures" / "roc.png").write_bytes(b"x")
    (bundle / "link").symlink_to("nowhere")
    save_bundle(bundle, make_model(), about(epoch=3), {"auroc": 0.9, "accuracy": None, "n": 2})
    assert load_bundle(bundle).config.epoch == 3
    remove_bundle(bundle)
    assert not is_bundle(bundle)
    assert sorted(path.name for path in bundle.iterdir()) == ["figures", "link", "notes.txt"]
    assert (bundle / "notes.txt").read_text("utf-8") == "mine"
    assert (bundle / "figures" / "roc.png").read_bytes() == b"x"


def test_a_bundle_is_removed_with_its_folder(bundle):
    remove_bundle(bundle)
    remove_bundle(bundle)
    assert not bundle.exists()
