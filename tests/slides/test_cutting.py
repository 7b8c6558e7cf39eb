from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_distill2label.slides import Slide, open_slide
from napari_distill2label.slides.backends.files import SharedFile
from napari_distill2label.slides.cutting import cut, level_for, read_reflected


@pytest.mark.parametrize("shape", [(40, 60), (1, 7), (2, 3)])
def test_reflection_is_numpys(make_slide, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    pad = 13
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    slide = make_slide(image)
    assert np.array_equal(read_reflected(slide, 0, -pad, -pad, *padded.shape[:2]), padded)
    assert np.array_equal(read_reflected(slide, 0, -pad, -2, 5, 3), padded[:5, pad - 2 : pad + 1])


def naive(image: np.ndarray, corners: np.ndarray, side: int) -> np.ndarray:
    padded = np.pad(image, ((side, side), (side, side), (0, 0)), mode="reflect")
    return np.stack([padded[y + side : y + 2 * side, x + side : x + 2 * side].transpose(2, 0, 1) for y, x in corners])


@pytest.mark.parametrize("kind", ["grid", "points"])
def test_patches_are_those_cut_one_by_one(make_slide, kind):
    image = np.random.default_rng(0).integers(0, 256, (1500, 1700, 3), np.uint8)
    slide, side = make_slide(image), 27
    if kind == "grid":
        corners = np.stack(np.meshgrid(np.arange(-13, 1490, 27), np.arange(0, 1690, 54), indexing="ij"), -1).reshape(
            -1, 2
        )
    else:
        corners = np.random.default_rng(1).integers(-13, (1487, 1687), (500, 2))
    patches = cut(slide, corners, side, side)
    assert patches.shape == (len(corners), 3, side, side)
    assert patches.dtype == np.uint8
    assert patches.transpose(0, 2, 3, 1).flags.c_contiguous  # colours together, as convolutions read them
    assert np.array_equal(patches, naive(image, corners, side))
    assert cut(slide, np.empty((0, 2)), side, side).shape == (0, 3, side, side)


def test_neighbours_are_read_once_and_far_points_apart(make_slide, monkeypatch):
    slide = make_slide(np.zeros((4000, 4000, 3), np.uint8))
    read = []

    def counted(self: Slide, level: int, y: int, x: int, h: int, w: int) -> np.ndarray:
        read.append(h * w)
        return self._lazy[level].read(int(y), int(x), int(h), int(w))

    monkeypatch.setattr(Slide, "read", counted)
    cut(slide, np.array([(0, 0), (3900, 3900), (5, 9), (0, 3900)]), 32, 32)
    assert len(read) == 3
    assert sum(read) < 5000
    read.clear()
    grid = np.stack(np.meshgrid(np.arange(0, 4000, 32), np.arange(0, 4000, 32), indexing="ij"), -1).reshape(-1, 2)
    cut(slide, grid, 32, 32)
    assert sum(read) == 4000**2


@pytest.mark.parametrize(("side", "patch_px"), [(100, 100), (100, 50), (33, 40)])
def test_every_tile_is_decoded_once(tmp_path, monkeypatch, side, patch_px):
    """Within one call, and by calls that follow one another along a grid."""
    image = np.random.default_rng(0).integers(0, 256, (1500, 1700, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", tile=(240, 240), compression="adobe_deflate")
    decoded = []
    at = SharedFile.at
    monkeypatch.setattr(SharedFile, "at", lambda self, offset, count: decoded.append(offset) or at(self, offset, count))
    corners = np.stack(np.meshgrid(np.arange(0, 1500, side), np.arange(0, 1700, side), indexing="ij"), -1)
    with open_slide(tmp_path / "a.tif") as slide:
        together = cut(slide, corners.reshape(-1, 2), side, patch_px)
        assert len(decoded) == len(set(decoded)) == 7 * 8
    decoded.clear()
    with open_slide(tmp_path / "a.tif") as slide:
        by_rows = np.concatenate([cut(slide, row, side, patch_px) for row in corners])
        assert len(decoded) == len(set(decoded)) == 7 * 8
    assert np.array_equal(together, by_rows)


def test_threads_cut_the_same_patches(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (1200, 1300, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", tile=(64, 64), compression="lzw")
    corners = np.random.default_rng(1).integers(-20, 1200, (4, 300, 2))
    with open_slide(tmp_path / "a.tif") as slide, ThreadPoolExecutor(4) as pool:
        for each, patches in zip(corners, pool.map(lambda some: cut(slide, some, 64, 64), corners), strict=True):
            assert np.array_equal(patches, naive(image, each, 64))


def write_gradient_pyramid(path, size: int = 1024, factors: tuple[int, ...] = (1, 4, 16)) -> np.ndarray:
    """A pyramid of a smooth image whose value is its place: red follows x, green y, blue the level."""
    y, x = np.mgrid[:size, :size]
    image = np.dstack([x * 255.0 / size, y * 255.0 / size, np.zeros((size, size))])
    with tifffile.TiffWriter(path) as tiff:
        for index, f in enumerate(factors):
            level = image.reshape(size // f, f, size // f, f, 3).mean(axis=(1, 3))
            level[..., 2] = 100 * index
            below = len(factors) - 1 if index == 0 else None
            tiff.write(np.round(level).astype(np.uint8), photometric="rgb", tile=(64, 64), subifds=below,
                       subfiletype=int(index > 0))  # fmt: skip
    return image


@pytest.mark.parametrize(
    ("side", "patch_px", "level"), [(54, 27, 0), (30, 27, 0), (20, 27, 0), (108, 27, 1), (640, 32, 2)]
)
def test_resampled_patches_lie_where_they_should(tmp_path, side, patch_px, level):
    image = write_gradient_pyramid(tmp_path / "a.tif")
    corners = np.array([(0, 0), (100, 333), (301, 77), (1024 - side, 1024 - side)])
    with open_slide(tmp_path / "a.tif") as slide:
        assert level_for(slide, side / patch_px) == level
        patches = cut(slide, corners, side, patch_px)
    assert (patches[:, 2] == 100 * level).all()
    # The centre of model pixel i is at level-0 pixel corner + (i + ½) · side / patch − ½.
    centres = (np.arange(patch_px) + 0.5) * side / patch_px - 0.5
    for patch, (y, x) in zip(patches, corners, strict=True):
        inner = slice(2, -2)  # at the slide's border the reflection bends the gradient
        red, green = (x + centres) * 255 / image.shape[1], (y + centres) * 255 / image.shape[0]
        assert np.abs(patch[0].mean(axis=0) - red)[inner].max() < 1
        assert np.abs(patch[1].mean(axis=1) - green)[inner].max() < 1


def test_a_resampled_patch_does_not_depend_on_its_company(make_slide, pixels):
    slide = make_slide(pixels)
    corners = np.array([(-20, -20), (3, 7), (50, 60), (100, 140)])
    together = cut(slide, corners, 41, 27)
    alone = np.concatenate([cut(slide, corner[None], 41, 27) for corner in corners])
    assert np.array_equal(together, alone)


def test_reduction_does_not_alias(make_slide):
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    patch = cut(make_slide(stripes), np.array([(100, 100)]), 128, 32)
    assert np.abs(patch.astype(int) - 127).max() <= 3


def test_enlarging_is_interpolation(make_slide, pixels):
    patch = cut(make_slide(pixels), np.array([(20, 30)]), 16, 32)[0].transpose(1, 2, 0)
    whole = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR, box=(30, 20, 46, 36))
    assert np.abs(patch.astype(int) - np.asarray(whole)).max() <= 1
