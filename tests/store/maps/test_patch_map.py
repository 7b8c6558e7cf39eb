"""`PatchMap`: filled block by block, resumed, finished, checked when opened."""

import json
import shutil

import numpy as np
import pytest

from napari_distill2label.core.calibration import Calibration, FindingCalibration, Line
from napari_distill2label.core.context import smooth_grid
from napari_distill2label.core.errors import BundleError, SettingsError
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.store.maps.labels import labels_of
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.store.maps.zarr_group import digest_of

CLASSES = ("normal", "tumour", "necrosis")


def softmax(logit):
    weight = np.exp(logit - logit.max(axis=-1, keepdims=True))
    return weight / weight.sum(axis=-1, keepdims=True)


def outcome(block, n_classes=3, scale=1.0):
    """What some network would say: depends on the corners alone."""
    y, x = block.corners.T.astype(float)
    logit = np.stack([np.sin(y / 50 + k) + np.cos(x / 30 * (k + 1)) for k in range(n_classes)], axis=1)
    return softmax(logit), logit, scale * np.sin(x + y)


def grid(shape=(300, 500), patch=20, tissue=True, **kwargs):
    patches = PatchGrid.over(shape, PatchSettings(size_px=patch), **kwargs)
    if not tissue:
        return patches
    return patches.with_tissue(np.random.default_rng(0).random(patches.shape) > 0.3)


def points(n=100, shape=(300, 500)):
    centres = np.random.default_rng(0).random((n, 2)) * (np.array(shape) - 1)
    return PatchPoints.at(centres, shape, PatchSettings(size_px=20))


SLIDE = SlideInfo("s")


def filled(path, patches, finish=True, slide=SLIDE, **kwargs):
    patch_map = PatchMap.create(path, patches, CLASSES, slide, **kwargs)
    for block in patches.blocks(max(30, len(patches.corners) // 20)):
        patch_map.write(block, *outcome(block))
    if finish:
        patch_map.finish([0.2, 0.7, 0.1])
    return patch_map


@pytest.mark.parametrize("patches", [grid(), grid(tissue=False), points()], ids=["tissue", "all", "points"])
def test_round_trip(tmp_path, patches):
    path = tmp_path / "Präparat 1.zarr"
    filled(
        path,
        patches,
        slide=SlideInfo("s", "/slides/a.svs", (0.5, 0.25), mpp_from_user=True),
        model={"network": "student", "n": np.int64(3)},
    )
    again = PatchMap.open(path)
    assert again.is_complete
    assert (again.classes, again.slide_id, again.slide.mpp) == (CLASSES, "s", (0.5, 0.25))
    assert again.slide.mpp_from_user
    assert again.slide.path.endswith("a.svs")
    assert again.model == {"network": "student", "n": 3}
    assert again.bag_probability == (0.2, 0.7, 0.1)
    np.testing.assert_array_equal(again.patches.corners, patches.corners)
    np.testing.assert_array_equal(again.scored, patches.scored)
    for block in patches.blocks(7):
        probability, logit, score = outcome(block)
        for array, expected in ((again.probability, probability), (again.logit, logit), (again.score, score)):
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array[block.window][block.scored], expected.astype(np.float32))
    assert np.isnan(again.probability[~patches.scored]).all()
    assert again.can_resume(patches, CLASSES, {"network": "student", "n": 3})
    assert not again.can_resume(patches, CLASSES, {"network": "teacher", "n": 3})
    assert not again.can_resume(grid(patch=21), CLASSES, {"network": "student", "n": 3})


def test_in_memory():
    patch_map = filled(None, grid())
    assert patch_map.path is None
    assert patch_map.to_labels().max() == 3


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_attention_is_a_stable_softmax_and_contributions_sum_to_the_bag(scale):
    patches = grid()
    patch_map = PatchMap.create(None, patches, CLASSES, SlideInfo("s"))
    for block in patches.blocks(30):
        patch_map.write(block, *outcome(block, scale=scale))
    assert np.isnan(patch_map.attention).all()
    patch_map.finish()
    attention, scored = patch_map.attention, patches.scored
    assert attention[scored].sum(dtype=float) == pytest.approx(1, abs=1e-6)
    assert np.isnan(attention[~scored]).all()
    expected = softmax(patch_map.score[scored].astype(float))
    np.testing.assert_allclose(attention[scored], expected, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(
        np.nansum(patch_map.contribution, axis=(0, 1)), expected @ patch_map.logit[scored], atol=1e-6
    )


def test_mean_and_max_pooling():
    patches = grid(tissue=False)
    mean = PatchMap.create(None, patches, CLASSES, SlideInfo("s"), model={"pooling": "mean"})
    for block in patches.blocks(30):
        probability, logit, score = outcome(block)
        mean.write(block, probability, logit, np.zeros_like(score))
    mean.finish()
    np.testing.assert_allclose(mean.attention, 1 / mean.attention.size, rtol=1e-6)
    largest = filled(None, patches, model={"pooling": "max"})
    assert largest.attention.sum() == 1
    assert largest.attention.argmax() == largest.score.argmax()


def test_resume_skips_what_is_done(tmp_path):
    patches, path = grid(), tmp_path / "a.zarr"
    blocks = list(patches.blocks(30))
    first = PatchMap.create(path, patches, CLASSES, SlideInfo("s"))
    for block in blocks[:5]:
        first.write(block, *outcome(block))
    second = PatchMap.open(path)
    assert not second.is_complete
    assert [second.is_done(block) for block in blocks] == [True] * 5 + [False] * (len(blocks) - 5)
    assert second.scored.sum() == sum(len(block.corners) for block in blocks[:5])
    assert (second.to_labels() > 0).sum() == second.scored.sum()
    with pytest.raises(BundleError, match="not scored yet"):
        second.finish()
    written = 0
    for block in patches.blocks(17):  # blocks of another size find what is done all the same
        if not second.is_done(block):
            second.write(block, *outcome(block))
            written += 1
    assert 0 < written < len(list(patches.blocks(17)))
    second.finish()
    whole = filled(None, patches)
    for name in ("probability", "logit", "score", "attention", "contribution"):
        np.testing.assert_array_equal(getattr(second, name), getattr(whole, name))


def test_a_block_cut_short_is_not_done(tmp_path):
    patches, path = grid(), tmp_path / "a.zarr"
    patch_map = PatchMap.create(path, patches, CLASSES, SlideInfo("s"))
    block = next(patches.blocks(30))
    patch_map._group["probability"][block.window] = 0.5  # what a process leaves that is killed before the score
    again = PatchMap.open(path)
    assert not again.is_done(block)
    assert not again.to_labels().any()
    assert len(again.table()) == 0
    assert "prob_tumour" in again.table()


def test_writing_touches_few_chunks(tmp_path):
    patches = PatchGrid.over((60_000, 60_000), PatchSettings(size_px=27))  # five million cells
    patch_map = PatchMap.create(tmp_path / "a.zarr", patches, ("n", "p"), SlideInfo("s"))
    block = next(patches.blocks(256))
    patch_map.write(block, *outcome(block, 2))
    chunks = [file for file in (tmp_path / "a.zarr").rglob("c/**/*") if file.is_file()]
    assert len(chunks) == 3
    assert sum(file.stat().st_size for file in chunks) < 100_000


def test_what_does_not_fit_is_refused():
    patches = grid()
    patch_map = PatchMap.create(None, patches, CLASSES, SlideInfo("s"))
    block = next(patches.blocks(30))
    probability, logit, score = outcome(block)
    with pytest.raises(ValueError, match="logit of this block"):
        patch_map.write(block, probability, logit[:, :2], score)
    with pytest.raises(BundleError, match="not a finite number"):
        patch_map.write(block, probability, logit, score * np.nan)
    assert not patch_map.scored.any()
    with pytest.raises(ValueError, match="different classes"):
        PatchMap.create(None, patches, ("a",), SlideInfo("s"))


# ---- labels and tables ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probability", "threshold", "label"),
    [
        ([0.5, 0.5, 0.0], 0.5, 2),  # ≥, not >
        ([0.51, 0.49, 0.0], 0.5, 1),
        ([0.1, 0.4, 0.5], 0.5, 3),  # the likeliest non-negative one
        ([0.1, 0.5, 0.4], 0.6, 1),  # below the threshold: negative, though not the likeliest
        ([0.5, 0.3, 0.2], 0.3, 2),  # reported, though the negative one is likelier
        ([np.nan] * 3, 0.0, 0),  # not scored is never negative
    ],
)
def test_the_label_rule(probability, threshold, label):
    labels = labels_of(np.array([probability], np.float32), threshold)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [label]


def test_labels_take_the_threshold_of_the_map_unless_another_is_given():
    patches = grid()
    patch_map = filled(None, patches, threshold=0.9)
    np.testing.assert_array_equal(patch_map.to_labels(), labels_of(patch_map.probability, 0.9))
    np.testing.assert_array_equal(patch_map.to_labels(0.2), labels_of(patch_map.probability, 0.2))
    assert ((patch_map.to_labels() == 0) == ~patches.scored).all()
    assert list(patch_map.label_layers()) == ["labels"]


def several_map():
    patches = PatchGrid.over((20, 40), PatchSettings(size_px=10)).with_tissue(np.array([[1, 1, 1, 1], [1, 0, 0, 0]]))
    patch_map = PatchMap.create(None, patches, CLASSES, SlideInfo("s"), multi_label=True)
    (block,) = patches.blocks(100)
    probability = np.array([[0.9, 0.1, 0.2], [0.1, 0.8, 0.3], [0.2, 0.7, 0.6], [0.3, 0.2, 0.5], [0, 0, 0.4]])
    patch_map.write(block, probability, np.log(probability + 0.01), np.zeros(5))
    patch_map.finish()
    return patch_map


def test_several_classes_have_a_layer_each():
    patch_map = several_map()
    with pytest.raises(SettingsError, match=r"class_index 1 \(tumour\), 2 \(necrosis\)"):
        patch_map.to_labels()
    with pytest.raises(SettingsError, match="1 to 2"):
        patch_map.to_labels(class_index=0)
    layers = patch_map.label_layers()
    assert layers["tumour"].tolist() == [[1, 2, 2, 1], [1, 0, 0, 0]]
    assert layers["necrosis"].tolist() == [[1, 1, 3, 3], [1, 0, 0, 0]]
    assert patch_map.table().label.tolist() == ["normal", "tumour", "tumour;necrosis", "necrosis", "normal"]
    corrections = np.full((2, 4), -1, np.int8)
    corrections[0, 2], corrections[0, 3] = 2, 0
    layers = patch_map.label_layers(corrections=corrections)
    assert layers["tumour"].tolist() == [[1, 2, 1, 1], [1, 0, 0, 0]]
    assert layers["necrosis"].tolist() == [[1, 1, 3, 1], [1, 0, 0, 0]]


def test_the_table_of_a_grid():
    patches = grid(origin=(-3, 7))
    patch_map = filled(None, patches)
    table = patch_map.table(0.5)
    cells = np.argwhere(patches.scored)
    np.testing.assert_array_equal(table[["row", "col"]], cells)
    np.testing.assert_array_equal(table[["miny", "minx"]], patches.corners)
    assert (table[["width", "height"]] == 20).all(axis=None)
    assert all(table[name].dtype.kind == "i" for name in ("minx", "miny", "width", "height", "row", "col"))
    scored = patches.scored
    names = np.array(CLASSES)[patch_map.to_labels(0.5)[scored].astype(int) - 1]
    assert table.label.tolist() == names.tolist()
    for index, name in enumerate(CLASSES):
        np.testing.assert_array_equal(table[f"prob_{name}"], patch_map.probability[scored][:, index])
        np.testing.assert_array_equal(table[f"logit_{name}"], patch_map.logit[scored][:, index])
        np.testing.assert_array_equal(table[f"contribution_{name}"], patch_map.contribution[scored][:, index])
    np.testing.assert_array_equal(table.attention, patch_map.attention[scored])
    assert "source" not in table


def test_the_table_of_a_tall_grid_comes_in_pieces_of_the_same_order():
    patches = grid(shape=(3000, 60), patch=20)
    patch_map = filled(None, patches)
    assert len(list(patch_map.iter_columns())) == 3
    np.testing.assert_array_equal(patch_map.table()[["row", "col"]], np.argwhere(patches.scored))


def test_the_table_of_points():
    patches = points()
    table = filled(None, patches).table()
    np.testing.assert_array_equal(table[["y", "x"]], patches.centres)
    np.testing.assert_array_equal(table[["miny", "minx"]], patches.centres - 10)
    assert "row" not in table


def test_corrections_override_scored_patches_alone():
    patches = grid()
    patch_map = filled(None, patches)
    corrections = np.full(patches.shape, -1, np.int8)
    scored, unscored = np.argwhere(patches.scored), np.argwhere(~patches.scored)
    corrections[tuple(scored[0])] = 0
    corrections[tuple(scored[1])] = 2
    corrections[tuple(unscored[0])] = 2
    labels = patch_map.to_labels(corrections=corrections)
    assert labels[tuple(scored[0])] == 1
    assert labels[tuple(scored[1])] == 3
    assert labels[tuple(unscored[0])] == 0
    table = patch_map.table(corrections=corrections)
    assert table.label[:2].tolist() == ["normal", "necrosis"]
    assert table.source.tolist() == ["corrected", "corrected"] + ["model"] * (len(table) - 2)
    with pytest.raises(SettingsError, match="shape"):
        patch_map.to_labels(corrections=corrections[:2])
    with pytest.raises(SettingsError, match="no class"):
        patch_map.to_labels(corrections=np.full(patches.shape, 3))


# ---- damage ---------------------------------------------------------------------------------------------------


def edit_attributes(path, **changes):
    file = path / "zarr.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    data["attributes"].update(changes)
    file.write_text(json.dumps(data), encoding="utf-8")


def chunk_of(path, name):
    return next(file for file in sorted((path / name / "c").rglob("*")) if file.is_file())


def flip_bytes(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)


def replace_array(path, name):
    import zarr

    zarr.create_array(path / name, shape=(2, 2), dtype="float32", overwrite=True)


DAMAGE = {
    "no folder": lambda path: shutil.rmtree(path),
    "no description": lambda path: (path / "zarr.json").unlink(),
    "description cut short": lambda path: (path / "zarr.json").write_text('{"zarr_format": 3, "no'),
    "empty description": lambda path: (path / "zarr.json").write_text(""),
    "another zarr": lambda path: edit_attributes(path, kind="image"),
    "newer version": lambda path: edit_attributes(path, version=99),
    "older version": lambda path: edit_attributes(path, version=1),
    "classes of another kind": lambda path: edit_attributes(path, classes=[1, 2]),
    "classes twice": lambda path: edit_attributes(path, classes=["a", "a"]),
    "a class more": lambda path: edit_attributes(path, classes=["a", "b", "c", "d"]),
    "negative mpp": lambda path: edit_attributes(path, slide_mpp=[-1, 1]),
    "no geometry": lambda path: edit_attributes(path, patches={}),
    "geometry of another shape": lambda path: edit_attributes(
        path, patches={**PatchGrid.over((99, 99), PatchSettings(size_px=9)).to_json()}
    ),
    "geometry with text": lambda path: edit_attributes(path, patches={"kind": "grid", "rows": "many"}),
    "array missing": lambda path: shutil.rmtree(path / "logit"),
    "array of another shape": lambda path: replace_array(path, "attention"),
    "array's description cut short": lambda path: (path / "logit" / "zarr.json").write_text("{"),
    "score lost": lambda path: chunk_of(path, "score").unlink(),
    "score altered": lambda path: flip_bytes(chunk_of(path, "score")),
    "tissue altered": lambda path: flip_bytes(chunk_of(path, "tissue")),
    "tissue lost": lambda path: chunk_of(path, "tissue").unlink(),
    "classes swapped": lambda path: edit_attributes(path, classes=[CLASSES[1], CLASSES[0], CLASSES[2]]),
    "another slide": lambda path: edit_attributes(path, slide_id="t"),
    "another scale": lambda path: edit_attributes(path, slide_mpp=[0.5, 0.5]),
    "moved": lambda path: edit_attributes(path, patches=grid(origin=(1, 0)).to_json()),
    "another score of the slide": lambda path: edit_attributes(path, bag_probability=[0.7, 0.2, 0.1]),
    "another chunk's scores": lambda path: exchange(path, "score"),
    "a score of 0 where nothing is": lambda path: edit_array(path, "score", fill_value=0.0),
    "chunks larger than memory": lambda path: edit_array(
        path, "score", chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2**30, 2**30]}}
    ),
    "packed otherwise": lambda path: edit_array(path, "score", codecs=[{"name": "bytes"}, {"name": "gzip"}]),
    "unknown codec": lambda path: edit_array(path, "score", codecs=[{"name": "evil"}]),
    "shape beyond memory": lambda path: edit_array(path, "score", shape=[2**40, 2**40]),
    "a bomb": lambda path: bomb(chunk_of(path, "score")),
    "threshold of no number": lambda path: edit_attributes(path, threshold="high"),
    "threshold beyond 1": lambda path: edit_attributes(path, threshold=7),
    "damage of no box": lambda path: edit_attributes(path, damage=[[1, 2], "x"]),
    "score of the slide of text": lambda path: edit_attributes(path, bag_probability=["a", "b", "c"]),
    "numbers beyond floats": lambda path: edit_attributes(path, damage=[[0, 0, 1, 10**400]]),
    "an mpp beyond floats": lambda path: edit_attributes(path, slide_mpp=[10**400, 1]),
    "a number of classes": lambda path: edit_attributes(path, classes=3),
    "infinite mpp": lambda path: edit_attributes(path, slide_mpp=[float("inf"), 1]),
    "more patches than memory": lambda path: edit_attributes(
        path, patches=grid().to_json() | {"rows": 2**40, "cols": 2**40}
    ),
}


def edit_array(path, name, **changed):
    file = path / name / "zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def exchange(path, name):
    """Put one chunk in place of another: each is whole in itself."""
    one, other = sorted(file for file in (path / name / "c").rglob("*") if file.is_file())[:2]
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


def bomb(file):
    """A few kB that hold 4 GB."""
    import numcodecs

    piece = numcodecs.Zstd().encode(np.zeros(2**27, np.uint8))
    # the same block again and again would need the size of all in the first frame's header: say so
    file.write_bytes(piece[:4] + bytes([0xE0]) + (2**32).to_bytes(8, "little") + piece[9:])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folders of finished maps: a grid of one chunk, and a grid and points of several. Damage copies alone."""
    folder = tmp_path_factory.mktemp("whole")
    filled(folder / "small", grid())
    filled(folder / "grid", grid((1500, 500)))
    filled(folder / "points", points(9000))
    return folder


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_plain_line_when_opened(tmp_path, whole, damage):
    path = shutil.copytree(whole / "grid", tmp_path / "a.zarr")
    DAMAGE[damage](path)
    with pytest.raises(BundleError) as caught:
        PatchMap.open(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message


@pytest.mark.parametrize("name", ["probability", "logit", "attention", "contribution"])
@pytest.mark.parametrize("damage", [lambda file: file.unlink(), flip_bytes, lambda file: file.write_bytes(b"")])
def test_damage_is_one_plain_line_when_read(tmp_path, whole, name, damage):
    path = shutil.copytree(whole / "small", tmp_path / "a.zarr")
    damage(chunk_of(path, name))
    patch_map = PatchMap.open(path)
    with pytest.raises(BundleError, match=name) as caught:
        getattr(patch_map, name)
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError):
        patch_map.table()
    with pytest.raises(BundleError, match=name):
        patch_map.check()


@pytest.mark.parametrize("name", ["probability", "logit", "attention", "contribution"])
@pytest.mark.parametrize("kind", ["grid", "points"])
def test_parts_that_have_changed_places_are_told_when_read(tmp_path, whole, name, kind):
    """Each chunk is whole in itself and holds numbers that could be: only the map's own checksums tell."""
    path = shutil.copytree(whole / kind, tmp_path / "a.zarr")
    exchange(path, name)
    patch_map = PatchMap.open(path)
    for read in (lambda: getattr(patch_map, name), patch_map.table):
        with pytest.raises(BundleError, match=f"'{name}' was altered since it was written"):
            read()


def test_a_whole_map_passes_the_check_finished_or_not(tmp_path):
    for finish in (True, False):
        filled(tmp_path / "a.zarr", grid(), finish)
        PatchMap.open(tmp_path / "a.zarr").check()


def test_attributes_that_are_nested_too_deeply_are_one_plain_line():
    nested = {}
    for _ in range(100_000):
        nested = {"a": nested}
    with pytest.raises(ValueError, match="nested too deeply"):
        digest_of({"model": nested})


@pytest.mark.parametrize(("slide_id", "classes"), [("\ud800", CLASSES), ("s", ("normal", "\ud800"))])
def test_names_that_cannot_be_written_are_refused(tmp_path, slide_id, classes):
    PatchMap.create(tmp_path / "a.zarr", grid(), classes, SlideInfo(slide_id))
    with pytest.raises(BundleError, match=r"'(slide_id|classes)' is missing or altered"):
        PatchMap.open(tmp_path / "a.zarr")


def test_a_slide_s_file_name_may_be_any_bytes(tmp_path):
    PatchMap.create(tmp_path / "a.zarr", grid(), CLASSES, SlideInfo("\udcff"))
    assert PatchMap.open(tmp_path / "a.zarr").slide_id == "\udcff"


@pytest.mark.parametrize("gone", ["digest", "sums", "damaged_regions"])
def test_a_finished_map_without_its_digests_is_refused(tmp_path, whole, gone):
    path = shutil.copytree(whole / "small", tmp_path / "a.zarr")
    data = json.loads((path / "zarr.json").read_text())
    del data["attributes"][gone]
    (path / "zarr.json").write_text(json.dumps(data))
    with pytest.raises(BundleError, match="altered"):
        PatchMap.open(path)


def test_a_map_without_its_list_of_unreadable_patches_is_refused(tmp_path):
    filled(tmp_path / "a.zarr", grid())
    shutil.rmtree(tmp_path / "a.zarr" / "failed")
    with pytest.raises(BundleError, match="array 'failed' is missing"):
        PatchMap.open(tmp_path / "a.zarr")


def test_what_may_be_set_later_is_not_signed(tmp_path):
    path = tmp_path / "a.zarr"
    filled(path, grid()).set_threshold(0.3)
    assert PatchMap.open(path).threshold == 0.3


def test_any_reader_of_zarr_reads_it(tmp_path):
    import zarr

    filled(tmp_path / "a.zarr", grid())
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    np.testing.assert_array_equal(group["probability"][...], PatchMap.open(tmp_path / "a.zarr").probability)


def test_creating_replaces_a_map_and_nothing_else(tmp_path):
    path = tmp_path / "a.zarr"
    filled(path, grid())
    assert not PatchMap.create(path, points(), CLASSES, SlideInfo("t")).scored.any()
    assert PatchMap.open(path).slide_id == "t"
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("all my work")
    with pytest.raises(BundleError, match="left alone"):
        PatchMap.create(precious, grid(), CLASSES, SlideInfo("s"))
    assert (precious / "thesis.txt").read_text() == "all my work"


# ---- context and calibration: what `finish` makes of the logits ------------------------------------------------------


def calibration(n=2, offset=0.0):
    findings = [
        FindingCalibration(prior=0.3, patch=Line(slope=1.5, offset=-0.5), slide=Line(slope=1, offset=offset))
    ] * n
    return Calibration(findings=findings, neighbours=5)


def calibrated(path, patches, distance=1, multi_label=True, own=None):
    patch_map = filled(path, patches, finish=False, multi_label=multi_label)
    patch_map.finish([0.2, 0.7, 0.1], own or calibration(), distance)
    return patch_map


def test_a_finished_map_has_its_points_in_context(tmp_path):
    patches = points()
    patch_map = calibrated(tmp_path / "a.zarr", patches)
    logit = outcome(next(iter(patches.blocks(len(patches.centres)))))[1].astype(np.float32)
    slide, expected = calibration().of_bag(logit, patches.centres, True)
    assert patch_map.probability == pytest.approx(expected, abs=1e-5)
    assert patch_map.bag_probability == pytest.approx((0.2, *slide))
    assert patch_map.logit == pytest.approx(logit)  # of the patch alone, as before


@pytest.mark.parametrize("distance", [1, 3])
def test_a_grid_is_put_into_context_band_by_band_as_at_once(tmp_path, monkeypatch, distance):
    patches, own = grid((300, 200), patch=10), calibration(1)
    monkeypatch.setattr("napari_distill2label.store.maps.patch_map.GRID_CHUNK", 7)
    patch_map = PatchMap.create(tmp_path / "a.zarr", patches, ("no", "yes"), SlideInfo("s"))
    for block in patches.blocks(100):
        patch_map.write(block, *(each[:, :2] if np.ndim(each) > 1 else each for each in outcome(block)))
    alone = patch_map.probability
    patch_map.finish([0.5, 0.5], own, distance)
    score = np.where(patches.scored[..., None], patch_map.logit[..., 1:] - patch_map.logit[..., :1], np.nan)
    context = smooth_grid(score, distance)
    slide = own.slide_probability(context)
    assert patch_map.probability[..., 1:] == pytest.approx(own.patches_in(slide, context), abs=1e-5, nan_ok=True)
    assert np.nansum(patch_map.probability, -1)[patches.scored] == pytest.approx(1)
    assert patch_map.bag_probability == pytest.approx((1 - slide[0], slide[0]))
    assert not np.allclose(alone, patch_map.probability, equal_nan=True)
    again = PatchMap.open(tmp_path / "a.zarr")
    again.check()
    assert np.array_equal(again.probability, patch_map.probability, equal_nan=True)


def test_labels_and_table_of_a_calibrated_map_say_the_same(tmp_path):
    patch_map = calibrated(tmp_path / "a.zarr", grid(), multi_label=False, own=calibration(2, offset=5))
    labels = patch_map.to_labels(0.4)
    table = patch_map.table(0.4)
    names = np.array(["", *CLASSES])[labels[patch_map.scored]]
    assert (table["label"].to_numpy() == names).all()
    assert table["prob_tumour"].to_numpy() == pytest.approx(patch_map.probability[patch_map.scored][:, 1])


def test_no_patch_of_a_slide_without_the_finding_is_called(tmp_path):
    patch_map = calibrated(tmp_path / "a.zarr", grid(), own=calibration(2, offset=-60))
    assert (patch_map.to_labels(0.01, 1)[patch_map.scored] == 1).all()
    assert patch_map.bag_probability[1] < 1e-9


def test_a_kill_while_patches_are_put_into_context_changes_nothing(tmp_path, monkeypatch):
    whole = calibrated(tmp_path / "whole.zarr", grid())
    begun = filled(tmp_path / "begun.zarr", grid(), finish=False, multi_label=True)
    monkeypatch.setattr(PatchMap, "_signed", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        begun.finish([0.2, 0.7, 0.1], calibration())
    monkeypatch.undo()
    again = PatchMap.open(tmp_path / "begun.zarr")
    assert not again.is_complete
    again.finish([0.2, 0.7, 0.1], calibration())
    assert np.array_equal(again.probability, whole.probability, equal_nan=True)
