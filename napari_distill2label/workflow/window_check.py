"""Whether a window can open here. Qt aborts the whole process where it cannot, so another process tries it first."""

import ctypes
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files

TIMEOUT = 60.0  # seconds: a cold disk and a busy machine; Qt itself takes less than one
EXTRA = "pip install 'napari-distill2label[gui]' PyQt6"

TRIAL = "napari_distill2label.gui.qt_trial"  # run as a program


@dataclass(frozen=True)
class WindowProblem:
    """Why no window opens here, and what to do about it: one sentence each."""

    problem: str
    remedy: str


def window_problem() -> WindowProblem | None:
    """Start Qt in another process; return what is wrong, or None if a window can open."""
    try:
        trial = subprocess.run([sys.executable, "-m", TRIAL], capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return WindowProblem(f"Qt did not start within {TIMEOUT:.0f} s.", "Check the display, then try again.")
    started = trial.returncode == 0 and trial.stdout.split("started ", 1)[-1].split()
    if not started:
        return _explained(trial.stderr)
    if started[-1] != "True":
        return WindowProblem(
            "Qt starts, but there is no OpenGL, which napari draws with.",
            "Install a driver (Debian: apt-get install libgl1-mesa-dri), or open the window on another machine.",
        )
    return None


def missing_libraries() -> dict[str, str]:
    """Return the libraries of `qt_libraries.txt` that this system lacks, each with its Debian package."""
    if not sys.platform.startswith("linux"):
        return {}  # the Qt wheels bring all they need
    return {library: package for library, package in qt_libraries().items() if not _loads(library)}


def qt_libraries() -> dict[str, str]:
    """Return the system libraries that Qt needs on Linux, each with its Debian package."""
    lines = files(__package__.partition(".")[0]).joinpath("qt_libraries.txt").read_text("utf-8").splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _explained(stderr: str) -> WindowProblem:
    """What Qt's own words mean. Qt names xcb-cursor even where only the display is missing: look for ourselves."""
    if missing := missing_libraries():
        packages = " ".join(dict.fromkeys(missing.values()))
        return WindowProblem(
            f"Qt cannot start without these system libraries: {', '.join(missing)}.",
            f"Install them (Debian, Ubuntu: apt-get install {packages}).",
        )
    last = stderr.strip().splitlines()[-1:] or ["no message"]
    if "ModuleNotFoundError" in stderr or "QtBindingsNotFoundError" in stderr:
        return WindowProblem(f"Qt is not installed for Python ({last[0]}).", EXTRA)
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if "display" in stderr and not display:
        return WindowProblem(
            "There is no display: neither DISPLAY nor WAYLAND_DISPLAY is set.",
            "Log in with a desktop, use 'ssh -X', or draw into memory with 'xvfb-run -a distill2label gui'.",
        )
    if "could not connect to display" in stderr:
        return WindowProblem(
            f"Qt cannot reach the display {display!r}.",
            "Check that it runs and that you may use it (xdpyinfo), or set DISPLAY to another one.",
        )
    return WindowProblem(f"Qt does not start: {last[0]}", "Set QT_DEBUG_PLUGINS=1 and try again: Qt then says more.")
