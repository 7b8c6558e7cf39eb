import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_distill2label.core.errors import SlideError, TileError
from napari_distill2label.core.notices import Notice, NoticeCode
from napari_distill2label.slides import open_slide
from napari_distill2label.slides.cutting import cut

openslide = pytest.importorskip("openslide", reason="OpenSlide is not installed: pip install -e '.[slides]'")

VOLUME = "1.2.826.0.1.3680043.8.498.58740178995208579534253317996600852419.dcm"


@pytest.fixture
def dicom(data_dir: Path, tmp_path: Path) -> Path:
    """A copy of the real DICOM slide: its pixels, and the files of label, macro and thumbnail."""
    folder = tmp_path / "CMU-1"
    folder.mkdir()
    for path in (data_dir / "slides" / "CMU-1-Small-Region_dicom").iterdir():
        shutil.copyfile(path, folder / path.name)
    return folder


def test_a_real_dicom_folder(dicom):
    direct = openslide.OpenSlide(dicom / VOLUME)
    expected = np.asarray(direct.read_region((0, 0), 0, direct.dimensions))[..., :3]
    with open_slide(dicom) as slide:
        assert (slide.name, slide.shape, slide.brightfield, slide.canvas_origin) == (
            "CMU-1",
            (2967, 2220),
            True,
            (0, 0),
        )
        assert slide.mpp == pytest.approx((0.499, 0.499))
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), expected)
        assert np.array_equal(slide.levels[0][700:1500, 100:900].compute(), expected[700:1500, 100:900])
        patches = cut(slide, np.array([(700, 300), (2711, 1964)]), 256, 256)
        assert np.array_equal(patches[1].transpose(1, 2, 0), expected[2711:, 1964:])
        assert slide.icc == direct.color_profile.tobytes()
        assert set(slide.associated) == {"label", "macro", "thumbnail"}
        for name, read in slide.associated.items():
            assert np.array_equal(read(), np.asarray(direct.associated_images[name].convert("RGB")))
    with open_slide(dicom / VOLUME) as slide:
        assert slide.shape == (2967, 2220)


def test_dicom_files_that_are_missing(dicom):
    label = next(path for path in dicom.iterdir() if b"\\LABEL\\" in path.read_bytes()[:2000])
    label.unlink()  # it is not needed
    with open_slide(dicom) as slide:
        assert "label" not in slide.associated
    volume = dicom / VOLUME
    data = volume.read_bytes()
    volume.unlink()
    with pytest.raises(SlideError, match=r"CMU-1: the file with the slide itself \(VOLUME\) is missing") as error:
        open_slide(dicom)
    assert "\n" not in str(error.value)

    kind = b"ORIGINAL\\PRIMARY\\VOLUME\\NONE"
    assert kind in data
    (dicom / "coarser.dcm").write_bytes(data.replace(kind, b"A\\PRIMARY\\VOLUME\\RESAMPLED  "))
    with pytest.raises(SlideError, match=r"finest level is missing, the finest there is \(2220 × 2967 px\)"):
        open_slide(dicom)
    with pytest.raises(SlideError, match="finest level is missing"):
        open_slide(dicom / "coarser.dcm")
    frames = b"\x28\x00\x08\x00IS\x04\x00130 "
    assert data.count(frames) == 1
    (dicom / "half.dcm").write_bytes(data.replace(frames, b"\x28\x00\x08\x00IS\x04\x0065  "))
    (dicom / "coarser.dcm").unlink()
    with pytest.raises(SlideError, match="files are missing: 65 of 130 tiles of the level of 2220 × 2967 px"):
        open_slide(dicom)


def test_two_dicom_slides_in_one_folder(dicom):
    data = (dicom / VOLUME).read_bytes()
    series = b"498.21577574112843936045397065457192622591"
    assert series in data
    (dicom / "other.dcm").write_bytes(data.replace(series, series[:-1] + b"2"))
    with pytest.raises(SlideError, match="holds 2 DICOM slides: give one of the files"):
        open_slide(dicom)
    with open_slide(dicom / VOLUME) as slide:
        assert slide.shape == (2967, 2220)


def test_a_damaged_frame_spares_the_rest(dicom):
    with open_slide(dicom) as slide:
        sound = slide.read(0, 0, 0, *slide.shape)
    data = bytearray((dicom / VOLUME).read_bytes())
    starts = [i for i in range(len(data) // 2, len(data) // 2 + 40_000) if data[i : i + 3] == b"\xff\xd8\xff"]
    data[starts[0] : starts[0] + 600] = bytes(600)
    (dicom / VOLUME).write_bytes(data)
    with open_slide(dicom) as slide:
        with pytest.raises(TileError, match="CMU-1: damaged, cannot be decoded at level 0") as error:
            slide.read(0, 0, 0, *slide.shape)
        assert len(error.value.boxes) == 1
        y, x, h, w = error.value.box
        assert (y % 240, x % 240, h, w) == (0, 0, 240, 240)
        assert np.array_equal(slide.read(0, 0, 0, y, 2220), sound[:y])  # after an error, OpenSlide has to be reopened
        assert np.array_equal(slide.read(0, y + h, 0, 2967 - y - h, 2220), sound[y + h :])


def test_a_dicom_folder_that_vanishes(dicom):
    with open_slide(dicom) as slide:
        shutil.rmtree(dicom)
        try:
            slide.read(0, 0, 0, 500, 500)  # what OpenSlide holds open is still there
        except TileError:
            pytest.fail("it is not one tile that is damaged")
        except SlideError as error:
            assert "can no longer be read" in str(error)  # noqa: PT017  on systems where open files vanish too


@pytest.mark.parametrize("suffix", [".mrxs", ".scn", ".bif", ".dcm", ".svslide", ".vms"])
def test_what_openslide_does_not_know_either(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"x" * 5000)
    with pytest.raises(SlideError, match=f"a{suffix}: cannot be read, damaged or not what its name says"):
        open_slide(tmp_path / f"a{suffix}")


@pytest.fixture
def ramp() -> np.ndarray:
    """(320, 240, 3): every place has its own colour, and none is far from its neighbours'."""
    y, x = np.mgrid[:320, :240]
    return np.stack([x, y * 0.7, 220 - x * 0.5], axis=-1).astype(np.uint8)


def test_the_scanned_area_is_the_slide_and_positions_count_from_its_corner_as_in_qupath(tmp_path, ramp, write_scn):
    write_scn(tmp_path / "a.scn", ramp, corner=(200, 400), canvas=(900, 1000))
    direct = openslide.OpenSlide(tmp_path / "a.scn")
    assert direct.dimensions == (1000, 900)
    with open_slide(tmp_path / "a.scn") as slide:
        assert (slide.shape, slide.canvas_origin) == ((320, 240), (200, 400))
        assert [level.shape[:2] for level in slide.levels] == [(320, 240), (80, 60)]
        assert slide.downsamples == (1.0, 4.0)
        values = {"area": (320, 240), "canvas": (900, 1000), "corner": (200, 400)}
        assert slide.notices == (Notice(NoticeCode.SCANNED_AREA, values),)
        assert np.array_equal(slide.read(0, 0, 0, 320, 240), ramp)
        for level, scale in ((0, 1), (1, 4)):
            region = direct.read_region((400 + 8 * scale, 200 + 12 * scale), level, (20, 30))
            assert np.array_equal(slide.read(level, 12, 8, 30, 20), np.asarray(region)[..., :3])
        patch = cut(slide, np.array([(100, 60)]), 64, 64)[0].transpose(1, 2, 0)
        assert np.array_equal(patch, ramp[100:164, 60:124])


@pytest.mark.parametrize("corner", [(201, 402), (199, 399), (202, 403)])
def test_levels_on_whose_pixels_the_scanned_area_does_not_lie_show_the_same_places(tmp_path, ramp, write_scn, corner):
    write_scn(tmp_path / "a.scn", ramp, corner, canvas=(903, 1001))
    with open_slide(tmp_path / "a.scn") as slide:
        assert (slide.shape, slide.canvas_origin) == ((320, 240), corner)
        assert slide.levels[1].shape[:2] == (80, 60)
        assert slide.downsamples == (1.0, 4.0)
        patch = cut(slide, np.array([(100, 60)]), 64, 16)[0].transpose(1, 2, 0)  # from the level of a quarter
    means = ramp[100:164, 60:124].reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(patch - means)[2:-2, 2:-2].max() < 1.1  # a pixel of the level would be 4 in the first channel


def test_what_is_half_transparent_lies_on_white():
    from napari_distill2label.slides.backends.colour import on_white

    colours = np.array([[[10, 20, 30]] * 3], np.uint8)
    shown = on_white(colours, np.array([[[0], [102], [255]]], np.uint8))
    assert shown.tolist() == [[[255, 255, 255], [157, 161, 165], [10, 20, 30]]]
    assert on_white(colours, np.array([[[102]] * 3], np.uint8), premultiplied=True)[0, 0].tolist() == [163, 173, 183]


def test_an_area_that_reaches_over_the_canvas_is_cut_and_one_beside_it_is_none():
    from napari_distill2label.slides.backends.openslide import _inside

    assert _inside((-5, 7, 30, 20), (100, 20)) == (0, 7, 25, 13)
    assert _inside((100, 0, 5, 5), (100, 20)) is None
    assert _inside((0, 0, 0, 5), (100, 20)) is None


def test_bounds_are_told_in_our_order():
    from napari_distill2label.slides.backends.openslide import _bounds

    assert _bounds({}) is None
    said = {"openslide.bounds-x": "7", "openslide.bounds-y": "5", "openslide.bounds-width": "30",
            "openslide.bounds-height": "20"}  # fmt: skip
    assert _bounds(said) == (5, 7, 20, 30)
