import math
import re

import numpy as np
import pytest
import tifffile

from napari_distill2label.core.errors import SlideError
from napari_distill2label.slides import open_slide
from napari_distill2label.slides.scale import (
    check_mpp,
    check_scale,
    common_mpp,
    compare_given_mpp,
    missing_mpp,
    parse_number,
)


@pytest.mark.parametrize(
    ("mpp", "kept", "said"),
    [
        (None, True, None),
        ((0.25, 0.25), True, None),
        ((0.2520, 0.2524), True, None),
        ((0.25, 0.5), True, "not square. Patches are squares of pixels, so they are 100% longer in µm along x"),
        ((0.26, 0.25), True, "4% longer in µm along y"),
        (
            (0.00499, 0.00499),
            False,
            r"100 times too small.*Then it is 0\.499\)\. .* treated as unknown\. Set the column mpp of the cohort",
        ),
        ((25400 / 72, 25400 / 72), False, r"352\.8 µm/px.*72 dpi are a screen's: nobody measured them"),
        (
            (25400 / 300, 25400 / 300),
            False,
            r"84\.67 µm/px, which is outside 0\.05–20 and cannot be a slide's\.",
        ),
        ((0.25, 100.0), False, r"0\.25 × 100 \(y × x\)"),
        (
            (0.0, 0.0),
            False,
            r"The pixel size that the file states is 0 µm/px, which no pixel has\. It is treated as",
        ),
        ((-0.5, -0.5), False, r"is -0\.5 µm/px, which no pixel has"),
        ((0.5, math.inf), False, r"is 0\.5 × inf \(y × x\) µm/px, which no pixel has"),
        ((0.5, math.nan), False, r"The pixel size that the file states is no number\. It is treated as unknown"),
    ],
)
def test_what_a_file_says(mpp, kept, said):
    result, notices = check_mpp(mpp)
    assert result == (mpp if kept else None)
    assert len(notices) == (said is not None)
    if said:
        assert re.search(said, str(notices[0]))
        assert "\n" not in str(notices[0])


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.4990", 0.499), ("0,4990", 0.499), ("2.5e-1", 0.25), (" .25 ", 0.25), ("1", 1.0), (0.5, 0.5), ("-1", -1.0)],
)
def test_numbers_as_people_and_programs_write_them(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["", ".", ",", "nan", "inf", "0.25 µm", "1,234.5", "1e", "0x1", "²", "1_0", "e5"])
def test_what_is_no_number(text):
    assert math.isnan(parse_number(text))


@pytest.mark.parametrize(
    ("text", "mpp", "said"),
    [
        ("0.2520", 0.252, None),
        ("0,4990", 0.499, None),
        ("2.5e-1", 0.25, None),
        ("0", None, "states is 0 µm/px, which no pixel has"),
        ("-0.25", None, "states is -0.25 µm/px, which no pixel has"),
        (".", None, "states is no number"),
        ("nan", None, "states is no number"),
        ("", None, "states is no number"),
        ("1e400", None, "states is inf µm/px, which no pixel has"),
        ("25", None, "outside 0.05–20"),
    ],
)
def test_any_text_for_a_scale_opens_and_can_be_overridden(tmp_path, text, mpp, said):
    pixels = np.full((128, 128, 3), 200, np.uint8)
    aperio = f"Aperio Image Library v11.2.1 \r\n128x128 [0,0 128x128] (64x64) JPEG/RGB Q=30|AppMag = 20|MPP = {text}"
    for name, options in (
        ("a.svs", {"tile": (64, 64), "description": f"{aperio}|Left = 1", "metadata": None}),
        ("b.ome.tif", {"metadata": {"axes": "YXS", "PhysicalSizeX": text, "PhysicalSizeY": text}}),
    ):
        tifffile.imwrite(tmp_path / name, pixels, photometric="rgb", **options)
        with open_slide(tmp_path / name) as slide:
            assert slide.mpp == (mpp and (mpp, mpp))
            assert [said in notice for notice in map(str, slide.notices)] == ([True] if said else [])
        with open_slide(tmp_path / name, mpp=0.5) as slide:
            assert (slide.mpp, slide.mpp_from_user) == ((0.5, 0.5), True)


@pytest.mark.parametrize("resolution", [(0, 1), (1, 0), (0, 0)])
def test_a_resolution_that_is_no_fraction_is_unknown(tmp_path, resolution):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((9, 9, 3), np.uint8), photometric="rgb", resolution=(40_000, 40_000),
                     resolutionunit="CENTIMETER")  # fmt: skip
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for name in ("XResolution", "YResolution"):
            tiff.pages[0].tags[name].overwrite(resolution)
    with open_slide(path) as slide:
        assert slide.mpp is None


def test_a_given_scale_is_marked_as_assumed(make_slide, pixels, data_dir):
    slide = make_slide(pixels)
    assert (slide.mpp, slide.mpp_from_user) == (None, False)
    given = slide.with_mpp(0.5)
    assert (given.mpp, given.mpp_from_user, given.notices) == ((0.5, 0.5), True, ())
    assert repr(given).endswith("0.5 × 0.5 µm/px (assumed))")
    assert not slide.mpp_from_user
    assert ["100% longer in µm along y" in note for note in map(str, slide.with_mpp((1.0, 0.5)).notices)] == [True]
    with open_slide(data_dir / "slides" / "CMU-1-Small-Region.svs") as real:
        assert not real.mpp_from_user
        assert real.with_mpp(0.5).notices == ()
        (said,) = real.with_mpp(0.25).notices
        assert str(said) == "The pixel size is 0.25 µm/px, as given. The file says 0.499."


def test_the_wrong_tag_of_a_real_file(data_dir):
    with open_slide(data_dir / "slides" / "CMU-1-Small-Region.jpeg.tiff") as slide:
        assert slide.mpp is None
        assert any("Then it is 0.499" in note for note in map(str, slide.notices))
        assert slide.with_mpp(0.499).notices == ()  # of what the file says, nothing can be true
    with open_slide(min((data_dir / "breast").glob("*.tif"))) as slide:
        assert slide.mpp is None
        assert any("72 dpi" in note for note in map(str, slide.notices))


def test_overriding_says_what_the_file_said():
    assert compare_given_mpp((0.5, 0.5), None) == ()
    assert compare_given_mpp((0.51, 0.51), (0.5, 0.5)) == ()
    assert list(map(str, compare_given_mpp((0.25, 0.25), (0.5, 0.5)))) == [
        "The pixel size is 0.25 µm/px, as given. The file says 0.5."
    ]


@pytest.mark.parametrize(
    ("slide", "model", "said"),
    [
        (None, 0.5, None),
        ((0.5, 0.5), None, None),
        ((0.25, 0.25), 0.5, None),
        ((0.524, 0.524), 0.5, None),
        ((0.526, 0.526), 0.5, r"a\.svs: The slide has 0\.526 µm/px, coarser than the model's 0\.5 µm/px .*mpp"),
        ((0.25, 0.262), 0.5, None),
        ((0.25, 0.27), 0.5, r"a\.svs: The pixels are 0\.25 × 0\.27 \(y × x\) µm, not square"),
    ],
)
def test_a_slide_fits_a_model_within_5_percent(slide, model, said):
    if said is None:
        check_scale("a.svs", slide, model)
    else:
        with pytest.raises(SlideError, match=said):
            check_scale("a.svs", slide, model)


def test_slides_share_a_scale_within_5_percent():
    assert common_mpp([(0.5, 0.5), (0.51, 0.51), (0.52, 0.52)]) == pytest.approx(0.51)
    assert common_mpp([(0.5, 0.5), (0.52, 0.52)]) == pytest.approx(0.51)
    assert common_mpp([(0.5, 0.5), (0.526, 0.526)]) is None
    assert common_mpp([(0.5, 0.5), None]) is None
    assert common_mpp([None]) is common_mpp([]) is None


def test_missing_scales_are_one_sentence():
    one = str(missing_mpp(["a"], 0.5))
    assert one.startswith("1 slide has no pixel size, and patches are cut at 0.5 µm/px: a. Set the column mpp")
    said = str(missing_mpp([f"s{index}" for index in range(8)], 0.25))
    assert said.startswith("8 slides have no pixel size")
    assert "s0, s1, s2, s3, s4 and 3 more" in said
    assert said.endswith("Or set Inputs(mpp=…).")
