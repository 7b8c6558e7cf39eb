"""The files of a slide: many formats store its pixels in other files than the one that is opened."""

import os
from collections.abc import Iterator
from pathlib import Path

from .backends.dicom import read_header


def files_of_slide(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the paths of all files of a slide, in no order. Only headers of DICOM files are read.

    A folder (OME-Zarr, DICOM) gives all its files, a `.mrxs` also the folder of its name, a DICOM file also the others
    of its series, a `.vms` or `.vmu` also its pictures. `OSError` if the path does not exist.
    """
    path = Path(path)
    if path.is_dir():
        yield from _inside(path)
        return
    yield str(path)
    suffix = path.suffix.lower()
    if suffix == ".mrxs" and path.with_suffix("").is_dir():
        yield from _inside(path.with_suffix(""))
    elif suffix == ".dcm":
        yield from _of_series(path)
    elif suffix in (".vms", ".vmu"):  # NAME.vms, NAME.opt, NAME_macro.jpg, NAME(1,0).jpg …
        yield from (str(other) for other in path.parent.glob("*") if _is_another(other, path) and other.is_file())


def _of_series(path: Path) -> Iterator[str]:
    given = read_header(path)
    if given is None:
        return
    for other in path.parent.iterdir():
        header = read_header(other) if other != path else None
        if header is not None and header.said.get("series") == given.said.get("series"):
            yield str(other)


def _is_another(other: Path, path: Path) -> bool:
    return other.name != path.name and other.name.startswith(path.stem)


def _inside(folder: str | os.PathLike[str]) -> Iterator[str]:
    """Yield all files of a folder and its subfolders. Links to folders are not followed: they may lead back."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _inside(entry.path)
            else:
                yield entry.path
