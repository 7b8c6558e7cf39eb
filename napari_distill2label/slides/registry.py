"""Which backend reads which file. A new format is a new module in `backends` and a line here."""

from importlib import import_module
from pathlib import Path

from ..core.errors import SlideError
from ..core.geometry import Mpp
from .slide import Slide, reason_of

# Modules are imported when a file asks for them: tifffile and zarr take a while.
_BACKENDS: dict[str, str] = {
    **dict.fromkeys((".bmp", ".png", ".jpg", ".jpeg"), "image"),
    **dict.fromkeys((".tif", ".tiff", ".svs", ".ndpi", ".qptiff"), "tiff"),
    ".zarr": "omezarr",
}

# Known slide formats that need a backend this version does not have.
_NOT_YET = (".mrxs", ".scn", ".bif", ".dcm", ".svslide", ".vms", ".vmu", ".vsi", ".czi", ".isyntax", ".lif")

SUFFIXES: tuple[str, ...] = tuple(_BACKENDS)


def open_slide(path: str | Path, mpp: float | Mpp | None = None, force: bool = False) -> Slide:
    """Open a slide or a plain image.

    Parameters
    ----------
    path
        A file with one of `SUFFIXES` (upper or lower case), or an OME-Zarr folder.
    mpp
        The slide's µm/px, or (y, x), where the user knows better than the file.
    force
        Open it even if it is something else than brightfield (fluorescence rendered to RGB); a notice says so.

    Raises
    ------
    SlideError
        The file is missing, empty, damaged, not 8-bit RGB, or of a format that is not supported.
    """
    path = Path(path)
    backend = import_module(f".backends.{_backend_of(path)}", __package__)
    try:
        source = backend.open_source(path)
    except SlideError:
        raise
    except Exception as error:  # a parser of damaged bytes may raise anything, and all of it means the same
        reason = reason_of(error)
        raise SlideError(f"{path}: cannot be read, damaged or not what its name says: {reason}") from error
    if source.other_than_brightfield and not force:
        source.close()
        raise SlideError(
            f"{path}: not a brightfield image: {source.other_than_brightfield}: "
            "a model of stained slides means nothing here; --force opens it all the same"
        )
    slide = Slide.of(path, source)
    return slide if mpp is None else slide.with_mpp(mpp)


def _backend_of(path: Path) -> str:
    """Name of the backend's module, once it is sure that there is something to open."""
    suffix = path.suffix.lower()
    if not path.exists():
        raise SlideError(f"{path}: no such file: check the path")
    if suffix in _NOT_YET or (path.is_dir() and any(path.glob("*.dcm"))):
        kind = suffix if suffix in _NOT_YET else "DICOM"
        raise SlideError(f"{path}: {kind} slides are not supported by this version yet: convert it to OME-TIFF")
    if path.is_dir() and suffix != ".zarr":
        raise SlideError(f"{path}: a folder, not a slide: give a file, or an OME-Zarr folder whose name ends in .zarr")
    if suffix not in _BACKENDS:
        raise SlideError(f"{path}: unknown kind of image {suffix!r}: this version reads {', '.join(SUFFIXES)}")
    if path.is_file() and path.stat().st_size == 0:
        raise SlideError(f"{path}: the file is empty (0 bytes): copy it again")
    return _BACKENDS[suffix]
