"""Of the images in a TIFF the largest is the slide, and a label never is; tiles left out come from the finer level."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_distill2label.core.errors import SlideError, TileError
from napari_distill2label.core.notices import Notice, NoticeCode
from napari_distill2label.slides import open_slide


@pytest.fixture
def large() -> np.ndarray:
    """(520, 700, 3) smooth colours that differ everywhere."""
    y, x = np.mgrid[:520, :700]
    return np.stack([x * 0.3, y * 0.4, 255 - x * 0.2], axis=-1).astype(np.uint8)


def means(image: np.ndarray, factor: int) -> np.ndarray:
    h, w = (size // factor * factor for size in image.shape[:2])
    return np.floor(image[:h, :w].reshape(h // factor, factor, w // factor, factor, 3).mean(axis=(1, 3)) + 0.5)


@pytest.mark.parametrize("metadata", [{}, {"metadata": None}])
def test_a_thumbnail_as_first_page_is_not_the_slide(tmp_path, large, metadata):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(large[::4, ::4], photometric="rgb", resolution=(1e4, 1e4), resolutionunit="CENTIMETER", **metadata)
        tiff.write(large, photometric="rgb", tile=(64, 64), resolution=(4e4, 4e4), resolutionunit="CENTIMETER",
                   **metadata)  # fmt: skip
    with open_slide(path) as slide:
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), large)
        assert slide.mpp == pytest.approx((0.25, 0.25))
        assert list(map(str, slide.notices)) == [
            "The file holds 2 images. The largest, number 2 (700 × 520 px), is the slide."
        ]


@pytest.mark.parametrize(
    "label",
    [
        {"extratags": [(285, 2, 0, "Label", False)]},
        {"description": "label image"},
        {"description": "Aperio Image Library v10.0.50\r\nlabel 700x600"},
        {"subfiletype": 1},
    ],
)
def test_a_photograph_of_the_label_is_never_the_slide_though_it_is_larger(tmp_path, large, label):
    path = tmp_path / "a.tif"
    photograph = np.full((600, 700, 3), 90, np.uint8)
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(photograph, photometric="rgb", metadata=None, **label)
        tiff.write(large, photometric="rgb", tile=(64, 64), metadata=None)
    with open_slide(path) as slide:
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), large)
        assert "number 2 (700 × 520 px)" in str(slide.notices[0])
        if "subfiletype" not in label:
            assert list(slide.associated) == ["label"]
            assert np.array_equal(slide.associated["label"](), photograph)


def test_images_of_ome_tiff_go_by_their_names(tmp_path, large):
    path = tmp_path / "a.ome.tif"
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(np.full((800, 900, 3), 90, np.uint8), photometric="rgb", metadata={"Name": "a.svs [label image]"})
        tiff.write(large[::2, ::2], photometric="rgb", metadata={"Name": "macro image"})
        tiff.write(large, photometric="rgb", tile=(64, 64), metadata={"Name": "", **sizes})
    with open_slide(path) as slide:
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), large)
        assert slide.mpp == (0.5, 0.5)  # of this image, not of the first
        assert set(slide.associated) == {"label", "macro"}


def test_where_there_is_only_a_label_there_is_no_slide(tmp_path, large):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(large, photometric="rgb", metadata=None, description="label image")
        tiff.write(large[::2, ::3], photometric="rgb", metadata=None, description="Macro")
    with pytest.raises(SlideError, match=r"a\.tif: holds no slide, only its label and macro"):
        open_slide(path)


def test_two_slides_in_one_file_are_said(tmp_path, large):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(large, photometric="rgb", metadata={"Name": "one"})
        tiff.write(large[:, :600], photometric="rgb", metadata={"Name": "two"})
    with open_slide(path) as slide:
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), large)
        values = {"n": 2, "chosen": 1, "size": "700 × 520 px", "others": True}
        assert slide.notices == (Notice(NoticeCode.SEVERAL_IMAGES, values),)


@pytest.mark.parametrize("name", ["labelled section", "tumour-label-free", "overview of nothing", "map of Ghent"])
def test_a_name_that_only_begins_so_is_a_slide_s(tmp_path, large, name):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, large, photometric="rgb", metadata={"axes": "YXS", "Name": name})
    with open_slide(path) as slide:
        assert (slide.shape, slide.notices) == ((520, 700), ())


def write_svs(path: Path, image: np.ndarray, empty: dict[int, list[int]]) -> None:
    """As Aperio does, of three levels, 1, 2 and 4; `empty` are the tiles left out of each."""
    how = {"photometric": "rgb", "tile": (64, 64), "compression": "adobe_deflate", "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        for level in (1, 2, 4):
            small = means(image, level).astype(np.uint8)
            size = f"{small.shape[1]}x{small.shape[0]}"
            tiff.write(small, description=f"Aperio Image Library v11.2.1 \r\n{size}|AppMag = 40|MPP = 0.25", **how)
            if level == 1:
                tiff.write(image[::8, ::8], description="Aperio Image Library\r\nthumb", photometric="rgb",
                           metadata=None)  # fmt: skip
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for page, tiles in empty.items():
            tag = tiff.pages[page].tags["TileByteCounts"]
            tag.overwrite([0 if i in tiles else count for i, count in enumerate(tag.value)])


def test_tiles_left_out_of_a_coarse_level_come_from_the_finer_one(tmp_path, large):
    path = tmp_path / "a.svs"
    write_svs(path, large, {2: [0, 7], 3: [0, 1]})  # page 1 is the thumbnail
    with open_slide(path) as slide:
        assert slide.downsamples == (1.0, 2.0, 4.0)
        for level, factor in ((1, 2), (2, 4)):
            shown = slide.read(level, 0, 0, *slide.levels[level].shape[:2])
            expected = means(large, factor)
            assert np.abs(shown - expected).max() <= 1
        assert np.array_equal(slide.read(1, 20, 30, 50, 60), slide.read(1, 0, 0, 200, 200)[20:70, 30:90])
        assert np.array_equal(slide.levels[2].compute(), slide.read(2, 0, 0, *slide.levels[2].shape[:2]))


def test_what_was_left_out_of_all_levels_is_white_glass(tmp_path, large):
    path = tmp_path / "a.svs"
    write_svs(path, large, {0: [0, 1, 2, 3, *range(11, 15), *range(22, 26), *range(33, 37)],
                            2: [0, 1, 6, 7], 3: [0]})  # fmt: skip
    with open_slide(path) as slide:
        for level, factor in ((0, 1), (1, 2), (2, 4)):
            shown = slide.read(level, 0, 0, *slide.levels[level].shape[:2])
            side = 256 // factor
            assert (shown[:side, :side] == 255).all()
            assert np.abs(shown[side:] - means(large, factor)[side:]).max() <= 1


def test_damage_in_the_finer_level_is_damage_of_what_is_filled_from_it(tmp_path, large):
    path = tmp_path / "a.svs"
    write_svs(path, large, {2: [0]})
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = bytes(count)
    path.write_bytes(data)
    with open_slide(path) as slide:
        with pytest.raises(TileError, match=r"a\.svs: damaged") as error:
            slide.read(1, 0, 0, 100, 100)
        assert error.value.boxes == ((0, 0, 128, 128),)
        assert slide.read(1, 64, 0, 60, 60).shape == (60, 60, 3)


def test_a_single_strip_of_plain_bytes_is_read_where_it_is_asked_for(tmp_path, monkeypatch):
    from napari_distill2label.slides.backends import tiff_level

    image = np.random.default_rng(0).integers(0, 256, (410, 300, 3), np.uint8)
    monkeypatch.setattr(tiff_level, "_PLAIN_BYTES", 50_000)
    monkeypatch.setattr(tiff_level, "_WHOLE", 1000)
    for planar, data in (("contig", image), ("separate", image.transpose(2, 0, 1))):
        path = tmp_path / f"{planar}.tif"
        tifffile.imwrite(path, data, photometric="rgb", planarconfig=planar, rowsperstrip=410)
        with open_slide(path) as slide:
            assert slide.tiles[0] == ((55, 300) if planar == "contig" else (166, 300))
            assert np.array_equal(slide.read(0, 0, 0, 410, 300), image)
            assert np.array_equal(slide.read(0, 50, 7, 120, 90), image[50:170, 7:97])
