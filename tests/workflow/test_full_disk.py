"""A disk that is full costs what was being written and nothing else: one line, and the former file as it was."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from napari_distill2label.core.events import drain
from napari_distill2label.store.files.outputs import RECORD
from napari_distill2label.workflow.commands.predict import predict

FULL = re.compile("disk is full|no room left")


@pytest.fixture
def small_disk(tmp_path):
    """`small_disk(kilobytes)` -> the folder of a file system of that size."""
    mounted = []

    def make(kilobytes):
        folder = tmp_path / f"disk {len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
        if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here: full disks were NOT tested")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def run_cli(cli):
    """The command line: (status, lines on stderr without notes)."""

    def run(*words):
        status, _, err = cli(*words)
        assert "Traceback" not in err, err
        return status, [line for line in err.splitlines() if not line.startswith("note: ")]

    return run


@pytest.fixture
def own_process():
    """`run_cli` in a process of its own: for what ended the whole process."""

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-m", "napari_distill2label.cli", *map(str, words)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, [line for line in done.stderr.splitlines() if not line.startswith("note: ")]

    return run


def fill(folder: Path, leave: int) -> None:
    """Take all room on a disk but `leave` bytes."""
    status = os.statvfs(folder)
    with (folder / "ballast").open("wb") as file:
        file.write(b"\0" * max(0, status.f_bavail * status.f_frsize - leave))


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in (RECORD, "ballast"))


@pytest.fixture
def predicted(trained, slides, tmp_path):
    drain(predict(trained, slides[:2], tmp_path / "elsewhere", formats=["csv"]))
    return trained


@pytest.mark.parametrize("form", ["csv", "geojson", "png", "ome-tiff"])
@pytest.mark.parametrize("room", [0, 4096])
def test_export(predicted, small_disk, run_cli, form, room):
    disk = small_disk(256)
    words = ["export", predicted, "-o", disk, "--format", form]
    assert run_cli(*words) == (0, [])
    before = {path: path.read_bytes() for path in disk.iterdir() if path.name != RECORD}
    fill(disk, room)
    status, said = run_cli(*words, "--threshold", "0.9")
    if status:
        assert status in (1, 2)
        assert any(FULL.search(line) for line in said), said
    assert room or status
    after = {path: path.read_bytes() for path in disk.iterdir() if path.name not in (RECORD, "ballast")}
    assert after.keys() == before.keys()
    assert status == 0 or after == before
    (disk / "ballast").unlink()
    assert run_cli(*words) == (0, [])
    assert {path: path.read_bytes() for path in disk.iterdir() if path.name != RECORD}.keys() == before.keys()


def test_predict(trained, slides, small_disk, run_cli):
    disk = small_disk(256)
    fill(disk, 8192)
    status, said = run_cli("predict", trained, *slides[:2], "-o", disk)
    assert status in (1, 2)
    assert any(FULL.search(line) for line in said), said
    (disk / "ballast").unlink()
    assert run_cli("predict", trained, *slides[:2], "-o", disk) == (0, [])
    assert len(left(disk)) == 10  # five files each


@pytest.mark.parametrize("form", ["h5", "zarr"])
def test_features(slides, tmp_path, small_disk, run_cli, own_process, cohort_of, form):
    class Encoder(torch.nn.Module):
        def forward(self, x):
            return x[:, 0, :24, :24].flatten(1)

    torch.jit.save(torch.jit.trace(Encoder(), torch.zeros(2, 3, 32, 32)), tmp_path / "e.pt")
    about = {"name": "e", "features": 576, "patch_px": 32, "mpp": 0.5}
    (tmp_path / "e.json").write_text(json.dumps(about))
    disk = small_disk(512)
    cohort = cohort_of([("a", slides[0])], ("slide_id", "path"))
    words = [
        "extract-features",
        cohort,
        "--encoder",
        tmp_path / "e.pt",
        "--trust-encoder",
        "-o",
        disk,
        "--patches.tissue",
        "none",
    ]
    words += ["--format", form, "--patches.stride_px", "32"]
    fill(disk, 24 * 1024 if form == "h5" else 8 * 1024)
    status, said = (own_process if form == "h5" else run_cli)(*words)
    assert status in (1, 2)
    assert (
        1 <= sum(bool(FULL.search(line)) for line in said) <= len(said) <= 3
    )  # as it fails, and in the list at the end
    assert not [name for name in left(disk) if name.endswith((".h5", ".tmp"))]
    (disk / "ballast").unlink()
    assert run_cli(*words) == (0, [])
    assert left(disk) == [f"a.{form}"]
    if form == "h5":
        with h5py.File(disk / "a.h5") as file:
            assert np.isfinite(file["features"][...]).all()


def test_evaluate(trained, cohort_csv, small_disk, run_cli):
    disk = small_disk(64)
    fill(disk, 0)
    words = ["evaluate", trained, cohort_csv, "--truth", cohort_csv.with_name("truth.csv"), "-o", disk / "metrics.json"]
    status, said = run_cli(*words)
    assert status == 2
    assert len(said) == 1
    assert FULL.search(said[0])
    assert left(disk) == []


def test_export_model(trained, small_disk, own_process):
    disk = small_disk(64)
    fill(disk, 8192)
    status, said = own_process("export-model", trained, disk / "m", "--to", "wsinfer")
    assert status == 2  # torch's own writer ends the process
    assert FULL.search(said[-1])
    assert left(disk) == []


def test_dataset(tmp_path, small_disk, run_cli):
    from PIL import Image
    from scipy.io import savemat

    folder = tmp_path / "CRC" / "Classification" / "img1"
    folder.mkdir(parents=True)
    Image.fromarray(np.full((500, 500, 3), 200, np.uint8)).save(folder / "img1.bmp")
    points = np.random.default_rng(0).uniform(1, 499, (600, 2))
    for kind in ("epithelial", "fibroblast", "inflammatory", "others"):
        savemat(folder / f"img1_{kind}.mat", {"detection": points})
    disk = small_disk(64)
    fill(disk, 12 * 1024)
    status, said = run_cli("prepare-dataset", "colon", tmp_path / "CRC", "-o", disk)
    assert (status, len(said)) == (2, 1)
    assert FULL.search(said[0])
    assert all(not name.startswith(".") for name in left(disk))
    assert "truth.csv" not in left(disk)
