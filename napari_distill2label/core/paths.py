"""Names and paths of slides, URLs, and files that are ours or may run code."""

import json
import os
import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import urlsplit

PathLike = str | os.PathLike[str]

LABELS_NAMESPACE = "napari-distill2label/labels"  # of the OME annotation in a mask that says what its values mean
PROVENANCE_NAMESPACE = "napari-distill2label/provenance"  # of the one that says where a result comes from
OWN_ATTRIBUTE = "napari-distill2label"  # of an OME-Zarr folder of ours: what we say of it
METADATA = "-metadata.json"  # follows a table's name, as in CSV on the Web: the file that says where it comes from
COHORT_SUMMARY = "cohort_summary.csv"  # a row per slide, beside the tables of their patches
RECORD = ".distill2label.jsonl"  # in every folder of results: what was written there
LARGEST_RECORD = 2**26  # bytes of a record that is read
TORCHSCRIPT = (".pt", ".pth", ".ts", ".torchscript")  # encoders that can hold a program
# Web servers and object stores. `file://`, `reference://`, `github://` and the like reach other things than slides.
URL_SCHEMES = ("http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss")
# Two letters or more: "C:\\slides" is a drive. "zip::s3://…" is a URL too, one that `why_not_url` refuses.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::.*)?://", re.DOTALL)


def is_url(path: str | os.PathLike[str]) -> TypeGuard[str]:
    """Whether `path` is a URL (`s3://…`, `https://…`). It must stay a string: a `Path` drops a slash."""
    return isinstance(path, str) and _URL.match(path) is not None


def why_not_url(url: str) -> str | None:
    """Why a URL is not opened, as the end of a sentence; None if it may be.

    Slide tables come from outside. A URL that chains protocols (`zip::…`, `simplecache::file://…`) or uses another
    protocol than those of `URL_SCHEMES` (`reference://`, `file://`) could read any file of this machine.
    """
    scheme = url.partition("://")[0].lower()
    if "::" in url:
        return "chained protocols ('::') are not opened: give the URL of the OME-Zarr folder itself"
    if scheme == "file":
        return "file:// is not opened: give the path of the file"
    if scheme not in URL_SCHEMES:
        return f"the protocol {scheme}:// is not opened: use one of {', '.join(URL_SCHEMES)}"
    return None


def canonical_path(path: str | os.PathLike[str]) -> str:
    """Return a slide's place as it is saved in a map: a URL as it is, a file as an absolute path."""
    return str(path) if is_url(path) else str(Path(path).absolute())


def may_run_code(path: str | os.PathLike[str]) -> bool:
    """Whether opening an encoder's file may run code from it."""
    return Path(path).suffix.lower() in TORCHSCRIPT


def free_path(folder: Path, stem: str, suffix: str = "", taken: Container[Path] = ()) -> Path:
    """Return the first of `<stem><suffix>`, `<stem>_2<suffix>`, … in a folder where nothing is, and not in `taken`."""
    free, number = folder / f"{stem}{suffix}", 2
    while os.path.lexists(free) or free in taken:
        free, number = folder / f"{stem}_{number}{suffix}", number + 1
    return free


def slide_name(path: str | os.PathLike[str]) -> str:
    """Return a slide's name: its file name without the suffix; `.ome.tif`, `.ome.tiff`, `.ome.zarr` are one suffix.

    A URL has the name of its file, without the signature that may follow it.
    """
    stem, suffix = os.path.splitext(Path(urlsplit(path).path if is_url(path) else path).name)
    ome = suffix.lower() in (".tif", ".tiff", ".zarr") and stem.lower().endswith(".ome")
    return stem[: -len(".ome")] if ome else stem


def slide_in(provenance: Any) -> str | None:
    """Return the id of the slide that the provenance of a file of ours names, as JSON or read; None if it names none.

    Names of our files may have a part (`S-1_regions.geojson`), or be changed where a system cannot hold the id.
    """
    if isinstance(provenance, str | bytes):
        try:
            provenance = json.loads(provenance)
        except (ValueError, RecursionError):
            return None
    slide_id = provenance.get("slide_id") if isinstance(provenance, Mapping) else None
    return slide_id if isinstance(slide_id, str) and slide_id else None
