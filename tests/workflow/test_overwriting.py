"""No command replaces what it did not write, and none writes onto what it reads.

Each command gets a folder full of other people's files, under every name that it could write. Afterwards all of them
are as they were, by checksum.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import zarr

from napari_distill2label.core.errors import OutputError, SettingsError
from napari_distill2label.core.events import drain
from napari_distill2label.core.inputs import Encoder, Inputs
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.files.outputs import RECORD
from napari_distill2label.store.run import Run
from napari_distill2label.workflow.commands.demo import demo
from napari_distill2label.workflow.commands.export import export
from napari_distill2label.workflow.commands.extract_features import extract_features
from napari_distill2label.workflow.commands.predict import predict
from napari_distill2label.workflow.commands.prepare_dataset import prepare_dataset
from napari_distill2label.workflow.commands.train import train

IDS = ("slide_000", "slide_001", "cohort", "truth")
ENDS = (".ome.tif", ".geojson", ".csv", ".png", ".h5", ".json")
NAMES = ("cohort.csv", "truth.csv", "centres.csv", "metrics.json", "history.csv", "timing.json", "slides.json",
         "notes.txt")  # fmt: skip


def sums(*folders: Path) -> dict[str, str]:
    """Digest of every file below (links as what they point to), but for the program's own record."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink():
                found[str(path)] = os.readlink(path)
            elif path.is_file() and path.name != RECORD:
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
            elif path.is_dir():
                found[str(path)] = "folder"
    return found


@pytest.fixture
def theirs(tmp_path, slides):
    """A folder with the slides themselves and their owner's files, under all the names that a command could write."""
    folder = tmp_path / "Meine Präparate"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(f"mine: {name}")
    for slide_id in IDS:
        for end in ENDS:
            (folder / f"{slide_id}{end}").write_text(f"mine: {slide_id}{end}")
        for end in (".zarr", ".student.zarr"):
            group = zarr.open_group(folder / f"{slide_id}{end}", mode="w", attributes={"ome": {"version": "0.5"}})
            group.create_array("0", data=np.arange(9))
    for index in (0, 1):  # the slides are among them
        shutil.copy(slides[index], folder / f"slide_00{index}.ome.tif")
    with h5py.File(folder / "slide_000.h5", "w") as file:  # TRIDENT's
        file["features"], file["coords"] = np.zeros((1, 8), "f4"), np.zeros((1, 2), int)
    (folder / "slide_000.csv").unlink()
    (folder / "slide_000.csv").symlink_to(folder / "notes.txt")
    (folder / "slide_001.png").unlink()
    (folder / "slide_001.png").hardlink_to(slides[1])
    (folder / "Slide_000.geojson").write_text("mine, in capitals")
    for name in ("teacher", "student", "baseline", "checkpoints", "predictions", "features"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text("mine")
    return folder


@pytest.fixture
def table(theirs, cohort_of):
    """A cohort of the two slides in that folder."""
    rows = [(slide_id, theirs / f"{slide_id}.ome.tif") for slide_id in ("slide_000", "slide_001")]
    return cohort_of(rows, ("slide_id", "path"), "list.csv")


@pytest.fixture
def encoder(tmp_path):
    class Encoder(torch.nn.Module):
        def forward(self, x):
            return torch.cat([x.mean((2, 3)), x.std((2, 3))], 1)

    path = tmp_path / "encoder.pt"
    torch.jit.save(torch.jit.trace(Encoder(), torch.zeros(2, 3, 32, 32)), path)
    path.with_suffix(".json").write_text(json.dumps({"name": "e", "features": 6, "patch_px": 32, "mpp": 0.5}))
    return path


@pytest.fixture
def colon(tmp_path):
    """One image of the colon set, in the published layout."""
    from PIL import Image
    from scipy.io import savemat

    folder = tmp_path / "CRC" / "Classification" / "img1"
    folder.mkdir(parents=True)
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(folder / "img1.bmp")
    for kind in ("epithelial", "fibroblast", "inflammatory", "others"):
        savemat(folder / f"img1_{kind}.mat", {"detection": np.array([[5.0, 5.0]])})
    return tmp_path / "CRC"


COMMANDS = (
    "predict", "predict_bundle", "predict_tissue", "export", "features_zarr", "features_h5", "train", "evaluate",
    "dataset", "demo",
)  # fmt: skip


def command(name, trained, cohort_csv, theirs, table, encoder, colon):
    extract = ["extract-features", table, "--encoder", encoder, "--trust-encoder", "-o", theirs]
    out, bundle = theirs, trained.parent / "bundle"
    shutil.copytree(trained / "student", bundle, dirs_exist_ok=True)
    return {
        "predict": ["predict", trained, table, "-o", out],
        "predict_bundle": ["predict", bundle, theirs / "slide_000.ome.tif", "-o", out, "--format", "ome-tiff"],
        "predict_tissue": ["predict", trained, table, "--tissue", out, "-o", out, "--format", "geojson"],
        "export": ["export", trained, "-o", out, "--format", "csv,geojson,png,ome-tiff"],
        "features_zarr": [*extract, "--patches.tissue", "none"],
        "features_h5": [*extract, "--format", "h5"],
        "train": ["train", cohort_csv, "-o", out],
        "evaluate": ["evaluate", trained, cohort_csv, "--truth", cohort_csv.with_name("truth.csv"), "--split", "all",
                     "-o", out / "metrics.json"],
        "dataset": ["prepare-dataset", "colon", colon, "-o", out],
        "demo": ["demo", "--out", out],
    }[name]  # fmt: skip


@pytest.fixture
def predicted(trained, slides, tmp_path):
    drain(predict(trained, slides[:2], tmp_path / "elsewhere", formats=["csv"]))
    return trained


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_changes_a_file_of_others(name, predicted, cohort_csv, theirs, table, encoder, colon, refused):
    read = (theirs, cohort_csv.parent, predicted, colon, table.parent / "elsewhere")
    before = sums(*read)
    said = refused(*command(name, predicted, cohort_csv, theirs, table, encoder, colon))
    assert str(theirs) in said
    assert sums(*read) == before


@pytest.mark.parametrize("name", ["predict", "features_h5", "evaluate"])
def test_neither_do_real_processes(name, predicted, cohort_csv, theirs, table, encoder, colon):
    before = sums(theirs, cohort_csv.parent)
    words = command(name, predicted, cohort_csv, theirs, table, encoder, colon)
    done = subprocess.run(
        [sys.executable, "-m", "napari_distill2label.cli", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert sum(not line.startswith("note: ") for line in done.stderr.splitlines()) == 1, done.stderr
    assert sums(theirs, cohort_csv.parent) == before


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "demo"])
def test_with_overwrite_slides_and_folders_stay(name, predicted, cohort_csv, theirs, table, encoder, colon, cli):
    """What is read, and folders of others, whatever is asked for."""
    before = sums(theirs, cohort_csv.parent)
    status, _, err = cli(*command(name, predicted, cohort_csv, theirs, table, encoder, colon), "--overwrite")
    after = sums(theirs, cohort_csv.parent)
    kept = [str(theirs / f"slide_00{index}.ome.tif") for index in (0, 1)] + [
        path for path in before if ".zarr" in path or before[path] == "folder" or str(cohort_csv.parent) in path
    ]
    assert {path: before[path] for path in kept} == {path: after.get(path) for path in kept}
    if name in ("evaluate", "dataset", "features_h5"):
        assert status == 0, err
        assert after != before
    else:
        assert (status, after) == (2, before)


def test_tissue_keeps_what_is_there(theirs, table, cli):
    before = sums(theirs)
    assert cli("segment-tissue", table, "-o", theirs)[0] == 0
    assert sums(theirs) == before


def test_python_is_guarded_like_the_command_line(predicted, cohort_csv, theirs, table, encoder, colon):
    before = sums(theirs, cohort_csv.parent)
    cohort = Cohort.read(table)
    for work in (
        predict(predicted, cohort, theirs),
        export(predicted, theirs),
        extract_features(cohort, theirs, inputs=Inputs(encoder=Encoder(encoder, trusted=True))),
        train(Cohort.read(cohort_csv), theirs),
        prepare_dataset("colon", colon, theirs),
        demo(theirs),
    ):
        with pytest.raises(OutputError):
            drain(work)
    assert sums(theirs, cohort_csv.parent) == before


def test_a_user_s_table_beside_a_new_run(cohort_csv, tmp_path, refused):
    """`train cohort.csv -o .`: the run's own cohort.csv would take its place."""
    folder = tmp_path / "study"
    shutil.copytree(cohort_csv.parent, folder)
    before = sums(folder)
    for more in ([], ["--overwrite"]):
        assert "cohort.csv" in refused("train", folder / "cohort.csv", "-o", folder, *more)
    assert sums(folder) == before


def test_no_run_is_begun_where_a_file_has_the_name_of_one_of_its_own(shared_run, tmp_path):
    names = {path.name for path in shared_run.iterdir() if path.is_file() and path.name != RECORD}
    assert len(names) >= 5
    for name in sorted(names):
        (folder := tmp_path / f"with {name}").mkdir()
        (folder / name).write_text("mine")
        with pytest.raises((OutputError, SettingsError)):
            Run.check_free(folder)


class TestOurs:
    """What we wrote ourselves is renewed without a question."""

    def test_again_with_another_threshold(self, trained, slides, tmp_path, cli):
        for threshold, label in (("0", "tumour"), ("1", "normal")):
            arguments = ["predict", trained, *slides[:2], "-o", tmp_path / "out", "--threshold", threshold]
            status, _, err = cli(*arguments)
            assert status == 0, err
            assert set(pd.read_csv(tmp_path / "out" / "slide_001.csv")["label"]) == {label}
        status, _, err = cli("export", trained, "-o", tmp_path / "out", "--format", "csv,png")
        assert status == 0, err

    def test_corrected_in_qupath_it_is_theirs(self, trained, slides, tmp_path, cli, refused):
        arguments = ["predict", trained, *slides[:2], "-o", tmp_path / "out", "--format", "geojson,csv"]
        assert cli(*arguments)[0] == 0
        corrected = tmp_path / "out" / "slide_001.geojson"
        written = sums(tmp_path / "out")
        corrected.write_text(corrected.read_text().replace('"name":"normal"', '"name":"other"') + " ")
        before = sums(tmp_path / "out")
        said = refused(*arguments)
        assert "slide_001.geojson" in said
        assert "--overwrite" in said
        assert sums(tmp_path / "out") == before
        assert cli(*arguments, "--overwrite")[0] == 0
        assert sums(tmp_path / "out") == written

    def test_features_again(self, slides, tmp_path, encoder, cli, cohort_of):
        cohort = cohort_of([("a", slides[0])], ("slide_id", "path"))
        words = ["extract-features", cohort, "--encoder", encoder, "--trust-encoder", "-o", tmp_path / "f", "--format"]
        for formats in ("h5", "h5", "zarr", "h5"):
            assert cli(*words, formats, "--patches.tissue", "none")[0] == 0
        assert (tmp_path / "f" / "a.zarr").is_dir()  # what was asked for once stays, though only h5 is asked for now
        assert not list((tmp_path / "f").glob("*begun*"))
        assert cli(*words, "h5", "--patches.tissue", "none", "--patches.size_px", "40")[0] == 0


def test_ids_that_differ_in_capitals_get_files_of_their_own(trained, slides, tmp_path, cohort_of, encoder, cli):
    cohort = cohort_of([("a1", slides[0]), ("A1", slides[1])], ("slide_id", "path"))
    assert cli("predict", trained, cohort, "-o", tmp_path / "out", "--format", "csv,png")[0] == 0
    names = {path.name.casefold() for path in (tmp_path / "out").glob("[!.]*")}
    assert len(names) == 6
    assert {"a1.csv", "a1.png"} < names
    words = [
        "extract-features",
        cohort,
        "--encoder",
        encoder,
        "--trust-encoder",
        "-o",
        tmp_path / "f",
        "--format",
        "h5,zarr",
    ]
    assert cli(*words, "--patches.tissue", "none")[0] == 0
    assert len({path.name.casefold() for path in (tmp_path / "f").glob("[!.]*")}) == 4
    assert cli("segment-tissue", cohort, "-o", tmp_path / "t")[0] == 0
    assert len({path.name.casefold() for path in (tmp_path / "t").glob("[!.]*")}) == 2
    assert cli("predict", trained, cohort, "--tissue", tmp_path / "t", "-o", tmp_path / "o2", "--format", "csv")[0] == 0


def test_two_calls_into_one_folder(trained, slides, tmp_path, refused, cli):
    """The same slide twice at once: the second is told who writes it. Other slides go side by side."""
    first = predict(trained, slides[:1], tmp_path / "out", formats=["csv"])
    next(first)
    said = refused("predict", trained, slides[0], "-o", tmp_path / "out", "--format", "csv")
    assert f"process {os.getpid()} " in said
    assert "slide_000.csv" in said
    assert "slide_000.student.zarr" in refused("predict", trained, slides[0], "-o", tmp_path / "o", "--format", "csv")
    assert cli("predict", trained, slides[1], "-o", tmp_path / "out", "--format", "csv")[0] == 0
    drain(first)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.csv")) == ["slide_000.csv", "slide_001.csv"]


@pytest.fixture
def read_only(tmp_path):
    """`read_only(folder)` -> the same folder, mounted so that nobody can write."""
    mounted = []

    def make(folder):
        place = tmp_path / "read only"
        place.mkdir()
        steps = (["mount", "--bind", folder, place], ["mount", "-o", "remount,ro,bind", place])
        for step in steps:
            if (
                sys.platform != "linux"
                or subprocess.run([*map(str, step)], capture_output=True, check=False).returncode
            ):
                pytest.skip("nothing can be mounted here: a run that cannot be written to was NOT tested")
            mounted[:] = [place]
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


def test_a_run_that_cannot_be_written_to_still_predicts(predicted, slides, tmp_path, read_only, cli):
    run, out = read_only(predicted), tmp_path / "out"
    status, _, err = cli("predict", run, slides[1], "-o", out, "--format", "csv")
    assert status == 0, err
    assert "cannot be written to (Read-only file system). Patch maps are kept in" in err
    assert {path.name for path in out.glob("[!.]*")} == {
        "slide_001.csv",
        "slide_001.csv-metadata.json",
        "slide_001.student.zarr",
    }
    assert (out / "slide_001.csv").read_bytes() == (tmp_path / "elsewhere" / "slide_001.csv").read_bytes()
    assert cli("predict", run, slides[1], "-o", out, "--format", "csv", "--threshold", ".9")[0] == 0
    assert cli("export", run, "-o", tmp_path / "exported", "--format", "csv")[0] == 0
    refused = cli("predict", run, slides[1], "-o", run / "labels", "--format", "csv")
    assert refused[0] == 2
    assert "Read-only file system" in refused[2]
