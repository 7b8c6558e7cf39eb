"""What the command line prints cannot steer the terminal it is printed on."""

import io
import logging
import subprocess
import sys

import pytest

from napari_distill2label.cli import main as command_line
from napari_distill2label.cli.progress_bar import ProgressBar, printable_streams
from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.events import EpochEnd, ItemFailed, Progress, Task
from napari_distill2label.core.notices import Notice, NoticeCode

EVIL = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e"


def is_harmless(text: str) -> bool:
    return not any(character in text for character in "\x1b\x07\x9b\u202e")


def test_streams_show_what_a_terminal_would_obey(monkeypatch):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with printable_streams():
        print(f"a\tb {EVIL}")
        sys.stdout.writelines(["x\n", EVIL])
        print("https://me:secret@host/x?sig=1", file=sys.stderr)
        logging.lastResort.handle(logging.LogRecord("tifffile", logging.WARNING, "", 0, EVIL, (), None))
        assert sys.stdout.isatty() is False
    assert sys.stdout is out
    assert is_harmless(out.getvalue())
    assert is_harmless(err.getvalue())
    assert out.getvalue().startswith("a\tb \\x1b]0;owned\\x07\\x1b[2J\r")
    assert err.getvalue().startswith("https://…@host/x?…\n")
    assert "owned" in err.getvalue()


def test_the_bar_and_its_lines_hold_no_end_of_line_of_others(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with printable_streams(), ProgressBar() as bar:
        bar.show(Progress(Task.PREDICT, 1, 2, f"{EVIL}\nforged line"))
        bar.show(Notice(NoticeCode.REGIONS_EXIST, {"file": f"{EVIL}\nforged line"}))
        bar.show(ItemFailed(f"{EVIL}\nforged line", SlideError(f"{EVIL}\nforged line")))
        bar.show(EpochEnd("teacher", 1, 2))
    assert is_harmless(terminal.getvalue())
    lines = [line.lstrip(" ") for line in terminal.getvalue().replace("\r", "\n").splitlines()]
    assert not [line for line in lines if line.startswith("forged")]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A cohort whose cells hold escape sequences, and one of 100 kB."""
    folder = tmp_path_factory.mktemp("hostile")
    name = EVIL.replace("\r", "")
    (folder / "cohort.csv").write_text(
        f'slide_id,path,label,mpp\n"{name}","{name}.svs","{name}",\n"x{"y" * 100_000}",b.svs,normal,\n', "utf-8"
    )
    (folder / "mpp.csv").write_text(f'slide_id,path,mpp\n"{name}",a.svs,"{name}"\n', "utf-8")
    (folder / "long.csv").write_text(f"slide_id,path,split\na,a.svs,{'z' * 100_000}\n", "utf-8")
    (folder / "header.csv").write_text(f'"{name}",b\n1,2\n', "utf-8")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("segment-tissue", "cohort.csv", "-o", "out"),
        ("segment-tissue", f"{EVIL}.svs", "-o", "out"),
        ("segment-tissue", f"https://me:secret@host/{EVIL}.zarr", "-o", "out"),
        ("tissue", "zip::file:///etc/passwd", "-o", "out"),
        ("segment-tissue", f"{EVIL}*.svs", "-o", "out"),
        ("train", "cohort.csv", "-o", "run"),
        ("train", "mpp.csv", "-o", "run"),
        ("train", "long.csv", "-o", "run"),
        ("train", "header.csv", "-o", "run"),
        ("train", f"{EVIL}.csv", "-o", "run"),
        ("train", "cohort.csv", "-o", "run", "--classes", EVIL),
        ("train", "cohort.csv", "-o", "run", "--preset", EVIL),
        (EVIL,),
    ],
)
def test_nothing_from_outside_reaches_the_terminal_raw(hostile, monkeypatch, capsys, arguments):
    monkeypatch.chdir(hostile)
    try:
        status = command_line.main(list(arguments))
    except SystemExit as stop:
        status = stop.code
    said = "".join(capsys.readouterr())
    assert status in (1, 2)
    assert said
    assert is_harmless(said)
    assert "secret" not in said
    assert max(map(len, said.splitlines())) < 3000
    assert "Traceback" not in said


def test_a_process_prints_nothing_raw(hostile):
    command = [sys.executable, "-m", "napari_distill2label.cli", "segment-tissue", "cohort.csv", "-o", "out", "--debug"]
    done = subprocess.run(command, capture_output=True, cwd=hostile, check=False)
    assert done.returncode == 1
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"\\x1b" in done.stderr
