"""Nothing that is read is written onto, and nothing of others is replaced; ours may be renewed."""

import errno
import json
import os
import re
import shutil
import signal
import threading
from pathlib import Path

import pytest

from napari_distill2label.core.errors import FolderInUseError, OutputError
from napari_distill2label.store.files.atomic import write_text
from napari_distill2label.store.files.outputs import RECORD, Outputs


def put(path: Path, text: str, **how) -> None:
    with Outputs(**how) as outputs:
        outputs.claim([path])
        write_text(path, text, outputs.writing)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != RECORD)


def test_ours_is_renewed_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "out" / "ä b.csv"
    for text in ("one", "two", "one", "three"):
        put(path, text)
        assert path.read_text() == text
    assert names(path.parent) == ["ä b.csv"]
    assert (
        len((path.parent / RECORD).read_text().splitlines()) == 5
    )  # a head, and a line for each write of another time


def test_a_file_of_others_is_refused_and_named(tmp_path):
    for index in range(5):
        (tmp_path / f"{index}.csv").write_text("mine")
    with Outputs() as outputs, pytest.raises(OutputError, match=r"0\.csv, 1\.csv, 2\.csv and 2 more") as caught:
        outputs.claim([tmp_path / f"{index}.csv" for index in range(5)] + [tmp_path / "new.csv"])
    assert "overwrite=True" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (len(caught.value.paths), caught.value.standing) == (5, "foreign")
    assert names(tmp_path) == [f"{index}.csv" for index in range(5)]
    put(tmp_path / "0.csv", "ours", overwrite=True)
    put(tmp_path / "0.csv", "ours again")
    assert (tmp_path / "0.csv").read_text() == "ours again"
    assert (tmp_path / "1.csv").read_text() == "mine"


def test_ours_that_was_changed_is_theirs(tmp_path):
    path = tmp_path / "a.geojson"
    put(path, "labels")
    time = path.stat().st_mtime_ns
    path.write_text("LABELS")  # of the same length
    with pytest.raises(OutputError):
        put(path, "labels")
    os.utime(path, ns=(time, time))  # and of the same time: found where it is written at the latest
    with pytest.raises(OutputError):
        put(path, "labels")
    assert path.read_text() == "LABELS"


def test_a_folder_that_was_copied_is_still_ours(tmp_path):
    put(tmp_path / "out" / "a.csv", "1")
    shutil.copytree(tmp_path / "out", tmp_path / "copy", copy_function=shutil.copy)  # with other times
    put(tmp_path / "copy" / "a.csv", "2")
    shutil.copy(tmp_path / "out" / "a.csv", tmp_path / "b")  # a copy without the record
    with pytest.raises(OutputError):
        put(tmp_path / "b", "2")


def test_a_name_is_of_one_spelling(tmp_path):
    put(tmp_path / "A.csv", "1")
    (tmp_path / "a.csv").write_text("theirs, or on some systems ours of another slide")
    with pytest.raises(OutputError):
        put(tmp_path / "a.csv", "2")


@pytest.mark.parametrize("overwrite", [False, True])
class TestInputs:
    @pytest.fixture
    def slide(self, tmp_path):
        path = tmp_path / "slides" / "a.ome.tif"
        path.parent.mkdir()
        path.write_text("pixels")
        return path

    def refused(self, path, read, overwrite):
        with pytest.raises(OutputError, match="read here") as caught:
            put(path, "mask", read=read, overwrite=overwrite)
        assert caught.value.standing == "input"
        with Outputs(read, overwrite) as outputs, pytest.raises(OutputError):  # without a claim too
            write_text(path, "mask", outputs.writing)

    def test_itself(self, slide, overwrite, monkeypatch):
        self.refused(slide, [slide], overwrite)
        monkeypatch.chdir(slide.parent)
        self.refused(Path("a.ome.tif"), [slide], overwrite)
        self.refused(slide, ["a.ome.tif"], overwrite)
        assert slide.read_text() == "pixels"

    def test_links(self, slide, tmp_path, overwrite):
        out = tmp_path / "out"
        out.mkdir()
        (out / "soft.tif").symlink_to(slide)
        (out / "hard.tif").hardlink_to(slide)
        (tmp_path / "same").symlink_to(slide.parent)
        for path in (out / "soft.tif", out / "hard.tif", tmp_path / "same" / "a.ome.tif"):
            self.refused(path, [slide], overwrite)
        self.refused(slide, [out / "soft.tif"], overwrite)
        assert (out / "soft.tif").is_symlink()

    def test_capitals(self, slide, overwrite):
        self.refused(slide.with_name("A.OME.TIF"), [slide], overwrite)
        assert names(slide.parent) == ["a.ome.tif"]

    def test_two_ways_to_write_an_umlaut(self, tmp_path, overwrite):
        (tmp_path / "a\u0308.png").write_text("pixels")
        self.refused(tmp_path / "\u00e4.png", [tmp_path / "a\u0308.png"], overwrite)

    def test_inside_a_slide_that_is_a_folder(self, tmp_path, overwrite):
        (tmp_path / "a.zarr" / "0").mkdir(parents=True)
        for folder in (tmp_path / "a.zarr", tmp_path / "a.zarr" / "0", tmp_path / "a.zarr" / "new" / "one"):
            self.refused(folder / "b.csv", [tmp_path / "a.zarr"], overwrite)
        assert names(tmp_path / "a.zarr") == ["0"]
        (tmp_path / "b").mkdir()
        (tmp_path / "b.mrxs").write_text("")
        self.refused(tmp_path / "b" / "c.csv", [tmp_path / "b.mrxs"], overwrite)

    def test_a_link_into_a_slide_that_is_a_folder(self, tmp_path, overwrite):
        (tmp_path / "a.zarr" / "0").mkdir(parents=True)
        (tmp_path / "out").symlink_to(tmp_path / "a.zarr" / "0")
        for path in (tmp_path / "out" / "b.csv", tmp_path / "out" / "new" / "b.csv"):
            self.refused(path, [tmp_path / "a.zarr"], overwrite)
        assert names(tmp_path / "a.zarr" / "0") == []

    def test_a_way_that_only_leads_through_a_slide(self, tmp_path, overwrite):
        (tmp_path / "a.zarr").mkdir()
        put(tmp_path / "a.zarr" / ".." / "out" / "b.csv", "1", read=[tmp_path / "a.zarr"], overwrite=overwrite)
        assert names(tmp_path / "out") == ["b.csv"]

    def test_even_what_we_wrote(self, tmp_path, overwrite):
        regions = tmp_path / "a.geojson"
        put(regions, "tissue")
        self.refused(regions, [regions], overwrite)

    def test_what_is_not_there_and_addresses_are_no_hindrance(self, tmp_path, overwrite):
        put(tmp_path / "a.csv", "1", read=[tmp_path / "gone.svs", "https://host/a.csv"], overwrite=overwrite)
        assert (tmp_path / "a.csv").read_text() == "1"


def test_what_comes_while_we_write_is_kept(tmp_path):
    path = tmp_path / "a.csv"
    with Outputs() as outputs:
        outputs.claim([path])
        with pytest.raises(OutputError), outputs.writing(path) as temporary:  # noqa: PT012
            temporary.write_text("ours")
            path.write_text("theirs")
    assert path.read_text() == "theirs"
    assert names(tmp_path) == ["a.csv"]


def test_a_dangling_link_is_something(tmp_path):
    (tmp_path / "a.csv").symlink_to(tmp_path / "nowhere" / "b.csv")
    with pytest.raises(OutputError):
        put(tmp_path / "a.csv", "1")
    assert (tmp_path / "a.csv").is_symlink()


class TestRecord:
    @pytest.mark.parametrize("content", ["mine", "[" * 10**5, '{"version": 1}\n', "\x00" * 4096])
    def test_one_that_is_not_ours_is_left_and_makes_nothing_ours(self, tmp_path, content):
        (tmp_path / RECORD).write_text(content)
        put(tmp_path / "a.csv", "1")
        with pytest.raises(OutputError, match=f"the list {re.escape(RECORD)}"):
            put(tmp_path / "a.csv", "2")
        put(tmp_path / "a.csv", "2", overwrite=True)
        assert (tmp_path / RECORD).read_text() == content

    @pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(path.parent / "else")])
    def test_a_folder_or_a_link_of_its_name(self, tmp_path, make):
        (tmp_path / "else").write_text("")
        make(tmp_path / RECORD)
        put(tmp_path / "a.csv", "1")
        assert (tmp_path / "else").read_text() == ""
        with pytest.raises(OutputError):
            put(tmp_path / "a.csv", "2")

    def test_torn_and_foreign_lines_say_nothing(self, tmp_path):
        put(tmp_path / "a.csv", "1")
        with (tmp_path / RECORD).open("a") as file:
            file.write('\n{"name": 1}\n[]\n{"name": "b.csv", "size": 1, "time": 2, "sha2')
        put(tmp_path / "b.csv", "1")
        put(tmp_path / "b.csv", "2")
        put(tmp_path / "a.csv", "2")

    def test_an_empty_one_is_what_a_full_disk_or_a_power_cut_left(self, tmp_path):
        (tmp_path / RECORD).touch()
        put(tmp_path / "a.csv", "1")
        put(tmp_path / "a.csv", "2")

    def test_a_disk_that_is_full_leaves_no_half_line_and_no_unknown_file(self, tmp_path, monkeypatch):
        put(tmp_path / "a.csv", "1")
        before = (tmp_path / RECORD).read_bytes()
        write = os.write
        monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
        with pytest.raises(OSError, match="No space left"):
            put(tmp_path / "b.csv", "1")
        monkeypatch.undo()
        assert (tmp_path / RECORD).read_bytes() == before
        assert names(tmp_path) == ["a.csv"]

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="tells by /proc which file is synchronised")
    def test_a_line_is_on_the_disk_before_its_file_has_its_name(self, tmp_path, monkeypatch):
        done, sync, replace = [], os.fsync, os.replace

        def fsync(descriptor):
            done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "replace", lambda one, other: done.append(Path(other).name) or replace(one, other))
        put(tmp_path / "a.csv", "1")
        assert RECORD in done[: done.index("a.csv")]

    def test_a_link_into_it_is_not_followed(self, tmp_path):
        put(tmp_path / "a.csv", "1")
        shutil.move(tmp_path / RECORD, tmp_path / "moved")
        (tmp_path / RECORD).symlink_to(tmp_path / "moved")
        before = (tmp_path / "moved").read_text()
        with pytest.raises(OutputError):
            put(tmp_path / "a.csv", "2")
        put(tmp_path / "b.csv", "2")
        assert (tmp_path / "moved").read_text() == before

    def test_threads_write_side_by_side(self, tmp_path):
        paths = [tmp_path / f"{index}.csv" for index in range(40)]
        for text in ("1", "2"):
            with Outputs() as outputs:
                outputs.claim(paths)
                threads = [threading.Thread(target=write_text, args=(p, text, outputs.writing)) for p in paths]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            assert [path.read_text() for path in paths] == [text] * 40

    def test_a_kill_between_noting_and_renaming_locks_nobody_out(self, tmp_path, monkeypatch):
        path = tmp_path / "a.csv"
        put(path, "1")
        with Outputs() as outputs:
            outputs.claim([path])
            monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                write_text(path, "2", outputs.writing)
            monkeypatch.undo()
        put(path, "3")
        assert path.read_text() == "3"


HOLD = """
import sys
from pathlib import Path
from napari_distill2label.store.files.outputs import Outputs
with Outputs(doing="predicting") as outputs:
    outputs.claim([Path(path) for path in sys.argv[1:]])
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path, holding):
    """Another process that writes `out/a.csv`, until it is told or killed."""
    return holding(HOLD, tmp_path / "out" / "a.csv")


class TestHolding:
    def test_the_same_names_are_refused_and_the_holder_is_named(self, tmp_path, other):
        for name in ("a.csv", "A.CSV"):
            with pytest.raises(FolderInUseError, match=rf"process {other.pid} on .* predicting .* writes {name}"):
                put(tmp_path / "out" / name, "1", overwrite=True)
        put(tmp_path / "out" / "b.csv", "1")  # other names of the folder are free

    def test_they_are_free_at_its_end(self, tmp_path, other):
        other.communicate("")
        put(tmp_path / "out" / "a.csv", "1")
        assert names(tmp_path / "out") == ["a.csv"]

    def test_a_kill_leaves_nothing_for_long(self, tmp_path, other):
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert len(names(tmp_path / "out")) == 2
        put(tmp_path / "out" / "a.csv", "1")
        assert names(tmp_path / "out") == ["a.csv"]

    @pytest.mark.parametrize("content", ["", "{", '{"names": 3}', "[" * 10**5])
    def test_a_holder_that_says_nothing_holds_everything(self, tmp_path, other, content):
        next((tmp_path / "out").glob(".distill2label-*.json")).write_text(content)
        with pytest.raises(FolderInUseError, match="another process"):
            put(tmp_path / "out" / "b.csv", "1")

    def test_threads_of_one_process_too(self, tmp_path):
        with Outputs(doing="exporting") as outputs:
            outputs.claim([tmp_path / "a.csv"])
            with pytest.raises(FolderInUseError, match=f"process {os.getpid()} .* exporting"):
                put(tmp_path / "a.csv", "1")

    def test_folders_made_in_vain_go_again(self, tmp_path):
        with Outputs() as outputs:
            outputs.claim([tmp_path / "a" / "b" / "c.csv"])
        assert list(tmp_path.iterdir()) == []


def test_the_record_is_plain_json_lines(tmp_path):
    put(tmp_path / "a.csv", "12")
    head, line = (json.loads(line) for line in (tmp_path / RECORD).read_text().splitlines())
    assert head["version"] == 1
    assert (line["name"], line["size"], len(line["sha256"])) == ("a.csv", 2, 64)


def test_the_holder_of_a_lock_that_a_power_cut_took_away_is_removed(tmp_path):
    (tmp_path / ".distill2label-01a58036.json").write_text("{}")
    put(tmp_path / "a.csv", "x")
    assert names(tmp_path) == ["a.csv"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such call")
def test_the_record_has_its_name_before_the_file_that_it_tells_of(tmp_path, monkeypatch):
    steps, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr("os.fsync", lambda number: (steps.append(os.fstat(number).st_ino), sync(number)))
    monkeypatch.setattr("os.replace", lambda old, new: (steps.append(Path(new).name), replace(old, new)))
    put(tmp_path / "a.csv", "x")
    before = steps[: steps.index("a.csv")]
    assert (
        before.index((tmp_path / RECORD).stat().st_ino) < len(before) - before[::-1].index(tmp_path.stat().st_ino) - 1
    )


def test_a_server_that_is_gone_for_a_moment_leaves_no_file_that_nobody_knows(tmp_path, monkeypatch):
    with Outputs().writing(tmp_path / "a.csv") as path:
        path.write_text("1")
    read = Path.open

    def gone(self, *args, **kwargs):
        if self.name == RECORD:
            raise OSError(errno.ETIMEDOUT, "Connection timed out")
        return read(self, *args, **kwargs)

    outputs = Outputs()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", gone)
        with pytest.raises(OSError, match="timed out"), outputs.writing(tmp_path / "b.csv") as path:
            path.write_text("2")
    assert not (tmp_path / "b.csv").exists()
    for name in ("a.csv", "b.csv"):
        with outputs.writing(tmp_path / name) as path:
            path.write_text("3")
    assert {outputs.standing(tmp_path / name) for name in ("a.csv", "b.csv")} == {"ours"}
