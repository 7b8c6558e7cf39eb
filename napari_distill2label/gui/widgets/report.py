"""What a report of an error needs: versions. No Qt."""

import platform
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

TOLD = ("napari-distill2label", "napari", "torch", "numpy", "zarr", "tifffile", "PyQt6", "PyQt5", "PySide6")


def versions(packages: Iterable[str] = TOLD) -> str:
    """What whoever mends an error asks for first, a line each."""
    lines = [f"Python {sys.version.split()[0]} on {platform.platform()}"]
    for name in packages:
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return "\n".join(lines)
