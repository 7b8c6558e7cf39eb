"""A training that was stopped, however hard, goes on to the very same weights."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from napari_distill2label.cli.main import INTERRUPTED
from napari_distill2label.core.errors import BundleError, SettingsError
from napari_distill2label.core.events import EpochEnd, Progress, drain
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.run import Run
from napari_distill2label.workflow.commands.train import train

EPOCHS = {"teacher": {"epochs": 3}, "student": {"epochs": 2}}


@pytest.fixture(scope="module")
def whole(cohort_csv, tmp_path_factory):
    """Weights of an uninterrupted run, by network."""
    from napari_distill2label.core.presets import build_settings

    settings = build_settings(overrides={
        "architecture": {"hidden_dim": 16, "attention_dim": 8}, "device": "cpu",
        "teacher": {"epochs": 3, "learning_rate": 1e-3}, "oof": {"epochs": 1},
        "student": {"epochs": 2, "learning_rate": 1e-3},
    })  # fmt: skip
    run = drain(train(Cohort.read(cohort_csv), tmp_path_factory.mktemp("whole") / "run", settings, baseline=True))
    return weights(run.folder)


def weights(run: Path) -> dict[str, str]:
    return {
        network: json.loads((run / network / "config.json").read_text())["weights_sha256"]
        for network in Run.open(run).models
    }


def until(work, network: str, epoch: int, kind: type = EpochEnd):
    """Run `work` until an epoch of a network has ended (or, with Progress, has begun), and close it there."""
    for event in work:
        if kind is EpochEnd and isinstance(event, EpochEnd) and (event.network, event.epoch) == (network, epoch):
            break
        if kind is Progress and isinstance(event, Progress) and (event.item, event.epoch) == (network, epoch):
            break
    else:
        pytest.fail("the training was over before it could be stopped")
    work.close()


@pytest.mark.parametrize(
    "how", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGKILL], ids=["Ctrl-C", "kill -9"]
)
def test_a_killed_process_resumes_to_the_same_weights(cohort_csv, tmp_path, flags, cli, whole, how):
    run = tmp_path / "a run"
    epochs = ["--teacher.epochs=3", "--student.epochs=2"]
    command = [
        sys.executable,
        "-m",
        "napari_distill2label.cli",
        "train",
        cohort_csv,
        "-o",
        run,
        "--baseline",
        *flags,
        *epochs,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        # A shell that runs pytest in the background makes its children deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (run / "checkpoints" / "teacher.safetensors").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert not (run / "student").exists(), "the process was not stopped in time to test anything"
    if how == signal.SIGINT:
        assert process.returncode == INTERRUPTED
        assert err.splitlines()[-1] == "distill2label: Stopped. Finished work is saved."
        assert "Traceback" not in err
        assert not list(run.rglob("*.tmp"))
    assert not out
    assert weights(run) == {"baseline": whole["baseline"]}
    status, out, err = cli("train", cohort_csv, "-o", run, "--resume")
    assert (status, out.strip()) == (0, str(run)), err
    assert "baseline epoch" not in err
    assert "teacher epoch 1/" not in err
    assert weights(run) == whole


@pytest.mark.parametrize(
    ("network", "epoch", "kind"),
    [
        ("baseline", 1, EpochEnd),
        ("teacher", 2, Progress),
        ("teacher", 3, EpochEnd),
        ("oof-2", 1, EpochEnd),
        ("student", 1, EpochEnd),
        ("student", 1, Progress),
    ],
)
def test_a_run_closed_anywhere_resumes_to_the_same_weights(cohort_csv, tmp_path, tiny, whole, network, epoch, kind):
    cohort, run = Cohort.read(cohort_csv), tmp_path / "run"
    until(train(cohort, run, tiny(**EPOCHS), baseline=True), network, epoch, kind)
    drain(train(cohort, run, resume=True))
    assert weights(run) == whole


def test_resuming_a_finished_run_changes_nothing(trained, cohort_csv, cli):
    before = {
        path: path.read_bytes()
        for network in ("baseline", "teacher", "student")
        for path in (trained / network).iterdir()
    }
    status, _, err = cli("train", cohort_csv, "-o", trained, "--resume")
    assert status == 0
    assert "epoch" not in err
    assert {path: path.read_bytes() for path in before} == before


def test_more_epochs_continue_and_the_student_follows_its_teacher(cohort_csv, tmp_path, tiny, whole, cli, config_of):
    cohort, run = Cohort.read(cohort_csv), tmp_path / "run"
    drain(train(cohort, run, tiny(student={"epochs": 2})))
    status, _, err = cli("train", cohort_csv, "-o", run, "--resume", "--teacher.epochs", "3")
    assert status == 0, err
    assert "teacher epoch 1/" not in err
    assert "student epoch 1/2" in err
    assert weights(run) == {network: whole[network] for network in ("teacher", "student")}
    assert Run.open(run).config.settings.teacher.epochs == 3
    # Without a word about epochs, what was asked for last holds.
    assert "epoch" not in cli("train", cohort_csv, "-o", run, "--resume")[2]


def test_a_longer_training_stopped_at_its_last_epoch_still_makes_the_new_models(cohort_csv, tmp_path, tiny, whole):
    cohort, run = Cohort.read(cohort_csv), tmp_path / "run"
    drain(train(cohort, run, tiny(student={"epochs": 2})))
    until(train(cohort, run, tiny(**EPOCHS), resume=True), "teacher", 3)
    drain(train(cohort, run, resume=True))
    assert weights(run) == {network: whole[network] for network in ("teacher", "student")}


def test_a_bundle_that_was_lost_comes_back_from_its_checkpoint(trained, shared_run, cohort_csv):
    (trained / "teacher" / "model.safetensors").write_bytes(b"")
    (trained / "student" / "config.json").unlink()
    drain(train(Cohort.read(cohort_csv), trained, resume=True))
    assert weights(trained) == weights(shared_run)


@pytest.mark.parametrize(
    ("flags_given", "said"),
    [
        (["--teacher.lambda_n", "0.25"], "teacher settings"),
        (["--student.temperature", "3"], "student settings"),
        (["--patches.size_px", "32"], "patches settings"),
        (["--architecture.hidden_dim", "8"], "architecture settings"),
        (["--seed", "5"], "seed settings"),
        (["--preset", "breast"], "preset settings"),
        (["--split.test", "0.3"], "split settings"),
        (["--centres", "points.csv"], "no table of centres. Leave out --centres"),
        (["--corrections", "points.csv"], "no corrections. Leave out --corrections"),
        (["--encoder", "encoder.onnx"], "no frozen encoder. Leave out --encoder"),
    ],
)
def test_resuming_with_other_settings_is_refused(trained, cohort_csv, refused, flags_given, said):
    assert said in refused("train", cohort_csv, "-o", trained, "--resume", *flags_given)


def test_a_folder_that_has_moved_resumes_with_its_table_of_centres_in_the_new_place(cohort_csv, tmp_path, tiny):
    old, new = shutil.copytree(cohort_csv.parent, tmp_path / "old"), tmp_path / "new"
    undisturbed = until_the_end(Cohort.read(old / "cohort.csv"), tmp_path / "whole", tiny(), old / "centres.csv")
    work = train(Cohort.read(old / "cohort.csv"), old / "run", tiny(), inputs=Inputs(centres=old / "centres.csv"))
    until(work, "teacher", 1)
    old.rename(new)
    lines = (new / "centres.csv").read_text().splitlines(keepends=True)
    (new / "fewer.csv").write_text("".join(lines[:-5]))
    with pytest.raises(SettingsError, match="not those that the run was started with"):
        until_the_end(Cohort.read(new / "cohort.csv"), new / "run", None, new / "fewer.csv", resume=True)
    resumed = until_the_end(Cohort.read(new / "cohort.csv"), new / "run", None, new / "centres.csv", resume=True)
    assert weights(resumed.folder) == weights(undisturbed.folder)
    assert Run.open(new / "run").config.centres == str(new / "centres.csv")


def until_the_end(cohort, folder, settings, centres, **more) -> Run:
    return drain(train(cohort, folder, settings, inputs=Inputs(centres=centres), **more))


def test_resuming_with_the_same_command_line_is_fine(trained, cohort_csv, flags, cli):
    assert cli("train", cohort_csv, "-o", trained, "--baseline", "--preset", "colon", "--resume", *flags)[0] == 0


def test_resuming_another_cohort_or_no_run_is_refused(trained, slides, cohort_csv, cohort_of, tmp_path, tiny, refused):
    other = cohort_of([(f"s{i}", path, ("0", "1")[i % 2]) for i, path in enumerate(slides)])
    assert "other slides or labels" in refused("train", other, "-o", trained, "--resume")
    assert "is no run" in refused("train", cohort_csv, "-o", tmp_path / "nothing", "--resume")
    run = tmp_path / "no baseline"
    until(train(Cohort.read(cohort_csv), run, tiny()), "teacher", 1)
    with pytest.raises(SettingsError, match=r"another choice about the baseline\. Leave out baseline"):
        drain(train(Cohort.read(cohort_csv), run, baseline=True, resume=True))


def test_a_damaged_checkpoint_is_one_line(trained, cohort_csv, refused):
    checkpoint = trained / "checkpoints" / "teacher.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    line = refused("train", cohort_csv, "-o", trained, "--resume")
    assert str(checkpoint) in line
    with pytest.raises(BundleError):
        drain(train(Cohort.read(cohort_csv), trained, resume=True))


def test_an_untouched_settings_object_resumes_from_python(trained, cohort_csv, tiny):
    run = drain(train(Cohort.read(cohort_csv), trained, tiny(), resume=True))
    assert run.models == ("baseline", "teacher", "student")
