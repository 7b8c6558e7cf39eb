"""`features`, and training on them: a frozen encoder's file, computed once per patch."""

import json
import shutil

import h5py
import numpy as np
import pytest

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import ItemDone, ItemFailed, Progress, drain
from napari_distill2label.core.inputs import Encoder, Inputs
from napari_distill2label.core.notices import Notice
from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.settings import PatchSettings, Settings
from napari_distill2label.inference.encoder import FrozenEncoder
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.maps.feature_map import FeatureMap
from napari_distill2label.workflow.commands.extract_features import extract_features
from napari_distill2label.workflow.commands.predict import predict
from napari_distill2label.workflow.commands.train import train
from napari_distill2label.workflow.feature_store import UNFINISHED, FeatureStore

pytest.importorskip("onnxruntime", reason="frozen encoders were NOT tested: onnxruntime is not installed")

WSI = ["--preset", "wsi", "--patches.size_px", "32", "--patches.mpp", "0.5", "--patches.tissue", "none"]


@pytest.fixture
def encoder(data_dir, tmp_path):
    """A copy of the real encoder (ImageNet, 1280 features), in a folder of any name."""
    folder = tmp_path / "Encoder ü"
    folder.mkdir()
    for suffix in ("onnx", "json"):
        shutil.copyfile(data_dir / "encoders" / f"mobilenet_v2_imagenet.{suffix}", folder / f"mobil.{suffix}")
    return folder / "mobil.onnx"


@pytest.fixture
def four(slides, cohort_of):
    """Four labelled slides: two to train on, one for validation, one for the test."""
    splits = ("train", "train", "valid", "test")
    rows = [(f"s/{i}", path, ("normal", "tumour")[i % 2], splits[i]) for i, path in enumerate(slides[:4])]
    return cohort_of(rows, ("slide_id", "path", "label", "split"))


@pytest.fixture
def seen(monkeypatch):
    """Numbers of patches the encoder is shown, call by call."""
    counts, ask = [], FrozenEncoder.__call__
    monkeypatch.setattr(
        FrozenEncoder, "__call__", lambda self, patches: counts.append(len(patches)) or ask(self, patches)
    )
    return counts


def test_features_are_computed_once(encoder, four, tmp_path, seen, collect):
    cohort, grid = Cohort.read(four), PatchSettings(size_px=32)
    cohort = cohort.with_slides([*list(cohort)[:2], type(cohort.slides[0])("gone", tmp_path / "gone.png")])
    events, folders = collect(extract_features(cohort, tmp_path / "f", grid, inputs=Inputs(encoder=Encoder(encoder))))
    assert [(type(event), event.item) for event in events if isinstance(event, ItemDone | ItemFailed)] == [
        (ItemDone, "s/0"), (ItemDone, "s/1"), (ItemFailed, "gone"),
    ]  # fmt: skip
    assert sum(seen) == 2 * 12  # 112 × 128 px
    assert all(folder.parent == tmp_path / "f" and folder.is_dir() for folder in folders)
    assert any(isinstance(event, Progress) and event.total == 12 for event in events)
    assert (
        collect(extract_features(cohort, tmp_path / "f", grid, inputs=Inputs(encoder=Encoder(encoder))))[1] == folders
    )
    assert sum(seen) == 2 * 12
    events, _ = collect(
        extract_features(cohort, tmp_path / "f", PatchSettings(size_px=40), inputs=Inputs(encoder=Encoder(encoder)))
    )  # made anew
    assert sum(seen) > 2 * 12
    told = [str(event) for event in events if isinstance(event, Notice) and "computed again" in str(event)]
    assert [message.split(":")[0] for message in told] == ["s/0", "s/1"]


def test_features_of_two_bytes_train_and_predict_nearly_the_same(encoder, slides, cohort_of, tmp_path, tiny):
    rows = [(f"{i}", path, ("normal", "tumour")[i % 2], "train") for i, path in enumerate(slides[:2])]
    cohort = Cohort.read(cohort_of(rows, ("slide_id", "path", "label", "split")))
    grid, inputs, probabilities = PatchSettings(size_px=32), Inputs(encoder=Encoder(encoder)), []
    settings = tiny(patches=grid.model_dump())
    for dtype in ("float32", "float16"):
        out = tmp_path / dtype
        for format in ("zarr", "h5"):
            (file, _) = drain(extract_features(cohort, out, grid, formats=(format,), dtype=dtype, inputs=inputs))
        with h5py.File(file) as stored:
            assert stored["features"].dtype == dtype
        own = Inputs(features=out)
        run = drain(train(cohort, tmp_path / f"run {dtype}", settings, inputs=own))
        patch_map, _ = drain(predict(run, cohort, inputs=own))
        probabilities.append(patch_map.probability)
    assert 0 < np.abs(probabilities[0] - probabilities[1]).max() < 0.02
    with pytest.raises(SettingsError, match="float32 or float16, not as int8"):
        drain(extract_features(cohort, tmp_path, grid, dtype="int8", inputs=inputs))


def test_features_of_a_region_alone(encoder, slides, cli, tmp_path):
    ring = [[0, 0], [64, 0], [64, 64], [0, 64], [0, 0]]
    region = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    (regions := tmp_path / "regions").mkdir()
    (regions / "S.geojson").write_text(json.dumps(region))
    (cohort := tmp_path / "one.csv").write_text(f"slide_id,path,label\nS,{slides[0]},normal\n")
    size = ["--patches.size_px", "32", "--patches.tissue", "none"]
    status, _, err = cli(
        "extract-features", cohort, "--encoder", encoder, "-o", tmp_path / "f", *size, "--tissue", regions
    )
    assert status == 0, err
    assert int(FeatureMap.open(tmp_path / "f" / "S.zarr").patches.scored.sum()) == 4


def test_a_frozen_encoder_s_features_are_those_of_its_description(encoder):
    frozen = FrozenEncoder(encoder)
    found = frozen(np.full((3, 3, 32, 32), 128, np.uint8))["features"]
    assert found.shape == (3, 1280)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], found[1])
    assert np.isfinite(found).all()
    assert (frozen.identity.name, len(frozen.identity.sha256)) == ("mobilenet_v2_imagenet", 64)


def test_train_resume_predict_and_evaluate_on_features(
    encoder, four, cohort_csv, tmp_path, flags, cli, refused, seen, config_of, table
):
    run, slide = tmp_path / "Lauf", Cohort.read(four).slides[3].path
    assert cli("train", four, "-o", run, *WSI, "--encoder", encoder, *flags)[0] == 0
    assert sum(seen) == 3 * 12  # the test slide is not touched
    config = config_of(run / "student")
    assert config["encoder"]["path"] == str(encoder)
    assert (config["architecture"]["encoder"], config["instance_shape"], config["mpp"]) == ("features", [1280], 0.5)

    out = tmp_path / "out"
    status, _, err = cli("predict", run, slide, "-o", out, "--format", "csv")
    assert status == 0, err
    assert len((out / "slide_003.csv").read_text().splitlines()) == 1 + 12
    kept, dense = (
        set((run / "features").rglob("*")),
        ["predict", run, slide, "-o", tmp_path / "dense", "--format", "csv"],
    )
    assert cli(*dense, "--dense-stride", "32")[0] == 0
    alone, every = (table(folder / "slide_003.csv") for folder in (out, tmp_path / "dense"))
    assert [row["minx"] for row in every] == [row["minx"] for row in alone]
    assert [float(row["prob_tumour"]) for row in every] == pytest.approx(
        [float(r["prob_tumour"]) for r in alone], abs=1e-5
    )
    assert cli(*dense, "--dense-stride", "16")[0] == 0
    assert len(table(tmp_path / "dense" / "slide_003.csv")) == 7 * 8
    assert set((run / "features").rglob("*")) == kept  # those of a dense map would be many
    assert "computes its own" in refused(*dense, "--dense-stride", "16", "--features", run / "features")
    truth = tmp_path / "truth.csv"
    truth.write_text(cohort_csv.with_name("truth.csv").read_text().replace("slide_00", "s/"))
    assert cli("evaluate", run, four, "--truth", truth)[0] == 0

    del seen[:]
    moved = tmp_path / "moved.onnx"
    shutil.move(encoder, moved)
    shutil.move(encoder.with_suffix(".json"), moved.with_suffix(".json"))
    more = ["train", four, "-o", run, "--resume", "--student.epochs", "2"]
    assert str(encoder) in refused(*more)
    assert str(encoder) in refused("predict", run, slide, "-o", out)
    assert cli(*more, "--encoder", moved)[0] == 0
    assert not seen  # its features were kept
    assert config_of(run / "student")["encoder"]["path"] == str(moved)
    assert cli("predict", run, slide, "-o", out, "--encoder", moved, "--format", "csv")[0] == 0
    # Another encoder under the same name is found out.
    altered = bytearray(moved.read_bytes())
    altered[len(altered) // 2] ^= 1
    moved.write_bytes(altered)
    for verb in (["predict", run, slide, "-o", out], ["train", four, "-o", run, "--resume", "--student.epochs", "3"]):
        assert "encoder" in refused(*verb)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("no json", "mobil.json: no such file"),
        ("not json", "is no JSON"),
        ("field", "features"),
        ("no onnx", "is no usable ONNX model"),
        ("count", "gives 1280 features, its JSON says 7"),
    ],
)
def test_an_encoder_that_cannot_be_used_is_one_line(encoder, four, tmp_path, refused, damage, said):
    description = encoder.with_suffix(".json")
    known = json.loads(description.read_text())
    if damage == "no json":
        description.unlink()
    elif damage == "not json":
        description.write_text("{name:")
    elif damage == "no onnx":
        encoder.write_bytes(b"weights?")
    else:
        description.write_text(json.dumps(known | {"features": 0 if damage == "field" else 7, "patch_px": 32}))
    assert said in refused("extract-features", four, "--encoder", encoder, "-o", tmp_path / "f")


def test_another_normalisation_is_another_encoder(encoder, four, tmp_path, flags, cli, refused, seen):
    run, description = tmp_path / "run", encoder.with_suffix(".json")
    assert cli("train", four, "-o", run, *WSI, "--encoder", encoder, *flags)[0] == 0
    before = description.read_text()
    description.write_text(json.dumps(json.loads(before) | {"mean": [0.5, 0.5, 0.5]}))
    for verb in (["predict", run, *[row.path for row in Cohort.read(four)][3:], "-o", tmp_path / "out"],
                 ["train", four, "-o", run, "--resume", "--student.epochs", "2"]):  # fmt: skip
        assert "with the .json it had" in refused(*verb)
    assert cli("extract-features", four, "--encoder", encoder, "-o", run / "features", *WSI[2:])[0] == 0
    assert sum(seen) == (3 + 4) * 12  # computed anew
    description.write_text(before)


def test_features_are_shared_by_all_verbs_and_all_models_of_a_run(
    encoder, four, cohort_csv, tmp_path, flags, cli, seen
):
    folder, run = tmp_path / "f", tmp_path / "run"
    assert cli("extract-features", four, "--encoder", encoder, "-o", folder, *WSI[2:])[0] == 0
    assert sum(seen) == 4 * 12
    training = ["train", four, "-o", run, *WSI, "--encoder", encoder, "--features", folder, "--baseline", *flags]
    assert cli(*training)[0] == 0
    truth = tmp_path / "truth.csv"
    truth.write_text(cohort_csv.with_name("truth.csv").read_text().replace("slide_00", "s/"))
    assert cli("evaluate", run, four, "--truth", truth, "--split", "all")[0] == 0
    assert sum(seen) == 4 * 12  # by none of baseline, teacher and student again
    assert not (run / "features").exists()

    # Elsewhere they are computed once for all models, and kept with the run.
    shutil.rmtree(folder)
    assert cli("evaluate", run, four, "--truth", truth, "--features", run / "features")[0] == 0
    assert sum(seen) == 5 * 12
    assert len(list((run / "features").iterdir())) == 1


def test_torchscript_is_opened_on_trust_only(data_dir, encoder, four, tmp_path, flags, cli, refused):
    script = encoder.with_name("mobil.torchscript.pt")
    shutil.copyfile(data_dir / "encoders" / "mobilenet_v2_imagenet.torchscript.pt", script)
    run, training = tmp_path / "run", ["--encoder", script, *flags]
    assert "Trust it only if you know who made it" in refused("train", four, "-o", run, *WSI, *training)
    assert "--trust-encoder" in refused("extract-features", four, "--encoder", script, "-o", tmp_path / "f")
    patches = np.random.default_rng(0).integers(0, 256, (5, 3, 40, 40), dtype=np.uint8)
    same = FrozenEncoder(encoder)(patches)["features"]
    np.testing.assert_allclose(FrozenEncoder(script, trusted=True)(patches)["features"], same, atol=1e-4)
    assert cli("train", four, "-o", run, *WSI, *training, "--trust-encoder")[0] == 0
    (run / "features").rename(tmp_path / "f")  # with features at hand, the file need not be opened
    predict_one = ["predict", run, Cohort.read(four).slides[3].path, "-o", tmp_path / "out", "--format", "csv"]
    assert "--trust-encoder" in refused(*predict_one)
    assert cli(*predict_one, "--trust-encoder")[0] == 0


def test_patches_too_small_for_the_encoder(encoder, four, tmp_path, refused, flags):
    line = refused("train", four, "-o", tmp_path / "run", "--patches.size_px", "27", "--encoder", encoder, *flags)
    assert "Patches of 27 px are too small for 'mobilenet_v2_imagenet'" in line
    assert "Use --patches.size_px 32." in line
    with pytest.raises(SettingsError, match="too small"):
        drain(
            extract_features(
                Cohort.read(four), tmp_path / "f", PatchSettings(size_px=16), inputs=Inputs(encoder=Encoder(encoder))
            )
        )


def test_the_encoder_s_own_patch_side_serves_where_none_is_set(encoder, four, tmp_path):
    description = json.loads(encoder.with_suffix(".json").read_text()) | {"patch_px": 48, "mpp": 0.5}
    encoder.with_suffix(".json").write_text(json.dumps(description))
    small = Settings(
        **{"architecture": {"hidden_dim": 8}, "teacher": {"epochs": 1}, "student": {"epochs": 1}, "device": "cpu"}
    )
    run = drain(train(Cohort.read(four), tmp_path / "run", small, inputs=Inputs(encoder=Encoder(encoder))))
    assert (run.config.settings.patches.size_px, run.config.settings.patches.mpp) == (48, 0.5)
    (patch_map,) = drain(predict(run, [Cohort.read(four).slides[3].path]))
    assert (patch_map.patches.patch_px, patch_map.patches.side) == (48, 48)
    drain(train(Cohort.read(four), tmp_path / "run", small, inputs=Inputs(encoder=Encoder(encoder)), resume=True))


def test_whole_slides_need_an_encoder_and_say_how_to_get_one(four, tmp_path, flags, refused):
    line = refused("train", four, "-o", tmp_path / "run", "--preset", "wsi", *flags)
    assert ".json beside it" in line
    assert "--encoder" in refused(
        "train", tmp_path / "no.csv", "-o", tmp_path / "run", "--preset", "wsi"
    )  # nothing read
    assert build_settings("wsi").architecture.encoder == "features"


def test_a_slide_that_is_called_as_scratch_is_keeps_its_features(encoder, slides, tmp_path, cohort_of, cli):
    cohort = cohort_of([(f"a.{UNFINISHED}", slides[0])], ("slide_id", "path"))
    asked = ["extract-features", cohort, "--encoder", encoder, "-o", tmp_path / "f", *WSI[2:], "--format"]
    for formats in ("zarr", "zarr,h5"):
        assert cli(*asked, formats)[0] == 0
        assert FeatureMap.open(tmp_path / "f" / f"a.{UNFINISHED}.zarr").is_complete


def test_scratch_that_a_kill_left_beside_a_finished_file_goes(encoder, slides, tmp_path, cohort_of, cli, monkeypatch):
    asked = ["extract-features", cohort_of([("a", slides[0])], ("slide_id", "path")), "--encoder", encoder]
    asked += ["-o", tmp_path / "f", *WSI[2:], "--format=h5"]
    with monkeypatch.context() as context:
        context.setattr(FeatureStore, "discard_scratch", lambda *here: None)
        assert cli(*asked)[0] == 0
    scratch, kept = tmp_path / "f" / f"a.{UNFINISHED}.zarr", tmp_path / "kept"
    shutil.copytree(scratch, kept)
    for damage in (None, "checksum", "features"):
        if damage:
            shutil.copytree(kept, scratch)
            shutil.rmtree(scratch / damage / "c")
        assert cli(*asked)[0] == 0
        assert not scratch.exists()
    assert (tmp_path / "f" / "a.h5").is_file()


@pytest.mark.parametrize("kind", ["zarr", "h5"])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(encoder, four, tmp_path, small_disk, cli, kind):
    """HDF5 ended the process with a segmentation fault."""
    import subprocess
    import sys

    folder = small_disk(100_000)
    asked = ["extract-features", four, "--encoder", encoder, "-o", folder, "--format", kind, "--patches.size_px", "32"]
    asked += ["--patches.tissue", "none"]
    done = subprocess.run(
        [sys.executable, "-m", "napari_distill2label.cli", *map(str, asked)], capture_output=True, text=True
    )
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert "no room left" in done.stderr
    (folder / "filling").unlink()
    mounted = subprocess.run(["mount", "-o", "remount,size=64m", folder], capture_output=True)
    assert mounted.returncode == 0
    assert cli(*asked)[0] == 0
    assert len(list(folder.glob(f"*.{kind}"))) == 4
    assert not list(folder.glob("*.tmp"))


def test_a_prediction_takes_the_features_that_the_training_computed(encoder, four, tmp_path, seen, collect, tiny):
    """Patches are cut in pixels; the model has the µm/px of its slides, and its predictions have it too."""
    cohort = Cohort.read(four)
    settings = tiny(architecture={"encoder": "features"}, patches={"size_px": 32, "tissue": "none"})
    inputs = Inputs(encoder=Encoder(encoder), features=tmp_path / "f")
    run = drain(train(cohort, tmp_path / "run", settings, inputs=inputs))
    assert run.config.settings.patches.mpp is None
    computed = sum(seen)
    assert computed == 3 * 12
    maps = drain(predict(run, cohort.with_slides(list(cohort)[:3]), inputs=inputs))
    assert [patch_map.patches.mpp for patch_map in maps] == [0.5] * 3
    assert sum(seen) == computed
    again = drain(train(cohort, tmp_path / "again", settings, inputs=inputs))
    assert again.models == run.models
    assert sum(seen) == computed
