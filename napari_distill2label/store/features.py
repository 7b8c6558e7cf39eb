"""Features of a frozen encoder over one slide, kept in zarr and filled block by block: they are computed once."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ..core.errors import BundleError
from ..core.geometry import Block, PatchGrid, PatchPoints
from .patchmap_files import open_patches, patch_array, plain

KIND = "feature-map"
CHUNK_VALUES = 2**20  # values per chunk, whatever the number of features


class FeatureMap:
    """A zarr group with `features` of `patches.shape` + (D,), float32, NaN where not computed.

    `identity` says what the features are of (slide signature, encoder); a map of another identity or other patches
    is never reused.
    """

    def __init__(self, group: zarr.Group, patches: PatchGrid | PatchPoints) -> None:
        self.patches = patches
        self._features = group["features"]
        # The first feature of a patch is finite once the patch is done.
        self._done = np.isfinite(np.asarray(self._features[..., 0]))

    @classmethod
    def at(
        cls,
        path: str | os.PathLike[str],
        patches: PatchGrid | PatchPoints,
        n_features: int,
        identity: Mapping[str, Any],
    ) -> "FeatureMap":
        """Go on with the map at `path` if it is of the same patches and identity, else start it anew."""
        about = plain({"kind": KIND, "patches": patches.to_json(), "identity": dict(identity)})
        name, array = patch_array(patches)
        path = Path(path)
        if (path / "zarr.json").is_file() and (kept := cls._kept(path, about, patches)):
            return kept
        if path.is_file() or (path.is_dir() and not (path / "zarr.json").is_file() and any(path.iterdir())):
            raise BundleError(f"{path}: is no feature map and is left alone; give another folder")
        group = zarr.open_group(zarr.storage.LocalStore(path), mode="w", zarr_format=3)
        per_chunk = max(1, CHUNK_VALUES // n_features)
        edge = max(1, int(np.sqrt(per_chunk))) if len(patches.shape) == 2 else per_chunk
        group.create_array(
            "features",
            shape=(*patches.shape, n_features),
            chunks=(*(max(1, min(edge, size)) for size in patches.shape), n_features),
            dtype="float32",
            fill_value=float("nan"),
        )
        if array is not None:
            group.create_array(name, data=array)
        group.attrs.update(about)
        return cls(group, patches)

    @classmethod
    def _kept(cls, path: Path, about: dict[str, Any], patches: PatchGrid | PatchPoints) -> "FeatureMap | None":
        """The map at `path` if it is of this very identity and these patches; None too if it is damaged."""
        try:
            group = zarr.open_group(zarr.storage.LocalStore(path), mode="r+", zarr_format=3)
            attributes = group.attrs.asdict()
            if attributes != about:
                return None
            own, kept = patch_array(patches)[1], patch_array(open_patches(path, group, attributes))[1]
            same = (own is None) == (kept is None) and (own is None or np.array_equal(own, kept))
            return cls(group, patches) if same else None
        except Exception:  # noqa: BLE001  zarr raises whatever its parsers raise; what is damaged is computed again
            return None

    def is_done(self, block: Block) -> bool:
        return bool(self._done[block.window][block.scored].all())

    def write(self, block: Block, features: np.ndarray) -> None:
        """Keep the (n, D) features of a block's patches."""
        window = np.full((*block.scored.shape, features.shape[1]), np.nan, np.float32)
        window[block.scored] = features
        self._features[block.window] = window
        self._done[block.window] |= block.scored

    def instances(self) -> np.ndarray:
        """(K, D) float32 of the scored patches, in the order of `patches.corners`."""
        return np.asarray(self._features[...])[self.patches.scored]
