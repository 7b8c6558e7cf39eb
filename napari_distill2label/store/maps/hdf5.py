"""Features as CLAM and TRIDENT save them: an HDF5 file per slide, `features` (n, D) and `coords` (n, 2).

`coords` are top-left corners (x, y) in level-0 pixels, counted from the corner of OpenSlide's canvas. Attributes of
`coords` give the size of a patch: TRIDENT's `patch_size_level0`; or CLAM's `patch_size` times `downsample`, which CLAM
writes into another file (`patches/<slide_id>.h5`). The size differs between slides and is never assumed.
"""

import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import SlideError
from ...core.events import Progress, Task
from ...core.geometry import Mpp, PatchGrid, PatchPoints
from ..files.atomic import Writing, atomic_path
from ..files.safe_names import disambiguated, safe_name
from ..files.signature import file_signature
from .feature_map import ROWS_AT_ONCE, EncoderIdentity, FeatureMap, FeatureOrigin, are_features
from .hdf5_file import as_text, find_dataset, hdf5_errors, import_h5py, open_hdf5, read_attributes
from .hdf5_geometry import NAMES, SIZES, Frame, coords_attributes, locate

SUFFIXES = (".h5", ".hdf5")
FOLDERS = (".", "h5_files")  # of a folder of features: TRIDENT's, CLAM's
MOST_FEATURES = 65_536
ENCODER = ("encoder", "encoder_sha256", "encoder_description_sha256", "slide_signature")


@dataclass(frozen=True)
class Hdf5Features:
    """The content of such a file without its features: the patches, and the place of each row.

    Row i of the file is row `position[i]` of `patches.corners`; -1: its patch lies outside the scanned area, and is
    left out. `encoder` is the encoder that the file names (ours name it in full; others give at most its name).
    """

    path: Path
    patches: PatchGrid | PatchPoints
    position: np.ndarray
    n_features: int
    encoder: EncoderIdentity

    @property
    def n_outside(self) -> int:
        """Patches outside the scanned area of the slide."""
        return int((self.position < 0).sum())


def find_hdf5(folder: str | os.PathLike[str], slide_id: str) -> Path | None:
    """Find the file of a slide in a folder of features, CLAM's `h5_files/` included; None if there is none."""
    plain = safe_name(slide_id)
    stems = dict.fromkeys((disambiguated(plain, slide_id), plain, slide_id))  # the first where ids differ in capitals
    names = [f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]
    files = (Path(folder) / below / name for below in FOLDERS for name in names if Path(name).name == name)
    return next((file for file in files if file.is_file()), None)


def read_hdf5(path: str | os.PathLike[str], frame: Frame | None = None) -> Hdf5Features:
    """Read and check a file of CLAM, of TRIDENT or of ours; its features are read by `import_hdf5`.

    Patches on one lattice become a grid, others points. `frame` holds what is known of the slide; without it, its size
    comes from the file's attributes or from the outermost patch.

    Raises
    ------
    SlideError
        It cannot be used, or contradicts itself or the slide; names the file, and the attribute with both values.
    """
    path, frame = Path(path), frame or Frame()
    with open_hdf5(path) as file:
        features, coords = _find_datasets(path, file)
        n_features = int(features.shape[-1])
        with hdf5_errors(path):
            coordinates = np.asarray(coords[...])
        own = {**read_attributes(path, coords, NAMES), **read_attributes(path, file, NAMES)}
        about = {**read_attributes(path, features, ENCODER), **read_attributes(path, file, ENCODER)}
    if "slide_signature" in about and "layout" not in own:  # of an earlier version of ours, which did not say it
        own = {**own, "layout": "unknown"}
    located = locate(path, coordinates, {**clam_attributes(path, own, coordinates), **own}, frame)
    name = as_text(about.get("encoder", ""))
    encoder = EncoderIdentity(
        name=name or path.parent.name or "unnamed",
        path=str(path.parent.absolute()),
        sha256=as_text(about.get("encoder_sha256", "")),
        description_sha256=as_text(about.get("encoder_description_sha256", "")),
        from_features=True,
        origin=FeatureOrigin(
            encoder=None if name.lower() in ("", "none") else name,
            patch_px=located.patch_px,
            magnification=located.magnification,
            mpp=located.mpp,
        ),
    )
    return Hdf5Features(path, located.patches, located.position, n_features, encoder)


def import_hdf5(source: Hdf5Features, into: Path) -> Generator[Progress, None, FeatureMap]:
    """Import the features into a map at `into`. It is used again as long as the file does not change."""
    identity = {"source": file_signature(source.path), "encoder": source.encoder.sha256}
    features = FeatureMap.open_or_create(into, source.patches, source.n_features, identity)
    if features.is_complete:
        return features
    total = len(source.position)
    with open_hdf5(source.path) as file:
        stored, _ = _find_datasets(source.path, file)
        if (int(np.prod(stored.shape[:-1])), int(stored.shape[-1])) != (total, source.n_features):
            raise SlideError(f"{source.path}: was changed while it was read")
        for start in range(0, total, ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            with hdf5_errors(source.path, "its features cannot be read"), np.errstate(over="ignore"):
                piece = np.asarray(stored[..., rows, :], np.float32).reshape(-1, source.n_features)
            if not are_features(piece):
                raise SlideError(f"{source.path}: holds features that are not finite, or too large to be any")
            place = source.position[rows]
            features.write_rows(place[place >= 0], piece[place >= 0])
            yield Progress(Task.IMPORT_FEATURES, min(rows.stop, total), total, source.path.name)
    return features


def write_hdf5(
    path: str | os.PathLike[str],
    features: FeatureMap,
    name: str,
    encoder: EncoderIdentity,
    slide_mpp: Mpp | None = None,
    slide_signature: str = "",
    frame: Frame | None = None,
    writing: Writing = atomic_path,
) -> Path:
    """Write a map as TRIDENT does, and with CLAM's attributes where patches were not resampled.

    `name` and `slide_signature` are the slide's; `frame` says where its level 0 lies in OpenSlide's canvas. The
    encoder's name and digests stand beside, so that a model is not mixed up with features of another. Whole or not at
    all. `OSError` where the disk is full.
    """
    h5py = import_h5py(Path(path))
    patches, instances = features.patches, features.instances()
    rows = np.flatnonzero(features.readable)
    frame = frame or Frame()
    attributes = coords_attributes(patches, name, str(Path(path).parent), slide_mpp, frame)
    with writing(path) as temporary, temporary.open("w+b", buffering=0) as raw:
        place = ErrorKeepingFile(raw)
        with h5py.File(place, "w") as file:
            stored = file.create_dataset("features", (len(rows), features.n_features), features.dtype)
            for start in range(0, len(rows), ROWS_AT_ONCE):
                stored[start : start + ROWS_AT_ONCE] = instances[rows[start : start + ROWS_AT_ONCE]]
                place.check()
            stored.attrs.update(
                name=name,
                encoder=encoder.name,
                encoder_sha256=encoder.sha256,
                encoder_description_sha256=encoder.description_sha256,
                slide_signature=slide_signature,
            )
            corners = patches.corners[rows] + np.asarray(frame.origin, np.int64)
            coords = file.create_dataset("coords", data=np.ascontiguousarray(corners[:, ::-1], np.int64))
            coords.attrs.update(attributes)
        place.check()
    return Path(path)


class ErrorKeepingFile:
    """A file for HDF5 to write to, which hides errors from HDF5.

    HDF5 ends the process if writing fails while it closes a file, for example on a full disk. So the first error is
    stored here, and `check` raises it outside HDF5.
    """

    def __init__(self, raw: FileIO) -> None:
        self._raw = raw
        self._error: OSError | None = None
        self.seek, self.tell, self.flush = raw.seek, raw.tell, raw.flush

    def check(self) -> None:
        """Raise the first error of writing, if there was one."""
        if self._error is not None:
            raise self._error

    def read(self, size: int = -1) -> bytes:
        return self._raw.read(size)

    def readinto(self, buffer: Any) -> int:
        return self._raw.readinto(buffer)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            done = 0
            while self._error is None and done < len(view):
                done += self._raw.write(view[done:])
        except OSError as error:
            self._error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._raw.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0


def is_hdf5_of(
    path: Path,
    patches: PatchGrid | PatchPoints,
    encoder: EncoderIdentity,
    slide_signature: str,
    frame: Frame | None = None,
) -> bool:
    """Whether the file at `path` already holds what `write_hdf5` would write now."""
    if not path.is_file():
        return False
    try:
        there = read_hdf5(path, frame or Frame(patches.slide_shape))
        with open_hdf5(path) as file:
            signature = as_text(read_attributes(path, file["features"], ENCODER).get("slide_signature", ""))
    except SlideError:
        return False
    same = (there.encoder.sha256, there.encoder.description_sha256, signature, there.patches.side)
    return same == (encoder.sha256, encoder.description_sha256, slide_signature, patches.side) and np.array_equal(
        there.patches.corners, patches.corners
    )


def check_h5py(path: Path) -> None:
    """Raise `MissingDependencyError` if HDF5 files cannot be written."""
    import_h5py(path)


def _find_datasets(path: Path, file: Any) -> tuple[Any, Any]:
    """Return the datasets `features` and `coords`. A leading axis of length 1 is allowed."""
    features, coords = find_dataset(path, file, "features"), find_dataset(path, file, "coords")
    for name, found in (("features", features), ("coords", coords)):
        if found is None:
            other = "; `feats` is STAMP's, whose positions are in µm" if "feats" in file else ""
            raise SlideError(
                f"{path}: has no {name!r}: features are kept as `features` (n, D) and `coords` (n, 2){other}"
            )
    shape = features.shape[1:] if len(features.shape) == 3 and features.shape[0] == 1 else features.shape
    if len(shape) != 2 or features.dtype.kind != "f" or not 1 <= shape[1] <= MOST_FEATURES:
        raise SlideError(f"{path}: `features` is {features.shape} {features.dtype}, not (n, D) of floats")
    if coords.shape != (shape[0], 2) or shape[0] == 0:
        raise SlideError(f"{path}: `coords` is {coords.shape}, not ({shape[0]}, 2) with a patch or more")
    return features, coords


def clam_attributes(path: Path, own: Mapping[str, Any], coordinates: np.ndarray) -> dict[str, Any]:
    """Read the attributes of CLAM's file of patches, which holds what its file of features lacks."""
    if "patch_size_level0" in own or {"patch_size", "downsample"} <= own.keys():
        return {}
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        for name in (path.name, f"{path.stem}_patches.h5"):
            beside = folder / "patches" / name
            if beside.is_file() and beside != path:
                return _read_clam_patches(path, beside, own, coordinates)
    return {}


def _read_clam_patches(
    path: Path, beside: Path, own: Mapping[str, Any], coordinates: np.ndarray
) -> dict[str, Any]:  # fmt: skip
    with open_hdf5(beside) as file:
        coords = find_dataset(beside, file, "coords")
        if coords is None:
            return {}
        found = {**read_attributes(beside, coords, NAMES), **read_attributes(beside, file, NAMES)}
        with hdf5_errors(beside):
            same = coords.shape == coordinates.shape and np.array_equal(np.asarray(coords[...]), coordinates)
    if not same:
        raise SlideError(
            f"{path}: its coords are not those of {beside}, which says how large its patches are: they are of two "
            "different runs of CLAM; put the right one there"
        )
    for name in SIZES:
        if name in own and name in found and not np.array_equal(np.ravel(own[name]), np.ravel(found[name])):
            raise SlideError(f"{path}: {name} is {own[name]}, but {found[name]} in {beside}: one of them is wrong")
    return found
