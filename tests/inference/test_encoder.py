"""The frozen encoder's file, without a real encoder: what is said of files that do not fit."""

import builtins
import hashlib
import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from napari_distill2label.core.errors import MissingDependencyError, SettingsError
from napari_distill2label.inference import encoder as module
from napari_distill2label.inference import runtimes
from napari_distill2label.inference.encoder import EncoderDescription, FrozenEncoder
from napari_distill2label.inference.runtimes import weight_files


def test_the_description_knows_its_ranges():
    description = EncoderDescription(name="e", features=4, licence="ignored")
    assert (description.patch_px, description.mpp, description.mean) == (224, None, (0, 0, 0))
    nan, long = float("nan"), "x" * 3000
    for wrong in (
        {"features": 0}, {"patch_px": 0}, {"mpp": 100}, {"std": [1]}, {"mean": [nan, 0, 0]}, {"meen": [0, 0, 0]},
        {"mpp": nan}, {"name": ""}, {"name": long}, {"note": long}, {"features": "many"}, {"mean": [0, 0, 1e30]},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="validation error"):
            EncoderDescription(**{"name": "e", "features": 4} | wrong)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '"e"', "{", '{"name": "e"}', "[" * 30_000, '{"name": "e", "features": ' + "9" * 5000 + "}",
     '{"name": "' + "e" * 70_000 + '", "features": 3}'],
    ids=["empty", "list", "null", "text", "cut", "lacking", "deep", "digits", "long"],
)  # fmt: skip
def test_a_description_that_is_none_is_one_line_that_names_it(tmp_path, text):
    (tmp_path / "e.onnx").touch()
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(SettingsError, match=r"e\.json: ") as error:
        FrozenEncoder(tmp_path / "e.onnx")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_arguments_that_would_open_something_are_refused(tmp_path):
    """`checkpoint_path` would be unpickled by timm; the others name files and addresses, or are no layout."""
    path = tmp_path / "e.safetensors"
    path.touch()
    for name, value in (
        ("checkpoint_path", "x.pt"), ("pretrained", True), ("pretrained_cfg", "x"), ("cache_dir", "/x"),
        ("pretrained_cfg_overlay", "x"), ("num_classes", 5), ("act_layer", "os.system"), ("init_values", "1"),
        ("img_size", 10**9), ("depth", 10**6), ("global_pool", "os"),
    ):  # fmt: skip
        about = {"name": "e", "features": 3, "timm": "vit_tiny_patch16_224", "arguments": {name: value}}
        if (name, value) == ("init_values", "1"):
            about["arguments"][name] = "one"
        path.with_suffix(".json").write_text(json.dumps(about))
        with pytest.raises(SettingsError, match=rf"e\.json: arguments\.{name}: "):
            FrozenEncoder(path)
    for name in ("hf-hub:a/b", "hf_hub:a", "local-dir:/x", "https://x", "../x", "a/b", "a..b", ".a"):
        path.with_suffix(".json").write_text(json.dumps({"name": "e", "features": 3, "timm": name}))
        with pytest.raises(SettingsError, match=r"e\.json: timm: "):
            FrozenEncoder(path)


def test_the_digest_is_what_it_was():
    """Features are known by it: those of an encoder without arguments are not computed again."""
    plain = EncoderDescription(name="e", features=4, mean=(0.1, 0.2, 0.3))
    deciding = {"arguments": {}, "mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0], "timm": None}
    assert plain.digest == hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
    vit = EncoderDescription(name="e", features=4, timm="vit", arguments={"init_values": 1e-5})
    deciding = {"arguments": {"init_values": 1e-5}, "mean": [0.0] * 3, "std": [1.0] * 3, "timm": "vit"}
    assert vit.digest == hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def test_missing_files_are_named(tmp_path):
    with pytest.raises(SettingsError, match=r"e\.onnx: no such file"):
        FrozenEncoder(tmp_path / "e.onnx")
    with pytest.raises(SettingsError, match=r"is no encoder: .*\.onnx"):
        FrozenEncoder(tmp_path / "e.exe")
    (tmp_path / "e.onnx").touch()
    with pytest.raises(SettingsError, match=r"e\.json: no such file"):
        FrozenEncoder(tmp_path / "e.onnx")


def test_without_onnxruntime_it_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "e.onnx").touch()
    (tmp_path / "e.json").write_text('{"name": "e", "features": 4}')
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "onnxruntime":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"pip install 'napari-distill2label\[encoders\]'"):
        FrozenEncoder(tmp_path / "e.onnx")


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protobuf message."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    data = value.encode() if isinstance(value, str) else value
    assert len(data) < 128 * 128
    length = bytes([len(data)]) if len(data) < 128 else bytes([len(data) & 127 | 128, len(data) >> 7])
    return bytes([number << 3 | 2]) + length + data


def write_encoder(path, batch="n", side="side", features=3, **description):
    """An ONNX file, written by hand: the mean of each channel. Sizes that are text are left open."""

    def tensor(name, *sizes):
        dims = b"".join(field(1, field(1 if isinstance(size, int) else 2, size)) for size in sizes)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))

    pool = field(1, "patches") + field(2, "pooled") + field(4, "GlobalAveragePool")
    flat = field(1, "pooled") + field(2, "features") + field(4, "Flatten")
    graph = field(1, pool) + field(1, flat) + field(2, "means")
    graph += field(11, tensor("patches", batch, 3, side, side)) + field(12, tensor("features", batch, 3))
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(2, 13)))
    about = {"name": "means", "features": features, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.5, 1.0]} | description
    path.with_suffix(".json").write_text(json.dumps(about))
    return path


def means(patches):
    return (patches.mean((2, 3)) / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.5, 1.0]


@pytest.fixture
def patches():
    return np.random.default_rng(0).integers(0, 256, (11, 3, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize("batch", ["n", 1, 4])
@pytest.mark.parametrize("side", ["side", 8])
def test_batches_are_bounded_and_nothing_else_changes(tmp_path, patches, batch, side, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(module, "BATCH_PIXELS", 3 * 64)
    encoder = FrozenEncoder(write_encoder(tmp_path / "e.onnx", batch, side))
    sizes, run = [], encoder._runtime.run
    encoder._runtime = encoder._runtime._replace(run=lambda shown: sizes.append(len(shown)) or run(shown))
    found = encoder(patches)["features"]
    np.testing.assert_allclose(found, means(patches), atol=1e-5)
    assert found.dtype == np.float32
    assert set(sizes) == {batch} if batch != "n" else max(sizes) == 3
    assert encoder(patches[:0])["features"].shape == (0, 3)


def test_a_fixed_side_is_the_only_one(tmp_path, patches):
    pytest.importorskip("onnxruntime")
    encoder = FrozenEncoder(write_encoder(tmp_path / "e.onnx", side=8))
    encoder.check_side(8)
    with pytest.raises(SettingsError, match=r"patches of 8 px only\. Set patches\.size_px=8"):
        encoder.check_side(16)
    with pytest.raises(SettingsError, match="cannot encode patches of 7 px"):
        encoder(patches[:, :, :7, :7])


def test_threads_and_other_processes_may_use_it(tmp_path, patches):
    pytest.importorskip("onnxruntime")
    encoder = FrozenEncoder(write_encoder(tmp_path / "e.onnx"), device="cpu")
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(encoder, [patches] * 20):
            np.testing.assert_allclose(found["features"], means(patches), atol=1e-5)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        other = pool.submit(encoder, patches).result()
    np.testing.assert_array_equal(other["features"], encoder(patches)["features"])


def test_its_identity_is_that_of_all_its_files_and_of_the_normalisation(tmp_path):
    pytest.importorskip("onnxruntime")
    path = write_encoder(tmp_path / "e.onnx")
    first = FrozenEncoder(path).identity
    assert first.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    write_encoder(path, note="a word more", patch_px=99)
    assert FrozenEncoder(path).identity.is_same(first)
    write_encoder(path, std=[0.2, 0.5, 0.9])
    assert not FrozenEncoder(path).identity.is_same(first)
    # Weights outside the file count too, and lie beside it.
    write_encoder(path)
    path.write_bytes(path.read_bytes() + field(9, field(1, "location") + field(2, "e.data")))
    with pytest.raises(SettingsError, match=r"'e\.data': that file must lie beside it"):
        FrozenEncoder(path)
    (tmp_path / "e.data").write_bytes(b"weights")
    assert [file.name for file in weight_files(path)] == ["e.onnx", "e.data"]
    path.write_bytes(path.read_bytes().replace(b"e.data", b"../e.d"))
    with pytest.raises(SettingsError, match="must lie beside it"):
        weight_files(path)


@pytest.mark.parametrize(("description", "said"), [({"std": [0.1, 0, 1]}, "above 0"), ({"features": 4}, "gives 3")])
def test_a_description_that_does_not_fit_is_told(tmp_path, patches, description, said):
    pytest.importorskip("onnxruntime")
    write_encoder(tmp_path / "e.onnx", **description)
    with pytest.raises(SettingsError, match=said):
        FrozenEncoder(tmp_path / "e.onnx")(patches)


def test_weights_alone_need_the_name_of_their_network(tmp_path):
    path = write_encoder(tmp_path / "e.onnx").rename(tmp_path / "e.safetensors")
    with pytest.raises(SettingsError, match="which network of timm"):
        FrozenEncoder(path)


def test_timm_is_there_and_not_too_old(tmp_path, monkeypatch):
    path = tmp_path / "e.safetensors"
    path.touch()
    path.with_suffix(".json").write_text('{"name": "e", "features": 3, "timm": "vit_tiny_patch16_224"}')
    for found in (None, "1.0.15", "0.9.16", "1.0.3.dev0"):

        def version(name, found=found):
            if found is None:
                raise PackageNotFoundError(name)
            return found

        monkeypatch.setattr(runtimes, "version", version)
        said = r"needs timm.*napari-distill2label\[timm\]" if found is None else rf"1\.0\.26 or later, this is {found}"
        with pytest.raises(MissingDependencyError, match=said):
            FrozenEncoder(path)


@pytest.fixture
def vit(tmp_path):
    """A small network of timm, and the encoder its weights were written as."""
    timm = pytest.importorskip("timm", reason="encoders of timm were NOT tested: timm is not installed")
    from safetensors.torch import save_file

    layout = {"img_size": 32, "depth": 2, "embed_dim": 48, "num_heads": 3, "init_values": 1e-5}
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=7, **layout).eval()
    save_file(network.state_dict(), tmp_path / "e.safetensors")
    about = {"name": "vit", "features": 48, "timm": "vit_tiny_patch16_224", "arguments": layout}
    (tmp_path / "e.json").write_text(json.dumps(about))
    return network, tmp_path / "e.safetensors", about


def test_a_network_of_timm_says_what_timm_says(vit):
    network, path, _ = vit
    patches = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    with torch.inference_mode():
        expected = network.forward_head(
            network.forward_features(torch.from_numpy(patches).float() / 255), pre_logits=True
        )
    found = FrozenEncoder(path, "cpu")(patches)["features"]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"arguments": {"img_size": 32, "depth": 3, "embed_dim": 48, "num_heads": 3}}, "are no weights of timm's"),
        ({"arguments": {"img_size": 32, "depth": 128, "embed_dim": 8160, "num_heads": 3}}, "are no weights of timm's"),
        ({"arguments": {"img_size": 32, "depth": 2, "embed_dim": 48, "num_heads": 5}}, "are no weights of timm's"),
        ({"timm": "no_such_network"}, "has no network 'no_such_network'"),
    ],
)
def test_weights_of_another_network_are_told_before_it_is_made(vit, change, said):
    _, path, about = vit
    path.with_suffix(".json").write_text(json.dumps(about | change))
    with pytest.raises(SettingsError, match=said):
        FrozenEncoder(path)


def test_what_an_onnx_file_keeps_elsewhere_is_found_however_it_is_written(tmp_path):
    path = write_encoder(tmp_path / "e.onnx")
    plain = path.read_bytes()
    key, value = field(1, "location"), field(2, "/etc/passwd")
    path.write_bytes(plain + field(9, key + value))
    with pytest.raises(SettingsError, match="must lie beside it"):
        weight_files(path)
    path.write_bytes(plain + field(9, value + key))  # a message's fields may come in any order
    with pytest.raises(SettingsError, match="whose name cannot be read"):
        weight_files(path)
    path.write_bytes(plain + field(9, key + field(2, "x" * 200)))
    with pytest.raises(SettingsError, match="whose name cannot be read"):
        weight_files(path)


def test_the_processor_is_used_where_it_is_asked_for():
    class Everything:
        @staticmethod
        def get_available_providers():
            return [f"{kind}ExecutionProvider" for kind in ("Tensorrt", "CUDA", "Azure", "CPU")]

    assert runtimes._providers(Everything, "cpu") == ["CPUExecutionProvider"]
    assert runtimes._providers(Everything, "cuda:1") == [
        ("CUDAExecutionProvider", {"device_id": "1"}), "CPUExecutionProvider",
    ]  # fmt: skip
