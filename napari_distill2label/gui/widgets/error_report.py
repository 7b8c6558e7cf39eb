"""What a report of an error needs: versions."""

import platform
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from qtpy import API_NAME

TOLD = ("napari-distill2label", "napari", "torch", "numpy", "zarr", "tifffile")


def versions(packages: Iterable[str] = TOLD) -> str:
    """What whoever mends an error asks for first, a line each."""
    lines = [f"Python {sys.version.split()[0]} on {platform.platform()}"]
    for name in (*packages, API_NAME):  # the last is the Qt in use, of those installed
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return "\n".join(lines)
