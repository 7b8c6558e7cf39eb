import dataclasses

import pytest

from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.events import EpochEnd, ItemDone, ItemFailed, Progress, Task, drain
from napari_distill2label.core.notices import Notice, NoticeCode


def work(log):
    try:
        for done in (1, 2, 3):
            yield Progress(Task.EXPORT, done, 3)
        return "result"
    finally:
        log.append("closed")


def test_drain_hands_on_every_event_and_returns_the_result():
    seen, log = [], []
    assert drain(work(log), seen.append) == "result"
    assert [event.step for event in seen] == [1, 2, 3]
    assert log == ["closed"]
    assert drain(work([])) == "result"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_drain_closes_the_work_before_an_exception_leaves(error):
    log = []

    def show(event):
        if event.step == 2:
            log.append("shown")
            raise error

    running = work(log)
    try:
        drain(running, show)
    except error:
        log.append("left")
    assert log == ["shown", "closed", "left"]
    assert list(running) == []


def test_drain_passes_on_what_the_work_raises():
    def broken():
        yield Notice(NoticeCode.ONE_FOLD)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        drain(broken())


@pytest.mark.parametrize(
    "event",
    [
        Progress(Task.EXPORT, 1),
        EpochEnd("a", 1, 2, best=True),
        Notice(NoticeCode.ONE_FOLD),
        ItemFailed("a", SlideError("b")),
        ItemDone("a"),
    ],
)
def test_events_are_frozen(event):
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.item = "other"
