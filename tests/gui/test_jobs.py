"""Nothing that happens to the work is lost, and one job runs at a time."""

import threading

import pytest

from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.events import EpochEnd, Notice, Progress
from napari_distill2label.gui.jobs import Broken, BusyError, Cancelled, Done, Job, Jobs, relay


def finish(generator):
    events = []
    try:
        while True:
            events.append(next(generator))
    except StopIteration as stop:
        return events, stop.value


def failing(error):
    yield Progress("working", 1, 2)
    raise error


def test_done():
    def work():
        yield Progress("working", 1, 1)
        return 7

    events, outcome = finish(relay(work, threading.Event()))
    assert outcome == Done(7)
    assert len(events) == 1


@pytest.mark.parametrize("error", [RuntimeError("no"), ValueError("no"), StopIteration(), MemoryError(), KeyError("x")])
def test_every_exception_comes_back_as_a_value(error):
    _, outcome = finish(relay(lambda: failing(error), threading.Event()))
    assert isinstance(outcome, Broken)
    assert outcome.message
    assert "Traceback" in outcome.details


def test_torch_out_of_memory_is_plain_words():
    import torch

    _, outcome = finish(relay(lambda: failing(torch.OutOfMemoryError("CUDA out of memory. Tried…")), threading.Event()))
    assert "out of memory" in outcome.message
    assert "device 'cpu'" in outcome.message


def test_errors_for_people_stay_as_they_are():
    _, outcome = finish(relay(lambda: failing(SlideError("a.tif: damaged")), threading.Event()))
    assert outcome.message == "a.tif: damaged"


def test_making_the_work_may_fail_too():
    def make():
        raise ImportError("no torch")

    _, outcome = finish(relay(make, threading.Event()))
    assert "no torch" in outcome.message


def test_cancel_closes_the_work_in_the_thread_that_ran_it():
    closed_in, flag = [], threading.Event()

    def work():
        try:
            for step in range(1000):
                yield Progress("working", step, 1000)
                if step == 2:
                    flag.set()
        finally:
            closed_in.append(threading.current_thread())

    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(finish(relay(work, flag))[1]))
    thread.start()
    thread.join()
    assert outcomes == [Cancelled()]
    assert closed_in == [thread]


def test_progress_is_thinned_out_and_the_rest_is_not():
    def work():
        for step in range(500):
            yield Progress("working", step, 1000)
        yield EpochEnd("teacher", 1, 2)
        yield Notice("look")
        yield EpochEnd("teacher", 2, 2)

    events, _ = finish(relay(work, threading.Event()))
    assert len(events) < 50
    assert [type(event) for event in events[-3:]] == [EpochEnd, Notice, EpochEnd]


def test_without_a_window_work_runs_at_once():
    jobs, seen, results = Jobs(lambda: False), [], []
    jobs.changed.connect(lambda job: seen.append(job.state))

    def work():
        yield Progress("working", 1, 2)
        return 3

    job = jobs.start("train", "Training", work, results.append)
    assert results == [3]
    assert job.result() == 3
    assert (seen[0], seen[-1]) == ("running", "done")
    assert not jobs.busy


def test_one_job_at_a_time():
    jobs = Jobs(lambda: False)

    def work():
        with pytest.raises(BusyError, match="Training is still going on"):
            jobs.start("predict", "Predicting", work)
        yield Progress("working", 1)

    assert jobs.start("train", "Training", work).result() is None


def test_late_results_are_dropped():
    jobs, results = Jobs(lambda: False), []
    job = Job("train", "Training")
    jobs._on_event(job, Progress("late", 1))
    jobs._on_outcome(job, Done(1), results.append)
    assert results == []
    assert job.is_running


def test_result_raises_the_error():
    jobs = Jobs(lambda: False)
    job = jobs.start("train", "Training", lambda: failing(SlideError("a.tif: damaged")))
    with pytest.raises(SlideError, match=r"a\.tif: damaged"):
        job.result()
    assert "failed: a.tif: damaged" in job.text


def test_shutdown_twice():
    jobs = Jobs(lambda: False)
    jobs.shutdown()
    jobs.shutdown()
