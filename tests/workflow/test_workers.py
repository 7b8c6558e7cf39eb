"""Several slides at once where workers have room; without workers one after the other."""

from types import SimpleNamespace

import pytest

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import ItemDone, Progress, Task
from napari_distill2label.core.inputs import Compute
from napari_distill2label.workflow.workers import check_workers, interleave


def work(name, log, steps=3):
    log.append(f"{name} begins")
    try:
        for step in range(steps):
            yield Progress(Task.PREDICT, step, steps, name)
        yield ItemDone(name, None)
    finally:
        log.append(f"{name} ends")


def test_without_workers_one_ends_before_the_next_begins():
    log = []
    events = list(interleave((work(name, log) for name in "ab"), None))
    assert log == ["a begins", "a ends", "b begins", "b ends"]
    assert [event.item for event in events] == ["a"] * 4 + ["b"] * 4


def test_where_workers_have_room_the_next_begins():
    log = []
    events = list(interleave((work(name, log) for name in "abc"), SimpleNamespace(free_slots=1)))
    assert log[:3] == ["a begins", "b begins", "c begins"]
    assert sorted(event.item for event in events if isinstance(event, ItemDone)) == ["a", "b", "c"]


def test_closing_ends_all_that_were_begun():
    log = []
    works = interleave((work(name, log) for name in "ab"), SimpleNamespace(free_slots=1))
    for _ in range(3):
        next(works)
    works.close()
    assert sorted(log) == ["a begins", "a ends", "b begins", "b ends"]


def test_workers_and_a_scheduler_exclude_one_another():
    check_workers(Compute(workers=2))
    with pytest.raises(SettingsError, match="Only one of them"):
        check_workers(Compute(workers=2, scheduler="tcp://127.0.0.1:1"))
