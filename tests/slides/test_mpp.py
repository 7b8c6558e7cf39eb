import re

import pytest

from napari_distill2label.core.errors import SlideError
from napari_distill2label.slides import open_slide
from napari_distill2label.slides.mpp import check_scale, checked, common_mpp, missing_mpp, overridden


@pytest.mark.parametrize(
    ("mpp", "kept", "said"),
    [
        (None, True, None),
        ((0.25, 0.25), True, None),
        ((0.2520, 0.2524), True, None),
        ((0.25, 0.5), True, "not square: patches are squares of pixels, and so 100% longer in µm along x"),
        ((0.26, 0.25), True, "4% longer in µm along y"),
        (
            (0.00499, 0.00499),
            False,
            r"100 times too small.*Then it is 0\.499\): treated as unknown until .*column mpp of cohort\.csv, or --mpp",
        ),
        ((25400 / 72, 25400 / 72), False, r"352\.8 µm/px.*72 dpi are a screen's: nobody measured them"),
        (
            (25400 / 300, 25400 / 300),
            False,
            r"84\.67 µm/px, which is outside 0\.05–20 and cannot be a slide's:",
        ),
        ((0.25, 100.0), False, r"0\.25 × 100 \(y × x\)"),
    ],
)
def test_what_a_file_says(mpp, kept, said):
    result, notices = checked(mpp)
    assert result == (mpp if kept else None)
    assert len(notices) == (said is not None)
    if said:
        assert re.search(said, notices[0])
        assert "\n" not in notices[0]


def test_a_given_scale_is_marked_as_assumed(make_slide, pixels, data_dir):
    slide = make_slide(pixels)
    assert (slide.mpp, slide.mpp_assumed) == (None, False)
    given = slide.with_mpp(0.5)
    assert (given.mpp, given.mpp_assumed, given.notices) == ((0.5, 0.5), True, ())
    assert repr(given).endswith("0.5 × 0.5 µm/px (assumed))")
    assert not slide.mpp_assumed
    assert ["100% longer in µm along y" in note for note in slide.with_mpp((1.0, 0.5)).notices] == [True]
    with open_slide(data_dir / "slides" / "CMU-1-Small-Region.svs") as real:
        assert not real.mpp_assumed
        assert real.with_mpp(0.5).notices == ()
        (said,) = real.with_mpp(0.25).notices
        assert said == "assumed to have 0.25 µm/px, as given; the file says 0.499"


def test_the_wrong_tag_of_a_real_file(data_dir):
    with open_slide(data_dir / "slides" / "CMU-1-Small-Region.jpeg.tiff") as slide:
        assert slide.mpp is None
        assert any("Then it is 0.499" in note for note in slide.notices)
        assert slide.with_mpp(0.499).notices == ()  # of what the file says, nothing can be true
    with open_slide(min((data_dir / "breast").glob("*.tif"))) as slide:
        assert slide.mpp is None
        assert any("72 dpi" in note for note in slide.notices)


def test_overriding_says_what_the_file_said():
    assert overridden((0.5, 0.5), None) == ()
    assert overridden((0.51, 0.51), (0.5, 0.5)) == ()
    assert overridden((0.25, 0.25), (0.5, 0.5)) == ("assumed to have 0.25 µm/px, as given; the file says 0.5",)


@pytest.mark.parametrize(
    ("slide", "model", "said"),
    [
        (None, 0.5, None),
        ((0.5, 0.5), None, None),
        ((0.25, 0.25), 0.5, None),
        ((0.524, 0.524), 0.5, None),
        ((0.526, 0.526), 0.5, r"a\.svs: has 0\.526 µm/px, coarser than the model's 0\.5 µm/px .*--mpp"),
        ((0.25, 0.262), 0.5, None),
        ((0.25, 0.27), 0.5, r"a\.svs: its pixels are 0\.25 × 0\.27 \(y × x\) µm: not square"),
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
    assert missing_mpp(["a"], 0.5).startswith("1 slide has no µm/px in the file, and patches are cut at 0.5 µm/px: a. ")
    said = missing_mpp([f"s{index}" for index in range(8)], 0.25)
    assert said.startswith("8 slides have no µm/px")
    assert "s0, s1, s2, s3, s4 and 3 more" in said
    assert "--mpp UM" in said
    assert "cohort.csv" in said
