"""The preset wsi from end to end: on pyramids that are drawn, and on real crops."""

import csv
import shutil

import h5py
import numpy as np
import pytest
import tifffile

from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.files.outputs import RECORD
from napari_distill2label.store.run import Run

pytest.importorskip("onnxruntime", reason="frozen encoders were NOT tested: onnxruntime is not installed")

LEARN = ["--teacher.epochs=4", "--oof.epochs=3", "--student.epochs=5", "--architecture.hidden_dim=64"]


@pytest.fixture(scope="module")
def pyramids(tmp_path_factory):
    """Ten tiled pyramidal slides of 640 × 768 px at 0.5 µm/px, with truth."""
    from napari_distill2label.slides.synthetic import write_cohort

    return write_cohort(tmp_path_factory.mktemp("wsi"), 10, seed=5, shape=(640, 768))


def test_pyramids_are_trained_on_predicted_exported_and_evaluated(data_dir, pyramids, tmp_path, cli, table):
    with tifffile.TiffFile(next((pyramids.parent / "slides").iterdir())) as tiff:
        assert len(tiff.series[0].levels) > 1
        assert tiff.pages[0].is_tiled
    encoder = data_dir / "encoders" / "mobilenet_v2_imagenet.onnx"
    # Patches at half the slide's resolution: they are cut from its second level.
    wsi = ["--preset", "wsi", "--encoder", encoder, "--patches.size_px", "32", "--patches.mpp", "1"]
    run, out = tmp_path / "run", tmp_path / "out"
    status, _, err = cli("train", pyramids, "-o", run, *wsi, *LEARN, "--split.test", "0.2")
    assert status == 0, err
    status, printed, err = cli("evaluate", run, pyramids, "--truth", pyramids.with_name("truth.csv"), "--split", "all")
    assert status == 0, err
    auroc = {tuple(row.split()[:2]): float(row.split()[4]) for row in printed.splitlines()[1:] if row.split()[4] != "-"}
    assert auroc["student", "patch"] > 0.7
    status, _, err = cli("predict", run, pyramids, "-o", out, "--format", "ome-tiff,geojson,csv,png")
    assert status == 0, err
    assert sum(1 for _ in out.glob("*.ome.tif")) == 10
    rows = table(out / "slide_001.csv")
    assert rows[0]["width"] == rows[0]["height"] == "64"  # level-0 px
    assert len(rows) < 10 * 12  # glass is not scored


def test_features_in_both_formats_train_the_same_model(data_dir, pyramids, tmp_path, cli):
    encoder = data_dir / "encoders" / "mobilenet_v2_imagenet.onnx"
    four = Cohort.read(pyramids).with_slides(Cohort.read(pyramids).slides[:4]).write(tmp_path / "four.csv")
    grid, folder = ["--patches.size_px", "48", "--patches.tissue", "otsu"], tmp_path / "f"
    extract = ["extract-features", four, "--encoder", encoder, "-o", folder, *grid]
    assert cli(*extract, "--format", "zarr,h5")[0] == 0
    assert sorted(path.name for path in folder.glob("[!.]*")) == [
        f"slide_00{i}.{suffix}" for i in range(4) for suffix in ("h5", "zarr")
    ]
    alone = tmp_path / "h5"
    alone.mkdir()
    for file in (*folder.glob("*.h5"), folder / RECORD):  # as a folder is copied: with the list of what is ours
        shutil.copy(file, alone)
    before = (alone / "slide_000.h5").stat().st_mtime_ns
    assert cli("extract-features", four, "--encoder", encoder, "-o", alone, *grid, "--format", "h5")[0] == 0
    assert (alone / "slide_000.h5").stat().st_mtime_ns == before  # it was there
    assert not list(alone.glob("*.zarr"))
    short = [*LEARN, "--teacher.epochs=1", "--oof.epochs=1", "--student.epochs=1", "--split.test=0"]
    for name, source in (("a", folder), ("b", alone)):
        assert cli("train", four, "-o", tmp_path / name, "--preset", "wsi", "--features", source, *short)[0] == 0
    weights = [(tmp_path / name / "student" / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert Run.open(tmp_path / "b").config.encoder.sha256 == Run.open(tmp_path / "a").config.encoder.sha256 != ""
    with h5py.File(alone / "slide_000.h5") as file:
        assert file["features"].shape[1] == 1280
        assert np.isfinite(file["features"][...]).all()


@pytest.mark.long
def test_real_crops(data_dir, tmp_path, cli):
    assert cli("prepare-dataset", "colon", data_dir / "colon", "-o", tmp_path / "colon")[0] == 0
    with (tmp_path / "colon" / "cohort.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chosen = [row for label in ("normal", "epithelial") for row in [r for r in rows if r["label"] == label][:6]]
    for number, row in enumerate(chosen):
        row["split"] = ("train", "train", "train", "train", "valid", "test")[number % 6]
    with (tmp_path / "colon" / "few.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(chosen)
    few, run = tmp_path / "colon" / "few.csv", tmp_path / "run"
    encoder = data_dir / "encoders" / "mobilenet_v2_imagenet.onnx"
    wsi = ["--preset", "wsi", "--encoder", encoder, "--patches.size_px", "32", "--patches.tissue", "none"]
    status, _, err = cli("train", few, "-o", run, *wsi, *LEARN)
    assert status == 0, err
    truth = tmp_path / "colon" / "truth.csv"
    status, printed, err = cli("evaluate", run, few, "--truth", truth)
    assert status == 0, err
    assert "student" in printed
    status, _, err = cli("predict", run, few, "-o", tmp_path / "out", "--format", "csv,png")
    assert status == 0, err
    assert len(list((tmp_path / "out").glob("*.csv"))) == 12
