"""Which files make up a slide: many formats keep its pixels in others than the one that is opened."""

import os
from collections.abc import Iterator
from pathlib import Path

from .backends.dicom import read_header


def files_of_slide(path: str | os.PathLike[str]) -> Iterator[str]:
    """Paths of all files that a slide at `path` may be read from, in no order. Of DICOM alone headers are read.

    A folder (OME-Zarr, DICOM) is all that it holds. Beside a `.mrxs` lies the folder of its name, beside a file of a
    DICOM slide lie the others of its series, beside a `.vms` or `.vmu` its pictures. `OSError` where there is nothing
    to look at.
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
    """All files of a folder and of those in it; a link to a folder is not followed, since it may lead back."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _inside(entry.path)
            else:
                yield entry.path
