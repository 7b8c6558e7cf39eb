"""Show a file in the system's file manager."""

import shutil
import subprocess
import sys
from pathlib import Path

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices


def reveal_command(path: Path) -> list[str] | None:
    """The command that opens the folder with `path` selected; None where the system has none."""
    if sys.platform == "darwin":
        return ["open", "-R", str(path)]
    if sys.platform == "win32":
        return ["explorer", f"/select,{path}"]
    if (sender := shutil.which("dbus-send")) is not None:
        return [
            sender, "--session", "--print-reply", "--dest=org.freedesktop.FileManager1",
            "/org/freedesktop/FileManager1", "org.freedesktop.FileManager1.ShowItems",
            f"array:string:{path.absolute().as_uri()}", "string:",
        ]  # fmt: skip
    return None


def revealed(path: Path) -> bool:
    """Show a file in its folder; False where the system's file manager cannot be asked. Any thread may call."""
    command = reveal_command(path)
    try:
        return (
            command is not None and subprocess.run(command, capture_output=True, timeout=5, check=False).returncode == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def open_folder(path: Path) -> bool:
    """Open a folder; False where nothing on this system can. In the GUI thread only."""
    return QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))
