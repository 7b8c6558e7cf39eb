"""`window_check`: says why no window opens, before Qt aborts the process."""

import os
import shutil
import subprocess
import sys

import pytest

from napari_distill2label.workflow import window_check
from napari_distill2label.workflow.window_check import missing_libraries, qt_libraries, window_problem

NO_SCREEN = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux may have no display")


def distill2label(*arguments: str, env: dict[str, str] = NO_SCREEN) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "napari_distill2label.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)


@linux
def test_a_window_opens_where_tests_have_one():
    if not os.environ.get("DISPLAY"):
        pytest.skip("no display here: run the tests under xvfb-run")
    assert window_problem() is None


@linux
def test_without_a_display_the_command_ends_in_one_line():
    done = distill2label("gui")
    assert done.returncode == 2  # an abort would be -6
    assert done.stderr.splitlines() == [
        "distill2label: the window cannot open. There is no display: neither DISPLAY nor WAYLAND_DISPLAY is set. "
        "Log in with a desktop, use 'ssh -X', or draw into memory with 'xvfb-run -a distill2label gui'."
    ]


@linux
@pytest.mark.parametrize(("name", "display"), [("DISPLAY", ":4711"), ("WAYLAND_DISPLAY", "wayland-4711")])
def test_a_display_that_is_not_there_is_named(name, display):
    done = distill2label("gui", env={**NO_SCREEN, name: display})
    assert done.returncode == 2
    assert f"Qt cannot reach the display '{display}'" in done.stderr


@linux
def test_doctor_says_it_too():
    lines = distill2label("doctor").stdout.splitlines()
    (at,) = (index for index, line in enumerate(lines) if line.startswith("missing  window: "))
    assert "There is no display" in lines[at]
    assert "xvfb-run" in lines[at + 1]


@linux
def test_a_missing_library_is_named_with_its_package():
    """Hidden from one process by a mount of its own, which only root may make."""
    library = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True).stdout.split("libxcb-cursor.so.0 ")[-1]
    path = library.splitlines()[0].rsplit("=> ", 1)[-1]
    hide = f"mount --bind /dev/null {path}"
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", "-m", "sh", "-c", hide], capture_output=True).returncode
    ):
        pytest.skip("no mount for one process here")
    command = f"{hide} && exec {sys.executable} -m napari_distill2label.cli gui"
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, env=NO_SCREEN)
    assert done.returncode == 2
    assert done.stderr == (
        "distill2label: the window cannot open. Qt cannot start without these system libraries: libxcb-cursor.so.0. "
        "Install them (Debian, Ubuntu: apt-get install libxcb-cursor0).\n"
    )


def test_every_library_has_a_package():
    libraries = qt_libraries()
    assert libraries["libGL.so.1"] == "libgl1"
    assert len(libraries) > 20
    assert all(".so" in library and ".so" not in package for library, package in libraries.items())


@linux
def test_only_what_is_not_there_is_missing(monkeypatch):
    monkeypatch.setattr(window_check, "qt_libraries", lambda: {"libc.so.6": "libc6", "libnowhere.so.3": "libnowhere3"})
    assert missing_libraries() == {"libnowhere.so.3": "libnowhere3"}


def test_an_environment_without_qt_is_told_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "qtpy.py").write_text("import no_such_qt_binding")
    monkeypatch.setattr(window_check, "missing_libraries", dict)
    found = window_problem()
    assert "Qt is not installed for Python" in found.problem
    assert found.remedy == "pip install 'napari-distill2label[gui]' PyQt6"
