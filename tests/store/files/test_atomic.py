"""Whole or not at all."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_distill2label.store.files.atomic import (
    atomic_path,
    clear_leftovers,
    exchange,
    scratch_folder,
    write_bytes,
    write_json,
    write_text,
)


def test_writing_replaces_the_whole_file(tmp_path):
    path = tmp_path / "päth with spaces" / "ä.txt"
    assert write_text(path, "one\n") == path
    write_text(path, "zwei ✓\n")
    assert path.read_bytes() == "zwei ✓\n".encode()
    write_bytes(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert os.listdir(path.parent) == ["ä.txt"]


def test_json_is_readable_and_refuses_what_json_cannot_say(tmp_path):
    path = write_json(tmp_path / "a.json", {"name": "µ", "n": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "µ", "n": 1}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"n": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8"))["n"] == 1


def test_an_error_keeps_the_former_file_and_leaves_nothing_behind(tmp_path):
    path = write_text(tmp_path / "a.txt", "former")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "former"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "bundle"
    for content in ("first", "second"):
        with atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / f"{content}.txt").write_text(content)
    assert os.listdir(path) == ["second.txt"]
    assert os.listdir(tmp_path) == ["bundle"]


def test_an_error_keeps_the_former_folder(tmp_path):
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "a.txt").write_text("former")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / "a.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert (path / "a.txt").read_text() == "former"
    assert os.listdir(tmp_path) == ["bundle"]


# ---- through a power cut, and after a kill --------------------------------------------------------------------------


@pytest.fixture
def order(monkeypatch):
    """What is synchronised and renamed, in order, by name."""
    done, sync, replace = [], os.fsync, os.replace

    def fsync(descriptor):
        done.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.split(".tmp")[0]))
        sync(descriptor)

    def rename(source, target):
        done.append(("rename", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    return done


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="tells by /proc which file is synchronised")
def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_folder_after(tmp_path, order):
    write_text(tmp_path / "a.txt", "1")
    assert [(kind, name[:6]) for kind, name in order] == [
        ("sync", ".a.txt"), ("rename", "a.txt"), ("sync", tmp_path.name[:6]),
    ]  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="tells by /proc which file is synchronised")
def test_so_is_all_that_is_in_a_folder(tmp_path, order):
    with atomic_path(tmp_path / "bundle") as temporary:
        (temporary / "deep").mkdir(parents=True)
        for name in ("one", "deep/two"):
            (temporary / name).write_text("1")
    synced, renamed = [name for kind, name in order if kind == "sync"], order.index(("rename", "bundle"))
    assert {"one", "two", "deep"} <= set(synced)
    assert order[renamed + 1 :] == [("sync", tmp_path.name)]


def test_a_disk_that_is_full_when_it_synchronises_keeps_the_former_file(tmp_path, monkeypatch):
    path = write_text(tmp_path / "a.txt", "former")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*a\.txt"):
        write_text(path, "new")
    assert path.read_text() == "former"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_file_systems_that_cannot_synchronise_are_written_to_all_the_same(tmp_path, monkeypatch):
    def unknown(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", unknown)
    assert write_text(tmp_path / "a.txt", "1").read_text() == "1"


KILLED = """
import os, signal, sys
from pathlib import Path
from napari_distill2label.store.files import atomic
left = [int(sys.argv[2])]
def counted(rename):
    def renaming(*names):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return rename(*names)
    return renaming
os.replace = counted(os.replace)
if sys.argv[4] == "at once":
    atomic.exchange = counted(atomic.exchange)
else:
    atomic.exchange = lambda one, other: False
with atomic.atomic_path(sys.argv[1]) as temporary:
    if sys.argv[3] == "folder":
        temporary.mkdir()
        temporary = temporary / "model"
    temporary.write_text("new")
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(path, at, kind, how="in two steps"):
    subprocess.run([sys.executable, "-c", KILLED, str(path), str(at), kind, how], check=False)


@pytest.mark.parametrize("at", [0, 1])
def test_what_a_killed_process_left_of_a_file_goes(tmp_path, at):
    path = write_text(tmp_path / "a.txt", "former")
    killed(path, at, "file")
    assert path.read_text() == ("former", "new")[at]
    clear_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(("at", "content"), [(0, "former"), (1, "new"), (2, "new")])
def test_a_folder_is_there_again_wherever_its_writer_was_killed(tmp_path, at, content):
    path = tmp_path / "student"
    path.mkdir()
    (path / "model").write_text("former")
    killed(path, at, "folder")
    clear_leftovers(tmp_path)
    assert (path / "model").read_text() == content
    assert os.listdir(tmp_path) == ["student"]


CAN_EXCHANGE = pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="folders change places in two steps")


@CAN_EXCHANGE
@pytest.mark.parametrize(("at", "content"), [(0, "former"), (1, "new")])
def test_folders_that_change_places_at_once_leave_no_moment_without_one(tmp_path, at, content):
    path = tmp_path / "student"
    path.mkdir()
    (path / "model").write_text("former")
    killed(path, at, "folder", "at once")
    assert (path / "model").read_text() == content  # whatever else is there, before anything is cleared
    clear_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["student"]


@CAN_EXCHANGE
def test_two_folders_exchange_their_names(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    assert exchange(tmp_path / "one", tmp_path / "other")
    assert [(tmp_path / name / "file").read_text() for name in ("one", "other")] == ["other", "one"]
    assert not exchange(tmp_path / "one", tmp_path / "not there")


def test_who_is_alone_in_a_folder_clears_what_cannot_be_told_too_and_spares_who_lives(tmp_path):
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("being written")
        computer, boot, process, random = temporary.name.split(".")[-5:-1]
        unknown = [
            tmp_path / f".a.txt.{'0' * 8}.{boot}.{process}.{random}.tmp",  # of another computer
            tmp_path / f".a.txt.{computer}.{'0' * 8}.{process}.{random}.tmp",  # of a container
        ]
        for path in unknown:
            path.write_text("half")
        assert clear_leftovers(tmp_path) == []
        assert set(clear_leftovers(tmp_path, alone=True)) == set(unknown)
    assert os.listdir(tmp_path) == ["a.txt"]


SCRATCH = """
import os, signal, sys
from napari_distill2label.store.files.atomic import scratch_folder
with scratch_folder(sys.argv[1]) as folder:
    (folder / "slides").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_scratch_folder_goes_at_its_end_and_after_a_kill(tmp_path):
    path = tmp_path / "new" / "cohort"
    with scratch_folder(path) as folder:
        assert folder.parent == path.parent
        (folder / "a.txt").write_text("1")
    assert os.listdir(path.parent) == []
    subprocess.run([sys.executable, "-c", SCRATCH, str(path)], check=False)
    assert len(os.listdir(path.parent)) == 1
    clear_leftovers(path.parent)
    assert os.listdir(path.parent) == []


def test_only_what_is_surely_nobody_s_goes(tmp_path):
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("being written")
        computer, boot, _, random = temporary.name.split(".")[-5:-1]
        theirs = [
            f".a.txt.{'0' * 8}.{boot}.4194305.{random}.tmp",  # of another computer
            f".a.txt.{computer}.{'0' * 8}.4194305.{random}.tmp",  # of a container, or before the last start, but new
            f".a.txt.{random}.tmp", ".a.tmp", "a.txt.old", f"a.{computer}.{boot}.4194305.{random}.tmp",
        ]  # fmt: skip
        for name in theirs:
            (tmp_path / name).write_text("mine")
        dead = tmp_path / f".a.txt.{computer}.{boot}.4194305.{random}.tmp"  # above the largest number Linux gives
        dead.write_text("half")
        assert clear_leftovers(tmp_path) == [dead]
        before_the_start = tmp_path / theirs[1]
        os.utime(before_the_start, (1, 1))
        assert clear_leftovers(tmp_path) == ([before_the_start] if Path("/proc/stat").exists() else [])
        assert temporary.read_text() == "being written"
    assert all((tmp_path / name).exists() for name in (theirs[0], *theirs[2:], "a.txt"))
    assert clear_leftovers(tmp_path / "not there") == []


# ---- names --------------------------------------------------------------------------------------------------------


def test_the_first_write_into_a_folder_clears_what_a_killed_process_left(tmp_path):
    code = (
        "import os, sys\nfrom napari_distill2label.store.files import atomic\n"
        "with atomic.atomic_path(sys.argv[1]) as path:\n    path.touch()\n    os._exit(9)"
    )
    folder = tmp_path / "beside a cohort"
    subprocess.run([sys.executable, "-c", code, str(folder / "cohort.d2l.json")], check=False)
    (left,) = folder.iterdir()
    assert left.name.startswith(".cohort.d2l.json.")
    write_text(folder / "cohort.d2l.json", "{}")
    assert [path.name for path in folder.iterdir()] == ["cohort.d2l.json"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such call")
def test_the_name_of_a_new_folder_survives_a_power_cut(tmp_path, monkeypatch):
    synced, sync = set(), os.fsync
    monkeypatch.setattr("os.fsync", lambda descriptor: (synced.add(os.fstat(descriptor).st_ino), sync(descriptor)))
    write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert {path.stat().st_ino for path in (tmp_path, tmp_path / "a", tmp_path / "a" / "b")} <= synced
