"""Features as CLAM and TRIDENT keep them: an HDF5 file per slide, `features` (n, D) and `coords` (n, 2).

`coords` are top-left corners (x, y) in level-0 pixels. How large a patch is, the attributes of `coords` say: TRIDENT's
`patch_size_level0`; or CLAM's `patch_size` times `downsample`, which CLAM writes into a file of its own
(`patches/<slide_id>.h5`). It differs from slide to slide and is never assumed.
"""

import os
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import MissingDependencyError, SlideError
from ..core.events import Progress
from ..core.geometry import Mpp, PatchGrid, PatchPoints
from .features import ROWS, EncoderIdentity, FeatureMap
from .files import atomic_path, safe_name
from .signature import file_signature

SUFFIXES = (".h5", ".hdf5")
FOLDERS = (".", "h5_files")  # of a folder of features: TRIDENT's, CLAM's
MOST_FEATURES = 65_536
SPARSEST = 100  # cells of a lattice per patch on it


@dataclass(frozen=True)
class Hdf5Features:
    """What such a file says, without its features: where the patches lie, and where each row of it goes.

    Row i of the file is row `position[i]` of `patches.corners`. `encoder` is what the file says of its encoder (a
    file of ours does; others have at most a name).
    """

    path: Path
    patches: PatchGrid | PatchPoints
    position: np.ndarray
    n_features: int
    encoder: EncoderIdentity


def find_hdf5(folder: str | os.PathLike[str], slide_id: str) -> Path | None:
    """The file of a slide in a folder of features, CLAM's `h5_files/` included; None if there is none."""
    names = [f"{name}{suffix}" for name in dict.fromkeys((safe_name(slide_id), slide_id)) for suffix in SUFFIXES]
    files = (Path(folder) / below / name for below in FOLDERS for name in names if Path(name).name == name)
    return next((file for file in files if file.is_file()), None)


def read_hdf5(path: str | os.PathLike[str], slide_shape: tuple[int, int] | None = None) -> Hdf5Features:
    """Read and check a file of CLAM, of TRIDENT or of ours; its features are read by `import_hdf5`.

    Patches on one lattice become a grid, others points. `slide_shape` (height, width) is the slide's, where it is at
    hand; else the file's own attributes say it, or the patch that lies furthest out. `SlideError` if it cannot be used.
    """
    path = Path(path)
    with _opened(path) as file:
        features, coords = _datasets(path, file)
        coordinates = np.asarray(coords[...])
        attributes = {**_coords_beside(path), **dict(coords.attrs), **dict(file.attrs)}
        n_features = features.shape[1]
        encoder = _encoder(path, {**dict(features.attrs), **dict(file.attrs)})
    if not np.issubdtype(coordinates.dtype, np.number) or not np.isfinite(coordinates).all():
        raise SlideError(f"{path}: its coords are no numbers")
    corners = coordinates[:, ::-1].astype(np.int64)
    side, patch_px = _sides(path, attributes)
    shape = slide_shape or _shape(attributes, corners, side)
    if ((corners + side < 0) | (corners >= shape)).any():
        raise SlideError(
            f"{path}: has patches outside the slide ({shape[1]} × {shape[0]} px): are its coords level-0 pixels of it?"
        )
    patches, position = _patches(corners, side, patch_px, shape, attributes)
    return Hdf5Features(path, patches, position, n_features, encoder)


def import_hdf5(source: Hdf5Features, into: Path) -> Generator[Progress, None, FeatureMap]:
    """The same features as a map at `into`, which is kept and found again as long as the file does not change."""
    identity = {"source": file_signature(source.path), "encoder": source.encoder.sha256}
    features = FeatureMap.at(into, source.patches, source.n_features, identity)
    if features.is_complete:
        return features
    with _opened(source.path) as file:
        stored = file["features"]
        for start in range(0, len(source.position), ROWS):
            rows = slice(start, start + ROWS)
            try:
                piece = np.asarray(stored[..., rows, :], np.float32).reshape(-1, source.n_features)
            except (OSError, ValueError) as error:
                raise SlideError(f"{source.path}: its features cannot be read ({_reason(error)})") from None
            if not np.isfinite(piece).all():
                raise SlideError(f"{source.path}: holds features that are not finite")
            features.write_rows(source.position[rows], piece)
            yield Progress(f"reading {source.path.name}", min(rows.stop, len(source.position)), len(source.position))
    return features


def write_hdf5(
    path: str | os.PathLike[str],
    features: FeatureMap,
    name: str,
    encoder: EncoderIdentity,
    slide_mpp: Mpp | None = None,
    slide_signature: str = "",
) -> Path:
    """Write a map as TRIDENT does, and with CLAM's attributes where patches were not resampled.

    `name` and `slide_signature` are the slide's. The encoder's name and digests stand beside, so that a model is not
    mixed up with features of another. Whole or not at all.
    """
    h5py = _h5py(Path(path))
    patches, instances = features.patches, features.instances()
    rows = np.flatnonzero(features.readable)
    stride = patches.stride if isinstance(patches, PatchGrid) else patches.side
    attributes: dict[str, Any] = {
        "patch_size": patches.patch_px,
        "patch_size_level0": patches.side,
        "overlap": max(0, round((patches.side - stride) * patches.patch_px / patches.side)),
        "level0_width": patches.slide_shape[1],
        "level0_height": patches.slide_shape[0],
        "name": name,
        "savetodir": str(Path(path).parent),
    }
    if slide_mpp is not None:  # magnification is 10 over µm/px, by convention
        mpp = float(np.sqrt(slide_mpp[0] * slide_mpp[1]))
        attributes["mpp"] = mpp
        attributes["level0_magnification"] = round(10 / mpp)
        attributes["target_magnification"] = round(10 / mpp * patches.patch_px / patches.side)
    if patches.side == patches.patch_px:
        attributes |= {"patch_level": 0, "downsample": (1.0, 1.0), "level_dim": patches.slide_shape[::-1]}
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        stored = file.create_dataset("features", (len(rows), features.n_features), "float32")
        for start in range(0, len(rows), ROWS):
            stored[start : start + ROWS] = instances[rows[start : start + ROWS]]
        stored.attrs.update(
            name=name,
            encoder=encoder.name,
            encoder_sha256=encoder.sha256,
            encoder_description_sha256=encoder.description_sha256,
            slide_signature=slide_signature,
        )
        coords = file.create_dataset("coords", data=np.ascontiguousarray(patches.corners[rows, ::-1], np.int64))
        coords.attrs.update(attributes)
    return Path(path)


def is_hdf5_of(path: Path, patches: PatchGrid | PatchPoints, encoder: EncoderIdentity, slide_signature: str) -> bool:
    """Does the file at `path` hold, as `write_hdf5` left it, what would be written now?"""
    if not path.is_file():
        return False
    try:
        there = read_hdf5(path, patches.slide_shape)
        with _opened(path) as file:
            signature = file["features"].attrs.get("slide_signature", "")
    except SlideError:
        return False
    same = (there.encoder.sha256, there.encoder.description_sha256, signature, there.patches.side)
    return same == (encoder.sha256, encoder.description_sha256, slide_signature, patches.side) and np.array_equal(
        there.patches.corners, patches.corners
    )


def check_h5py(path: Path) -> None:
    """`MissingDependencyError` if HDF5 files cannot be written."""
    _h5py(path)


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise MissingDependencyError(
            f"{path}: HDF5 files need h5py: pip install 'napari-distill2label[encoders]'"
        ) from None
    return h5py


def _opened(path: Path) -> Any:
    try:
        return _h5py(path).File(path, "r")
    except OSError as error:
        raise SlideError(f"{path}: is no HDF5 file that can be read ({_reason(error)})") from None


def _datasets(path: Path, file: Any) -> Iterator[Any]:
    """`features` and `coords`, as they are in the file; a leading axis of one slide is allowed."""
    h5py = _h5py(path)
    for name in ("features", "coords"):
        if not isinstance(file.get(name), h5py.Dataset):
            raise SlideError(f"{path}: has no {name!r}: features are kept as `features` (n, D) and `coords` (n, 2)")
    features, coords = file["features"], file["coords"]
    shape = features.shape[1:] if len(features.shape) == 3 and features.shape[0] == 1 else features.shape
    if len(shape) != 2 or features.dtype.kind != "f" or not 1 <= shape[1] <= MOST_FEATURES:
        raise SlideError(f"{path}: `features` is {features.shape} {features.dtype}, not (n, D) of floats")
    if coords.shape != (shape[0], 2) or shape[0] == 0:
        raise SlideError(f"{path}: `coords` is {coords.shape}, not ({shape[0]}, 2) with a patch or more")
    return _Shaped(features, shape), coords


@dataclass(frozen=True)
class _Shaped:
    """A dataset of features and its shape (n, D) without the leading axis that some files have."""

    dataset: Any
    shape: tuple[int, int]

    @property
    def attrs(self) -> Mapping[str, Any]:
        return self.dataset.attrs


def _coords_beside(path: Path) -> dict[str, Any]:
    """Attributes of CLAM's file of patches, which knows what its file of features does not say."""
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        for name in (path.name, f"{path.stem}_patches.h5"):
            beside = folder / "patches" / name
            if beside.is_file() and beside != path:
                with _opened(beside) as file:
                    return dict(file["coords"].attrs) if "coords" in file else {}
    return {}


def _number(attributes: Mapping[str, Any], *names: str) -> float | None:
    """The first of `names` that is there as a positive number."""
    for name in names:
        try:
            value = float(np.ravel(attributes[name])[0])
        except (KeyError, TypeError, ValueError, IndexError):
            continue
        if np.isfinite(value) and value > 0:
            return value
    return None


def _sides(path: Path, attributes: Mapping[str, Any]) -> tuple[int, int]:
    """(level-0, the model's) side of a patch in px."""
    patch_px = _number(attributes, "patch_size", "patch_size_level0")
    side = _number(attributes, "patch_size_level0")
    if side is None and patch_px is not None and (scale := _number(attributes, "downsample")) is not None:
        side = patch_px * scale * (_number(attributes, "custom_downsample") or 1)
    if side is None or patch_px is None:
        raise SlideError(
            f"{path}: does not say how large its patches are (patch_size_level0): put CLAM's file of patches "
            f"into {path.parent / 'patches'}, under the same name"
        )
    return max(1, round(side)), max(1, round(patch_px))


def _shape(attributes: Mapping[str, Any], corners: np.ndarray, side: int) -> tuple[int, int]:
    """(height, width) of the slide."""
    height, width = _number(attributes, "level0_height"), _number(attributes, "level0_width")
    if height is None or width is None:
        try:
            width, height = (float(value) for value in np.ravel(attributes["level_dim"])[:2])
        except (KeyError, TypeError, ValueError):
            height, width = corners.max(0) + side
        else:
            scale = _number(attributes, "downsample") or 1
            height, width = height * scale, width * scale
    return round(height), round(width)


def _patches(
    corners: np.ndarray, side: int, patch_px: int, shape: tuple[int, int], attributes: Mapping[str, Any]
) -> tuple[PatchGrid | PatchPoints, np.ndarray]:
    """A grid where the corners lie on one lattice (as TRIDENT cuts), else points; and the position of each row."""
    overlap = _number(attributes, "overlap") or 0
    steps = np.concatenate([np.diff(np.unique(axis)) for axis in corners.T])
    strides = (side - round(overlap * side / patch_px), int(steps.min()) if len(steps) else side)
    origin = corners.min(0)
    for stride in (stride for stride in strides if stride > 0):
        cells, rest = np.divmod(corners - origin, stride)
        rows, cols = (cells.max(0) + 1).tolist()
        # A lattice that is nearly empty is none: its mask would be larger than the list of its points.
        if rest.any() or rows * cols > SPARSEST * len(cells) or len(np.unique(cells, axis=0)) < len(cells):
            continue
        tissue = np.zeros((rows, cols), bool)
        tissue[tuple(cells.T)] = True
        position = (np.cumsum(tissue).reshape(tissue.shape) - 1)[tuple(cells.T)]
        mask = None if tissue.all() else tissue
        return PatchGrid(shape, side, stride, tuple(origin.tolist()), patch_px, None, rows, cols, mask), position
    return PatchPoints(shape, corners + side // 2, side, patch_px), np.arange(len(corners))


def _encoder(path: Path, attributes: Mapping[str, Any]) -> EncoderIdentity:
    def text(name: str) -> str:
        value = attributes.get(name, "")
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    return EncoderIdentity(
        name=text("encoder") or path.parent.name,
        path=str(path.parent.absolute()),
        sha256=text("encoder_sha256"),
        description_sha256=text("encoder_description_sha256"),
        from_features=True,
    )


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
