"""Features of a frozen encoder for one slide, computed once, saved in zarr and filled block by block.

On disk they are one array without gaps, a row per scored patch, in a single uncompressed chunk: a bag of 100,000 rows
is mapped into memory instead of read.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from pydantic import BaseModel, ConfigDict

from ...core.errors import BundleError
from ...core.foreign_files import read_file
from ...core.geometry import Block, PatchGrid, PatchPoints
from ...core.inputs import FEATURE_DTYPES
from ...core.messages import Remedy
from ..files.atomic import discard
from ..files.own_groups import FEATURE_MAP, MAX_BYTES, is_own_group
from .zarr_group import (
    check_array,
    create_group,
    digest_of,
    first_line_of,
    has_same_array,
    open_group,
    open_patches,
    patch_array,
    to_plain_json,
)

VERSION = 2
ROWS_AT_ONCE = 4096  # checked or imported at once
MISSING, UNREADABLE = 0, 2**32 - 1  # in place of a row's checksum
# A feature whose square, summed over any slide, is a float32; those of encoders are below 1e4. It is no float16, and
# features of two bytes are compared with it too.
MAX_VALUE = np.float32(1e12)
SAME_SCALE = 1.3  # between the patches of two slides: scanners of one nominal magnification differ by a fifth


class FeatureOrigin(BaseModel):
    """The origin of features, as far as it is known; None is not compared.

    Attributes
    ----------
    encoder
        Its name, in the file of features.
    patch_px
        Side of a patch as the encoder saw it.
    magnification
        Of such a patch.
    mpp
        µm/px of such a patch, from the slide's own µm/px where that is known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    encoder: str | None = None
    patch_px: int | None = None
    magnification: float | None = None
    mpp: float | None = None

    def contradiction(self, other: "FeatureOrigin") -> str | None:
        """Describe a difference from `other`: the attribute and both values. None if there is none."""
        for name, own, its in (
            ("encoder", self.encoder, other.encoder),
            ("patch_size", self.patch_px, other.patch_px),
        ):
            if own is not None and its is not None and own != its:
                return f"{name} is {_format(its)}, not {_format(own)}"
        if _scales_differ(self.magnification, other.magnification):
            return f"target_magnification is {other.magnification:g}, not {self.magnification:g}"
        if _scales_differ(self.mpp, other.mpp):
            return f"its patches have {other.mpp:.3g} µm/px (patch_size_level0), not {self.mpp:.3g}"
        return None

    def completed_by(self, other: "FeatureOrigin") -> "FeatureOrigin":
        """Return a copy whose unknown fields are those of `other`."""
        return FeatureOrigin(**(other.model_dump(exclude_none=True) | self.model_dump(exclude_none=True)))


def _scales_differ(one: float | None, other: float | None) -> bool:
    """Whether two scales differ more than scanners of one nominal magnification do."""
    if not one or not other:
        return False
    return not 1 / SAME_SCALE <= one / other <= SAME_SCALE


def _format(value: str | float) -> str:
    return repr(value) if isinstance(value, str) else f"{value:g}"


class EncoderIdentity(BaseModel):
    """The frozen encoder whose features a model was trained on. Its file lies elsewhere.

    `sha256` is of the file; `description_sha256` is of the part of its JSON that decides how pixels become features.
    With `from_features`, `path` is a folder of features that came without the encoder, unknown digests are empty, and
    `origin` holds what the features' files state.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    path: str
    sha256: str
    description_sha256: str = ""
    from_features: bool = False
    origin: FeatureOrigin = FeatureOrigin()

    def is_same(self, other: "EncoderIdentity") -> bool:
        """Whether both give the same features for the same patch. Unknown fields are not compared."""
        pairs = ((self.sha256, other.sha256), (self.description_sha256, other.description_sha256))
        return all(own == its for own, its in pairs if own and its)


def _type_in(array: Any, shape: tuple[int, int]) -> "np.dtype[Any]":
    """Return the type of the features (K, D) on disk.

    Raise `ValueError` unless zarr finds them where this program reads them: in one plain file.
    """
    plain = isinstance(array, zarr.Array) and array.shape == shape and str(array.dtype) in FEATURE_DTYPES
    if not plain or array.chunks != (max(1, shape[0]), shape[1]) or array.compressors:
        raise ValueError("the description of its features is of another array")
    return np.dtype(str(array.dtype)).newbyteorder("<")


class FeatureMap:
    """A zarr group with `features` (K, D) float32 or float16, a row per scored patch in the order of `patches.corners`.

    `checksum` (K,) is a row's CRC-32, or `MISSING` where it is not computed yet, or `UNREADABLE` where the slide is
    damaged. Such rows are computed again if possible, and left out otherwise (`readable`). `identity` names the slide's
    signature and the encoder; a map of another identity or of other patches is never resumed.
    """

    def __init__(self, path: Path, group: zarr.Group, patches: PatchGrid | PatchPoints) -> None:
        self.path, self.patches = path, patches
        attributes: dict[str, Any] = group.attrs.asdict()
        self.replaced = False  # whether this map replaced one of something else
        self.identity: dict[str, str] = attributes["identity"]
        self.n_features: int = attributes["features"]
        if type(self.n_features) is not int or self.n_features < 1:
            raise ValueError(f"{self.n_features!r} features")
        if not isinstance(self.identity, dict) or not all(isinstance(value, str) for value in self.identity.values()):
            raise ValueError("an identity that is none")
        self._group = group
        self._checksum = check_array(group["checksum"], (int(patches.scored.sum()),), np.dtype(np.uint32), MISSING)
        self._sums = np.asarray(self._checksum[...])
        self._missing = int((self._sums == MISSING).sum())
        self._is_signed = "digest" in attributes
        self.dtype = _type_in(group["features"], (len(self._sums), self.n_features))
        size = len(self._sums) * self._row_size
        if not self._file.is_file() or self._file.stat().st_size != size:
            raise ValueError("the file of its features is of another size")
        scored = patches.scored
        self._row = np.cumsum(scored).reshape(scored.shape) - 1  # of each scored patch

    @property
    def _file(self) -> Path:
        return self.path / "features" / "c" / "0" / "0"  # where zarr has the only chunk

    @property
    def _row_size(self) -> int:
        return self.n_features * self.dtype.itemsize  # bytes

    @classmethod
    def open_or_create(
        cls,
        path: str | os.PathLike[str],
        patches: PatchGrid | PatchPoints,
        n_features: int,
        identity: Mapping[str, Any],
        dtype: str = "float32",
    ) -> "FeatureMap":
        """Resume the map at `path` if it is of the same patches and identity, else start a new one of `dtype`.

        Rows that were damaged since they were written count as not computed. A map that is resumed keeps its numbers.
        """
        path, about = Path(path), _attributes_of(patches, n_features, identity)
        is_there = (path / "zarr.json").is_file()
        if is_there and (kept := cls._open_matching(path, about, patches)):
            kept.drop_damaged()
            if kept.is_complete and not kept._is_signed:  # a kill came between the last checksums and the digest
                kept._sign(kept._digest())
            return kept
        if path.is_file() or (path.is_dir() and not is_own_group(path)):
            raise BundleError(f"{path}: is no feature map and is left alone; give another folder")
        if path.is_dir():
            discard(path)
        rows = int(patches.scored.sum())
        group = create_group(path, FEATURE_MAP)
        group.create_array(
            "features",
            shape=(rows, n_features),
            chunks=(max(1, rows), n_features),
            dtype=dtype,
            compressors=None,
            fill_value=float("nan"),
        )
        group.create_array("checksum", shape=(rows,), chunks=(max(1, min(rows, 2**16)),), dtype="uint32", fill_value=0)
        name, array = patch_array(patches)
        if array is not None:
            group.create_array(name, data=array)
        file = path / "features" / "c" / "0" / "0"
        file.parent.mkdir(parents=True)
        with file.open("wb") as empty:
            empty.truncate(rows * n_features * np.dtype(dtype).itemsize)
        group.attrs.update(about)  # last: without them it is no feature map
        made = cls(path, group, patches)
        made.replaced = is_there
        return made

    @classmethod
    def open_complete(
        cls,
        path: str | os.PathLike[str],
        patches: PatchGrid | PatchPoints,
        n_features: int,
        identity: Mapping[str, Any],
    ) -> "FeatureMap | None":
        """Open the map at `path` if it is complete and of the same patches and identity. Nothing is changed."""
        path = Path(path)
        kept = (
            cls._open_matching(path, _attributes_of(patches, n_features, identity), patches) if path.is_dir() else None
        )
        return kept if kept is not None and kept._intact().all() else None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "FeatureMap":
        """Open a complete map for reading. `BundleError` if it is no map, incomplete or damaged."""
        path = Path(path)
        try:
            group = open_group(path, "r")
            attributes = group.attrs.asdict()
            if attributes.get("kind") != FEATURE_MAP or attributes.get("version") != VERSION:
                raise ValueError("of another kind or version")
            found = cls(path, group, open_patches(path, group, attributes))
            if found._is_signed and attributes["digest"] != found._digest():
                raise ValueError("it was altered since it was written")
        except Exception as error:  # noqa: BLE001 · raised again: zarr raises whatever its parsers raise
            raise BundleError(f"{path}: is no feature map that can be read ({first_line_of(error)})") from None
        if missing := len(found) - int((found._intact() | (found._sums == UNREADABLE)).sum()):
            raise BundleError(
                f"{missing} of the {len(found)} patches have no features, or damaged ones. They can be computed again.",
                file=path,
                remedy=Remedy("choose", "inputs.encoder"),
            )
        return found

    @classmethod
    def _open_matching(cls, path: Path, about: dict[str, Any], patches: PatchGrid | PatchPoints) -> "FeatureMap | None":
        """Open the map at `path` if it is of this identity and these patches; else None, also if it cannot be read."""
        try:
            group = open_group(path, "r+")
            attributes = group.attrs.asdict()
            if _what_is_seen(attributes) != _what_is_seen(about):
                return None
            kept = open_patches(path, group, attributes)
            return cls(path, group, kept) if has_same_array(patches, kept) else None
        except Exception:  # noqa: BLE001  zarr raises whatever its parsers raise; what is damaged is computed again
            return None

    def __len__(self) -> int:
        return len(self._sums)

    @property
    def signature(self) -> str:
        """The signature of a complete map. It changes when any of its features does."""
        return f"features-{hashlib.sha256(self._sums.tobytes()).hexdigest()[:16]}"

    @property
    def is_complete(self) -> bool:
        """Whether every row is computed or unreadable."""
        return self._missing == 0

    @property
    def readable(self) -> np.ndarray:
        """(K,) bool: rows that hold features."""
        readable: np.ndarray = (self._sums != MISSING) & (self._sums != UNREADABLE)
        return readable

    def is_done(self, block: Block) -> bool:
        return bool(self.readable[self._rows(block)].all())

    def fail(self, block: Block, boxes: tuple[tuple[int, int, int, int], ...] = ()) -> None:
        """Mark the block's patches as unreadable: the slide is damaged there."""
        self._mark(self._rows(block), UNREADABLE)

    def _rows(self, block: Block) -> np.ndarray:
        rows: np.ndarray = self._row[block.window][block.scored]
        return rows

    def write(self, block: Block, features: np.ndarray) -> None:
        """Write the (n, D) features of a block's patches."""
        self.write_rows(self._rows(block), features)

    def write_rows(self, rows: np.ndarray, features: np.ndarray) -> None:
        """Write features (n, D) to `rows` (n,). `OSError` if the disk is full; rows written before stay valid."""
        if not are_features(features):
            raise BundleError(
                f"{self.path}: the encoder gave numbers that are not finite, or too large: is it the right file?"
            )
        with np.errstate(over="ignore"):
            features = np.ascontiguousarray(features, self.dtype)
        if not are_features(features):
            raise BundleError(f"{self.path}: the encoder gave numbers that are too large for {self.dtype.name}")
        ends = np.flatnonzero(np.diff(rows) != 1) + 1  # of spans of consecutive rows
        with self._file.open("r+b") as file:  # not the memory map: there a full disk ends the process
            for start, end in zip([0, *ends], [*ends, len(rows)], strict=True):
                file.seek(int(rows[start]) * self._row_size)
                file.write(features[start:end].data)
        self._mark(rows, _sums(features))

    def _mark(self, rows: np.ndarray, sums: np.ndarray | int) -> None:
        """Store the checksums of `rows`, and sign the map when none is missing any more."""
        if self._is_signed:  # the signature will not be valid any more
            self._sign(None)
        self._missing -= int((self._sums[rows] == MISSING).sum())
        self._sums[rows] = sums
        self._missing += int((self._sums[rows] == MISSING).sum())
        if len(rows):
            span = slice(int(rows.min()), int(rows.max()) + 1)
            self._checksum[span] = self._sums[span]
        if self.is_complete:
            self._sign(self._digest())

    def _digest(self) -> str:
        """Return the digest of everything but the features, which have their own checksums."""
        return digest_of(self._group.attrs.asdict(), patch_array(self.patches)[1], self._sums)

    def _sign(self, digest: str | None) -> None:
        attributes = {key: value for key, value in self._group.attrs.asdict().items() if key != "digest"}
        self._group.attrs.put(attributes if digest is None else attributes | {"digest": digest})
        self._is_signed = digest is not None

    def _intact(self) -> np.ndarray:
        """(K,) bool: rows that are computed, and as they were written."""
        instances = self.instances()
        good = self.readable
        for start in range(0, len(self), ROWS_AT_ONCE):
            piece = slice(start, start + ROWS_AT_ONCE)
            rows = np.asarray(instances[piece])
            good[piece] &= _sums(rows) == self._sums[piece]
            if not are_features(rows[good[piece]]):
                good[piece] &= (np.abs(rows) <= MAX_VALUE).all(1)
        return good

    def drop_damaged(self) -> None:
        """Mark rows that differ from what was written as not computed."""
        if len(damaged := np.flatnonzero(self.readable & ~self._intact())):
            self._mark(damaged, MISSING)

    def instances(self) -> np.ndarray:
        """(K, D) of `dtype`, the scored patches in the order of `patches.corners`; mapped from the file, not read."""
        return np.memmap(self._file, self.dtype, "c", shape=(len(self), self.n_features))

    def readable_in(self, block: Block) -> np.ndarray:
        """(n,) bool: which of a block's patches have features."""
        readable: np.ndarray = self.readable[self._rows(block)]
        return readable

    def read(self, block: Block) -> np.ndarray:
        """(n, D) features of a block's patches, of `dtype`."""
        return np.asarray(self.instances()[self._rows(block)])


def signature_in(path: Path) -> str | None:
    """Return the slide's signature that a map names, without opening the map; None if it names none."""
    try:
        found = json.loads(read_file(path / "zarr.json", MAX_BYTES))["attributes"]["identity"]["slide"]
        return found if isinstance(found, str) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def are_features(values: np.ndarray) -> bool:
    """Whether all values are finite and small enough to compute with in float32."""
    return bool((np.abs(values) <= MAX_VALUE).all())  # NaN is not


def _attributes_of(patches: PatchGrid | PatchPoints, n_features: int, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a map."""
    about = {"kind": FEATURE_MAP, "version": VERSION, "patches": patches.to_json()}
    attributes: dict[str, Any] = to_plain_json({**about, "identity": dict(identity), "features": n_features})
    return attributes


def _what_is_seen(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes without what changes no feature: the digest, and the scale of patches that are not resampled.

    A training cuts such patches in pixels. The model that comes of it has the µm/px of its slides.
    """
    seen = {key: value for key, value in attributes.items() if key != "digest"}
    patches = dict(seen["patches"])
    if patches["side"] == patches["patch_px"]:
        patches["mpp"] = None
    return {**seen, "patches": patches}


def _sums(rows: np.ndarray) -> np.ndarray:
    """(n,) uint32 CRC-32 of rows (n, D), never `MISSING` or `UNREADABLE`."""
    rows = np.ascontiguousarray(rows)
    return np.array([zlib.crc32(row) for row in rows], np.uint32).clip(1, UNREADABLE - 1)
