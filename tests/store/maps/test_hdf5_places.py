"""Places of patches without features: written as CLAM and TRIDENT write them, read; and ours read back."""

import numpy as np
import pytest

from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.store.maps.hdf5_geometry import Frame
from napari_distill2label.store.maps.hdf5_places import find_places, is_places, places_name, read_places, write_places

h5py = pytest.importorskip("h5py", reason="HDF5 files were NOT tested: h5py is not installed")

TRIDENT = {
    "patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "target_magnification": 20, "overlap": 0,
    "name": "s", "savetodir": "/somewhere", "level0_width": 3000, "level0_height": 2000,
}  # fmt: skip
CLAM = {
    "patch_size": 256, "patch_level": 1, "downsample": np.array([2.0, 2.0]), "level_dim": np.array([1500, 1000]),
    "downsampled_level_dim": np.array([1500, 1000]), "name": "s", "save_path": "/somewhere",
}  # fmt: skip
LATTICE = np.array([(x, y) for x in (512, 1024, 2048) for y in (0, 512)])


def write(path, coords=LATTICE, attributes=TRIDENT, key="coords"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=np.asarray(coords), maxshape=(None, 2) if np.ndim(coords) == 2 else None,
                            chunks=True).attrs.update(attributes)  # fmt: skip
    return path


@pytest.mark.parametrize("attributes", [TRIDENT, CLAM, {"patch_size": 512, "patch_level": 0}])
def test_places_of_others(tmp_path, attributes):
    found = read_places(write(tmp_path / "s.h5", attributes=attributes)).patches
    assert isinstance(found, PatchGrid)
    assert found.side == 512
    assert sorted(found.corners[:, ::-1].tolist()) == sorted(LATTICE.tolist())


@pytest.mark.parametrize(
    ("coords", "attributes", "key", "message"),
    [
        (LATTICE, TRIDENT, "coordinates", r"has no 'coords': places are kept as `coords` \(n, 2\); it holds coordin"),
        (LATTICE[:, :1], TRIDENT, "coords", r"`coords` is \(6, 1\), not \(n, 2\) with a patch or more"),
        (LATTICE[:, 0], TRIDENT, "coords", r"`coords` is \(6,\), not \(n, 2\)"),
        (LATTICE[:0], TRIDENT, "coords", r"`coords` is \(0, 2\), not \(n, 2\)"),
        (LATTICE, {"patch_size": 256}, "coords", "neither 'patch_size_level0' .* nor 'patch_size' and 'downsample'"),
        (LATTICE, {}, "coords", "its attributes are none"),
        (LATTICE, TRIDENT | {"patch_size_level0": 300}, "coords", "patch_size_level0 is 300, but .* makes 512"),
        (LATTICE + 9000, TRIDENT, "coords", "6 of its 6 patches outside the slide"),
        (LATTICE + 0.5, TRIDENT, "coords", "no whole pixels"),
    ],
)
def test_what_is_wrong_is_said_with_what_was_expected(tmp_path, coords, attributes, key, message):
    if not len(coords):
        with h5py.File(tmp_path / "s.h5", "w") as file:
            file.create_dataset("coords", data=coords)
    else:
        write(tmp_path / "s.h5", coords, attributes, key)
    with pytest.raises(SlideError, match=rf"s\.h5: .*{message}"):
        read_places(tmp_path / "s.h5")


@pytest.mark.parametrize("origin", [(0, 0), (300, 500)])
def test_ours_come_back(tmp_path, origin):
    grid = PatchGrid.over((2000, 3000), PatchSettings(size_px=256, stride_px=200, mpp=0.5), (0.25, 0.25))
    grid = grid.with_tissue(np.random.default_rng(0).random(grid.shape) < 0.6)
    centres = np.random.default_rng(1).integers(100, 1900, (40, 2))
    boxes = PatchPoints((2000, 3000), centres, 99, 99, boxes=True)
    frame = Frame((2000, 3000), origin, (2600, 4000), (0.25, 0.25))
    for patches in (grid, boxes):
        path = write_places(tmp_path / "s_patches.h5", patches, "s", (0.25, 0.25), frame)
        found = read_places(path, frame).patches
        assert type(found) is type(patches)
        assert found.corners.tolist() == patches.corners.tolist()
        assert (found.side, found.patch_px) == (patches.side, patches.patch_px)
        with h5py.File(path) as file:
            assert list(file) == ["coords"]
            assert file["coords"].attrs["patch_size_level0"] == patches.side


def test_files_are_named_after_slides(tmp_path):
    (tmp_path / "a.geojson").touch()
    assert not is_places(tmp_path)
    trident = write(tmp_path / "patches" / "s_patches.h5")
    assert is_places(tmp_path)
    assert is_places(trident)
    assert places_name(trident) == "s"
    assert find_places(tmp_path, "s") == find_places(trident, "s") == trident
    with pytest.raises(SlideError, match="has no places of the slide"):
        find_places(trident, "t")
    write(tmp_path / "s.h5")
    with pytest.raises(SlideError, match="are both of slide"):
        find_places(tmp_path, "s")
