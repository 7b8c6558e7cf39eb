import numpy as np
import pytest

from napari_distill2label.core.errors import SlideError, TileError
from napari_distill2label.core.paths import is_url, slide_name


def test_names():
    from pathlib import Path

    assert slide_name(Path("x/a.ome.tif")) == "a"
    assert slide_name(Path("a.OME.TIFF")) == "a"
    assert slide_name(Path("a.b.ome.zarr")) == "a.b"
    assert slide_name(Path("a.jpeg.tiff")) == "a.jpeg"


def test_urls_are_told_from_paths():
    from pathlib import Path

    assert is_url("s3://bucket/a.zarr")
    assert is_url("https://example.org/b/a.ome.zarr/")
    assert slide_name("https://example.org/b/a.ome.zarr/") == "a"
    for path in ("a.svs", "/data/a.svs", r"C:\slides\a.svs", "C://a.svs", Path("https://x/y")):
        assert not is_url(path)


def test_errors_pass_between_processes():
    import pickle  # noqa: TID251  what dask does with them

    error = pickle.loads(pickle.dumps(TileError("a.svs: damaged", [(1, 2, 3, 4), (5, 6, 7, 8)])))  # noqa: S301
    assert (str(error), error.box, error.boxes) == ("a.svs: damaged", (1, 2, 3, 4), ((1, 2, 3, 4), (5, 6, 7, 8)))


def test_regions_must_lie_inside(make_slide, pixels):
    slide = make_slide(pixels)
    assert np.array_equal(slide.read(0, 129, 169, 1, 1), pixels[-1:, -1:])
    for region in ((-1, 0, 5, 5), (0, 0, 131, 5), (0, 166, 5, 5), (0, 0, 0, 5)):
        with pytest.raises(SlideError, match=r"slide0\.png: the region .* does not lie inside the level"):
            slide.read(0, *region)
    with pytest.raises(SlideError, match="there is no level 1"):
        slide.read(1, 0, 0, 1, 1)


def test_dask_levels_can_be_indexed_in_every_way(make_slide, pixels):
    level = make_slide(pixels).levels[0]
    assert (level.dtype, level.shape) == (np.uint8, pixels.shape)
    for key in (np.s_[3:9, 5], np.s_[-1], np.s_[::2, 100:20:-3, 1], np.s_[5:5], np.s_[:, :, ::-1]):
        assert np.array_equal(level[key].compute(), pixels[key])


def test_closing_twice_is_fine_and_reading_after_is_an_error(make_slide, pixels):
    slide = make_slide(pixels)
    other = slide.with_mpp(0.5)
    slide.close()
    slide.close()
    for read in (
        lambda: slide.read(0, 0, 0, 1, 1),
        lambda: slide.levels[0].compute(),
        lambda: other.read(0, 0, 0, 1, 1),
    ):
        with pytest.raises(SlideError, match="was closed"):
            read()


def test_mpp_of_the_user(make_slide, pixels):
    slide = make_slide(pixels)
    assert slide.mpp is None
    assert slide.with_mpp((0.5, 0.25)).mpp == (0.5, 0.25)
    assert make_slide(pixels, 0.3).mpp == (0.3, 0.3)
    for wrong in (0, -1, float("nan")):
        with pytest.raises(SlideError, match="no µm/px"):
            slide.with_mpp(wrong)


@pytest.mark.slow
def test_a_large_file_without_levels_gets_lazy_ones(make_slide):
    image = np.random.default_rng(0).integers(0, 256, (2311, 3001, 3), np.uint8)
    slide = make_slide(image)
    assert slide.downsamples == (1.0, 2.0, 4.0)
    for factor, level in zip((2, 4), slide.levels[1:], strict=True):
        h, w = 2311 // factor, 3001 // factor
        means = image[: h * factor, : w * factor].reshape(h, factor, w, factor, 3).mean(axis=(1, 3))
        assert np.array_equal(level.compute(), np.floor(means + 0.5).astype(np.uint8))
    assert np.array_equal(slide.read(2, 500, 600, 70, 90), slide.levels[2][500:570, 600:690].compute())
