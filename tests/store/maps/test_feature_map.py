"""The map of features: filled block by block, mapped into memory, and never trusted blindly."""

import json

import numpy as np
import pytest
import zarr

from napari_distill2label.core.errors import BundleError
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.store.maps.feature_map import EncoderIdentity, FeatureMap, FeatureOrigin

D = 5
ABOUT = {"slide": "1-2", "encoder": "abc"}


def patches_of(kind):
    if kind == "points":
        centres = np.random.default_rng(0).uniform(0, 99, (23, 2))
        return PatchPoints.at(centres, (100, 120), PatchSettings(size_px=15))
    grid = PatchGrid.over((100, 120), PatchSettings(size_px=15))
    return grid.with_tissue(np.arange(grid.rows * grid.cols).reshape(grid.shape) % 3 > 0) if kind == "tissue" else grid


def features_at(corners):
    """Features that tell which patch they are of."""
    return np.sin(np.asarray(corners, np.float32).sum(1, keepdims=True) + np.arange(D) * 9).astype(np.float32)


def filled(path, patches, per_block=7, until=None):
    features = FeatureMap.open_or_create(path, patches, D, ABOUT)
    for number, block in enumerate(patches.blocks(per_block)):
        if number == until:
            break
        features.write(block, features_at(block.corners))
    return features


@pytest.mark.parametrize("kind", ["grid", "tissue", "points"])
@pytest.mark.parametrize("per_block", [1, 7, 1000])
def test_instances_are_in_the_order_of_the_patches_whatever_the_blocks(tmp_path, kind, per_block):
    patches = patches_of(kind)
    features = filled(tmp_path / "f.zarr", patches, per_block)
    assert features.is_complete
    np.testing.assert_array_equal(features.instances(), features_at(patches.corners))
    for block in patches.blocks(4):
        np.testing.assert_array_equal(features.read(block), features_at(block.corners))
    opened = FeatureMap.open(tmp_path / "f.zarr")
    np.testing.assert_array_equal(opened.instances(), features_at(patches.corners))
    np.testing.assert_array_equal(opened.patches.corners, patches.corners)
    assert (opened.identity, opened.n_features, opened.signature) == (ABOUT, D, features.signature)


def test_instances_are_mapped_not_read(tmp_path):
    features = filled(tmp_path / "f.zarr", patches_of("grid"))
    instances = features.instances()
    assert isinstance(instances, np.memmap)
    assert instances.dtype == np.float32
    instances[:] = 0  # who has them may write to them: the file stays
    assert FeatureMap.open(tmp_path / "f.zarr").instances().any()


def test_numbers_of_two_bytes_take_half_the_room_and_stay_what_they_are(tmp_path):
    patches = patches_of("tissue")
    half = FeatureMap.open_or_create(tmp_path / "half.zarr", patches, D, ABOUT, "float16")
    first, *others = patches.blocks(7)
    half.write(first, features_at(first.corners))
    half = FeatureMap.open_or_create(tmp_path / "half.zarr", patches, D, ABOUT)  # resumed, whatever is asked for now
    assert half.is_done(first)
    for block in others:
        half.write(block, features_at(block.corners))
    opened = FeatureMap.open(tmp_path / "half.zarr")
    expected = features_at(patches.corners).astype(np.float16)
    assert opened.instances().dtype == opened.read(first).dtype == np.float16
    np.testing.assert_array_equal(opened.instances(), expected)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "half.zarr" / "features", mode="r")[:], expected)
    assert (tmp_path / "half.zarr" / "features" / "c" / "0" / "0").stat().st_size == expected.nbytes
    with pytest.raises(BundleError, match="too large for float16"):
        half.write(first, np.full((len(first.corners), D), 1e5, np.float32))


def test_any_reader_of_zarr_reads_it(tmp_path):
    patches = patches_of("tissue")
    filled(tmp_path / "f.zarr", patches)
    array = zarr.open_group(tmp_path / "f.zarr", mode="r")["features"]
    np.testing.assert_array_equal(array[...], features_at(patches.corners))


@pytest.mark.parametrize("kind", ["grid", "tissue", "points"])
def test_it_goes_on_where_it_stopped(tmp_path, kind):
    patches = patches_of(kind)
    filled(tmp_path / "f.zarr", patches, until=2)
    with pytest.raises(BundleError, match="patches have no features"):
        FeatureMap.open(tmp_path / "f.zarr")
    again = FeatureMap.open_or_create(tmp_path / "f.zarr", patches, D, ABOUT)
    done = [again.is_done(block) for block in patches.blocks(7)]
    assert done == [True, True] + [False] * (len(done) - 2)
    assert not again.is_complete


@pytest.mark.parametrize("what", ["slide", "encoder", "patches", "tissue", "number"])
def test_features_of_something_else_are_made_anew(tmp_path, what):
    patches, about, n = patches_of("tissue"), dict(ABOUT), D
    assert filled(tmp_path / "f.zarr", patches).is_complete
    assert FeatureMap.open_or_create(tmp_path / "f.zarr", patches, D, ABOUT).is_complete
    if what in about:
        about[what] = "other"
    elif what == "patches":
        patches = PatchGrid.over((100, 120), PatchSettings(size_px=15, stride_px=14)).with_tissue(np.ones((7, 9), bool))
    elif what == "tissue":
        patches = patches.with_tissue(~patches.scored)
    else:
        n = D + 1
    other = FeatureMap.open_or_create(tmp_path / "f.zarr", patches, n, about)
    assert not any(other.is_done(block) for block in patches.blocks(1))


def test_damaged_rows_alone_are_computed_again(tmp_path):
    patches = patches_of("tissue")
    features = filled(tmp_path / "f.zarr", patches)
    with features._file.open("r+b") as file:
        file.seek(9 * D * 4 + 1)
        file.write(b"\xff")
    with pytest.raises(BundleError, match=r"1 of the \d+ patches have no features, or damaged ones"):
        FeatureMap.open(tmp_path / "f.zarr")
    again = FeatureMap.open_or_create(tmp_path / "f.zarr", patches, D, ABOUT)
    missing = [block for block in patches.blocks(1) if not again.is_done(block)]
    np.testing.assert_array_equal([block.corners[0] for block in missing], patches.corners[9:10])
    again.write(missing[0], features_at(missing[0].corners))
    np.testing.assert_array_equal(FeatureMap.open(tmp_path / "f.zarr").instances(), features_at(patches.corners))


@pytest.mark.parametrize("damage", ["cut", "gone", "json", "checksum"])
def test_a_damaged_map_is_an_error_to_readers_and_made_anew_by_who_can(tmp_path, damage):
    patches, path = patches_of("grid"), tmp_path / "f.zarr"
    file = filled(path, patches)._file
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-4])
    elif damage == "gone":
        file.unlink()
    elif damage == "json":
        (path / "zarr.json").write_text('{"zarr_format": 3, "node_type"')
    else:
        (path / "checksum" / "zarr.json").unlink()
    with pytest.raises(BundleError, match=r"f\.zarr"):
        FeatureMap.open(path)
    again = FeatureMap.open_or_create(path, patches, D, ABOUT)
    assert not again.is_complete
    assert filled(path, patches).is_complete


def test_what_cannot_be_read_is_left_out_and_tried_again(tmp_path):
    patches = patches_of("tissue")
    features = FeatureMap.open_or_create(tmp_path / "f.zarr", patches, D, ABOUT)
    blocks = list(patches.blocks(7))
    for block in blocks[1:]:
        features.write(block, features_at(block.corners))
    assert not features.is_complete
    features.fail(blocks[0], ((0, 0, 9, 9),))
    assert features.is_complete
    opened = FeatureMap.open(tmp_path / "f.zarr")
    bad = {tuple(corner) for corner in blocks[0].corners.tolist()}
    assert [tuple(corner) in bad for corner in patches.corners.tolist()] == (~opened.readable).tolist()
    np.testing.assert_array_equal(opened.instances()[opened.readable], features_at(patches.corners[opened.readable]))
    again = FeatureMap.open_or_create(tmp_path / "f.zarr", patches, D, ABOUT)
    assert [again.is_done(block) for block in blocks] == [False] + [True] * (len(blocks) - 1)


@pytest.mark.parametrize("damage", ["patches", "tissue", "identity", "features", "checksum", "huge", "codec", "chunk"])
def test_what_says_where_and_what_the_features_are_of_is_signed(tmp_path, damage):
    """The features have checksums; so has what would put them in another place, or under another encoder's name."""
    patches, path = patches_of("tissue"), tmp_path / "f.zarr"
    filled(path, patches)
    about = json.loads((path / "zarr.json").read_text())
    attributes = about["attributes"]
    if damage == "patches":
        attributes["patches"]["origin"] = [1, 0]
    elif damage == "tissue":
        zarr.open_group(path)["tissue"][...] = patches.scored[::-1]
    elif damage == "identity":
        attributes["identity"]["encoder"] = "other"
    elif damage == "features":
        attributes["features"] = "5"
    elif damage == "checksum":
        array = zarr.open_group(path)["checksum"]
        array[0] = array[1]
    elif damage == "huge":
        attributes["patches"] |= {"rows": 2**40, "cols": 2**40}
    else:
        array = json.loads((path / "checksum" / "zarr.json").read_text())
        if damage == "codec":
            array["codecs"] = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "gzip"}]
        else:
            array["chunk_grid"]["configuration"]["chunk_shape"] = [2**40]
        (path / "checksum" / "zarr.json").write_text(json.dumps(array))
    (path / "zarr.json").write_text(json.dumps(about))
    with pytest.raises(BundleError, match=r"f\.zarr: is no feature map that can be read") as error:
        FeatureMap.open(path)
    assert "\n" not in str(error.value)


def test_a_map_of_an_earlier_version_has_no_digest_and_is_gone_on_with(tmp_path):
    patches, path = patches_of("tissue"), tmp_path / "f.zarr"
    filled(path, patches)
    about = json.loads((path / "zarr.json").read_text())
    del about["attributes"]["digest"]
    (path / "zarr.json").write_text(json.dumps(about))
    assert FeatureMap.open(path).is_complete
    assert FeatureMap.open_or_create(path, patches, D, ABOUT).is_complete


def test_a_zarr_of_somebody_else_is_left_alone(tmp_path):
    """An OME-Zarr slide of that name, of either version."""
    for number in (2, 3):
        path = tmp_path / f"{number}.zarr"
        slide = zarr.open_group(path, mode="w", zarr_format=number, attributes={"ome": {"multiscales": []}})
        slide.create_array("0", data=np.ones((3, 8, 8), np.uint8))
        before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
        with pytest.raises(BundleError, match="left alone"):
            FeatureMap.open_or_create(path, patches_of("grid"), D, ABOUT)
        assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_a_folder_that_is_something_else_is_left_alone(tmp_path):
    (tmp_path / "f.zarr").mkdir()
    (tmp_path / "f.zarr" / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="left alone"):
        FeatureMap.open_or_create(tmp_path / "f.zarr", patches_of("grid"), D, ABOUT)
    assert (tmp_path / "f.zarr" / "thesis.txt").exists()


def test_numbers_that_are_none_are_refused(tmp_path):
    patches = patches_of("grid")
    features = FeatureMap.open_or_create(tmp_path / "f.zarr", patches, D, ABOUT)
    block = next(patches.blocks(3))
    with pytest.raises(BundleError, match="not finite"):
        features.write(block, np.full((len(block.corners), D), np.nan, np.float32))
    for far in (np.inf, 1e38, -1e38, 1e13):  # finite, and beyond what sums of squares can hold
        with pytest.raises(BundleError, match="not finite, or too large"):
            features.write(block, np.full((len(block.corners), D), far, np.float32))
    assert not features.is_done(block)
    features.write(block, np.full((len(block.corners), D), 1e6, np.float32))
    assert features.is_done(block)


def test_what_an_encoder_does_not_say_is_not_compared():
    known = EncoderIdentity(name="e", path="/e.onnx", sha256="a", description_sha256="b")
    assert known.is_same(known.model_copy(update={"name": "f", "path": "/f"}))
    assert known.is_same(known.model_copy(update={"sha256": "", "description_sha256": ""}))
    assert not known.is_same(known.model_copy(update={"sha256": "c"}))
    assert not known.is_same(known.model_copy(update={"description_sha256": "c"}))


def test_origins_contradict_by_name_and_both_values():
    known = FeatureOrigin(encoder="uni", patch_px=256, magnification=20, mpp=0.5)
    assert known.contradiction(FeatureOrigin()) is None
    assert FeatureOrigin().contradiction(known) is None
    assert known.contradiction(FeatureOrigin(magnification=22, mpp=0.46)) is None  # another scanner of 20×
    for change, said in (
        ({"encoder": "virchow"}, "encoder is 'virchow', not 'uni'"),
        ({"patch_px": 224}, "patch_size is 224, not 256"),
        ({"magnification": 10}, "target_magnification is 10, not 20"),
        ({"mpp": 1.0}, "its patches have 1 µm/px (patch_size_level0), not 0.5"),
    ):
        assert known.contradiction(FeatureOrigin(**change)) == said
    assert FeatureOrigin(patch_px=256).completed_by(FeatureOrigin(patch_px=1, mpp=0.5)) == FeatureOrigin(
        patch_px=256, mpp=0.5
    )


@pytest.mark.parametrize(("first", "then"), [(None, 0.5), (0.5, None)])
def test_the_scale_of_patches_that_are_not_resampled_changes_no_feature(tmp_path, first, then):
    """A training cuts patches in pixels; the model that comes of it has the µm/px of its slides."""

    def grid(mpp, slide_mpp=(0.5, 0.5)):
        return PatchGrid.over((100, 120), PatchSettings(size_px=15, mpp=mpp), slide_mpp)

    made = filled(tmp_path / "f.zarr", grid(first))
    again = FeatureMap.open_or_create(tmp_path / "f.zarr", grid(then), D, ABOUT)
    assert again.is_complete
    assert not again.replaced
    assert again.signature == made.signature
    assert FeatureMap.open_complete(tmp_path / "f.zarr", grid(then), D, ABOUT) is not None
    assert FeatureMap.open(tmp_path / "f.zarr").is_complete  # its digest holds
    resampled = grid(0.5, slide_mpp=(0.25, 0.25))
    assert FeatureMap.open_complete(tmp_path / "f.zarr", resampled, D, ABOUT) is None
    assert FeatureMap.open_or_create(tmp_path / "f.zarr", resampled, D, ABOUT).replaced


def test_a_map_that_a_kill_has_left_without_its_digest_gets_it(tmp_path):
    filled(tmp_path / "f.zarr", patches_of("grid"))._sign(None)
    assert "digest" not in zarr.open_group(tmp_path / "f.zarr").attrs
    FeatureMap.open_or_create(tmp_path / "f.zarr", patches_of("grid"), D, ABOUT)
    assert "digest" in zarr.open_group(tmp_path / "f.zarr").attrs
    assert FeatureMap.open(tmp_path / "f.zarr").is_complete


@pytest.mark.parametrize("damage", ["", '{"shape": [1, 2]}', None])
def test_a_map_whose_features_other_programs_cannot_find_is_damaged(tmp_path, damage):
    """The numbers are there, but a power cut, or somebody, has taken their description."""
    filled(tmp_path / "f.zarr", patches_of("grid"))
    file = tmp_path / "f.zarr" / "features" / "zarr.json"
    kept = file.read_bytes()
    file.unlink() if damage is None else file.write_text(damage)
    with pytest.raises(BundleError, match=r"f\.zarr: is no feature map"):
        FeatureMap.open(tmp_path / "f.zarr")
    assert FeatureMap.open_or_create(tmp_path / "f.zarr", patches_of("grid"), D, ABOUT).replaced
    assert file.read_bytes() == kept
