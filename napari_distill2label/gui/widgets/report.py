"""Words about work: how long, with which versions. No Qt."""

import platform
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

TOLD = ("napari-distill2label", "napari", "torch", "numpy", "zarr", "tifffile", "PyQt6", "PyQt5", "PySide6")


def duration(seconds: float) -> str:
    """'42 s', '4 min 10 s', '1 h 5 min'."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 // 60 else "")


def about(seconds: float) -> str:
    """A time that is only estimated: no more digits than anybody can know."""
    if seconds < 10:
        return "a few seconds"
    step = 5 if seconds < 60 else 30 if seconds < 600 else 60
    return f"about {duration(round(seconds / step) * step)}"


def versions(packages: Iterable[str] = TOLD) -> str:
    """What whoever mends an error asks for first, a line each."""
    lines = [f"Python {sys.version.split()[0]} on {platform.platform()}"]
    for name in packages:
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return "\n".join(lines)
