"""CLAM's and TRIDENT's files of features: written by hand as those tools write them, read; and ours read back."""

import numpy as np
import pytest

from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.store.maps.feature_map import EncoderIdentity, FeatureMap
from napari_distill2label.store.maps.hdf5 import find_hdf5, import_hdf5, is_hdf5_of, read_hdf5, write_hdf5
from napari_distill2label.store.maps.hdf5_geometry import Frame

h5py = pytest.importorskip("h5py", reason="HDF5 files were NOT tested: h5py is not installed")

ENCODER = EncoderIdentity(name="tiny", path="/tiny.onnx", sha256="a1", description_sha256="b2")
# What TRIDENT says of 256 px patches at 20× of a 40× slide (trident/IO.py: coords_to_h5).
TRIDENT = {
    "patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "target_magnification": 20, "overlap": 0,
    "name": "s", "savetodir": "/somewhere", "level0_width": 3000, "level0_height": 2000,
}  # fmt: skip


def write(path, coords, attributes=(), features=None, dtype="float32"):
    """As TRIDENT's save_h5: a chunk per row, attributes on `coords`."""
    coords = np.asarray(coords)
    features = features_of(coords) if features is None else features
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=features.astype(dtype), chunks=(1, *features.shape[1:]))
        file.create_dataset("coords", data=coords).attrs.update(dict(attributes))
    return path


def features_of(coords):
    """(n, 4) that tell which patch they are of."""
    x, y = np.asarray(coords, np.float32).T
    return np.stack([x, y, x - y, np.ones_like(x)], 1)


def imported(path, tmp_path, shape=None):
    """(patches, features, features that are expected of those patches)."""
    features = drain(import_hdf5(read_hdf5(path, Frame(shape)), tmp_path / "cache" / "s.zarr"))
    return features.patches, np.asarray(features.instances()), features_of(features.patches.corners[:, ::-1])


def test_tridents_lattice_is_a_grid_in_any_order(tmp_path):
    cells = [(x, y) for x in (1, 2, 4) for y in (0, 1)] + [(0, 3)]  # TRIDENT goes column by column
    path = write(tmp_path / "s.h5", np.array(cells) * 512, TRIDENT)
    patches, found, expected = imported(path, tmp_path)
    assert isinstance(patches, PatchGrid)
    assert (patches.side, patches.stride, patches.patch_px, patches.slide_shape) == (512, 512, 256, (2000, 3000))
    assert (patches.rows, patches.cols, int(patches.scored.sum())) == (4, 5, 7)
    np.testing.assert_array_equal(found, expected)


def test_overlapping_patches_and_half_precision(tmp_path):
    coords = np.array([(x, y) for y in range(0, 600, 192) for x in range(64, 900, 192)])
    path = write(
        tmp_path / "s.h5",
        coords,
        TRIDENT | {"patch_size_level0": 256, "level0_magnification": 20, "overlap": 64},
        dtype="float16",
    )
    patches, found, expected = imported(path, tmp_path)
    assert (patches.side, patches.stride, patches.origin) == (256, 192, (0, 64))
    np.testing.assert_array_equal(found, expected)


def test_clams_patches_of_several_contours_are_points_and_their_side_is_in_the_file_beside(tmp_path):
    coords = [(13, 7), (269, 7), (1001, 531), (1257, 531), (1001, 787)]  # two contours, each with its own lattice
    path = write(tmp_path / "feats" / "h5_files" / "s.h5", coords)
    with pytest.raises(SlideError, match="does not say how large its patches are"):
        read_hdf5(path)
    about = {"patch_size": 128, "patch_level": 1, "downsample": (2.0, 2.0), "level_dim": (2000, 1500)}
    with h5py.File(write(tmp_path / "patches" / "s.h5", coords, about), "a") as file:
        del file["features"]
    patches, found, expected = imported(path, tmp_path)
    assert isinstance(patches, PatchPoints)
    assert (patches.side, patches.patch_px, patches.slide_shape) == (256, 128, (3000, 4000))
    np.testing.assert_array_equal(patches.corners, np.array(coords)[:, ::-1])
    np.testing.assert_array_equal(found, expected)


def test_files_are_found_where_the_tools_put_them(tmp_path):
    assert find_hdf5(tmp_path, "s") is None
    here = write(tmp_path / "s.h5", [(0, 0)])
    clam = write(tmp_path / "h5_files" / "t.h5", [(0, 0)])
    assert find_hdf5(tmp_path, "s") == here
    assert find_hdf5(tmp_path, "t") == clam
    assert find_hdf5(tmp_path / "h5_files", "../s") is None  # an id names no file elsewhere


def test_one_patch_and_a_leading_axis(tmp_path):
    coords = np.array([(700, 800)])
    path = write(tmp_path / "s.h5", coords, TRIDENT, features=features_of(coords)[None])
    patches, found, expected = imported(path, tmp_path)
    assert patches.shape == (1, 1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("text", "is no HDF5 file"),
        ("cut", "is no HDF5 file"),
        ("no coords", "has no 'coords'"),
        ("short", r"`coords` is \(2, 2\), not \(3, 2\)"),
        ("empty", "with a patch or more"),
        ("bytes", "not \\(n, D\\) of floats"),
        ("nan", "not finite"),
        ("outside", "patches outside the slide"),
        ("no size", "does not say how large"),
        ("nonsense", "its attribute 'patch_size_level0' is 'wide', not a number"),
        ("not said", "does not say how large"),
        ("huge", "not finite, or too large"),
    ],
)
def test_what_cannot_be_used_is_one_line_that_names_the_file(tmp_path, damage, said):
    coords = np.array([(0, 0), (512, 0), (0, 512)])
    features, attributes, path = features_of(coords), dict(TRIDENT), tmp_path / "s.h5"
    if damage == "nan":
        features[1, 2] = np.nan
    elif damage == "outside":
        coords[2] = 5000
    elif damage == "no size":
        attributes = {}
    elif damage == "nonsense":
        attributes |= {"patch_size_level0": "wide"}
    elif damage == "not said":
        attributes |= {"patch_size_level0": "None", "level0_magnification": -1}
    elif damage == "huge":
        features[1, 2] = 1e38
    elif damage == "bytes":
        features = features.astype(np.int8)
    elif damage == "empty":
        features, coords = features[:0].reshape(0, 4), coords[:0]
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=features)
        if damage != "no coords":
            file.create_dataset("coords", data=coords[: 2 if damage == "short" else None]).attrs.update(attributes)
    if damage == "text":
        path.write_text("features")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(SlideError, match=said) as error:
        imported(path, tmp_path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("kind", ["grid", "tissue", "points", "resampled"])
def test_ours_read_back_and_as_the_others_would(tmp_path, kind):
    shape = (400, 500)
    settings = PatchSettings(size_px=32, mpp=0.5 if kind == "resampled" else None)
    if kind == "points":
        patches = PatchPoints.at(np.random.default_rng(0).uniform(0, 399, (17, 2)), shape, settings)
    else:
        patches = PatchGrid.over(shape, settings, (0.25, 0.25))
        if kind == "tissue":
            patches = patches.with_tissue(np.arange(patches.rows * patches.cols).reshape(patches.shape) % 4 == 1)
    features = FeatureMap.open_or_create(tmp_path / "f.zarr", patches, 4, {})
    for block in patches.blocks(50):
        features.write(block, features_of(block.corners[:, ::-1]))
    path = write_hdf5(tmp_path / "s.h5", features, "s", ENCODER, (0.25, 0.25), "12-34")
    with h5py.File(path) as file:  # what TRIDENT and CLAM look at
        about = dict(file["coords"].attrs)
        np.testing.assert_array_equal(file["coords"][...], patches.corners[:, ::-1])
        np.testing.assert_array_equal(file["features"][...], features.instances())
        assert (file["coords"].dtype, file["features"].dtype) == (np.int64, np.float32)
    assert (about["patch_size"], about["patch_size_level0"]) == (32, 64 if kind == "resampled" else 32)
    assert (about["level0_width"], about["level0_height"], about["name"]) == (500, 400, "s")
    assert (about["level0_magnification"], about["target_magnification"]) == (40, 20 if kind == "resampled" else 40)
    assert ("patch_level" in about) == (kind != "resampled")  # CLAM knows no patches that are resampled
    found, instances, expected = imported(path, tmp_path)
    np.testing.assert_array_equal(instances, expected)
    assert len(instances) == len(patches.corners)
    assert found.slide_shape == shape
    assert type(found) is type(patches)
    assert read_hdf5(path).encoder.sha256 == "a1"
    assert is_hdf5_of(path, patches, ENCODER, "12-34")
    assert not is_hdf5_of(path, patches, ENCODER, "12-35")
    assert not is_hdf5_of(path, patches, ENCODER.model_copy(update={"sha256": "c"}), "12-34")


def test_a_file_is_imported_once_until_it_changes(tmp_path):
    path = write(tmp_path / "s.h5", [(0, 0), (512, 0)], TRIDENT)
    assert len(list(import_hdf5(read_hdf5(path), tmp_path / "c.zarr"))) == 1
    assert list(import_hdf5(read_hdf5(path), tmp_path / "c.zarr")) == []
    write(path, [(0, 0), (512, 0), (1024, 0)], TRIDENT)
    features = drain(import_hdf5(read_hdf5(path), tmp_path / "c.zarr"))
    assert len(features) == 3


def test_positions_count_from_the_corner_of_the_canvas_and_ours_from_the_scanned_areas(tmp_path):
    """CLAM and TRIDENT see what OpenSlide sees; our level 0 is the area that was scanned (QuPath's)."""
    frame = Frame((2000, 3000), (5000, 700), (9000, 8000), (0.25, 0.25))
    cells = np.array([(x, y) for y in range(3) for x in range(4)]) * 512 + (700, 5000)
    canvas = TRIDENT | {"level0_width": 8000, "level0_height": 9000}
    found = read_hdf5(write(tmp_path / "s.h5", cells, canvas), frame)
    np.testing.assert_array_equal(found.patches.corners[0], (0, 0))
    np.testing.assert_array_equal(found.patches.corners[-1], (1024, 1536))
    assert found.patches.slide_shape == (2000, 3000)
    assert found.n_outside == 0
    with pytest.raises(SlideError, match="level0_width × level0_height is 3000 × 2000, but the slide is 8000 × 9000"):
        read_hdf5(write(tmp_path / "s.h5", cells, TRIDENT), frame)
    # What lies on the canvas and not in the scanned area is no part of our slide: left out, and counted.
    more = np.concatenate([[(0, 0), (512, 0)], cells])
    source = read_hdf5(write(tmp_path / "s.h5", more, canvas), frame)
    assert source.n_outside == 2
    features = drain(import_hdf5(source, tmp_path / "c.zarr"))
    np.testing.assert_array_equal(features.instances(), features_of(cells))
    # And back: what we write is in the canvas's frame again, and is read as what it was.
    path = write_hdf5(tmp_path / "ours.h5", features, "s", ENCODER, (0.25, 0.25), "1-2", frame)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["coords"][...], cells)
        assert (file["coords"].attrs["level0_width"], file["coords"].attrs["level0_height"]) == (8000, 9000)
    again = read_hdf5(path, frame)
    np.testing.assert_array_equal(again.patches.corners, features.patches.corners)
    assert is_hdf5_of(path, features.patches, ENCODER, "1-2", frame)


def test_tiles_off_a_lattice_have_boxes_and_points_have_none(tmp_path):
    off = [(13, 7), (525, 7), (1001, 531)]
    about = {key: value for key, value in TRIDENT.items() if key != "overlap"}
    assert read_hdf5(write(tmp_path / "s.h5", off, about)).patches.boxes
    assert not read_hdf5(write(tmp_path / "s.h5", off, about | {"layout": "points"})).patches.boxes
    assert isinstance(
        read_hdf5(write(tmp_path / "s.h5", [(0, 0), (512, 0)], about | {"layout": "points"})).patches, PatchPoints
    )


def test_what_a_file_says_of_its_features_is_known(tmp_path):
    path = write(tmp_path / "s.h5", [(0, 0), (512, 0)], TRIDENT)
    origin = read_hdf5(path, Frame((2000, 3000), mpp=(0.25, 0.25))).encoder.origin
    assert (origin.encoder, origin.patch_px, origin.magnification, origin.mpp) == (None, 256, 20, 0.5)
    with h5py.File(path, "a") as file:
        file["features"].attrs["encoder"] = "uni_v1"
    assert read_hdf5(path).encoder.origin.encoder == "uni_v1"
    assert read_hdf5(path).encoder.origin.mpp is None


def test_a_file_of_an_earlier_version_of_ours_is_read(tmp_path):
    """It said overlap=0 of points, which overlap as it happens."""
    path = write(
        tmp_path / "s.h5", [(0, 0), (100, 0), (37, 90)], TRIDENT | {"patch_size": 512, "target_magnification": 40}
    )
    with pytest.raises(SlideError, match="overlap is 0"):
        read_hdf5(path)
    with h5py.File(path, "a") as file:
        file["features"].attrs["slide_signature"] = "1-2"
    assert not read_hdf5(path).patches.boxes


def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(tmp_path, small_disk):
    """HDF5 itself ends in a segmentation fault when it closes a file that does not fit."""
    patches = PatchGrid.over((3200, 3200), PatchSettings(size_px=32))
    features = FeatureMap.open_or_create(tmp_path / "f.zarr", patches, 64, {})
    for block in patches.blocks(4096):
        features.write(block, np.tile(features_of(block.corners[:, ::-1]), 16))
    for room in (0, 1000, 100_000, 1_000_000):
        folder = small_disk(room)
        with pytest.raises(OSError, match="No space left"):
            write_hdf5(folder / "s.h5", features, "s", ENCODER)
        assert [path.name for path in folder.iterdir() if path.name != "filling"] == []
    assert read_hdf5(write_hdf5(tmp_path / "s.h5", features, "s", ENCODER)).n_features == 64


def test_our_own_files_are_checked_too(tmp_path):
    patches = PatchGrid.over((400, 500), PatchSettings(size_px=32, mpp=0.5, stride_px=25), (0.25, 0.25))
    features = FeatureMap.open_or_create(tmp_path / "f.zarr", patches, 4, {})
    for block in patches.blocks(50):
        features.write(block, features_of(block.corners[:, ::-1]))
    path = write_hdf5(tmp_path / "s.h5", features, "s", ENCODER, (0.25, 0.25), "12-34")
    assert read_hdf5(path).patches.stride == 50
    with h5py.File(path, "a") as file:
        file["coords"][...] //= 2
    with pytest.raises(SlideError, match=r"overlap is 7, .* lie 50 apart, but coords lie 25 px apart"):
        read_hdf5(path)
    with h5py.File(path, "a") as file:
        file["coords"].attrs["target_magnification"] = 40
    with pytest.raises(SlideError, match="target_magnification 40 of level0_magnification 40 makes 32"):
        read_hdf5(path)
