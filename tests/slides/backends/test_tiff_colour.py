"""What is grey, indexed, transparent or stored as inks becomes R, G, B; what nothing explains is refused, or told."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.notices import Notice, NoticeCode
from napari_distill2label.slides import open_slide

NOT_RGB = "not an 8-bit RGB brightfield image"


def read_all(path: Path) -> np.ndarray:
    with open_slide(path) as slide:
        return slide.read(0, 0, 0, *slide.shape)


def composed(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.floor(colours * share + 255 * (1 - share) + 0.5)


@pytest.mark.parametrize("layout", [{}, {"tile": (64, 64), "compression": "lzw"}, {"planarconfig": "separate"}])
@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha"])
def test_what_is_transparent_lies_on_white(tmp_path, pixels, alpha, layout):
    opacity = np.random.default_rng(3).integers(0, 256, pixels.shape[:2], np.uint8)
    opacity[:40], opacity[40:80] = 0, 255
    stored = pixels if alpha == "unassalpha" else np.floor(pixels * (opacity[..., None] / 255)).astype(np.uint8)
    data = np.dstack([stored, opacity])
    if layout.get("planarconfig"):
        data = data.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", extrasamples=[alpha], **layout)
    shown = read_all(tmp_path / "a.tif")
    assert (shown[:40] == 255).all()
    assert np.array_equal(shown[40:80], pixels[40:80])
    assert np.abs(shown - composed(pixels, opacity)).max() <= 1


def test_grey_with_opacity_and_inverted_grey_with_opacity(tmp_path, pixels):
    grey, opacity = pixels[..., 0], pixels[..., 1]
    for photometric, colours in (("minisblack", grey), ("miniswhite", 255 - grey)):
        path = tmp_path / f"{photometric}.tif"
        tifffile.imwrite(path, np.dstack([grey, opacity]), photometric=photometric, planarconfig="contig",
                         extrasamples=["unassalpha"])  # fmt: skip
        assert np.abs(read_all(path) - composed(colours[..., None].repeat(3, axis=2), opacity)).max() <= 1


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "raw"])
def test_inks_are_turned_into_colours_as_pillow_does_and_it_is_said(tmp_path, pixels, compression):
    path = tmp_path / "a.tif"
    Image.fromarray(pixels).convert("CMYK").save(path, compression=compression)
    with open_slide(path) as slide:
        assert slide.notices == (Notice(NoticeCode.CMYK),)
        shown = slide.read(0, 0, 0, *slide.shape)
    with Image.open(path) as image:
        assert np.abs(shown.astype(int) - np.asarray(image.convert("RGB"))).max() <= 1


def test_brightness_and_colour_differences_are_turned_into_colours(tmp_path, pixels):
    stored = np.asarray(Image.fromarray(pixels).convert("YCbCr"))
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="ycbcr", compression="lzw", subsampling=(1, 1))
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.notices == (Notice(NoticeCode.YCBCR),)
        shown = slide.read(0, 0, 0, *slide.shape)
    assert np.abs(shown.astype(int) - np.asarray(Image.fromarray(stored, "YCbCr").convert("RGB"))).max() <= 1
    assert np.abs(shown.astype(int) - pixels).max() <= 4  # what Y, Cb, Cr round away


def test_the_file_s_own_coefficients_count(tmp_path):
    from napari_distill2label.slides.backends.colour import from_ycbcr

    grey = np.full((2, 2, 3), (16, 128, 128), np.uint8)
    assert (from_ycbcr(grey, reference=(16, 235, 128, 240, 128, 240)) == 0).all()  # the narrow range of video
    red = np.full((1, 1, 3), (54, 99, 255), np.uint8)  # of Rec. 709
    assert from_ycbcr(red, luma=(0.2126, 0.7152, 0.0722))[0, 0].tolist() == pytest.approx([255, 0, 0], abs=3)


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_of_either_depth_are_looked_up(tmp_path, pixels, bits):
    table = np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16)
    stored = table if bits == 8 else table * 257
    tifffile.imwrite(tmp_path / "a.tif", pixels[..., 0], photometric="palette", colormap=stored)
    with open_slide(tmp_path / "a.tif") as slide:
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), table.T[pixels[..., 0]])
        assert [("8-bit" in notice) for notice in map(str, slide.notices)] == ([True] if bits == 8 else [])


@pytest.mark.parametrize(
    ("axes", "name", "photometric"),
    [("ZYX", "a.tif", "minisblack"), ("TYX", "a.ome.tif", "minisblack"), ("ZYX", "a.ome.tif", "minisblack")],
)
def test_three_planes_of_a_stack_are_no_colours(tmp_path, pixels, axes, name, photometric):
    tifffile.imwrite(tmp_path / name, pixels.transpose(2, 0, 1), photometric=photometric, metadata={"axes": axes})
    for allow_non_brightfield in (False, True):
        with pytest.raises(SlideError, match=rf"{NOT_RGB} \(a stack along axes other than y and x: {axes[0]} 3\)"):
            open_slide(tmp_path / name, allow_non_brightfield=allow_non_brightfield)


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "minisblack"},
        {"photometric": "minisblack", "metadata": None},
        {"photometric": "minisblack", "metadata": {"axes": "CYX"}},
        {"photometric": "minisblack", "metadata": {"axes": "CYX"}, "ome": True},
        {"photometric": "minisblack", "planarconfig": "separate"},
        {"photometric": "minisblack", "imagej": True, "metadata": {"axes": "CYX"}},
        {"photometric": "minisblack", "ome": True, "metadata": {"axes": "CYX", "Channel": {"Name": ["b", "g", "r"]}}},
        {"photometric": "minisblack", "ome": True,
         "metadata": {"axes": "CYX", "Channel": {"Name": ["Rhodamine", "GFP", "BFP"]}}},
    ],
)  # fmt: skip
def test_three_grey_channels_are_colours_only_where_the_file_says_so(tmp_path, pixels, options):
    path = tmp_path / ("a.ome.tif" if options.get("ome") else "a.tif")
    tifffile.imwrite(path, np.ascontiguousarray(pixels.transpose(2, 0, 1)), **options)
    with pytest.raises(SlideError, match=r"not a brightfield image: 3 channels of 8 bits, minisblack"):
        open_slide(path)
    with open_slide(path, allow_non_brightfield=True) as slide:
        assert not slide.brightfield
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), pixels)


def test_channels_that_ome_calls_red_green_and_blue_or_shows_so_are_colours(tmp_path, pixels):
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    for channel in ({"Name": ["Red", "Green", "Blue"]}, {"Color": [-16776961, 16711935, 65535]}):
        path = tmp_path / "a.ome.tif"
        tifffile.imwrite(path, planes, photometric="minisblack", metadata={"axes": "CYX", "Channel": channel})
        assert np.array_equal(read_all(path), pixels)


@pytest.mark.parametrize("extra", [["unspecified"], ["unspecified"] * 2])
def test_a_channel_that_nothing_explains_is_not_left_out_unsaid(tmp_path, pixels, extra):
    data = np.dstack([pixels, *[pixels[..., :1]] * len(extra)])
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", extrasamples=extra)
    with pytest.raises(
        SlideError, match=r"a\.tif: (This is not a|not an 8-bit RGB) brightfield image.*[45] channels of 8 bits, rgb"
    ):
        open_slide(tmp_path / "a.tif")
    if len(extra) == 1:
        with open_slide(tmp_path / "a.tif", allow_non_brightfield=True) as slide:
            assert np.array_equal(slide.read(0, 0, 0, *slide.shape), pixels)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: (p.astype(np.uint16), {"photometric": "rgb"}), "16 bits, rgb"),
        (lambda p: (p.astype(np.float32), {"photometric": "rgb"}), "32 bits, rgb"),
        (lambda p: (p.astype(np.int8), {"photometric": "rgb"}), "8 bits, rgb"),
        (lambda p: (p[..., 0] > 99, {}), "1 bits, miniswhite"),
        (lambda p: (p, {"photometric": "cielab"}), "8 bits, cielab"),
        (lambda p: (p, {"photometric": "icclab"}), "8 bits, icclab"),
        (lambda p: (np.stack([p, p]), {"photometric": "rgb"}), "a stack of 2 pictures, 6 channels of 8 bits, rgb"),
        (
            lambda p: (np.dstack([p, p[..., :2]]).transpose(2, 0, 1), {"photometric": "minisblack"}),
            "5 channels of 8 bits, minisblack",
        ),
    ],
)
def test_what_cannot_be_shown_as_rgb_is_refused_in_one_line(tmp_path, pixels, make, said):
    data, options = make(pixels)
    tifffile.imwrite(tmp_path / "a.tif", data, **options)
    with pytest.raises(SlideError, match=r"a\.tif: not an 8-bit RGB brightfield image") as error:
        open_slide(tmp_path / "a.tif")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_orientation_is_told_and_not_applied(tmp_path, pixels):
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extratags=[(274, 3, 1, 6, False)])
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.notices == (Notice(NoticeCode.AS_STORED, {"orientation": 6, "by": "TIFF"}),)
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), pixels)


def test_tiles_left_out_are_white_whatever_the_channels_mean(tmp_path, pixels):
    colours = np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16) * 257
    inks = np.asarray(Image.fromarray(pixels).convert("CMYK"))
    for name, data, options in (
        ("inverted", pixels[..., 0], {"photometric": "miniswhite"}),
        ("palette", pixels[..., 0], {"photometric": "palette", "colormap": colours}),
        ("inks", inks, {"photometric": "separated"}),
        ("alpha", np.dstack([pixels, pixels[..., :1]]), {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
    ):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, data, tile=(64, 64), compression="adobe_deflate", **options)
        whole = read_all(path)
        with tifffile.TiffFile(path, mode="r+") as tiff:
            tag = tiff.pages[0].tags["TileByteCounts"]
            tag.overwrite((0, *tag.value[1:]))
        shown = read_all(path)
        assert (shown[:64, :64] == 255).all()
        assert np.array_equal(shown[64:], whole[64:])
