from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_distill2label.core.errors import SlideError
from napari_distill2label.slides import open_slide


@pytest.mark.parametrize("suffix", ["bmp", "png", "PNG"])
def test_pixels_are_those_of_the_file(tmp_path, pixels, suffix):
    path = tmp_path / f"Schnitt 1 – Übersicht µ.{suffix}"
    Image.fromarray(pixels).save(path, dpi=(72, 72))
    with open_slide(path) as slide:
        assert slide.name == "Schnitt 1 – Übersicht µ"
        assert slide.shape == pixels.shape[:2]
        assert slide.mpp is None  # 72 dpi is a screen's, not a microscope's
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), pixels)


def test_jpeg_is_what_pillow_decodes(tmp_path, pixels):
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).save(path, quality=90, dpi=(96, 96))
    with open_slide(path) as slide:
        assert slide.mpp is None
        assert np.array_equal(slide.read(0, 3, 5, 20, 30), np.asarray(Image.open(path))[3:23, 5:35])


def test_grey_is_repeated_and_alpha_dropped(tmp_path, pixels):
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    with open_slide(tmp_path / "grey.png") as slide:
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), pixels[..., [0, 0, 0]])
    transparent = np.dstack([pixels, np.zeros(pixels.shape[:2], np.uint8)])
    Image.fromarray(transparent).save(tmp_path / "rgba.png")
    with open_slide(tmp_path / "rgba.png") as slide:
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), pixels)


def test_16_bit_images_are_refused(tmp_path, pixels):
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 256).save(tmp_path / "deep.png")
    with pytest.raises(SlideError, match=r"deep\.png: not an 8-bit RGB brightfield image"):
        open_slide(tmp_path / "deep.png")


@pytest.mark.parametrize("suffix", ["bmp", "png", "jpg"])
@pytest.mark.parametrize("kept", [0.5, 0.02])
def test_a_truncated_image_is_one_plain_line(tmp_path, pixels, suffix, kept):
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(pixels).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SlideError, match=f"cut.{suffix}: cannot be read, damaged") as error:
        open_slide(path)
    assert "\n" not in str(error.value)


def test_a_real_bmp(data_dir: Path):
    path = next(data_dir.glob("colon/**/img1.bmp"))
    with open_slide(path) as slide:
        assert (slide.name, slide.shape, slide.mpp, slide.notices) == ("img1", (500, 500), None, ())
        assert np.array_equal(slide.levels[0].compute(), np.asarray(Image.open(path)))
