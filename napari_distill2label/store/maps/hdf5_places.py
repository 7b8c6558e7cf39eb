"""Places of patches as CLAM and TRIDENT save them: an HDF5 file per slide with `coords` (n, 2) and no features.

CLAM's are `patches/<slide_id>.h5`, TRIDENT's `patches/<slide_id>_patches.h5`. Positions and attributes are those of
files of features (`hdf5_geometry`), in which the places are read, too.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import SlideError
from ...core.geometry import Mpp, PatchGrid, PatchPoints
from ...core.text import shown
from ..files.atomic import Writing, atomic_path
from ..files.safe_names import safe_name
from .hdf5 import SUFFIXES, ErrorKeepingFile, clam_attributes
from .hdf5_file import find_dataset, hdf5_errors, import_h5py, open_hdf5, read_attributes
from .hdf5_geometry import NAMES, Frame, Located, coords_attributes, locate

TRIDENT = "_patches"  # what TRIDENT's names end in
FOLDERS = (".", "patches", "h5_files")


def is_places(path: str | os.PathLike[str]) -> bool:
    """Whether centres of patches are given as places of this kind: such a file, or a folder of them."""
    path = Path(path)
    return path.suffix.lower() in SUFFIXES or (path.is_dir() and any(_files_in(path)))


def places_name(path: str | os.PathLike[str]) -> str:
    """Return the slide of a file of places by its name."""
    return Path(path).stem.removesuffix(TRIDENT).removesuffix(".ome")


def find_places(path: str | os.PathLike[str], slide_id: str) -> Path:
    """Return the file of a slide: the one that is given, or one in the folder. `SlideError` if there is none."""
    path = Path(path)
    files = _files_in(path) if path.is_dir() else [path]
    found = [file for file in files if places_name(file) in (slide_id, safe_name(slide_id))]
    if not found:
        raise SlideError(f"{path}: has no places of the slide {shown(slide_id)}: files are named after the slides")
    if len(found) > 1:
        raise SlideError(f"{found[0]} and {found[1]} are both of slide {shown(slide_id)}: keep one of them")
    return found[0]


def _files_in(folder: Path) -> list[Path]:
    below = (folder / name for name in FOLDERS)
    return [file for place in below if place.is_dir() for file in sorted(place.iterdir()) if _is_file(file)]


def _is_file(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def read_places(path: str | os.PathLike[str], frame: Frame | None = None) -> Located:
    """Read and check the places of a file, with features or without: patches on one lattice become a grid.

    `SlideError` says which key, attribute or shape was expected, and what was found; or what contradicts what.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        coords = find_dataset(path, file, "coords")
        if coords is None:
            with hdf5_errors(path):
                there = ", ".join(map(shown, list(file)[:10])) or "nothing"
            raise SlideError(f"{path}: has no 'coords': places are kept as `coords` (n, 2); it holds {there}")
        if len(coords.shape) != 2 or coords.shape[1] != 2 or coords.shape[0] == 0:
            raise SlideError(f"{path}: `coords` is {coords.shape}, not (n, 2) with a patch or more")
        with hdf5_errors(path):
            coordinates = np.asarray(coords[...])
        said = {**read_attributes(path, file, NAMES), **read_attributes(path, coords, NAMES)}
    said = {**clam_attributes(path, said, coordinates), **said}
    if "downsample" not in said and _is_zero(said.get("patch_level")):
        said["downsample"] = 1.0  # of level 0
    if "patch_size_level0" not in said and not {"patch_size", "downsample"} <= said.keys():
        raise SlideError(
            f"{path}: `coords` does not say how large its patches are: it has neither 'patch_size_level0' (TRIDENT) "
            f"nor 'patch_size' and 'downsample' (CLAM); its attributes are {', '.join(said) or 'none'}"
        )
    return locate(path, coordinates, said, frame or Frame())


def _is_zero(value: Any) -> bool:
    return value is not None and np.size(value) == 1 and np.ravel(value)[0] == 0


def write_places(
    path: str | os.PathLike[str],
    patches: PatchGrid | PatchPoints,
    name: str,
    slide_mpp: Mpp | None = None,
    frame: Frame | None = None,
    writing: Writing = atomic_path,
) -> Path:
    """Write the places of the scored patches as TRIDENT does, and with CLAM's attributes where nothing is resampled."""
    h5py = import_h5py(Path(path))
    frame = frame or Frame()
    with writing(path) as temporary, temporary.open("w+b", buffering=0) as raw:
        place = ErrorKeepingFile(raw)
        with h5py.File(place, "w") as file:
            corners = patches.corners + np.asarray(frame.origin, np.int64)
            coords = file.create_dataset("coords", data=np.ascontiguousarray(corners[:, ::-1], np.int64))
            coords.attrs.update(coords_attributes(patches, name, str(Path(path).parent), slide_mpp, frame))
        place.check()
    return Path(path)
