"""The mask as other programs find it."""

import tracemalloc
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.events import Task, drain
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.exporters.formats import write
from napari_distill2label.exporters.mask import Mask
from napari_distill2label.exporters.ome_tiff import write_mask
from napari_distill2label.slides.label_mask import read_label_mask

NAMES = {0: "not scored", 1: "normal", 2: "Tumör"}


def small_grid(shape=(2500, 1700), patch=27, stride=20, **kwargs):
    return PatchGrid.over(shape, PatchSettings(size_px=patch, stride_px=stride), **kwargs)


def test_a_pyramid_of_tiles_with_its_size_and_names(tmp_path):
    grid = small_grid(origin=(5, -3))
    labels = np.random.default_rng(0).integers(0, 3, grid.shape).astype(np.uint8)
    mask = Mask(labels, grid)
    path = drain(write_mask(tmp_path / "Präparat 1.ome.tif", mask, NAMES, mpp=(0.5, 0.25), title="Präparat 1"))
    whole = mask.region(0, 0, 2500, 1700)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert not tiff.is_bigtiff
        (series,) = tiff.series
        assert series.axes == "YX"
        assert [level.shape for level in series.levels] == [(2500, 1700), (1250, 850), (625, 425)]
        for level in series.levels:
            (page,) = level.pages
            assert page.is_tiled
            assert (page.tilelength, page.tilewidth) == (512, 512)
            assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
            assert page.dtype == np.uint8
        assert series.levels[1].pages[0].is_reduced
        np.testing.assert_array_equal(series.levels[0].asarray(), whole)
        for step, level in (
            (2, series.levels[1]),
            (4, series.levels[2]),
        ):  # nearest neighbour: of the pixel in the middle
            np.testing.assert_array_equal(level.asarray(), whole[step // 2 :: step, step // 2 :: step])
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeX"]) == (0.5, 0.25)
        assert pixels["PhysicalSizeXUnit"] == "µm"
        assert tiff.pages[0].get_resolution("MICROMETER") == pytest.approx((1 / 0.25, 1 / 0.5))
    again = read_label_mask(path)
    np.testing.assert_array_equal(again.labels, whole)
    assert again.mpp == (0.5, 0.25)
    assert again.classes == NAMES


def test_libvips_and_openslide_find_the_same_pixels(tmp_path):
    import openslide
    import pyvips

    grid = small_grid()
    mask = Mask(np.random.default_rng(0).integers(0, 3, grid.shape).astype(np.uint8), grid)
    path = str(drain(write_mask(tmp_path / "a.ome.tif", mask, NAMES, mpp=(0.5, 0.25), title="a")))
    whole = mask.region(0, 0, *grid.slide_shape)
    image = pyvips.Image.new_from_file(path)
    np.testing.assert_array_equal(image.numpy(), whole)
    assert (image.yres, image.xres) == (2000, 4000)  # px per mm
    for number, step in enumerate((2, 4)):
        level = pyvips.Image.new_from_file(path, subifd=number).numpy()
        np.testing.assert_array_equal(level, whole[step // 2 :: step, step // 2 :: step])
    with openslide.OpenSlide(path) as slide:
        seen = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))
        mpp = slide.properties["openslide.mpp-y"], slide.properties["openslide.mpp-x"]
    np.testing.assert_array_equal(seen[..., 0], whole)
    assert mpp == ("0.5", "0.25")


@pytest.mark.parametrize("shape", [(1024, 1025), (1023, 700), (2049, 2047)])
def test_odd_sizes_keep_their_last_row_and_column(tmp_path, shape):
    grid = PatchGrid.over(shape, PatchSettings(size_px=1))  # cells up to the very border
    path = drain(write_mask(tmp_path / "a.ome.tif", Mask(np.full(grid.shape, 2, np.uint8), grid), NAMES))
    with tifffile.TiffFile(path) as tiff:
        levels = tiff.series[0].levels
        assert max(levels[-1].shape) < 1024
        assert all(max(level.shape) >= 1024 for level in levels[:-1])
        assert all((level.asarray() == 2).all() for level in levels)


@pytest.mark.parametrize(
    ("patch", "stride", "origin"), [(40, 40, (0, 0)), (231, 231, (-3, 7)), (30, 47, (5, 0)), (9, 3, (1, 2))]
)
@pytest.mark.parametrize("noisy", [True, False])
def test_every_level_is_that_of_the_mask(tmp_path, patch, stride, origin, noisy):
    """Cells of all sizes, gaps between them, and one label over many tiles."""
    grid = small_grid((2300, 2100), patch, stride, origin=origin)
    labels = np.random.default_rng(0).integers(0, 4, grid.shape).astype(np.uint8)
    if not noisy:
        labels[: labels.shape[0] // 2] = 1
        labels[labels.shape[0] // 2 :] = 2
    mask = Mask(labels, grid)
    path = drain(write_mask(tmp_path / "a.ome.tif", mask, NAMES))
    whole = mask.region(0, 0, *mask.shape)
    with tifffile.TiffFile(path) as tiff:
        for number, level in enumerate(tiff.series[0].levels):
            step = 2**number
            ys, xs = (
                np.minimum(np.arange(count) * step + step // 2, size - 1)
                for count, size in zip(level.shape, mask.shape, strict=True)
            )
            np.testing.assert_array_equal(level.asarray(), whole[np.ix_(ys, xs)])
        pages = [level.pages[0] for level in tiff.series[0].levels]
        assert all(page.dataoffsets.count(0) == page.databytecounts.count(0) == 0 for page in pages)
        if stride <= patch and not noisy:
            assert len(set(pages[0].dataoffsets)) < len(pages[0].dataoffsets) * 0.7  # equal tiles are stored once
    with Image.open(path) as other:  # libtiff and zlib: the checksums of the tiles are right, too
        np.testing.assert_array_equal(np.asarray(other), whole)


def test_one_label_over_many_tiles_takes_little_space(tmp_path):
    grid = PatchGrid.over((25_600, 25_600), PatchSettings(size_px=256))
    labels = np.ones(grid.shape, np.uint8)
    labels[20:40, 30:60] = 2
    path = drain(write_mask(tmp_path / "a.ome.tif", Mask(labels, grid), NAMES))
    assert path.stat().st_size < 150_000  # of .65 gigapixels


def test_progress_and_cancel(tmp_path):
    grid = small_grid((9000, 5000))
    mask = Mask(np.random.default_rng(0).integers(0, 3, grid.shape).astype(np.uint8), grid)
    path = tmp_path / "a.ome.tif"
    events = list(write_mask(path, mask, NAMES, title="S-1"))
    np.testing.assert_array_equal(read_label_mask(path).labels, mask.region(0, 0, *mask.shape))
    before = path.read_bytes()
    tiles = sum(-(-9000 // (512 * step)) * -(-5000 // (512 * step)) for step in (1, 2, 4, 8, 16))
    assert {(event.task, event.item, event.total) for event in events} == {(Task.WRITE, "S-1", tiles)}
    steps = [event.step for event in events]
    assert steps == sorted(steps)
    assert steps[-1] == tiles
    assert len(steps) > 20
    for stop in (0, len(events) // 2, len(events) - 1):
        work = write_mask(path, mask, NAMES)
        for _ in range(stop + 1):
            next(work)
        work.close()
        assert [(each, each.read_bytes() == before) for each in tmp_path.iterdir()] == [(path, True)]


def test_an_unknown_size_is_not_claimed(tmp_path):
    grid = small_grid((300, 200))
    path = drain(write_mask(tmp_path / "a.ome.tif", Mask(np.ones(grid.shape, np.uint8), grid), NAMES))
    with tifffile.TiffFile(path) as tiff:
        assert "PhysicalSize" not in tiff.ome_metadata
    assert read_label_mask(path).mpp is None


def test_memory_does_not_hold_the_mask(tmp_path):
    grid = PatchGrid.over((12_000, 12_000), PatchSettings(size_px=512))
    mask = Mask(np.ones(grid.shape, np.uint8), grid)
    tracemalloc.start()
    drain(write_mask(tmp_path / "a.ome.tif", mask, NAMES))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # the mask alone is 144 MB


def test_exporting_a_map(tmp_path, new_map):
    grid = small_grid((300, 200))
    tissue = np.random.default_rng(0).random(grid.shape) > 0.3
    patch_map = new_map(grid.with_tissue(tissue), slide=SlideInfo("slide 1", None, (0.5, 0.5)))
    (path,) = write(patch_map, tmp_path / "new folder", ["ome-tiff"])
    assert path == tmp_path / "new folder" / "slide 1.ome.tif"
    mask = read_label_mask(path)
    assert mask.classes == {0: "not scored", 1: "normal", 2: "tumour"}
    np.testing.assert_array_equal(mask.labels, Mask(patch_map.to_labels(), grid).region(0, 0, 300, 200))
    assert set(np.unique(mask.labels)) == {0, 1, 2}


def test_points_and_several_classes(tmp_path, new_map):
    points = PatchPoints.at([[20, 30], [80, 90], [85, 95]], (120, 150), PatchSettings(size_px=27))
    patch_map = new_map(points, classes=("normal", "a/b", "c"), labels=np.array([1, 2, 3]), multi_label=True)
    paths = write(patch_map, tmp_path, ["mask"])
    assert len(paths) == 2
    assert all(path.parent == tmp_path for path in paths)
    assert paths[1].name == "slide 1_c.ome.tif"
    mask = read_label_mask(paths[1])
    assert mask.classes == {0: "not scored", 1: "no c", 3: "c"}
    assert [mask.labels[20, 30], mask.labels[80, 90], mask.labels[85, 95], mask.labels[0, 149]] == [1, 1, 3, 0]


def test_masks_of_other_tools(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, (40, 50)).astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", labels.astype(np.uint16))
    for name in ("a.png", "b.tif"):
        again = read_label_mask(tmp_path / name)
        np.testing.assert_array_equal(again.labels, labels)
        assert (again.mpp, again.classes) == (None, {})


def test_what_is_no_mask_is_said_plainly(tmp_path):
    Image.new("RGB", (5, 5)).save(tmp_path / "colour.png")
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    for name, message in [
        ("colour.png", "one channel"),
        ("empty.tif", "cannot be read"),
        ("text.png", "cannot be read"),
        ("none.tif", "no such mask"),
    ]:
        with pytest.raises(CohortError, match=message) as caught:
            read_label_mask(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_control_characters_in_names_leave_the_metadata_readable(tmp_path):
    grid = small_grid((200, 200))
    names = {0: "not scored", 1: "nor\x1b[31mmal", 2: "a\ufffeb\n"}
    labels = np.ones(grid.shape, np.uint8)
    path = drain(write_mask(tmp_path / "a.ome.tif", Mask(labels, grid), names, title="\x1b]0;x\x07 \ufffe"))
    with tifffile.TiffFile(path) as tiff:
        described = ElementTree.fromstring(tiff.ome_metadata)
    assert described.find("{*}Image").attrib["Name"] == r"\x1b]0;x\x07 \ufffe"
    assert read_label_mask(path).classes == names
