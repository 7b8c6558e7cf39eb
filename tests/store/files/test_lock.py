"""A folder has one writer at a time, whose name the others are told, and a crash leaves nobody waiting."""

import os
import platform
import re
import signal
import threading

import pytest

from napari_distill2label.core.errors import FolderInUseError
from napari_distill2label.store.files import lock
from napari_distill2label.store.files.lock import locked

HOLD = """
import sys
from napari_distill2label.store.files.lock import locked
with locked(sys.argv[1], "training"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path, holding):
    """Another process that holds `tmp_path / "run"` until it is told or killed."""
    return holding(HOLD, tmp_path / "run")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(lock, "TIMEOUT", 0.05)


def test_another_process_is_named(tmp_path, other):
    with pytest.raises(FolderInUseError) as caught, locked(tmp_path / "run", "predicting"):
        pass
    said = rf"run: process {other.pid} on {re.escape(platform.node())} has been training in this folder since 20\d\d-"
    assert re.search(said, str(caught.value))
    assert "\n" not in str(caught.value)


def test_it_is_free_again_at_the_end_and_nothing_is_left(tmp_path, other):
    other.communicate("")
    assert not (tmp_path / "run").exists()
    with locked(tmp_path / "run", "training") as folder:
        assert folder.is_dir()
    assert not (tmp_path / "run").exists()


def test_a_killed_holder_leaves_no_lock(tmp_path, other):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / "run" / lock.LOCK).exists()  # the file, but nobody holds it
    with locked(tmp_path / "run", "training"):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_nothing_is_written_through_a_link_in_place_of_the_note(tmp_path):
    own = tmp_path / "own"
    own.write_text("somebody's")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / lock.HOLDER).symlink_to(own)
    with locked(tmp_path / "run", "training"):
        assert "training" in lock.describe_holder(tmp_path / "run" / lock.HOLDER)
    assert own.read_text() == "somebody's"


def test_threads_of_one_process_exclude_each_other(tmp_path):
    refused = []

    def try_it():
        try:
            with locked(tmp_path, "training"):
                pass
        except FolderInUseError as error:
            refused.append(str(error))

    with locked(tmp_path, "training"):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert f"process {os.getpid()} " in refused[0]


def test_a_lock_may_be_left_by_another_thread_than_took_it(tmp_path):
    held = locked(tmp_path, "training")
    held.__enter__()
    thread = threading.Thread(target=held.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    with locked(tmp_path, "training"):
        pass


def test_what_was_written_stays(tmp_path):
    with locked(tmp_path / "a" / "b", "training") as folder:
        (folder / "model").write_text("1")
    assert [path.name for path in folder.iterdir()] == ["model"]


def test_folders_that_were_made_in_vain_go_again(tmp_path):
    with pytest.raises(ValueError, match="in vain"), locked(tmp_path / "a" / "b", "training"):
        raise ValueError("in vain")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[" * 100_000, "3", '{"process": 1}', "\xff"])
def test_a_holder_that_cannot_be_read_is_still_a_holder(tmp_path, other, text):
    (tmp_path / "run" / lock.HOLDER).write_bytes(text.encode("latin-1"))
    with (
        pytest.raises(FolderInUseError, match="another process writes into this folder"),
        locked(tmp_path / "run", "x"),
    ):
        pass


def test_a_holder_cannot_write_to_the_terminal(tmp_path, other):
    (tmp_path / "run" / lock.HOLDER).write_text(
        '{"process": 1, "computer": "\\u001b[2Jx\\n", "since": "now", "doing": "%s"}' % ("a" * 10**6)
    )
    with pytest.raises(FolderInUseError) as caught, locked(tmp_path / "run", "x"):
        pass
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_where_nothing_may_be_written_the_system_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), locked(tmp_path / "file" / "run", "training"):
        pass
