"""What a slide is called, and how our own label masks are told from slides."""

import os
from pathlib import Path

LABELS_NAMESPACE = "napari-distill2label/labels"  # of the OME annotation in a mask that says what its values mean


def is_url(path: str | os.PathLike[str]) -> bool:
    """Does the path name something that is not a file of this computer (s3://…, https://…)?"""
    return "://" in os.fspath(path)


def slide_name(path: str | os.PathLike[str]) -> str:
    """A slide's name: its file's, without the suffix; of `.ome.tif`, `.ome.tiff`, `.ome.zarr` without both."""
    stem, suffix = os.path.splitext(Path(path).name)
    ome = suffix.lower() in (".tif", ".tiff", ".zarr") and stem.lower().endswith(".ome")
    return stem[: -len(".ome")] if ome else stem
