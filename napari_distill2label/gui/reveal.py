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


def reveal(path: Path) -> None:
    """Open the folder of `path` and select it there; the folder alone where that cannot be done."""
    command = reveal_command(path)
    try:
        if command is not None and subprocess.run(command, capture_output=True, timeout=3, check=False).returncode == 0:
            return
    except (OSError, subprocess.TimeoutExpired):
        pass
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(path.parent)))
