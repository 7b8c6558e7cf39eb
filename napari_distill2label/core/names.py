"""What a slide is called, and how our own label masks are told from slides."""

import os
from pathlib import Path

LABELS_NAMESPACE = "napari-distill2label/labels"  # of the OME annotation in a mask that says what its values mean


def slide_name(path: str | os.PathLike[str]) -> str:
    """A slide's name: its file's, without the suffix; of `.ome.tif`, `.ome.tiff`, `.ome.zarr` without both."""
    stem, suffix = os.path.splitext(Path(path).name)
    ome = suffix.lower() in (".tif", ".tiff", ".zarr") and stem.lower().endswith(".ome")
    return stem[: -len(".ome")] if ome else stem


def is_url(path: str | os.PathLike[str]) -> bool:
    """Is this `s3://…`, `https://…`, and no path of a file?"""
    return "://" in str(path)
