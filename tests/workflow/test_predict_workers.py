"""`predict` on several processes: the same results, also when one of them is killed in the middle of a slide."""

import os
import signal

import numpy as np
import psutil
import pytest

from napari_distill2label.core.events import Failed, Finished, Progress, drain
from napari_distill2label.prediction import engine
from napari_distill2label.slides.synthetic import draw_slide, write_image
from napari_distill2label.store.patchmap import PatchMap
from napari_distill2label.workflow.predict import predict

ARRAYS = ("probability", "logit", "score", "attention", "contribution")


@pytest.fixture
def large(tmp_path):
    """A slide of 400 patches."""
    path = tmp_path / "large.ome.tif"
    write_image(path, draw_slide(5, True, (540, 540)).image)
    return path


def workers_of_this_process():
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def assert_same(one, other):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.bag_probability == other.bag_probability


def test_a_killed_worker_s_blocks_are_done_again(trained, large, slides, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "BLOCK_PIXELS", 4 * 27**2)
    expected = drain(predict(trained, [large, slides[0]]))
    work = predict(trained, [large, slides[0], tmp_path / "gone.png"], tmp_path / "out", formats=["csv"], workers=2)
    killed, events = None, []
    while True:
        try:
            events.append(event := next(work))
        except StopIteration as stop:
            maps = stop.value
            break
        if killed is None and isinstance(event, Progress) and event.phase.endswith("large") and event.done >= 40:
            assert event.done < event.total / 2
            before = workers_of_this_process()
            assert len(before) == 2
            killed = before[0].pid
            os.kill(killed, signal.SIGKILL)
    assert killed is not None
    assert not psutil.pid_exists(killed) or psutil.Process(killed).status() == psutil.STATUS_ZOMBIE
    assert [type(event) for event in events if isinstance(event, Failed | Finished)].count(Failed) == 1
    kept = [PatchMap.open(trained / "predictions" / f"{name}.student.zarr") for name in ("large", "slide_000")]
    for one, other, again in zip(expected, maps, kept, strict=True):
        assert again.is_complete
        assert (again.done == again.patches.scored).all()
        assert_same(one, other)
        assert_same(one, again)
    assert not workers_of_this_process()  # they end with the work


def test_a_scheduler_s_workers_say_the_same_and_stay(trained, large, slides, tmp_path, cli):
    from distributed import LocalCluster

    expected = drain(predict(trained, [large]))
    with LocalCluster(1, threads_per_worker=2, memory_limit=None, dashboard_address=None) as cluster:
        rest = [large, slides[0], "-o", tmp_path / "out", "--format", "csv", "--scheduler", cluster.scheduler_address]
        status, said, err = cli("predict", trained, *rest)
        assert (status, err) == (0, "")
        assert [line.split(":")[0] for line in said.splitlines()] == ["large", "slide_000"]
        work = predict(trained, slides[1:3], scheduler=cluster.scheduler_address)
        next(event for event in work if isinstance(event, Progress) and event.done)
        work.close()  # cancelled
        assert len(cluster.scheduler.workers) == 1
    assert_same(expected[0], PatchMap.open(trained / "predictions" / "large.student.zarr"))


def test_workers_that_cannot_be_had(trained, slides, tmp_path, refused):
    rest = ["predict", trained, slides[0], "-o", tmp_path / "out"]
    assert "give one of them" in refused(*rest, "--workers", "2", "--scheduler", "tcp://127.0.0.1:8786")
    assert "no dask scheduler answers" in refused(*rest, "--scheduler", "tcp://127.0.0.1:1")
