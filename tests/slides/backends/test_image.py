from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.notices import Notice, NoticeCode
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


def read_all(path: Path) -> np.ndarray:
    with open_slide(path) as slide:
        return slide.read(0, 0, 0, *slide.shape)


def test_grey_is_repeated(tmp_path, pixels):
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(read_all(tmp_path / "grey.png"), pixels[..., [0, 0, 0]])


@pytest.mark.parametrize(
    ("suffix", "mode"), [*[("png", mode) for mode in ("RGBA", "LA", "P", "L", "RGB")], ("jp2", "RGBA"), ("jp2", "LA")]
)
def test_what_is_transparent_lies_on_white(tmp_path, pixels, suffix, mode):
    """In an alpha channel, or as the one colour of a PNG (P, L, RGB) that is transparent."""
    opacity = np.random.default_rng(3).integers(0, 256, pixels.shape[:2], np.uint8)
    opacity[:40], opacity[40:80] = 0, 255
    path, opaque = tmp_path / f"a.{suffix}", Image.fromarray(pixels)
    if mode in ("RGBA", "LA"):
        image = opaque.convert(mode)
        image.putalpha(Image.fromarray(opacity))
        image.save(path)
    else:
        image = opaque.quantize(16) if mode == "P" else opaque.convert(mode)
        clear = np.asarray(image)[5, 5]
        image.save(path, transparency=tuple(clear.tolist()) if mode == "RGB" else int(clear))
        stored = np.asarray(image).reshape(*pixels.shape[:2], -1)
        opacity = np.where((stored == clear).all(axis=2), 0, 255).astype(np.uint8)
    colours = np.asarray(image.convert("RGB"), float)
    share = opacity[..., None] / 255
    assert (read_all(path)[opacity == 0] == 255).all()
    assert np.abs(read_all(path) - (colours * share + 255 * (1 - share))).max() <= 1


def test_an_image_that_nobody_could_see_is_shown(tmp_path, pixels):
    Image.fromarray(np.dstack([pixels, np.zeros(pixels.shape[:2], np.uint8)])).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png") as slide:
        assert slide.notices == (Notice(NoticeCode.TRANSPARENT),)
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), pixels)


def test_inks_in_a_jpeg_are_turned_into_colours_and_it_is_said(tmp_path, pixels):
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).convert("CMYK").save(path, quality=95)
    with open_slide(path) as slide:
        assert "stored as inks (CMYK)" in str(slide.notices[0])
        expected = np.asarray(Image.open(path).convert("RGB"), int)
        assert np.abs(slide.read(0, 0, 0, *slide.shape) - expected).max() <= 1


def test_an_orientation_of_exif_is_told_and_not_applied(tmp_path, pixels):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    with open_slide(tmp_path / "a.jpg") as slide:
        assert slide.notices == (Notice(NoticeCode.AS_STORED, {"orientation": 6, "by": "EXIF"}),)
        assert slide.shape == pixels.shape[:2]


@pytest.mark.parametrize("suffix", ["jp2", "j2k", "JPX"])
def test_jpeg_2000(tmp_path, pixels, suffix):
    path = tmp_path / f"a.{suffix}"
    for data in (pixels, pixels[..., 0]):
        path.write_bytes(imagecodecs.jpeg2k_encode(data, level=0, codecformat="j2k" if suffix == "j2k" else "jp2"))
        assert np.array_equal(read_all(path), pixels if data.ndim == 3 else pixels[..., [0, 0, 0]])
    for deep in (pixels.astype(np.uint16) << 8, pixels[..., 0].astype(np.uint16) << 8):
        path.write_bytes(imagecodecs.jpeg2k_encode(deep, level=0, codecformat="jp2"))
        with pytest.raises(SlideError, match=r"not an 8-bit RGB brightfield image \(mode .*16 bits\)"):
            open_slide(path)


def test_16_bit_colours_of_a_png_are_refused(tmp_path, pixels):
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels.astype(np.uint16) * 256))
    with pytest.raises(SlideError, match=r"a\.png: not an 8-bit RGB brightfield image \(mode RGB, 16 bits\)"):
        open_slide(tmp_path / "a.png")


def test_an_animation_is_refused(tmp_path, pixels):
    frames = [Image.fromarray(np.roll(pixels, i, axis=0)) for i in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(SlideError, match=r"an animation of 3 pictures"):
        open_slide(tmp_path / "a.png")


def test_the_suffix_may_be_another_of_the_same_family_but_no_program_is_called(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.jpg", "png")
    assert np.array_equal(read_all(tmp_path / "a.jpg"), pixels)
    (tmp_path / "b.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(SlideError, match=r"b\.png: cannot be read.*begins like no BMP, PNG, JPEG"):
        open_slide(tmp_path / "b.png")


def test_what_would_take_gigabytes_is_refused_before_it_is_decoded(tmp_path):
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 12_000, 9_000, 8, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x"))
    with pytest.raises(SlideError, match=r"a\.png: 12000 × 9000 px, too large to decode at once.*OME-TIFF"):
        open_slide(tmp_path / "a.png")


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
