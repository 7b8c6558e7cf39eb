"""The backend of each file format. A new format is a new module in `backends` and a line here."""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import SlideError
from ..core.geometry import Mpp
from ..core.messages import Remedy
from ..core.paths import is_url, why_not_url
from ..core.text import printable
from .backends.protocol import Source, WrongBackendError, reason_of

if TYPE_CHECKING:
    from .slide import Slide

# Modules are imported when a file needs them, because importing tifffile, zarr and dask is slow.
_BACKENDS: dict[str, str] = {
    **dict.fromkeys((".bmp", ".png", ".jpg", ".jpeg", ".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c"), "image"),
    **dict.fromkeys((".tif", ".tiff", ".svs", ".ndpi", ".qptiff"), "tiff"),
    ".zarr": "omezarr",
    **dict.fromkeys((".mrxs", ".scn", ".bif", ".dcm", ".svslide", ".vms", ".vmu"), "openslide"),
}
_ELSEWHERE = "openslide"  # reads files that the TIFF backend rejects

# A glass of 25 × 25 cm at 0.4 µm/px, and a side of one metre at 0.25 µm/px.
_MOST_PX, _LONGEST_PX = 4 * 10**11, 4 * 10**6

_ON_A_CANVAS = (".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu")

# Known slide formats that nothing here reads.
_NOT_YET = (".vsi", ".czi", ".isyntax", ".i2syntax", ".lif", ".ets", ".sdpc", ".kfb", ".tron")

SUFFIXES: tuple[str, ...] = tuple(_BACKENDS)


def open_slide(path: str | Path, mpp: float | Mpp | None = None, allow_non_brightfield: bool = False) -> "Slide":
    """Open a slide or a plain image.

    Parameters
    ----------
    path
        A file with one of `SUFFIXES` (upper or lower case), the folder of an OME-Zarr or a DICOM slide, or the URL of
        an OME-Zarr folder (`https://…`, `s3://…`).
    mpp
        The slide's µm/px, or (y, x), if the user corrects the file.
    allow_non_brightfield
        Open an image that is not brightfield (fluorescence rendered to RGB) too; a notice says so.

    Raises
    ------
    SlideError
        The file is missing, empty, damaged, not 8-bit RGB, or of a format that is not supported.
    """
    path = path if is_url(path) else Path(path)
    try:
        slide = _opened(path, allow_non_brightfield)
        return slide if mpp is None else slide.with_mpp(mpp)
    except SlideError as error:
        raise error if printable(str(path)) in str(error) else SlideError.of(error, file=path) from error
    except MemoryError as error:
        raise SlideError(f"{path}: there is not enough memory to open it: convert it to a tiled OME-TIFF") from error
    except Exception as error:  # the parser of a damaged file may raise anything
        reason = reason_of(error)
        raise SlideError(f"{path}: cannot be read, damaged or not what its name says: {reason}") from error


def _opened(path: Path | str, allow_non_brightfield: bool) -> "Slide":
    """Open the slide with the µm/px of its file."""
    from .slide import Slide

    source = _open_source(path, _backend_of(path))
    for height, width in (level.shape for level in source.levels):
        if not 1 <= height <= _LONGEST_PX or not 1 <= width <= _LONGEST_PX or height * width > _MOST_PX:
            raise SlideError(f"{path}: claims {width} × {height} px: damaged, or not a slide")
    if source.other_than_brightfield and not allow_non_brightfield:
        source.close()
        raise SlideError(
            f"This is not a brightfield image: {source.other_than_brightfield}. A model of stained slides means "
            "nothing here.",
            file=path,
            remedy=Remedy("set", "inputs.allow_non_brightfield", True),
        )
    return Slide.of(path, source)


def may_have_canvas(path: str | Path) -> bool:
    """Whether slides of this suffix may have a scanned area on a larger canvas (`Slide.canvas_origin`)."""
    return not is_url(path) and Path(path).suffix.lower() in _ON_A_CANVAS


def readable_suffixes() -> tuple[list[str], list[str]]:
    """Return the suffixes that can be read here, and those whose library is missing."""
    from .backends.openslide import is_installed

    missing = [] if is_installed() else [suffix for suffix, name in _BACKENDS.items() if name == _ELSEWHERE]
    return [suffix for suffix in SUFFIXES if suffix not in missing], missing


def _open_source(path: Path | str, name: str) -> Source:
    try:
        return _opener(name)(path)
    except WrongBackendError as error:
        try:
            return _opener(_ELSEWHERE)(path)
        except SlideError as reason:
            raise SlideError.of(reason, problem=f"{reason.problem} ({error} file)") from None


def _opener(name: str) -> Callable[[Path | str], Source]:
    """Return `open_source` of the backend's module."""
    opener: Callable[[Path | str], Source] = import_module(f".backends.{name}", __package__).open_source
    return opener


def _backend_of(path: Path | str) -> str:
    """Return the name of the backend's module; `SlideError` if there is no file to open."""
    suffix = os.path.splitext(str(path).rstrip("/").lower())[1]
    if isinstance(path, str):
        if reason := why_not_url(path):
            raise SlideError(f"{path}: {reason}")
        if suffix != ".zarr":
            raise SlideError(f"{path}: only OME-Zarr folders (….zarr) are read over the network: download it first")
        return _BACKENDS[suffix]
    if not path.exists():
        raise SlideError(f"{path}: no such file: check the path")
    if suffix in _NOT_YET:
        raise SlideError(f"{path}: {suffix} slides are not supported by this version yet: convert it to OME-TIFF")
    if path.is_dir() and suffix != ".zarr":
        if any(child.suffix.lower() == ".dcm" for child in path.iterdir()):
            return _BACKENDS[".dcm"]
        raise SlideError(
            f"{path}: a folder, not a slide: give a file, a folder of DICOM files (.dcm), "
            "or an OME-Zarr folder whose name ends in .zarr"
        )
    if suffix not in _BACKENDS:
        raise SlideError(f"{path}: unknown kind of image {suffix!r}: this version reads {', '.join(SUFFIXES)}")
    if not path.is_file() and not path.is_dir():
        raise SlideError(f"{path}: no file: give the file, or the folder, of a slide")
    if path.is_file() and path.stat().st_size == 0:
        raise SlideError(f"{path}: the file is empty (0 bytes): copy it again")
    return _BACKENDS[suffix]
