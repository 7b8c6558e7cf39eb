import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from napari_distill2label.core.errors import SlideError, TileError
from napari_distill2label.slides import open_slide


def read_all(path: Path) -> np.ndarray:
    with open_slide(path) as slide:
        return slide.read(0, 0, 0, *slide.shape)


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "rgb"},
        {"photometric": "rgb", "rowsperstrip": 7, "compression": "lzw"},
        {"photometric": "rgb", "tile": (64, 48), "compression": "adobe_deflate", "predictor": True},
        {"photometric": "rgb", "tile": (64, 64), "compression": "jpeg2000"},
        {"photometric": "rgb", "tile": (64, 64), "compression": "jpeg"},
        {"photometric": "ycbcr", "tile": (64, 64), "compression": "jpeg", "subsampling": (2, 2)},
        {"photometric": "rgb", "bigtiff": True, "byteorder": ">"},
    ],
)
def test_pixels_are_those_tifffile_reads(tmp_path, pixels, options):
    path = tmp_path / "mit Leerzeichen é.tif"
    tifffile.imwrite(path, pixels, **options)
    expected = tifffile.imread(path)
    with open_slide(path) as slide:
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), expected)
        assert np.array_equal(slide.read(0, 50, 40, 33, 70), expected[50:83, 40:110])
        assert np.array_equal(slide.levels[0].compute(), expected)


def test_other_layouts_become_rgb(tmp_path, pixels):
    tifffile.imwrite(tmp_path / "planar.tif", pixels.transpose(2, 0, 1), photometric="rgb", planarconfig="separate",
                     tile=(64, 64))  # fmt: skip
    assert np.array_equal(read_all(tmp_path / "planar.tif"), pixels)
    grey = pixels[..., 0]
    tifffile.imwrite(tmp_path / "grey.tif", grey)
    assert np.array_equal(read_all(tmp_path / "grey.tif"), pixels[..., [0, 0, 0]])
    tifffile.imwrite(tmp_path / "inverted.tif", grey, photometric="miniswhite")
    assert np.array_equal(read_all(tmp_path / "inverted.tif"), 255 - pixels[..., [0, 0, 0]])
    colours = np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "palette.tif", grey, photometric="palette", colormap=colours * 257)
    assert np.array_equal(read_all(tmp_path / "palette.tif"), colours.T[grey])
    rgba = np.dstack([pixels, np.full_like(grey, 255)])
    tifffile.imwrite(tmp_path / "rgba.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(read_all(tmp_path / "rgba.tif"), pixels)


def write_pyramid(path: Path, image: np.ndarray, **metadata) -> list[np.ndarray]:
    levels = [image, image[::2, ::2], image[::4, ::4]]
    with tifffile.TiffWriter(path, ome=".ome." in path.name) as tiff:
        for index, level in enumerate(levels):
            tiff.write(level, photometric="rgb", tile=(64, 64), subifds=2 if index == 0 else None,
                       subfiletype=int(index > 0), metadata=metadata if index == 0 else None)  # fmt: skip
    return levels


def test_an_ome_tiff_pyramid_with_anisotropic_pixels(tmp_path, pixels):
    path = tmp_path / "Fall 7 ß.ome.tif"
    size = {"PhysicalSizeX": 250.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    levels = write_pyramid(path, pixels, axes="YXS", **size)
    with open_slide(path) as slide:
        assert slide.name == "Fall 7 ß"
        assert slide.mpp == pytest.approx((0.5, 0.25))
        assert slide.downsamples == (1.0, 2.0, 4.0)
        for index, level in enumerate(levels):
            assert np.array_equal(slide.levels[index].compute(), level)


@pytest.mark.parametrize(
    ("resolution", "unit", "mpp"),
    [((20_000, 40_000), "CENTIMETER", (0.25, 0.5)), ((25_400, 25_400), "INCH", (1.0, 1.0)), ((1, 1), "INCH", None)],
)
def test_mpp_from_resolution_tags(tmp_path, pixels, resolution, unit, mpp):
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", resolution=resolution, resolutionunit=unit)
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.mpp == (None if mpp is None else pytest.approx(mpp, rel=1e-4))
        assert ["not square" in note for note in map(str, slide.notices)] == (
            [True] if mpp and mpp[0] != mpp[1] else []
        )


@pytest.mark.parametrize(("dpi", "said"), [(72, "352.8"), (300, "84.67")])
def test_screen_and_print_resolutions_are_reported_and_unknown(tmp_path, pixels, dpi, said):
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", resolution=(dpi, dpi), resolutionunit="INCH")
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.mpp is None
        assert len(slide.notices) == 1
        assert f"{said} µm/px" in str(slide.notices[0])
        assert slide.with_mpp(0.5).mpp == (0.5, 0.5)
    with open_slide(tmp_path / "a.tif", mpp=0.25) as slide:
        assert (slide.mpp, slide.notices) == ((0.25, 0.25), ())


@pytest.mark.parametrize("image", [np.zeros((60, 60, 3), np.uint16), np.zeros((5, 60, 60), np.uint8)])
def test_what_is_not_brightfield_is_said(tmp_path, image):
    tifffile.imwrite(tmp_path / "f.ome.tif", image, metadata={"axes": "CYX" if image.shape[0] == 5 else "YXS"})
    with pytest.raises(SlideError, match=r"f\.ome\.tif: not an 8-bit RGB brightfield image \(.*(16 bits|5 channels)"):
        open_slide(tmp_path / "f.ome.tif")


def test_three_fluorescence_channels_are_not_rgb(tmp_path, pixels):
    planes = pixels.transpose(2, 0, 1)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, planes, photometric="minisblack", metadata={"axes": "CYX", "Channel": {"Name": ["r", "g", "b"]}}
    )
    assert np.array_equal(read_all(path), pixels)
    names = ["DAPI", "CD3", "CD8"]
    tifffile.imwrite(path, planes, photometric="minisblack", metadata={"axes": "CYX", "Channel": {"Name": names}})
    with pytest.raises(SlideError, match=r"not a brightfield image: .*dapi, cd3, cd8.*allow_non_brightfield"):
        open_slide(path)
    with open_slide(path, allow_non_brightfield=True) as slide:
        assert not slide.brightfield
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), pixels)


def test_a_truncated_file_is_said_when_it_is_opened(tmp_path, pixels):
    path = tmp_path / "cut short.tif"
    write_pyramid(path, pixels)
    data = path.read_bytes()
    for kept in (len(data) * 3 // 4, len(data) // 10, 6):
        path.write_bytes(data[:kept])
        with pytest.raises(SlideError, match=r"cut short\.tif: (truncated|cannot be read)") as error:
            open_slide(path)
        assert "\n" not in str(error.value)


def test_a_damaged_tile_names_file_and_region_and_spares_the_rest(tmp_path, pixels):
    path = tmp_path / "damaged.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(64, 64), compression="jpeg")
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[0].dataoffsets[-1], tiff.pages[0].databytecounts[-1]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = bytes(count)
    path.write_bytes(data)
    with open_slide(path) as slide:
        assert slide.read(0, 0, 0, 64, 64).shape == (64, 64, 3)
        with pytest.raises(
            SlideError, match=r"damaged\.tif: damaged, cannot be decoded at level 0, x=128, y=128, 42 × 2 px"
        ) as error:
            slide.read(0, 128, 130, 2, 10)
        assert isinstance(error.value, TileError)
        assert error.value.boxes == ((128, 128, 2, 42),)
        with pytest.raises(SlideError, match=r"damaged\.tif"):
            slide.levels[0].compute()


def test_tiles_the_scanner_left_out_are_white(tmp_path, pixels):
    path = tmp_path / "sparse.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(64, 64), compression="adobe_deflate")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tag = tiff.pages[0].tags["TileByteCounts"]
        tag.overwrite((0, *tag.value[1:]))
    image = read_all(path)
    assert (image[:64, :64] == 255).all()
    assert np.array_equal(image[64:], pixels[64:])


def test_two_threads_read_the_same_pixels(tmp_path):
    image = np.random.default_rng(2).integers(0, 256, (512, 512, 3), np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, photometric="rgb", tile=(64, 64), compression="adobe_deflate")
    wrong = []
    with open_slide(path) as slide:

        def walk(seed: int) -> None:
            for y, x in np.random.default_rng(seed).integers(0, 400, (60, 2)):
                if not np.array_equal(slide.read(0, y, x, 100, 100), image[y : y + 100, x : x + 100]):
                    wrong.append((y, x))

        threads = [threading.Thread(target=walk, args=(seed,)) for seed in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.slow
def test_threads_that_want_an_untiled_image_do_not_wait_for_one_another_for_ever(tmp_path, pixels):
    """One decodes all of it and the others wait: for it, but it must not wait for the pool that is full of them."""
    tifffile.imwrite(tmp_path / "a.tif", np.tile(pixels, (8, 8, 1)), photometric="rgb", rowsperstrip=8)
    code = """if True:
        import sys, time, threading, numpy as np
        from napari_distill2label.slides import open_slide, threads
        from napari_distill2label.slides.cutting import cut
        threads.workers = lambda: 2
        slide, free = open_slide(sys.argv[1]), threading.Event()
        for _ in range(2):
            threads._pool().submit(free.wait)  # both threads of the pool have something to do
        cutting = lambda: cut(slide, np.array([(0, 0), (970, 1200)]), 64, 64)
        reading = lambda: slide.read(0, 0, 0, *slide.shape)
        for work in (cutting, reading):
            threading.Thread(target=work).start()
            time.sleep(0.3)
        free.set()
    """
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.tif"], check=True, timeout=50)


def write_svs(path: Path, image: np.ndarray, compression: int) -> None:
    """As Aperio writes JPEG 2000: tiles of 240 px of bare codestream, as R, G, B (33005) or Y, Cb, Cr (33003)."""

    def tiles() -> Iterator[bytes]:
        stored = image if compression == 33005 else np.asarray(Image.fromarray(image).convert("YCbCr"))
        for y in range(0, image.shape[0], 240):
            for x in range(0, image.shape[1], 240):
                tile = np.zeros((240, 240, 3), np.uint8)
                part = stored[y : y + 240, x : x + 240]
                tile[: part.shape[0], : part.shape[1]] = part
                yield imagecodecs.jpeg2k_encode(tile, level=0, codecformat="j2k", mct=compression == 33005)

    size = f"{image.shape[1]}x{image.shape[0]}"
    description = f"Aperio Image Library v11.2.1 \r\n{size} [0,0 {size}] (240x240) J2K|AppMag = 40|MPP = 0.2522"
    tifffile.imwrite(
        path, tiles(), shape=image.shape, dtype=np.uint8, tile=(240, 240), photometric="rgb",
        compression=compression, description=description, metadata=None,
    )  # fmt: skip


@pytest.mark.parametrize("compression", [33005, 33003])
def test_aperio_jpeg_2000(tmp_path, data_dir, compression):
    openslide = pytest.importorskip("openslide", reason="OpenSlide is not installed: pip install -e '.[slides]'")
    image = tifffile.imread(data_dir / "slides" / "CMU-1-Small-Region.svs", series=0)[:500, :700]
    write_svs(tmp_path / "a.svs", image, compression)
    direct = openslide.OpenSlide(tmp_path / "a.svs")
    assert direct.properties["openslide.vendor"] == "aperio"
    with open_slide(tmp_path / "a.svs") as slide:
        assert slide.mpp == pytest.approx((0.2522, 0.2522))
        pixels = slide.read(0, 0, 0, *slide.shape)
    assert np.array_equal(pixels, np.asarray(direct.read_region((0, 0), 0, direct.dimensions))[..., :3])
    assert np.abs(pixels.astype(int) - image).max() <= (0 if compression == 33005 else 4)


def test_aperio_ycbcr_without_openslide_says_what_to_install(tmp_path, pixels, without_openslide):
    write_svs(tmp_path / "a.svs", pixels, 33003)
    said = without_openslide(tmp_path / "a.svs")
    assert "needs OpenSlide: pip install" in said
    assert "Aperio JPEG 2000 in Y, Cb, Cr" in said


def test_a_multichannel_qptiff_is_said_with_its_channels(tmp_path, pixels):
    path = tmp_path / "a.qptiff"
    with tifffile.TiffWriter(path) as tiff:
        for name in ("DAPI", "CD8", "PanCK", "Autofluorescence"):
            xml = f'<?xml version="1.0"?><PerkinElmer-QPI-ImageDescription><Biomarker>{name}</Biomarker>'
            tiff.write(
                pixels[..., 0], software="PerkinElmer-QPI", metadata=None, tile=(64, 64),
                description=xml + "<ImageType>FullResolution</ImageType></PerkinElmer-QPI-ImageDescription>",
            )  # fmt: skip
    said = r"a\.qptiff: not an 8-bit RGB brightfield image \(4 channels of 8 bits.*dapi, cd8, panck, autofluorescence"
    for allow_non_brightfield in (False, True):  # there are no colours to show
        with pytest.raises(SlideError, match=said):
            open_slide(path, allow_non_brightfield=allow_non_brightfield)


def test_the_icc_profile_is_noted_and_changes_nothing(tmp_path, pixels):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", iccprofile=profile)
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.icc == profile
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), pixels)


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "CMU-1-Small-Region.jpeg.tiff", "kidney-48-5.tif",
                                  "hamamatsu_test3-DAPI-2-387.ndpi"])  # fmt: skip
def test_real_slides_have_the_pixels_of_openslide_and_tifffile(data_dir, name):
    openslide = pytest.importorskip("openslide", reason="OpenSlide is not installed: pip install -e '.[slides]'")
    path = data_dir / "slides" / name
    direct = openslide.open_slide(path)  # of a plain image, Pillow's pixels
    with open_slide(path, allow_non_brightfield=True) as slide:
        for index, (width, height) in enumerate(direct.level_dimensions[:4]):
            assert slide.levels[index].shape[:2] == (height, width)
            pixels = slide.read(index, 0, 0, height, width)
            assert np.array_equal(pixels, tifffile.imread(path, series=0, level=index)[..., :3])
            scale = round(direct.level_downsamples[index])
            for y, x in ((0, 0), (height // 2, width // 3)):
                region = direct.read_region((x * scale, y * scale), index, (min(900, width - x), min(900, height - y)))
                assert np.array_equal(np.asarray(region)[..., :3], pixels[y : y + 900, x : x + 900])


def test_images_beside_a_real_svs(data_dir):
    path = data_dir / "slides" / "CMU-1-Small-Region.svs"
    with open_slide(path) as slide, tifffile.TiffFile(path) as tiff:
        assert list(slide.associated) == ["thumbnail", "label", "macro"]
        for series in tiff.series[1:]:
            assert np.array_equal(slide.associated[series.name.lower()](), series.asarray())


def test_a_real_svs(data_dir: Path):
    path = data_dir / "slides" / "CMU-1-Small-Region.svs"
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx((0.499, 0.499))
        assert slide.shape == (2967, 2220)
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), tifffile.imread(path, series=0))
        assert max(slide.levels[-1].shape[:2]) <= 1024


def test_a_real_tiff_whose_resolution_is_a_hundred_times_too_small(data_dir: Path):
    with open_slide(data_dir / "slides" / "CMU-1-Small-Region.jpeg.tiff") as slide:
        assert slide.mpp is None
        assert "0.00499 µm/px" in str(slide.notices[0])


def test_a_real_fluorescence_ndpi_is_said_and_read_by_force(data_dir: Path):
    path = data_dir / "slides" / "hamamatsu_test3-DAPI-2-387.ndpi"
    with pytest.raises(
        SlideError,
        match=r"387\.ndpi: This is not a brightfield image: fluorescence, filter DAPI.*allow_non",
    ):
        open_slide(path)
    with open_slide(path, allow_non_brightfield=True) as slide:
        assert slide.brightfield is False
        assert "fluorescence" in str(slide.notices[0])
        assert set(slide.associated) == {"macro", "map"}
        assert slide.associated["macro"]().shape == (406, 1188, 3)
        assert "fluorescence" in str(slide.with_mpp(0.5).notices[0])
        assert slide.downsamples == (1.0, 2.0, 4.0, 8.0)
        assert slide.mpp == pytest.approx((0.2282, 0.2282), abs=1e-4)


def test_real_plain_tiffs(data_dir: Path):
    with open_slide(data_dir / "slides" / "kidney-48-5.tif") as slide:
        assert (slide.shape, slide.mpp, slide.notices) == ((901, 1493), None, ())
    path = min((data_dir / "breast").glob("*.tif"))
    with open_slide(path) as slide:
        assert (slide.shape, slide.mpp) == ((768, 896), None)
        assert "352.8" in str(slide.notices[0])  # 72 dpi
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), tifffile.imread(path))
