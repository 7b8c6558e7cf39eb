"""Runs are read from disk as they are: whole, stopped half-way, damaged or not ours at all."""

import json
import math
import shutil
import threading

import pytest
from napari.components import ViewerModel

from napari_distill2label.core.events import EpochEnd, Progress, Task
from napari_distill2label.gui.actions.training_check import resumed_settings
from napari_distill2label.gui.session import Session
from napari_distill2label.store.run_summary import append, read_curves, scan, summarise


@pytest.fixture
def copied(run_folder, tmp_path):
    """A run of one's own to damage."""
    return shutil.copytree(run_folder, tmp_path / "runs" / "first")


@pytest.fixture
def session(cohort_csv):
    viewer = ViewerModel()
    made = Session(viewer)
    made.read_cohort(cohort_csv)
    yield made
    made.shutdown()


def test_a_finished_run(copied):
    run = summarise(copied)
    assert (run.name, run.state, run.is_finished, run.can_resume) == ("first", "finished", True, False)
    assert run.models == ("teacher", "student")
    assert run.epochs("student") == (1, 1)
    assert (run.settings.preset, run.settings.method, run.classes) == ("colon", "recommended", ("normal", "tumour"))
    assert run.n_train > 0
    metrics = json.loads((copied / "student" / "metrics.json").read_text())
    assert run.auroc == metrics["auroc"]
    assert run.valid_loss is None  # eight slides leave none for validation
    assert run.timing.epoch["student"] > 0


@pytest.mark.parametrize(("keep_epoch", "loss"), [("best", 0.25), ("last", 0.5)])
def test_the_loss_of_a_run_is_that_of_the_epoch_it_keeps(copied, keep_epoch, loss):
    (copied / "history.csv").write_text(
        "model,epoch,loss,valid_loss\nstudent,1,1,0.75\nstudent,2,1,0.25\nstudent,3,1,0.5\n"
    )
    settings = json.loads((copied / "settings.json").read_text())
    settings["settings"]["student"] |= {"keep_epoch": keep_epoch, "epochs": 3}
    (copied / "settings.json").write_text(json.dumps(settings))
    assert summarise(copied).valid_loss == loss


def test_a_stopped_run_says_where(copied):
    shutil.rmtree(copied / "student")
    lines = (copied / "history.csv").read_text().splitlines()
    (copied / "history.csv").write_text("\n".join(lines[:2]) + "\n")
    run = summarise(copied)
    assert run.state == "stopped: teacher, epoch 1 of 1"
    assert run.can_resume
    (copied / "history.csv").unlink()
    assert summarise(copied).state == "stopped: before the first epoch"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"settings": {"teacher": {"epochs": -1}}, "classes": []}', "[" * 9999]
)
def test_a_damaged_run_is_listed_with_its_problem(copied, content):
    (copied / "settings.json").write_text(content)
    (run,) = scan([copied])
    assert "damaged" in run.state
    assert not run.can_resume
    assert not run.is_finished


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("history.csv", b"\xff\xfe no text"),
        ("history.csv", b"model,epoch,loss\nteacher,one,\n,,\nteacher\n"),
        ("student/metrics.json", b'{"auroc": "good"}'),
        ("student/metrics.json", b'{"auroc": 1%b}' % (b"0" * 400)),
        ("student/config.json", b"{"),
        ("timing.json", b'{"device": "x", "n_slides": 0}'),
        ("timing.json", b'{"device": "cpu", "n_slides": 1, "n_patches": 1, "reading": NaN}'),
    ],
)
def test_damage_elsewhere_is_only_missing(copied, file, content):
    (copied / file).write_bytes(content)
    run = summarise(copied)
    assert run.name == "first"
    if file == "timing.json":
        assert run.timing is None
    if file == "student/metrics.json":
        assert run.auroc is None


def test_curves_have_nan_where_a_model_lacks_a_term(copied):
    curves = read_curves(copied)
    assert list(curves) == ["teacher", "oof-1", "oof-2", "oof-3", "student"]
    assert "loss_noise" in curves["teacher"]
    assert "loss_noise" not in curves["student"]
    made = {}
    append(made, "a", {"epoch": 1.0, "loss": 2.0})
    append(made, "a", {"epoch": 2.0, "valid_loss": 3.0})
    assert made["a"]["epoch"] == [1, 2]
    assert [math.isnan(value) for value in made["a"]["loss"]] == [False, True]
    assert [math.isnan(value) for value in made["a"]["valid_loss"]] == [True, False]


def test_scanning_finds_runs_in_and_beside(copied, tmp_path):
    other = shutil.copytree(copied, copied.with_name("second"))
    (copied.parent / "no run").mkdir()
    (copied.parent / "a file").write_text("")
    found = scan([copied.parent, copied, tmp_path / "gone"])
    assert {run.folder for run in found} == {copied, other}
    assert found == sorted(found, key=lambda run: run.started, reverse=True)


def test_reading_runs_needs_no_torch(copied):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from napari_distill2label.store.run_summary import scan; "
        f"assert scan([Path({str(copied)!r})])[0].is_finished; assert not {{'torch', 'qtpy'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_session_lists_runs_beside_the_slides(session, cohort_csv, run_folder):
    session.runs.look()
    assert session.runs.found == []
    session.runs.add(run_folder)
    table = session.runs.table
    assert list(table.run) == [run_folder.name]
    assert table.state[0] == "finished"
    assert cohort_csv.parent in session.runs.places()
    assert "tiny run" in repr(session.runs)


def epochs(network, numbers, auroc=0.5):
    for number in numbers:
        yield Progress(Task.TRAIN, 1, 1, network, number, 5)
        metrics = {"valid_loss": 1 / number, "valid_auroc": auroc}
        yield EpochEnd(network, number, 5, {"loss": 2 / number, "class": 1 / number}, metrics, best=True)


def start(session, work, folder):
    session.runs.expect(folder)
    return session.jobs.start("train", "Training", work)


def test_curves_follow_the_training(session, tmp_path):
    def work():
        yield from epochs("teacher", (1, 2))
        assert session.runs.live["teacher"]["loss"] == [2, 1]
        assert session.runs.asked == {"teacher": 5}
        assert session.runs.progress().startswith(
            "Teacher, epoch 2 of 5. Best so far: epoch 2 (validation loss 0.500, AUROC 0.50). 0:00 so far"
        )
        yield from epochs("student", (1,))

    start(session, work, tmp_path / "new")
    runs = session.runs
    assert list(runs.live) == ["teacher", "student"]
    assert runs.live["teacher"]["valid_loss"] == [1, 0.5]
    assert runs.best == {"teacher": 2, "student": 1}
    assert runs.folder == tmp_path / "new"
    assert runs.trained_at is not None

    start(session, lambda: epochs("teacher", (1,)), tmp_path / "newer")
    assert list(runs.live) == ["teacher"]
    assert runs.folder == tmp_path / "newer"


def test_a_resumed_training_shows_what_was_before(session, copied):
    """One epoch of the teacher was there; it goes on with the second."""
    shutil.rmtree(copied / "student")
    lines = (copied / "history.csv").read_text().splitlines()
    (copied / "history.csv").write_text("\n".join(lines[:2]) + "\n")
    before = read_curves(copied)["teacher"]["loss"]
    start(session, lambda: epochs("teacher", (2, 3)), copied)
    assert session.runs.live["teacher"]["epoch"] == [1, 2, 3]
    assert session.runs.live["teacher"]["loss"] == [*before, 1, pytest.approx(2 / 3)]


def test_a_training_that_fails_leaves_no_time(session, tmp_path):
    def work():
        yield from epochs("teacher", (1,))
        raise RuntimeError("boom")

    job = start(session, work, tmp_path / "broken")
    assert job.state == "failed"
    assert session.runs.trained_at is None
    assert threading.active_count() < 50


def test_resuming_takes_the_epochs_only_if_nothing_else_differs(session):
    own = session.settings
    more = session.configure(teacher={"epochs": 40}, device="cpu")
    assert resumed_settings(own, more) == more
    other = session.configure(patches={"size_px": 40})
    resumed = resumed_settings(own, other)
    assert (resumed.patches, resumed.teacher, resumed.device) == (own.patches, own.teacher, "cpu")


def test_a_network_that_is_trained_again_has_one_curve():
    curves = {}
    for epoch in (1, 2, 3, 1, 2):
        append(curves, "teacher", {"epoch": epoch, "loss": 10.0 * epoch})
    append(curves, "student", {"epoch": 1, "loss": 5.0})
    assert curves == {"teacher": {"epoch": [1, 2], "loss": [10.0, 20.0]}, "student": {"epoch": [1], "loss": [5.0]}}
