"""A training that meets too little memory, another training, or files that were changed.

Full disks, signals and two processes at once are in `torture` (`starve`, `kill`, `together`).
"""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_distill2label.core.errors import CohortError, FolderInUseError, SettingsError
from napari_distill2label.core.events import EpochEnd, drain
from napari_distill2label.core.notices import Notice
from napari_distill2label.store.bundle import load_bundle
from napari_distill2label.store.checkpoint import load_checkpoint, save_checkpoint
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.files import lock
from napari_distill2label.store.files.outputs import RECORD
from napari_distill2label.store.run import Run
from napari_distill2label.workflow.commands.train import title_of, train

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals or limits")


def weights(run):
    return {network: load_bundle(run / network).config.weights_sha256 for network in Run.open(run).models}


def hidden(folder):
    """Names of what should be gone: temporary files and locks, but not the record of what we wrote."""
    return sorted(path.name for path in folder.rglob(".*") if path.name != RECORD)


def closed_after(work, network, epoch=1):
    """Run `work` until an epoch has ended, and close it there."""
    for event in work:
        if isinstance(event, EpochEnd) and (event.network, event.epoch) == (network, epoch):
            work.close()
            return
    pytest.fail("the training was over before it could be stopped")


@pytest.fixture
def settings(tiny):
    return tiny(teacher={"epochs": 2})


@pytest.fixture(scope="module")
def whole(cohort_csv, tiny, tmp_path_factory):
    """A run of two epochs of the teacher that nothing has happened to."""
    settings = tiny(teacher={"epochs": 2})
    return drain(train(Cohort.read(cohort_csv), tmp_path_factory.mktemp("whole") / "run", settings)).folder


# ---- one training at a time ----------------------------------------------------------------------------------------


def test_two_trainings_in_one_run_exclude_each_other(cohort_csv, tmp_path, settings, whole, refused, monkeypatch):
    monkeypatch.setattr(lock, "TIMEOUT", 0.05)
    cohort, run = Cohort.read(cohort_csv), tmp_path / "run"
    work = train(cohort, run, settings)
    while not (run / "settings.json").exists():
        next(work)
    said = f"process {os.getpid()} on "
    assert said in refused("train", cohort_csv, "-o", run, "--resume")
    assert said in refused("train", cohort_csv, "-o", run)
    drain(work)
    assert weights(run) == weights(whole)
    drain(train(cohort, run, resume=True))


def test_nor_do_two_begin_in_one_new_folder(cohort_csv, tmp_path, settings, monkeypatch):
    monkeypatch.setattr(lock, "TIMEOUT", 0.05)
    cohort = Cohort.read(cohort_csv)
    work = train(cohort, tmp_path / "run", settings)
    next(work)
    with pytest.raises(FolderInUseError):
        drain(train(cohort, tmp_path / "run", settings))
    work.close()
    assert not (tmp_path / "run").exists()  # nothing was written


# ---- too little memory --------------------------------------------------------------------------------

LIMITED = """
import resource, sys
from napari_distill2label.cli.main import main
import napari_distill2label.workflow.commands.train
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


@posix
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells by /proc how much memory is in use")
def test_too_little_memory_is_one_line(cohort_csv, tmp_path, flags):
    # 8192 × 8192 weights, of which there are several copies
    wide = [
        "--architecture.hidden_dim=8192",
        *(flag for flag in flags if not flag.startswith("--architecture.hidden_dim")),
    ]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(300 * 2**20), "train", cohort_csv, "-o", tmp_path / "run", *wide],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("distill2label: ")]
    assert done.returncode == 2
    assert "out of memory. Finished work is saved." in line
    assert hidden(tmp_path / "run") == []


# ---- what was changed since ----------------------------------------------------------------------------------------


@pytest.fixture
def own_cohort(cohort_csv, tmp_path):
    """A copy of the cohort, whose slides may be changed."""
    folder = tmp_path / "own"
    shutil.copytree(cohort_csv.parent, folder)
    return folder / cohort_csv.name


def test_a_run_does_not_go_on_with_other_pixels(own_cohort, tmp_path, settings, refused):
    cohort, run = Cohort.read(own_cohort), tmp_path / "run"
    closed_after(train(cohort, run, settings), "teacher")
    before = (run / "checkpoints" / "teacher.safetensors").read_bytes()
    one, other = (row.path for row in cohort.in_split("train")[:2]) if cohort.in_split("train") else _two(run)
    shutil.copy(one, other)
    assert "not those that the run was started with (a file, or what reads it, has changed)" in refused(
        "train", own_cohort, "-o", run, "--resume"
    )
    other.unlink()
    err = refused("train", own_cohort, "-o", run, "--resume", lines=2)
    assert "(1 of them cannot be read now)" in err
    assert (run / "checkpoints" / "teacher.safetensors").read_bytes() == before


def _two(run):
    return (row.path for row in Run.open(run).cohort.in_split("train")[:2])


@pytest.fixture
def refused(cli):
    """One line that ends the command, beside notes and slides that failed."""

    def run(*arguments, lines=1):
        status, out, err = cli(*arguments)
        told = [line for line in err.splitlines() if not line.startswith(("note: ", "failed: "))]
        assert (status, out) == (2, ""), err
        assert len(told) == 1, err
        assert told[0].startswith("distill2label: ")
        return told[0]

    return run


def test_more_classes_than_a_mask_can_tell_apart_are_refused_before_anything_is_read(cohort_of, slides, tmp_path, tiny):
    cohort = Cohort.read(cohort_of([(f"s{i}", slides[0], "normal" if i == 0 else f"class {i}") for i in range(201)]))
    with pytest.raises(CohortError, match="201 classes are more than the 128 that a model can have"):
        drain(train(cohort, tmp_path / "run", tiny()))
    assert not (tmp_path / "run").exists()


# ---- damaged files -------------------------------------------------------------------------------------------------


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_of_an_unfinished_network_is_told_and_trained_anew(
    cohort_csv, tmp_path, settings, whole, collect
):
    cohort, run = Cohort.read(cohort_csv), tmp_path / "run"
    closed_after(train(cohort, run, settings), "oof-2")
    for network in ("oof-1", "oof-2"):
        damage(run / "checkpoints" / f"{network}.safetensors")
    events, _ = collect(train(cohort, run, resume=True))
    told = [str(event) for event in events if isinstance(event, Notice) and "again" in str(event)]
    assert len(told) == 2
    assert told[0].startswith(str(run / "checkpoints" / "oof-1.safetensors"))
    assert told[0].endswith("The out-of-fold classifier 1 is trained again.")
    assert weights(run) == weights(whole)


def test_of_a_finished_one_nothing_good_is_replaced_unasked(trained, cohort_csv, refused):
    before = weights(trained)
    for network in ("teacher", "oof-1", "student"):
        path = trained / "checkpoints" / f"{network}.safetensors"
        kept = path.read_bytes()
        damage(path)
        line = refused("train", cohort_csv, "-o", trained, "--resume")
        assert line.startswith(f"distill2label: {path}: The checkpoint is incomplete (it was altered")
        assert line.endswith(f"Delete it and resume; the {title_of(network)} is then trained again.")
        path.write_bytes(kept)
    assert weights(trained) == before


def test_a_damaged_model_is_told_and_made_again_from_its_checkpoint(trained, cohort_csv, collect):
    before = weights(trained)
    damage(trained / "student" / "model.safetensors")
    (trained / "teacher" / "config.json").write_text("{")
    events, _ = collect(train(Cohort.read(cohort_csv), trained, resume=True))
    told = [str(event) for event in events if isinstance(event, Notice) and "written again" in str(event)]
    assert len(told) == 2
    assert str(trained / "teacher" / "config.json") in told[0]
    assert str(trained / "student" / "model.safetensors") in told[1]
    assert weights(trained) == before


def test_model_and_checkpoint_damaged_both_are_trained_anew(trained, cohort_csv, collect):
    before = weights(trained)
    for path in (trained / "student" / "model.safetensors", trained / "checkpoints" / "student.safetensors"):
        damage(path)
    events, _ = collect(train(Cohort.read(cohort_csv), trained, resume=True))
    assert any("The student is trained again." in str(event) for event in events if isinstance(event, Notice))
    assert weights(trained) == before


def test_the_model_of_another_run_is_no_model_of_this_one(trained, cohort_csv, tmp_path, tiny):
    before = weights(trained)
    other = drain(train(Cohort.read(cohort_csv), tmp_path / "other", tiny(seed=1)))
    shutil.rmtree(trained / "teacher")
    shutil.copytree(other.bundle("teacher"), trained / "teacher")
    drain(train(Cohort.read(cohort_csv), trained, resume=True))
    assert weights(trained) == before


def test_a_checkpoint_of_another_network_is_refused_before_it_is_loaded(trained, cohort_csv, tmp_path, tiny, refused):
    other = drain(train(Cohort.read(cohort_csv), tmp_path / "other", tiny(architecture={"hidden_dim": 12})))
    shutil.copy(other.checkpoint("teacher"), trained / "checkpoints" / "teacher.safetensors")
    assert "it is of another network" in refused("train", cohort_csv, "-o", trained, "--resume")


# ---- the student and its teachers ----------------------------------------------------------------------------------


def test_a_student_of_other_teachers_is_trained_anew(trained, cohort_csv, collect):
    """As a kill leaves it between a new out-of-fold classifier and its student."""
    before = weights(trained)
    path = trained / "checkpoints" / "student.safetensors"
    state = load_checkpoint(path)
    assert len(state.teacher_digest) == 64
    state.teacher_digest = "0" * 64
    save_checkpoint(path, state)
    events, _ = collect(train(Cohort.read(cohort_csv), trained, resume=True))
    assert [event.epoch for event in events if isinstance(event, EpochEnd) and event.network == "student"] == [1]
    assert weights(trained) == before
    assert load_checkpoint(path).teacher_digest != "0" * 64


def test_a_diverged_training_is_one_line_and_keeps_the_last_good_models(trained, cohort_csv, monkeypatch):
    from napari_distill2label.mil import training

    before = weights(trained)
    checkpoints = {path: path.read_bytes() for path in (trained / "checkpoints").iterdir()}

    def broken(*arguments):
        terms = yield from backward(*arguments)
        with training.torch.no_grad():
            arguments[0].head.bias[0] = float("nan")  # after the loss was reckoned
        return terms

    backward = training.backward
    monkeypatch.setattr(training, "backward", broken)
    settings = Run.open(trained).config.settings
    longer = settings.model_copy(update={"teacher": settings.teacher.model_copy(update={"epochs": 3})})
    with pytest.raises(
        SettingsError, match=r"^baseline: the loss of epoch 2 is nan: training diverged, and what was good"
    ):
        drain(train(Cohort.read(cohort_csv), trained, longer, resume=True))
    assert weights(trained) == before
    assert {path: path.read_bytes() for path in checkpoints} == checkpoints


# ---- history -------------------------------------------------------------------------------------------------------


def rows(run):
    with (run / "history.csv").open(newline="") as file:
        return [(row["model"], row["epoch"]) for row in csv.DictReader(file)]


def test_rows_of_the_history_come_back_from_the_checkpoints(trained, cohort_csv):
    """As a kill leaves it after a network's last checkpoint and before its bundle."""
    before = (trained / "history.csv").read_bytes()
    for network in ("baseline", "student"):
        shutil.rmtree(trained / network)
    lines = before.splitlines(keepends=True)
    (trained / "history.csv").write_bytes(b"".join(lines[:1]))
    drain(train(Cohort.read(cohort_csv), trained, resume=True))
    assert (trained / "history.csv").read_bytes() == before
    assert [model for model, _ in rows(trained)] == [
        "baseline", "teacher", "oof-1", "oof-2", "oof-3", "student",
    ]  # fmt: skip


def test_what_a_killed_training_left_half_written_goes(trained, cohort_csv):
    name = "00000000.00000000.1.00000000"
    left = [
        trained / f".student.{name}.tmp", trained / f".teacher.{name}.old", trained / f".history.csv.{name}.tmp",
        trained / "checkpoints" / f".teacher.safetensors.{name}.tmp",
    ]  # fmt: skip
    for path in left:
        path.mkdir() if path.name.startswith((".student", ".teacher.0")) else path.write_text("half")
    mine = [trained / ".mine", trained / "notes.tmp", trained / ".student.tmp"]
    for path in mine:
        path.write_text("mine")
    drain(train(Cohort.read(cohort_csv), trained, resume=True))
    assert not any(path.exists() for path in left)
    assert all(path.read_text() == "mine" for path in mine)


# ---- a network that has learnt nothing -----------------------------------------------------------------------------


def test_a_network_that_has_learnt_nothing_is_told_of(cohort_csv, tmp_path, tiny, collect):
    events, _ = collect(
        train(Cohort.read(cohort_csv), tmp_path / "run", tiny(teacher={"learning_rate": 1e-9}), baseline=True)
    )
    told = [str(event) for event in events if isinstance(event, Notice) and "than chance" in str(event)]
    who = [line.partition(" is no better")[0] for line in told]
    assert who[:2] == ["The baseline", "The teacher"]
    assert "(loss 0.69" in told[1]
    assert "teacher.epochs" in told[0]


def test_one_that_has_learnt_is_not(png, cohort_of, tmp_path, tiny, collect):
    """Of slides that differ in colour as white from black."""
    rows = []
    for index in range(8):
        pixels = np.random.default_rng(index).integers(0, 40, (60, 60, 3)) + 200 * (index % 2)
        rows.append((f"s{index}", png(f"s{index}", pixels.astype(np.uint8)), str(index % 2)))
    fast = {"epochs": 6, "learning_rate": 3e-3, "weight_decay": 0.0}
    settings = tiny(teacher=fast, architecture={"dropout": 0.0}, split={"test": 0.0, "valid": 0.0})
    events, _ = collect(train(Cohort.read(cohort_of(rows)), tmp_path / "run", settings))
    losses = [event.losses["class"] for event in events if isinstance(event, EpochEnd) and event.network == "teacher"]
    assert losses[-1] < 0.5
    assert not [event for event in events if isinstance(event, Notice) and "teacher is no better" in str(event)]
