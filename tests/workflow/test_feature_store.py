"""Training, predicting and evaluating on features that CLAM, TRIDENT or `features` left in HDF5 files."""

import json
import shutil

import numpy as np
import pytest

from napari_distill2label.core.events import ItemFailed, drain
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.core.notices import Notice
from napari_distill2label.store.bundle import load_bundle
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.run import Run
from napari_distill2label.workflow.commands.predict import predict
from napari_distill2label.workflow.commands.train import train

h5py = pytest.importorskip("h5py", reason="HDF5 files were NOT tested: h5py is not installed")

D = 24
SIDE = 16


def write_trident(path, slide, positive, seed, name="", shape=(112, 128), **change):
    """Features of a slide as TRIDENT writes them. Some patches of positive slides differ. Returns which."""
    rng = np.random.default_rng(seed)
    cells = np.array([(x, y) for x in range(shape[1] // SIDE) for y in range(shape[0] // SIDE)])
    chosen = (cells.sum(1) % 3 == 0) & positive
    features = rng.gamma(2, 10, (len(cells), D)).astype(np.float32)
    features[chosen] *= 3
    about = {
        "patch_size": SIDE, "patch_size_level0": SIDE, "level0_magnification": 20, "target_magnification": 20,
        "overlap": 0, "name": slide, "savetodir": "/x", "level0_width": shape[1], "level0_height": shape[0],
    } | change  # fmt: skip
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=features, chunks=(1, D)).attrs.update({"name": slide, **name_of(name)})
        file.create_dataset("coords", data=cells * SIDE).attrs.update(about)
    return cells[chosen] * SIDE


def name_of(digest):
    return {"encoder": "uni", "encoder_sha256": digest} if digest else {}


@pytest.fixture
def job(tmp_path, cohort_of):
    """A cohort of six slides whose files are not here, a folder of their features, and their truth."""
    folder = tmp_path / "20x_16px" / "features_uni"
    folder.mkdir(parents=True)
    rows, truth = [], ["slide_id,x,y,label"]
    for number in range(6):
        name, positive = f"TCGA {number}", number % 2 == 1
        corners = write_trident(folder / f"{name}.h5", name, positive, number)
        truth += [f"{name},{x + 8},{y + 8},tumour" for x, y in corners]
        split = ("train", "train", "train", "train", "valid", "test")[number]
        rows.append((name, f"elsewhere/{name}.svs", ("normal", "tumour")[positive], 0.5, split))
    (tmp_path / "truth.csv").write_text("\n".join(truth) + "\n")
    cohort = cohort_of(rows, ("slide_id", "path", "label", "mpp", "split"))
    return cohort, folder, tmp_path / "truth.csv"


def test_train_predict_export_and_evaluate_without_a_single_slide(job, tmp_path, flags, cli, table, config_of):
    cohort, folder, truth = job
    run, out = tmp_path / "run", tmp_path / "out"
    better = ["--teacher.epochs=15", "--oof.epochs=8", "--student.epochs=15"]
    status, _, err = cli("train", cohort, "-o", run, "--preset", "wsi", "--features", folder, *flags, *better)
    assert status == 0, err
    config = config_of(run / "student")
    assert (config["instance_shape"], config["patches"]["size_px"], config["mpp"]) == ([D], SIDE, 0.5)
    assert config["encoder"]["name"] == "features_uni"
    assert Run.open(run).config.features == str(folder)

    status, _, err = cli("evaluate", run, cohort, "--truth", truth, "--split", "all", "-o", tmp_path / "m.json")
    assert status == 0, err
    status, _, err = cli("predict", run, cohort, "-o", out, "--format", "csv,geojson,ome-tiff")
    assert status == 0, err
    assert json.loads((tmp_path / "m.json").read_text())["student"]["patch"]["auroc"] > 0.9
    rows = table(out / "TCGA 5.csv")
    assert len(rows) == 56
    # Every patch lies where the file says, and is called what its own features say.
    known = {(float(row["x"]) - 8, float(row["y"]) - 8) for row in table(truth) if row["slide_id"] == "TCGA 5"}
    mean = {
        inside: np.mean(
            [float(row["prob_tumour"]) for row in rows if ((float(row["minx"]), float(row["miny"])) in known) is inside]
        )
        for inside in (True, False)
    }
    assert mean[True] > 1.3 * mean[False]  # both are small: six slides leave the slide itself uncertain
    (patch_map,) = drain(predict(run, Cohort(Cohort.read(cohort).slides[5:])))
    assert isinstance(patch_map.patches, PatchGrid)  # so it is a labels layer in napari
    assert cli("export", run, "-o", tmp_path / "again", "--format", "csv")[0] == 0

    # A bundle alone, elsewhere, on features of a new slide.
    shutil.copytree(run / "student", tmp_path / "model")
    write_trident(folder / "new.h5", "new", True, 99)
    new = cohort.with_name("new.csv")
    new.write_text("slide_id,path\nnew,new.svs\n")
    assert cli("predict", tmp_path / "model", new, "--features", folder, "-o", out, "--format", "csv")[0] == 0
    status, _, err = cli("predict", tmp_path / "model", new, "--features", tmp_path, "-o", out, "--format", "csv")
    assert status == 1
    assert "new: There are no features of the slide in" in err
    assert f"They are in {folder}: give that folder." in err


def test_a_slide_without_features_is_left_out_and_the_others_go_on(job, tmp_path, flags, cli):
    cohort, folder, _ = job
    (folder / "TCGA 1.h5").unlink()
    (folder / "TCGA 4.h5").write_bytes(b"\x89HDF")
    status, _, err = cli("train", cohort, "-o", tmp_path / "run", "--preset", "wsi", "--features", folder, *flags)
    assert status == 1
    assert "TCGA 1: There are no features of the slide in" in err
    assert "TCGA 4.h5: is no HDF5 file" in err
    assert "student" in Run.open(tmp_path / "run").models


def test_features_of_another_encoder_are_not_mixed_in(job, tmp_path, flags, cli, collect, tiny):
    cohort, folder, _ = job
    for number, digest in enumerate(("aa", "aa", "aa", "aa", "bb")):
        write_trident(folder / f"TCGA {number}.h5", "x", number % 2 == 1, number, digest)
    run = tmp_path / "run"
    events, _ = collect(
        train(Cohort.read(cohort), run, tiny(architecture={"encoder": "features"}), inputs=Inputs(features=folder))
    )
    reasons = [str(event.error) for event in events if hasattr(event, "error")]
    assert len(reasons) == 1
    assert "TCGA 4.h5: holds features of another encoder than 'uni'" in reasons[0]
    assert Run.open(run).config.encoder.sha256 == "aa"
    # TCGA 5 does not say what it is of: said, and taken.
    events, maps = collect(predict(run, Cohort(Cohort.read(cohort).slides[5:])))
    assert len(maps) == 1
    assert any("do not name their encoder" in str(event) for event in events if isinstance(event, Notice))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no folder", "no such folder of features"),
        ("empty", "The folder has no features of any labelled slide"),
        ("pixels", "was trained on pixels. It does not take features. Leave out --features."),
    ],
)
def test_a_folder_that_does_not_fit_is_one_line(job, tmp_path, flags, refused, shared_run, what, said):
    cohort, folder, _ = job
    training = ["train", cohort, "-o", tmp_path / "run", "--preset", "wsi", *flags]
    if what == "no folder":
        line = refused(*training, "--features", tmp_path / "nowhere")
    elif what == "empty":
        (tmp_path / "empty").mkdir()
        line = refused(*training, "--features", tmp_path / "empty")
    else:
        line = refused("predict", shared_run, cohort, "-o", tmp_path / "out", "--features", folder)
    assert said in line


def test_a_training_on_files_goes_on_where_they_are_now(job, tmp_path, flags, cli, refused, table):
    cohort, folder, _ = job
    run, more = tmp_path / "run", ["--resume", "--student.epochs=2"]
    assert cli("train", cohort, "-o", run, "--preset", "wsi", "--features", folder, *flags)[0] == 0
    (run / "features").rename(tmp_path / "forgotten")
    moved = folder.with_name("moved")
    folder.rename(moved)
    assert "no such folder of features" in refused("train", cohort, "-o", run, *more)
    assert cli("train", cohort, "-o", run, *more, "--features", moved)[0] == 0
    assert Run.open(run).config.features == str(moved)
    history = (run / "history.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in history if line.startswith("student")] == [
        ["student", "1"],
        ["student", "2"],
    ]


CHANGES = {
    "target_magnification is 5, not 20": {"patch_size": 4, "target_magnification": 5},
    "patch_size is 8, not 16": {"patch_size": 8, "target_magnification": 10},
    "patch_size is 32, not 16": {"patch_size": 32, "level0_magnification": 20, "target_magnification": 40},
    "encoder is 'virchow', not 'uni'": {},
}


def write_another(folder, number, said):
    """A file of the same folder that was made in another way."""
    name = f"TCGA {number}"
    change = CHANGES[said]
    if "patch_size" in change and "magnification" in said:
        change = change | {"patch_size": 16, "patch_size_level0": 64}
        cells = np.array([(0, 0), (64, 0), (0, 64), (64, 64)])
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file.create_dataset("features", data=np.ones((4, D), "f4"))
            file.create_dataset("coords", data=cells).attrs.update(
                {**change, "level0_magnification": 20, "overlap": 0, "level0_width": 128, "level0_height": 112}
            )
        return
    write_trident(folder / f"{name}.h5", name, number % 2 == 1, number, **change)
    if "encoder" in said:
        with h5py.File(folder / f"{name}.h5", "a") as file:
            file["features"].attrs["encoder"] = "virchow"


@pytest.mark.parametrize("said", CHANGES)
def test_features_made_in_another_way_are_not_mixed_in(job, tmp_path, collect, tiny, said):
    """Neither in training nor in predicting, evaluating, or resuming; the error names the attribute and both values."""
    cohort, folder, _ = job
    for number in range(6):
        with h5py.File(folder / f"TCGA {number}.h5", "a") as file:
            file["features"].attrs["encoder"] = "uni"
    run = tmp_path / "run"
    settings = tiny(architecture={"encoder": "features"})
    write_another(folder, 3, said)
    events, _ = collect(train(Cohort.read(cohort), run, settings, inputs=Inputs(features=folder)))
    (failed,) = [event for event in events if isinstance(event, ItemFailed)]
    assert said in str(failed.error)
    assert "TCGA 3.h5" in str(failed.error)
    known = Run.open(run).config.encoder.origin
    assert (known.encoder, known.patch_px, known.magnification) == ("uni", SIDE, 20)
    assert load_bundle(run / "student").config.encoder.origin == known
    events, maps = collect(predict(run, Cohort(Cohort.read(cohort).slides[3:6])))
    assert len(maps) == 2
    assert any(said in str(event.error) for event in events if isinstance(event, ItemFailed))


def test_a_model_of_20x_is_not_fed_with_5x(job, tmp_path, flags, cli, cohort_of):
    """What nothing in the files says, the slides' own µm/px say."""
    cohort, folder, truth = job
    for number in range(6):  # files that say the least that can be used
        with h5py.File(folder / f"TCGA {number}.h5", "a") as file:
            for name in ("level0_magnification", "target_magnification", "overlap"):
                del file["coords"].attrs[name]
    run = tmp_path / "run"
    assert cli("train", cohort, "-o", run, "--preset", "wsi", "--features", folder, *flags)[0] == 0
    assert load_bundle(run / "student").config.encoder.origin.mpp == 0.5
    coarse = cohort_of([("TCGA 5", "x.svs", "tumour", 2.0)], ("slide_id", "path", "label", "mpp"))
    status, _, err = cli("predict", run, coarse, "-o", tmp_path / "out", "--format", "csv")
    assert status == 1
    assert "TCGA 5.h5: its patches have 2 µm/px (patch_size_level0), not 0.5 as in training" in err
    status, _, err = cli("evaluate", run, coarse, "--truth", truth, "--split", "all", "-o", tmp_path / "m.json")
    assert status != 0
    assert "not 0.5 as in training" in err


def test_the_scale_of_a_model_is_that_of_the_patches_and_not_the_slides(job, tmp_path, flags, cli, config_of):
    """20× patches of 40× slides have 0.5 µm/px, whatever the slides have."""
    cohort, folder, _ = job
    for number in range(6):
        write_trident(
            folder / f"TCGA {number}.h5", f"TCGA {number}", number % 2 == 1, number, patch_size=8, patch_size_level0=16,
            level0_magnification=20, target_magnification=10,
        )  # fmt: skip
    assert cli("train", cohort, "-o", tmp_path / "run", "--preset", "wsi", "--features", folder, *flags)[0] == 0
    assert config_of(tmp_path / "run" / "student")["mpp"] == 1.0


def test_a_slide_that_is_not_here_and_may_have_a_scanned_area_is_told_once(job, tmp_path, collect, tiny):
    cohort, folder, _ = job
    cohort.write_text(cohort.read_text().replace(".svs", ".mrxs"))
    events, _ = collect(
        train(
            Cohort.read(cohort),
            tmp_path / "run",
            tiny(architecture={"encoder": "features"}),
            inputs=Inputs(features=folder),
        )
    )
    told = [str(event) for event in events if isinstance(event, Notice) and "corner of the whole canvas" in str(event)]
    assert len(told) == 1


def test_a_model_is_not_given_other_numbers_of_features(job, tmp_path, flags, cli, cohort_of):
    cohort, folder, _ = job
    run = tmp_path / "run"
    assert cli("train", cohort, "-o", run, "--preset", "wsi", "--features", folder, *flags)[0] == 0
    with h5py.File(folder / "TCGA 5.h5", "a") as file:
        values = file["features"][...]
        del file["features"]
        file["features"] = np.concatenate([values, values], 1)
    one = cohort_of([("TCGA 5", "x.svs", "tumour", 0.5)], ("slide_id", "path", "label", "mpp"))
    status, _, err = cli("predict", run, one, "-o", tmp_path / "out", "--format", "csv")
    assert status == 1
    assert f"TCGA 5.h5: has {2 * D} features per patch, not {D} as in training" in err
