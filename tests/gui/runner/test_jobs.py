"""Nothing that happens to the work is lost; one job runs at a time, and the others wait in sight."""

import importlib
import threading

import pytest

from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.events import EpochEnd, Progress, Task
from napari_distill2label.core.notices import Notice, NoticeCode
from napari_distill2label.gui.runner.draining import Cancelled, Done, Failure, drain_safely, failure_of
from napari_distill2label.gui.runner.jobs import BusyError, Job, JobQueue, RetryOffer


def finish(generator):
    events = []
    try:
        while True:
            events.append(next(generator))
    except StopIteration as stop:
        return events, stop.value


def failing(error):
    yield Progress(Task.EXPORT, 1, 2)
    raise error


def test_done():
    def work():
        yield Progress(Task.EXPORT, 1, 1)
        return 7

    events, outcome = finish(drain_safely(work, threading.Event()))
    assert outcome == Done(7)
    assert len(events) == 1


@pytest.mark.parametrize("error", [RuntimeError("no"), ValueError("no"), StopIteration(), MemoryError(), KeyError("x")])
def test_every_exception_comes_back_as_a_value(error):
    _, outcome = finish(drain_safely(lambda: failing(error), threading.Event()))
    assert isinstance(outcome, Failure)
    assert outcome.message
    assert "Traceback" in outcome.details


def test_torch_out_of_memory_is_plain_words():
    import torch

    _, outcome = finish(
        drain_safely(lambda: failing(torch.OutOfMemoryError("CUDA out of memory. Tried…")), threading.Event())
    )
    assert "out of memory" in outcome.message
    assert "device 'cpu'" in outcome.message


def test_an_error_of_onednn_without_a_reason_is_offered_a_smaller_training():
    _, outcome = finish(drain_safely(lambda: failing(RuntimeError("could not create a primitive")), threading.Event()))
    assert outcome.out_of_memory
    assert "oneDNN names no reason; too little memory can be one" in outcome.message


def test_a_package_that_is_missing_is_named():
    with pytest.raises(ModuleNotFoundError) as missing:
        importlib.import_module("no_such_package.part")
    assert "pip install no_such_package," in failure_of(missing.value).message


def test_errors_for_people_stay_as_they_are():
    _, outcome = finish(drain_safely(lambda: failing(SlideError("a.tif: damaged")), threading.Event()))
    assert outcome.message == "a.tif: damaged"


def test_making_the_work_may_fail_too():
    def make():
        raise ImportError("no torch")

    _, outcome = finish(drain_safely(make, threading.Event()))
    assert "no torch" in outcome.message


def test_cancel_closes_the_work_in_the_thread_that_ran_it():
    closed_in, flag = [], threading.Event()

    def work():
        try:
            for step in range(1000):
                yield Progress(Task.EXPORT, step, 1000)
                if step == 2:
                    flag.set()
        finally:
            closed_in.append(threading.current_thread())

    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(finish(drain_safely(work, flag))[1]))
    thread.start()
    thread.join()
    assert outcomes == [Cancelled()]
    assert closed_in == [thread]


def test_progress_is_thinned_out_and_the_rest_is_not():
    def work():
        for step in range(500):
            yield Progress(Task.EXPORT, step, 1000)
            yield Progress(Task.LOAD_MODEL, 1, 1)  # a task of one step ends as often as it is begun
        yield EpochEnd("teacher", 1, 2)
        yield Notice(NoticeCode.ONE_FOLD)
        yield EpochEnd("teacher", 2, 2)

    events, _ = finish(drain_safely(work, threading.Event()))
    assert len(events) < 50
    assert [type(event) for event in events[-3:]] == [EpochEnd, Notice, EpochEnd]


def test_without_a_window_work_runs_at_once():
    jobs, seen, results = JobQueue(lambda: False), [], []
    jobs.changed.connect(lambda job: seen.append(job.state))

    def work():
        yield Progress(Task.EXPORT, 1, 2)
        return 3

    job = jobs.start("train", "Training", work, results.append)
    assert results == [3]
    assert job.result() == 3
    assert (seen[0], seen[-1]) == ("running", "done")
    assert not jobs.busy


def steps(*values):
    """Work that yields a step for each value and returns the last."""

    def work():
        for number, _ in enumerate(values, 1):
            yield Progress(Task.EXPORT, number, len(values))
        return values[-1]

    return work


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Progress(Task.PREDICT, 27, 81, "slide_007"), "predicting slide_007 (27/81 patches)"),
        (Progress(Task.TRAIN, 4, 9, "oof-2", 3, 8), "helper model 2: epoch 3 of 8 (4/9 steps)"),
        (Progress(Task.VALIDATE, 1, 2, "student", 2, 10), "student: validating epoch 2 of 10 (1/2 slides)"),
        (EpochEnd("student", 3, 10), "student: epoch 3 of 10"),
        (Progress(Task.EXPORT, 1, 3), "exporting (1/3 slides)"),
        (Progress(Task.EXPORT, 1), "exporting…"),
    ],
)
def test_what_is_counted_is_named(event, text):
    told = []

    def work():
        yield event
        told.append(jobs.current.text)

    jobs = JobQueue(lambda: False)
    jobs.start("any", "Working", work)
    assert told == [text]


def test_a_second_job_waits_for_the_first():
    jobs, order, states = JobQueue(lambda: False), [], []
    jobs.changed.connect(lambda job: states.append((job.kind, job.state)))

    def work():
        second = jobs.start("predict", "Predicting", steps(2), order.append)
        assert second.state == "queued"
        assert jobs.queue == (second,)
        assert (second.elapsed, second.started_at, second.remaining) == (0.0, None, None)
        assert second.text == "Predicting: waiting"
        assert jobs.of_kind("predict") is second
        with pytest.raises(BusyError, match="Training is still going on"):
            jobs.wait(second)
        yield Progress(Task.EXPORT, 1)
        return 1

    first = jobs.start("train", "Training", work, order.append)
    assert order == [1, 2]
    assert [job.kind for job in jobs.past] == ["train", "predict"]
    assert jobs.last.result() == 2
    assert first.started_at <= jobs.last.started_at
    assert not jobs.busy
    ends = [state for kind, state in states if kind == "predict"]
    assert (ends[0], ends[-1]) == ("queued", "done")


def test_a_job_cannot_be_waited_for_while_the_one_before_it_ends():
    jobs, refused = JobQueue(lambda: False), []

    def work():
        jobs.start("predict", "Predicting", steps(2))
        yield Progress(Task.EXPORT, 1)

    def wait_for_next(value):
        with pytest.raises(BusyError) as error:
            jobs.wait(jobs.queue[0])
        refused.append(str(error.value))

    jobs.start("train", "Training", work, wait_for_next)
    assert refused == ["The job before it is still going on: start Predicting after it"]
    assert [job.state for job in jobs.past] == ["done", "done"]


def test_what_waits_can_be_taken_out():
    jobs, done = JobQueue(lambda: False), []

    def work():
        waiting = [jobs.start(kind, kind, steps(kind), done.append) for kind in ("a", "b", "c")]
        jobs.cancel(waiting[1])
        jobs.cancel(waiting[1])
        assert waiting[1].state == "cancelled"
        assert jobs.queue == (waiting[0], waiting[2])
        yield Progress(Task.EXPORT, 1)

    jobs.start("train", "Training", work)
    assert done == ["a", "c"]
    assert [job.kind for job in jobs.past] == ["b", "train", "a", "c"]


def test_what_a_cancelled_job_keeps_is_said():
    jobs = JobQueue(lambda: False)

    def work():
        jobs.start("predict", "Predicting", steps, kept="This had not begun.")
        jobs.cancel(jobs.queue[0])
        jobs.cancel()
        yield Progress(Task.EXPORT, 1, 2)

    job = jobs.start("features", "Computing features", work, kept="The rest is kept.")
    assert job.text == "Computing features: cancelled. The rest is kept."
    assert [past.text for past in jobs.past if past is not job] == ["Predicting: cancelled"]


def test_the_next_job_starts_whatever_became_of_the_one_before():
    jobs, done = JobQueue(lambda: False), []

    def work():
        jobs.start("predict", "Predicting", steps(1), done.append)
        yield Progress(Task.EXPORT, 1)
        raise RuntimeError("boom")

    def other():
        jobs.start("predict", "Predicting", steps(2), done.append)
        yield Progress(Task.EXPORT, 1)
        jobs.cancel()
        yield Progress(Task.EXPORT, 2)

    assert jobs.start("train", "Training", work).state == "failed"
    assert jobs.start("train", "Training", other).state == "cancelled"
    assert done == [1, 2]


def test_what_a_job_needs_is_looked_up_when_its_turn_comes():
    jobs, model = JobQueue(lambda: False), []

    def prepare():
        if not model:
            raise SlideError("there is no model")

    def work():
        jobs.start("predict", "Predicting", steps(1), prepare=prepare)
        yield Progress(Task.EXPORT, 1)

    jobs.start("train", "Training", work, model.append)
    assert jobs.last.state == "done"
    model.clear()
    job = jobs.start("predict", "Predicting", steps(1), prepare=prepare)
    assert job.text == "Predicting failed: there is no model"
    assert not jobs.busy


def test_a_failed_job_can_be_tried_again():
    jobs, left = JobQueue(lambda: False), [1, 1]

    def work():
        yield Progress(Task.EXPORT, 1)
        if left:
            left.pop()
            raise SlideError("not yet")
        return 5

    job = jobs.start("train", "Training", work)
    assert job.retry_text == "Try again"
    assert job.retry().retry().result() == 5
    assert jobs.last.retry is None


def test_what_to_try_is_asked_of_who_started_it():
    import torch

    jobs, seen = JobQueue(lambda: False), []

    def retry(outcome):
        seen.append(outcome.out_of_memory)
        return RetryOffer("Try again on the CPU", lambda: jobs.start("train", "Training", steps(3)))

    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
    job = jobs.start("train", "Training", lambda: failing(error), retry=retry)
    assert (job.state, job.retry_text, seen) == ("failed", "Try again on the CPU", [True])
    assert job.retry().result() == 3
    job = jobs.start("train", "Training", lambda: failing(error), retry=lambda outcome: None)
    assert (job.retry, job.retry_text) == (None, "")


def test_an_error_of_a_listener_does_not_stop_the_queue():
    jobs, done = JobQueue(lambda: False), []

    def work():
        jobs.start("predict", "Predicting", steps(2), done.append)
        yield Progress(Task.EXPORT, 1)

    def fail(value):
        raise ValueError("of the listener")

    with pytest.raises(ValueError, match="of the listener"):
        jobs.start("train", "Training", work, fail)
    assert done == [2]


def test_the_past_is_not_kept_forever():
    jobs = JobQueue(lambda: False)
    made = [jobs.start("train", str(number), steps(1)) for number in range(23)]
    assert jobs.past == tuple(made[-20:])


def test_late_results_are_dropped():
    jobs = JobQueue(lambda: False)
    job = Job("train", "Training")
    jobs.take_event(job, Progress(Task.EXPORT, 1))
    jobs.take_outcome(job, Done(1))
    assert jobs.past == ()
    assert job.is_running


def test_result_raises_the_error():
    jobs = JobQueue(lambda: False)
    job = jobs.start("train", "Training", lambda: failing(SlideError("a.tif: damaged")))
    with pytest.raises(SlideError, match=r"a\.tif: damaged"):
        job.result()
    assert "failed: a.tif: damaged" in job.text


def test_shutdown_ends_what_waits_too():
    jobs, waiting = JobQueue(lambda: False), []

    def work():
        waiting.append(jobs.start("predict", "Predicting", steps(2)))
        jobs.shutdown()
        jobs.shutdown()
        yield Progress(Task.EXPORT, 1)

    job = jobs.start("train", "Training", work)
    assert [job.state, waiting[0].state] == ["cancelled", "cancelled"]
    assert not jobs.busy


# ---- in a window --------------------------------------------------------------------------------------------------


def test_jobs_of_a_window_run_one_after_the_other_beside_it(qtbot, make_napari_viewer, capsys):
    make_napari_viewer()
    jobs, threads, order = JobQueue(lambda: True), [], []

    def work(name):
        def make():
            threads.append(threading.current_thread())
            for step in range(20):
                order.append(name)
                yield Progress(Task.EXPORT, step, 20, name)
            return name

        return make

    made = [jobs.start(name, name, work(name), order.append) for name in "abc"]
    assert [job.state for job in made] == ["running", "queued", "queued"]
    jobs.cancel(made[1])
    assert jobs.wait(made[2]).result() == "c"
    assert order == ["a"] * 21 + ["c"] * 21
    assert "it/s" not in capsys.readouterr().err  # napari's bars are for its Activity dock
    assert threading.main_thread() not in threads
    assert not jobs.busy
    jobs.shutdown()


@pytest.mark.parametrize("answer", ["stay", "close"])
def test_closing_the_window_while_training_asks_and_the_run_can_go_on(
    make_napari_viewer, qtbot, cohort_csv, tmp_path, monkeypatch, answer
):
    from napari._qt import qt_main_window
    from qtpy.QtCore import QEvent
    from qtpy.QtGui import QCloseEvent
    from qtpy.QtWidgets import QDialog

    from napari_distill2label.gui import get_session
    from napari_distill2label.gui.dock import DistillToLabel

    asked = []

    class Dialog:
        """What napari shows; the answer is given at once."""

        def __init__(self, parent, close_app, extra_info="", display_checkbox=True):
            asked.append(extra_info)

        def exec_(self):
            return QDialog.DialogCode.Accepted if answer == "close" else QDialog.DialogCode.Rejected

    monkeypatch.setattr(qt_main_window, "ConfirmCloseDialog", Dialog)
    monkeypatch.setattr(QCloseEvent, "spontaneous", lambda self: True)  # as if the user had clicked the cross
    viewer = make_napari_viewer()
    panel = DistillToLabel(viewer)
    viewer.window.add_dock_widget(panel)
    session = panel.session
    session.read_cohort(cohort_csv)
    session.configure(teacher={"epochs": 500}, student={"epochs": 1}, oof={"epochs": 1}, device="cpu",
                      architecture={"hidden_dim": 16, "attention_dim": 8})  # fmt: skip
    job = session.train(tmp_path / "run", wait=False)
    checkpoint = tmp_path / "run" / "checkpoints" / "teacher.safetensors"
    qtbot.waitUntil(checkpoint.exists, timeout=30_000)
    window = viewer.window._qt_window
    event = QCloseEvent()
    assert event.type() == QEvent.Type.Close
    window.closeEvent(event)
    assert "Training" in asked[0]
    if answer == "stay":
        assert not event.isAccepted()
        assert job.state == "running"
        session.cancel()
        qtbot.waitUntil(lambda: not session.jobs.busy, timeout=30_000)
        return
    assert event.isAccepted()
    qtbot.waitUntil(job.finished.is_set, timeout=30_000)
    session.shutdown()
    from napari.components import ViewerModel

    other = get_session(headless := ViewerModel())
    settings = session.settings
    done = session_epochs(tmp_path / "run")
    other.resume(tmp_path / "run", settings.model_copy(update={
        "teacher": settings.teacher.model_copy(update={"epochs": done + 1})}))  # fmt: skip
    assert other.model.networks == ("teacher", "student")
    assert headless is other.viewer


def session_epochs(run):
    """Whole epochs of the teacher that a run has kept."""
    return sum(line.startswith("teacher,") for line in (run / "history.csv").read_text().splitlines())
