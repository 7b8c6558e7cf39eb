"""Slides damaged on purpose: a region that cannot be read is told from a slide that is gone, and the rest is read."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_distill2label.core.errors import SlideError, TileError
from napari_distill2label.slides import open_slide
from napari_distill2label.slides.cutting import cut

from .test_omezarr import write


@pytest.fixture
def svs(data_dir: Path, tmp_path: Path) -> Path:
    """A copy of the real SVS: tiles of 240 px, JPEG."""
    return Path(shutil.copy(data_dir / "slides" / "CMU-1-Small-Region.svs", tmp_path / "a.svs"))


def segment(path: Path, index: int) -> tuple[int, int]:
    """Where in the file a tile is: (offset, count)."""
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages[0].dataoffsets[index], tiff.pages[0].databytecounts[index]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def zeros(data: bytes) -> bytes:
    return bytes(len(data))


def without_its_end(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


def noise(data: bytes) -> bytes:
    half = len(data) // 2
    return data[:half] + np.random.default_rng(0).bytes(len(data) - half - 2) + b"\xff\xd9"


@pytest.mark.parametrize("damage", [zeros, without_its_end, noise])
def test_one_damaged_tile_of_a_real_slide(svs, damage):
    with open_slide(svs) as slide:
        sound = slide.read(0, 0, 0, *slide.shape)
    offset, count = segment(svs, 23)  # row 2, column 3 of 10
    overwrite(svs, offset, damage(svs.read_bytes()[offset : offset + count]))
    box = (480, 720, 240, 240)
    with open_slide(svs) as slide:
        with pytest.raises(TileError, match=r"a\.svs: damaged, cannot be decoded at level 0, x=720, y=480") as error:
            slide.read(0, 0, 0, *slide.shape)
        assert error.value.boxes == (box,)
        assert "\n" not in str(error.value)
        with pytest.raises(TileError) as error:
            slide.read(1, 300, 300, 100, 200)  # computed from level 0
        assert error.value.boxes == (box,)
        assert np.array_equal(slide.read(0, 480, 960, 240, 240), sound[480:720, 960:1200])

        corners = np.array([(y, x) for y in range(0, 2700, 256) for x in range(0, 1900, 256)])
        with pytest.raises(TileError) as error:
            cut(slide, corners, 256, 256)
        y, x, h, w = error.value.box
        touches = ((corners < (y + h, x + w)) & (corners + 256 > (y, x))).all(axis=1)
        assert touches.sum() == 4
        patches = cut(slide, corners[~touches], 256, 256)
        for patch, (top, left) in zip(patches, corners[~touches], strict=True):
            assert np.array_equal(patch.transpose(1, 2, 0), sound[top : top + 256, left : left + 256])


def test_all_damaged_places_are_told_at_once(svs):
    for index in (0, 57, 99):
        offset, count = segment(svs, index)
        overwrite(svs, offset, bytes(count))
    expected = ((0, 0, 240, 240), (1200, 1680, 240, 240), (2160, 2160, 240, 60))
    with open_slide(svs) as slide:
        with pytest.raises(TileError, match="and in 2 more places") as error:
            slide.read(0, 0, 0, *slide.shape)
        assert error.value.boxes == expected
        corners = np.array([(y, x) for y in range(0, 2967, 100) for x in range(0, 2220, 100)])
        for patch_px in (100, 50):
            with pytest.raises(TileError) as error:
                cut(slide, corners, 100, patch_px)
            assert set(error.value.boxes) == set(expected)


@pytest.mark.parametrize("compression", ["lzw", "adobe_deflate", "jpeg2000", "zstd"])
def test_a_damaged_tile_in_any_compression(tmp_path, pixels, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(64, 64), compression=compression)
    offset, count = segment(path, 4)
    overwrite(path, offset, bytes(count))
    with open_slide(path) as slide:
        with pytest.raises(TileError) as error:
            slide.read(0, 0, 0, *slide.shape)
        assert error.value.boxes == ((64, 64, 64, 64),)
        assert np.array_equal(slide.read(0, 0, 0, 64, 170), pixels[:64])


@pytest.mark.parametrize("lost", ["deleted", "shortened", "replaced"])
def test_a_slide_that_vanishes_half_way_is_not_a_damaged_tile(svs, lost):
    with open_slide(svs) as slide:
        slide.read(0, 0, 0, 300, 300)
        if lost == "deleted":
            svs.unlink()
        elif lost == "shortened":
            os.truncate(svs, 300_000)
        else:
            other = svs.with_name("other")
            shutil.copyfile(svs, other)
            os.utime(other, (1, 1))
            other.replace(svs)
        for read in (
            lambda: slide.read(0, 1000, 1000, 300, 300),
            lambda: cut(slide, np.array([(1000, 1000)]), 256, 256),
            lambda: cut(slide, np.array([(1000, 1000)]), 256, 128),
        ):
            with pytest.raises(SlideError, match=r"a\.svs: can no longer be read: ") as error:
                read()
            assert not isinstance(error.value, TileError)


def test_a_slide_that_is_cut_short_while_it_is_read(svs):
    with open_slide(svs) as slide, slide.reading():  # the file is open, as within a larger read
        os.truncate(svs, 300_000)
        with pytest.raises(SlideError, match="can no longer be read") as error:
            slide.read(0, 2000, 1000, 300, 300)
        assert not isinstance(error.value, TileError)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
def test_files_are_open_only_while_they_are_read(svs):
    def is_open() -> bool:
        links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
        return any(os.path.realpath(link) == str(svs) for link in links)

    with open_slide(svs) as slide:
        assert not is_open()
        with slide.reading():
            assert is_open()
            slide.read(0, 0, 0, 500, 500)
            assert is_open()
        assert not is_open()
        cut(slide, np.array([(0, 0)]), 256, 256)
        assert not is_open()
        assert slide.levels[0][:300, :300].compute().shape == (300, 300, 3)
        assert not is_open()


def test_a_damaged_chunk_and_a_vanished_folder(tmp_path, pixels):
    path = tmp_path / "a.ome.zarr"
    write(path, pixels, "yxc")
    (path / "s0" / "c" / "1" / "2" / "0").write_bytes(b"no chunk")
    with open_slide(path) as slide:
        with pytest.raises(TileError, match=r"a\.ome\.zarr: damaged, cannot be decoded at level 0, x=128") as error:
            slide.read(0, 0, 0, *slide.shape)
        assert error.value.boxes == ((64, 128, 64, 42),)
        assert np.array_equal(slide.read(0, 0, 0, 130, 128), pixels[:, :128])
        assert isinstance(zarr.open_group(path, mode="r"), zarr.Group)
        shutil.rmtree(path)
        with pytest.raises(SlideError, match="can no longer be read") as error:
            slide.read(0, 0, 0, 30, 30)  # not black, as chunks that were left out
        assert not isinstance(error.value, TileError)


def test_a_damaged_strip_spares_the_others(tmp_path, pixels):
    path = tmp_path / "a.tif"
    image = np.tile(pixels, (4, 4, 1))[:512, :512]
    tifffile.imwrite(path, image, photometric="rgb", compression="zlib", rowsperstrip=64, metadata=None)
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[0].dataoffsets[7], tiff.pages[0].databytecounts[7]
    overwrite(path, offset, b"\xff" * count)
    with open_slide(path) as slide:
        height, width = slide.shape
        assert (slide.read(0, 0, 0, 448, width) == image[:448]).all()
        with pytest.raises(TileError) as caught:
            slide.read(0, 0, 0, height, width)
        assert caught.value.boxes == ((448, 0, 64, width),)
        assert (slide.read(0, 100, 0, 64, width) == image[100:164]).all()
