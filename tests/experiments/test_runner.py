"""Tasks are done here or by other processes; what is done is not done again; one that fails stops no other."""

import time
from functools import partial

import pandas as pd
import pytest
from distributed import LocalCluster

from experiments.results import Key, Results, Row
from experiments.runner import Outcome, Trial, run_trials
from experiments.times import Elapsed, note, run_time, timed
from napari_distill2label.core.errors import SettingsError, SlideError
from napari_distill2label.core.events import ItemFailed, Progress, Task


def key(fold):
    return Key("test", "mil", "grid", fold, 0)


def work(fold, log, fails=False):
    """Leaves a trace of having run, in whichever process."""
    yield Progress(Task.EXPORT, 1, 1)
    with (log / f"{fold}.txt").open("a") as trace:
        trace.write("ran\n")
    if fails:
        raise SlideError(f"fold {fold}: its slide is damaged")
    return Outcome(
        [Row("test", "mil", "grid", fold, 0, "slide", "auroc", "", 0.5 + fold / 10)], {f"f/{fold}.txt": b"x"}
    )


def trials(log, failing=()):
    return [Trial(f"fold {f}", (key(f),), partial(work, f, log, f in failing)) for f in range(3)]


@pytest.fixture
def log(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("workers", [1, 2])
def test_rows_and_files_of_all_tasks_arrive_once(tmp_path, log, workers):
    results = Results(tmp_path / "out", {"a": 1})
    events = list(run_trials(trials(log, failing={1}), results, workers))
    failed = [(event.item, str(event.error)) for event in events if isinstance(event, ItemFailed)]
    assert failed == [("fold 1", "fold 1: its slide is damaged")]
    assert results.done == {key(0), key(2)}
    assert sorted(path.name for path in (tmp_path / "out/f").iterdir()) == ["0.txt", "2.txt"]
    events = list(run_trials(trials(log), Results(tmp_path / "out", {"a": 1}), workers))
    assert not any(isinstance(event, ItemFailed) for event in events)
    assert {path.name: path.read_text().count("ran") for path in log.iterdir()} == {"0.txt": 1, "1.txt": 2, "2.txt": 1}
    assert len(Results(tmp_path / "out", {"a": 1}).rows) == 3


def test_progress_counts_what_was_done_before(tmp_path, log):
    results = Results(tmp_path / "out", {})
    results.add([Row("test", "mil", "grid", 0, 0, "slide", "auroc", "", 0.5)])
    first = next(run_trials(trials(log), results))
    assert (first.step, first.total) == (1, 3)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_the_time_of_every_finished_task_is_noted(tmp_path, log, workers):
    out = tmp_path / "out"
    assert run_time(out) == ""
    list(run_trials(trials(log, failing={1}), Results(out, {"experiment": "a test"}), workers))
    noted = pd.read_csv(out / "times.csv")
    assert sorted(noted.task) == ["fold 0", "fold 2"]
    assert (noted[["seconds", "processor_seconds"]] >= 0).all(axis=None)
    list(run_trials(trials(log), Results(out, {"experiment": "a test"}), workers))
    assert "3 tasks" in run_time(out)


def test_time_counts_the_processor_and_not_the_waiting():
    with timed() as computing:
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
    with timed() as waiting:
        time.sleep(0.1)
    assert min(computing.processor_seconds, computing.seconds, waiting.seconds) >= 0.09
    assert waiting.processor_seconds < 0.09


def test_lines_that_are_no_times_are_passed_over(tmp_path):
    assert run_time(tmp_path) == ""
    (tmp_path / "times.csv").write_text("")
    assert run_time(tmp_path) == ""
    (tmp_path / "times.csv").write_text("task,started,seconds,processor_seconds\na,now,3600.0,1800.0\nb,now,7\n\n")
    assert "1 tasks" in run_time(tmp_path)
    (tmp_path / "times.csv").write_bytes(b'\xff\x00,"\nx,now,nan,1\n"a",now,3600.0,1800.0')
    note(tmp_path, "c, d", Elapsed("now", 3600.0, 5400.0))
    assert "2 tasks" in run_time(tmp_path)
    assert "2.0 hours on the clock" in run_time(tmp_path)
    assert "30.0 to 90.0 minutes" in run_time(tmp_path)
    note(tmp_path, "a", Elapsed("again", 60.0, 60.0))
    assert "1.0 to 90.0 minutes" in run_time(tmp_path)


def test_workers_of_several_threads_are_refused(tmp_path, log):
    with LocalCluster(1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        work = run_trials(trials(log), Results(tmp_path / "out", {}), scheduler=cluster.scheduler_address)
        with pytest.raises(SettingsError, match="--nthreads 1"):
            list(work)
    assert not list(log.iterdir())


def test_no_processes_are_started_for_nothing(tmp_path, log, monkeypatch):
    results = Results(tmp_path / "out", {})
    results.add(Row("test", "mil", "grid", fold, 0, "slide", "auroc", "", 0.5) for fold in range(3))
    monkeypatch.setattr("distributed.LocalCluster", None)
    assert [event.step for event in run_trials(trials(log), results, workers=2)] == [3]
