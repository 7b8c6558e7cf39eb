"""Chunks that are not there: left out because they are blank, or lost; the other levels tell which."""

import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_distill2label.core.errors import SlideError, TileError
from napari_distill2label.slides import open_slide


@pytest.fixture
def large() -> np.ndarray:
    """(256, 384, 3) smooth colours, none of them blank."""
    y, x = np.mgrid[:256, :384]
    return np.stack([20 + x * 0.5, 20 + y * 0.8, 220 - x * 0.4], axis=-1).astype(np.uint8)


def means(image: np.ndarray, factor: int) -> np.ndarray:
    h, w = (size // factor for size in image.shape[:2])
    return np.floor(image.reshape(h, factor, w, factor, 3).mean(axis=(1, 3)) + 0.5).astype(np.uint8)


def write(path: Path, image: np.ndarray, factors: tuple[int, ...] = (1, 2, 4), version: int = 2, fill: int = 0, **how):
    """Levels with chunks of 64 px; those that are all `fill` are left out, as zarr does."""
    group = zarr.create_group(path, zarr_format=version, overwrite=True)
    for factor in factors:
        level = means(image, factor)
        array = group.create_array(
            str(factor), shape=level.shape, dtype="u1", chunks=how.get("chunks", (64, 64, 3)), fill_value=fill,
            shards=how.get("shards"),
        )  # fmt: skip
        array[...] = level
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"] + [{"name": "c", "type": "channel"}]
    datasets = [
        {"path": str(factor), "coordinateTransformations": [{"type": "scale", "scale": [factor / 2, factor / 2, 1]}]}
        for factor in factors
    ]
    metadata = {"multiscales": [{"axes": axes, "datasets": datasets}]}
    group.attrs.update({"ome": {"version": "0.5", **metadata}} if version == 3 else metadata)


def chunk(path: Path, level: int, *number: int) -> Path:
    """The file of a chunk, in either format."""
    flat = path / str(level) / ".".join(map(str, number))
    return flat if flat.is_file() else path.joinpath(str(level), "c", *map(str, number))


@pytest.mark.parametrize("version", [2, 3])
def test_a_lost_chunk_is_damage_and_spares_the_rest(tmp_path, large, version):
    path = tmp_path / "a.zarr"
    write(path, large, version=version)
    chunk(path, 1, 2, 3, 0).unlink()
    with open_slide(path) as slide:
        assert "Chunks are missing (1 of 24 of level 0), left out by the writer or lost" in str(slide.notices[0])
        with pytest.raises(TileError, match=r"a\.zarr: damaged, cannot be decoded at level 0, x=192, y=128") as error:
            slide.read(0, 100, 150, 80, 80)
        assert error.value.boxes == ((128, 192, 64, 64),)
        assert "a chunk is missing, and the other levels do not show that it is blank" in str(error.value)
        assert np.array_equal(slide.read(0, 0, 0, 128, 384), large[:128])
        assert np.array_equal(slide.read(1, 0, 0, 128, 192), means(large, 2))


def test_a_lost_shard_is_damage(tmp_path, large):
    path = tmp_path / "a.zarr"
    write(path, large, version=3, chunks=(32, 32, 3), shards=(64, 64, 3))
    chunk(path, 1, 2, 3, 0).unlink()
    with open_slide(path) as slide:
        assert "1 of 24 of level 0" in str(slide.notices[0])
        with pytest.raises(TileError) as error:
            slide.read(0, 130, 200, 5, 5)
        assert error.value.boxes == ((128, 192, 64, 64),)


def test_a_lost_plane_of_one_colour_is_damage(tmp_path, large):
    path = tmp_path / "a.zarr"
    write(path, large, chunks=(64, 64, 1))
    chunk(path, 1, 0, 1, 2).unlink()
    with open_slide(path) as slide, pytest.raises(TileError) as error:
        slide.read(0, 0, 0, 64, 200)
    assert error.value.boxes == ((0, 64, 64, 64),)


def test_chunks_lost_from_a_coarse_level_come_from_the_finer_one(tmp_path, large):
    path = tmp_path / "a.zarr"
    write(path, large)
    chunk(path, 2, 1, 1, 0).unlink()
    shutil.rmtree(path / "4")
    write(tmp_path / "b.zarr", large)
    shutil.copytree(tmp_path / "b.zarr" / "4", path / "4", ignore=shutil.ignore_patterns("[0-9]*"))
    with open_slide(path) as slide:
        assert "1 of 6 of level 1, 2 of 2 of level 2" in str(slide.notices[0])
        assert np.array_equal(slide.read(1, 0, 0, 128, 192), means(large, 2))
        assert np.abs(slide.read(2, 0, 0, 64, 96).astype(int) - means(large, 4)).max() <= 1
        assert np.array_equal(slide.read(1, 70, 60, 30, 40), means(large, 2)[70:100, 60:100])


@pytest.mark.parametrize("fill", [0, 255])
@pytest.mark.parametrize("version", [2, 3])
def test_what_a_writer_left_out_is_blank(tmp_path, large, fill, version):
    path = tmp_path / "a.zarr"
    large[64:192, :256] = fill  # of level 0 eight chunks, of level 1 one or two
    write(path, large, version=version, fill=fill)
    with open_slide(path) as slide:
        assert "8 of 24 of level 0" in str(slide.notices[0])
        for index, factor in enumerate((1, 2, 4)):
            assert np.array_equal(slide.read(index, 0, 0, *slide.levels[index].shape[:2]), means(large, factor))


def test_a_slide_without_any_other_level_cannot_tell(tmp_path, large):
    large[:64, :64] = 0
    write(tmp_path / "a.zarr", large, factors=(1,))
    with open_slide(tmp_path / "a.zarr") as slide:
        assert "else counts as damaged" in str(slide.notices[0])
        with pytest.raises(TileError) as error:
            slide.read(0, 0, 0, 256, 384)
        assert error.value.boxes == ((0, 0, 64, 64),)
        assert np.array_equal(slide.read(0, 64, 0, 192, 384), large[64:])


def test_chunks_that_are_there_and_black_are_black(tmp_path, large):
    path = tmp_path / "a.zarr"
    large[:64, :64] = 0
    with zarr.config.set({"array.write_empty_chunks": True}):
        write(path, large, factors=(1,))
    with open_slide(path) as slide:
        assert slide.notices == ()
        assert np.array_equal(slide.read(0, 0, 0, 256, 384), large)


def test_a_folder_without_any_chunk_is_no_slide(tmp_path, large):
    path = tmp_path / "a.zarr"
    write(path, large)
    for level in ("1", "2", "4"):
        for file in (path / level).glob("[0-9]*"):
            file.unlink()
    with pytest.raises(SlideError, match=r"a\.zarr: its pixels are missing, none of its chunks is there: copy the"):
        open_slide(path)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Of a web server of the test's folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_chunk_that_a_server_lost_is_damage_and_one_left_out_is_blank(tmp_path, large, url):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install -e '.[slides]'")
    large[64:192, :256] = 0
    write(tmp_path / "a.zarr", large)
    chunk(tmp_path / "a.zarr", 1, 0, 5, 0).unlink()
    with open_slide(f"{url}/a.zarr") as slide:
        assert np.array_equal(slide.read(0, 0, 0, 256, 320), large[:, :320])
        with pytest.raises(TileError) as error:
            slide.read(0, 0, 300, 50, 84)
        assert error.value.boxes == ((0, 320, 64, 64),)
