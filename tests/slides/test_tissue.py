import numpy as np
import pytest
import tifffile

from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.slides import open_slide, tissue
from napari_distill2label.slides.tissue import otsu, saturation, tissue_grid

WHITE = PatchSettings(size_px=10, tissue="white")


def grid_over(slide, settings: PatchSettings, **more) -> PatchGrid:
    return PatchGrid.over(slide.shape, settings, slide.mpp, **more)


def test_the_papers_rule_to_the_pixel(make_slide):
    image = np.full((20, 40, 3), 255, np.uint8)
    image[:5, :5] = (255, 219, 255)  # 25 % tissue: 75 % background is dropped
    image[:5, 10:15] = (255, 219, 255)
    image[5, 10] = (255, 255, 0)  # 26 %
    image[:10, 20:30] = (220, 220, 220)  # white_level itself is background
    image[:10, 30:40] = (219, 219, 219)
    slide = make_slide(image)
    found = tissue_grid(slide, grid_over(slide, WHITE), WHITE).scored
    assert found.tolist() == [[False, True, False, True], [False] * 4]
    strict = WHITE.model_copy(update={"max_background": 0.8})
    assert tissue_grid(slide, grid_over(slide, strict), strict).scored[0].tolist() == [True, True, False, True]


def test_patches_over_the_border_count_their_own_pixels(make_slide):
    image = np.full((24, 24, 3), 255, np.uint8)
    image[20:, :10] = 0  # the last row of patches has its lower part outside
    settings = WHITE.model_copy(update={"stride_px": 9})
    slide = make_slide(image)
    grid = grid_over(slide, settings)
    found = tissue_grid(slide, grid, settings).scored
    padded = np.pad((image.min(axis=2) >= 220).astype(float), ((0, 10), (0, 10)), constant_values=np.nan)
    for (row, col), is_tissue in np.ndenumerate(found):
        y, x = grid.corners_of(np.array([row, col]))
        assert is_tissue == (np.nanmean(padded[y : y + 10, x : x + 10]) < 0.75)
    assert found.any()
    assert not found.all()


def test_pieces_change_nothing(make_slide, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (150, 90, 1), np.uint8).repeat(3, axis=2)
    image[:, 40:] = 250
    settings = WHITE.model_copy(update={"stride_px": 7, "max_background": 0.2})
    slide = make_slide(image)
    for origin in ((0, 0), (-5, 3)):
        whole = tissue_grid(slide, grid_over(slide, settings, origin=origin), settings).scored
        monkeypatch.setattr(
            tissue, "_pieces", lambda *_: [(y, x, 25, 30) for y in range(0, 150, 25) for x in (0, 30, 60)]
        )
        assert np.array_equal(tissue_grid(slide, grid_over(slide, settings, origin=origin), settings).scored, whole)
        monkeypatch.undo()


def test_a_large_slide_is_segmented_on_a_coarser_level(tmp_path, monkeypatch):
    image = np.full((512, 512, 3), 255, np.uint8)
    image[128:256, 64:320] = 90
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(image, photometric="rgb", tile=(64, 64), subifds=1)
        tiff.write(image[::4, ::4], photometric="rgb", tile=(64, 64), subfiletype=1)
    settings = PatchSettings(size_px=32, tissue="white")
    with open_slide(tmp_path / "a.tif") as slide:
        exact = tissue_grid(slide, grid_over(slide, settings), settings).scored
        monkeypatch.setattr(tissue, "_EXACT_PX", 300 * 300)
        read = []
        original = slide.read
        monkeypatch.setattr(slide, "read", lambda level, *region: (read.append(level), original(level, *region))[1])
        assert np.array_equal(tissue_grid(slide, grid_over(slide, settings), settings).scored, exact)
        assert set(read) == {1}
        assert exact.sum() == 4 * 8


def test_otsu_splits_two_classes_in_the_middle_of_the_valley():
    histogram = np.zeros(256, int)
    histogram[[10, 12, 100, 104]] = (50, 50, 30, 30)
    assert otsu(histogram) == 56
    assert otsu(np.eye(256, dtype=int)[7]) == 7
    histogram = np.bincount(
        np.random.default_rng(0).normal((60, 180), 12, (4000, 2)).astype(int).ravel(), minlength=256
    )
    assert 100 < otsu(histogram) < 140


def test_saturation_is_hsvs():
    pixels = np.array([[(255, 255, 255), (200, 100, 100), (0, 0, 0), (10, 0, 0)]], np.uint8)
    assert saturation(pixels).tolist() == [[0, 127, 0, 255]]


def test_otsu_rule_and_a_slide_of_glass_alone(make_slide):
    noise = np.random.default_rng(0).integers(-3, 4, (100, 100, 3))
    image = np.clip(240 + noise, 0, 255).astype(np.uint8)
    settings = PatchSettings(size_px=20, tissue="otsu")
    glass = make_slide(image)
    assert not tissue_grid(glass, grid_over(glass, settings), settings).scored.any()
    image[20:60, 40:80] = (200, 120, 190)
    slide = make_slide(image)
    expected = np.zeros((5, 5), bool)
    expected[1:3, 2:4] = True
    assert np.array_equal(tissue_grid(slide, grid_over(slide, settings), settings).scored, expected)


def test_rule_all_leaves_the_grid_alone(make_slide, pixels):
    slide = make_slide(pixels)
    grid = grid_over(slide, PatchSettings())
    assert tissue_grid(slide, grid, PatchSettings()) is grid


def test_the_rule_on_a_real_breast_image(data_dir):
    settings = PatchSettings(size_px=32, tissue="white")
    with open_slide(min((data_dir / "breast").glob("*.tif"))) as slide:
        grid = grid_over(slide, settings)
        found = tissue_grid(slide, grid, settings).scored
        image = slide.read(0, 0, 0, *slide.shape)
    background = (image.min(axis=2) >= 220).reshape(24, 32, 28, 32).mean(axis=(1, 3))
    assert np.array_equal(found, background < 0.75)


@pytest.mark.parametrize("rule", ["white", "otsu"])
def test_tissue_of_a_synthetic_slide_holds_its_nuclei(make_slide, rule):
    from napari_distill2label.slides.synthetic import draw_slide

    drawn = draw_slide(0, True)
    settings = PatchSettings(tissue=rule)
    slide = make_slide(drawn.image)
    grid = tissue_grid(slide, grid_over(slide, settings), settings)
    assert 0.4 < grid.scored.mean() < 0.95
    cells = np.clip(grid.cells_at(drawn.centres), 0, np.array(grid.shape) - 1)
    assert grid.scored[tuple(cells.T)].mean() > 0.98


@pytest.mark.parametrize("rule", ["white", "otsu"])
def test_damaged_places_count_as_tissue_and_the_rest_is_segmented_as_usual(tmp_path, rule):
    """So that it is told that it cannot be read, and is not taken for glass."""
    rng = np.random.default_rng(0)
    image = np.full((512, 640, 3), 236, np.uint8) + rng.integers(0, 8, (512, 640, 1), np.uint8)
    image[200:420, 300:560] = (190, 110, 170)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, photometric="rgb", tile=(64, 64), compression="adobe_deflate")
    settings = PatchSettings(size_px=32, tissue=rule)
    with open_slide(path) as slide:
        sound = tissue_grid(slide, grid_over(slide, settings), settings).scored
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[11]  # the second tile of the second row, on glass
    data = bytearray(path.read_bytes())
    data[offset : offset + 8] = bytes(8)
    path.write_bytes(data)
    with open_slide(path) as slide:
        found = tissue_grid(slide, grid_over(slide, settings), settings).scored
    expected = sound.copy()
    expected[2:4, 2:4] = True
    assert not sound[2:4, 2:4].any()
    assert np.array_equal(found, expected)
