"""The newest state is on the disk in the end, whichever thread was slow, and what is not there is known."""

import threading
from functools import partial

import pytest

from napari_distill2label.gui.project.latest_writer import LatestWriter
from napari_distill2label.gui.runner.reader import BackgroundReader

from ..conftest import LONG


class Disk:
    """Writes a text; the first write waits for `go`."""

    def __init__(self):
        self.content, self.begun, self.go = [], threading.Event(), threading.Event()

    def write(self, text):
        if not self.begun.is_set():
            self.begun.set()
            assert self.go.wait(LONG / 1000)
        self.content.append(text)
        return text


@pytest.fixture
def disk():
    yield (made := Disk())
    made.go.set()


@pytest.fixture
def writer(qtbot):
    reader = BackgroundReader(lambda: True)
    yield LatestWriter(reader, "key")
    reader.shutdown()


def raised(error):
    raise error


def test_a_change_during_a_write_is_still_to_be_written(writer, disk, qtbot):
    done = []
    assert not writer.unsaved
    writer.change()
    writer.request(partial(disk.write, "one"), done.append, raised)
    qtbot.waitUntil(disk.begun.is_set)
    writer.change()
    disk.go.set()
    qtbot.waitUntil(lambda: done == ["one"])
    assert writer.unsaved
    writer.request(partial(disk.write, "two"), done.append, raised)
    qtbot.waitUntil(lambda: done == ["one", "two"])
    assert not writer.unsaved


def test_nothing_older_comes_after_what_is_newer(writer, disk, qtbot):
    done = []
    for text in ("one", "two", "three"):
        writer.change()
        writer.request(partial(disk.write, text), done.append, raised)
    qtbot.waitUntil(disk.begun.is_set)
    disk.go.set()
    qtbot.waitUntil(lambda: done == ["three"])
    assert disk.content == sorted(set(disk.content), key=["one", "two", "three"].index)
    assert disk.content[-1] == "three"
    assert not writer.unsaved


def test_at_once_is_after_what_is_under_way(writer, disk, qtbot):
    writer.change()
    writer.request(partial(disk.write, "one"), raised, raised)
    qtbot.waitUntil(disk.begun.is_set)
    threading.Timer(0.2, disk.go.set).start()
    assert writer.flush(partial(disk.write, "two")) == "two"
    assert disk.content == ["one", "two"]
    assert not writer.unsaved
    qtbot.wait(50)  # nobody hears of the first


def test_what_failed_is_not_on_the_disk(writer, qtbot):
    told = []
    writer.change()
    writer.request(lambda: raised(OSError("full")), raised, told.append)
    qtbot.waitUntil(lambda: len(told) == 1)
    assert writer.unsaved
    with pytest.raises(OSError, match="full"):
        writer.flush(lambda: raised(OSError("full")))
    assert writer.unsaved


def test_of_another_thing_there_is_nothing_to_write(writer, disk, qtbot):
    writer.change()
    writer.request(partial(disk.write, "one"), raised, raised)
    qtbot.waitUntil(disk.begun.is_set)
    writer.clear()
    assert not writer.unsaved
    disk.go.set()
    qtbot.waitUntil(lambda: disk.content == ["one"])
    qtbot.wait(50)
    assert not writer.unsaved
