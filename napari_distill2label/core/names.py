"""What a slide is called; how our own label masks are told from slides, and files with programs from others."""

import os
import re
from pathlib import Path

LABELS_NAMESPACE = "napari-distill2label/labels"  # of the OME annotation in a mask that says what its values mean
TORCHSCRIPT = (".pt", ".pth", ".ts", ".torchscript")  # encoders that can hold a program
# Two letters or more: "C:\\slides" is a drive.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a URL (`s3://…`, `https://…`): to be kept as it is, not made a `Path`, which drops a slash."""
    return isinstance(path, str) and _URL.match(path) is not None


def kept_path(path: str | os.PathLike[str]) -> str:
    """A slide's place as a map keeps it: a URL as it is, the path of a file from the root."""
    return str(path) if is_url(path) else str(Path(path).absolute())


def holds_program(path: str | os.PathLike[str]) -> bool:
    """Can the file of an encoder hold a program, which opening it would run?"""
    return Path(path).suffix.lower() in TORCHSCRIPT


def slide_name(path: str | os.PathLike[str]) -> str:
    """A slide's name: its file's, without the suffix; of `.ome.tif`, `.ome.tiff`, `.ome.zarr` without both."""
    stem, suffix = os.path.splitext(Path(path).name)
    ome = suffix.lower() in (".tif", ".tiff", ".zarr") and stem.lower().endswith(".ome")
    return stem[: -len(".ome")] if ome else stem
