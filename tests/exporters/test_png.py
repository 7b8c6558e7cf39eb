"""The picture: labels where they belong, the slide elsewhere."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from napari_distill2label.core.classes import palette
from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.exporters.formats import write


def slide_of(image, levels=1):
    arrays = [image[:: 2**level, :: 2**level] for level in range(levels)]
    return SimpleNamespace(
        level_shapes=[array.shape[:2] for array in arrays],
        shape=image.shape[:2],
        read=lambda level, y, x, h, w: arrays[level][y : y + h, x : x + w],
    )


def grey(shape, value=200):
    return np.full((*shape, 3), value, np.uint8)


def test_labels_lie_over_the_slide(tmp_path, new_map):
    grid = PatchGrid.over((500, 400), PatchSettings(size_px=100))
    tissue = np.ones(grid.shape, bool)
    tissue[0, 0] = False
    labels = np.full(grid.shape, 1)
    labels[2, 3] = 2
    patch_map = new_map(grid.with_tissue(tissue), labels=labels, slide=SlideInfo("slide 1", None, (0.5, 0.5)))
    (path,) = write(patch_map, tmp_path, ["png"], slide=slide_of(grey((500, 400))))
    assert path.name == "slide 1.png"
    picture = np.asarray(Image.open(path)).astype(int)
    assert picture.shape[1] == 800  # small slides are enlarged by a whole factor
    assert picture.shape[0] > 1000  # and have a legend below
    assert picture[100, 100].tolist() == [200] * 3  # not scored: the slide as it is
    normal, tumour = (np.array(colour) for colour in palette(2))
    for place, colour in (((500, 300), normal), ((500, 700), tumour)):
        shift = picture[place] - 200
        wanted = colour - 200
        assert (np.sign(shift[np.abs(wanted) > 20]) == np.sign(wanted[np.abs(wanted) > 20])).all()
        assert np.abs(shift).sum() < np.abs(wanted).sum() / 2  # the tissue is seen through the label
    assert np.abs(picture[400, 700] - tumour).sum() < 60  # outline of the finding


def test_large_slides_are_reduced_from_a_fitting_level(tmp_path, new_map):
    image = np.random.default_rng(0).integers(0, 255, (2500, 2100, 3), np.uint8)
    grid = PatchGrid.over((2500, 2100), PatchSettings(size_px=500))
    for levels in (1, 3):
        (path,) = write(new_map(grid), tmp_path, ["picture"], slide=slide_of(image, levels))
        with Image.open(path) as picture:
            assert picture.width == round(2100 * 2048 / 2500)
            assert picture.height > 2048


def test_without_a_slide_labels_lie_on_white(tmp_path, new_map):
    grid = PatchGrid.over((500, 400), PatchSettings(size_px=100))
    (path,) = write(new_map(grid, slide=SlideInfo("slide 1", str(tmp_path / "gone.svs"))), tmp_path, ["png"])
    assert np.asarray(Image.open(path))[100, 100].min() > 200


def test_points_are_dots(tmp_path, new_map):
    points = PatchPoints.at([[100, 50], [300, 250]], (400, 500), PatchSettings(size_px=27))
    (path,) = write(new_map(points), tmp_path, ["png"], slide=slide_of(grey((400, 500))))
    picture = np.asarray(Image.open(path)).astype(int)
    assert np.abs(picture[601, 501] - palette(2)[1]).sum() < 60
    assert picture[400, 800].tolist() == [200] * 3


def test_one_picture_per_class_where_several_can_be_present(tmp_path, new_map):
    grid = PatchGrid.over((500, 400), PatchSettings(size_px=100))
    patch_map = new_map(grid, classes=("normal", "a", "b"), multi_label=True)
    paths = write(patch_map, tmp_path, ["png"])
    assert [path.name for path in paths] == ["slide 1_a.png", "slide 1_b.png"]


def test_another_slide_is_refused(tmp_path, new_map):
    grid = PatchGrid.over((500, 400), PatchSettings(size_px=100))
    with pytest.raises(SlideError, match="size differs"):
        write(new_map(grid), tmp_path, ["png"], slide=slide_of(grey((400, 500))))


@pytest.mark.parametrize("shape", [(30, 40), (3000, 8), (8, 3000)])
def test_odd_shapes(tmp_path, new_map, shape):
    grid = PatchGrid.over(shape, PatchSettings(size_px=8))
    patch_map = new_map(
        grid, classes=tuple(f"class number {index}" for index in range(12)), slide=SlideInfo("long " * 30)
    )
    write(patch_map, tmp_path, ["png"], slide=slide_of(grey(shape)))


def test_names_of_several_lines_are_drawn_in_one(tmp_path, new_map):
    grid = PatchGrid.over((500, 400), PatchSettings(size_px=100))
    patch_map = new_map(grid, classes=("nor\nmal", "\ttu\r\nmour \x1b[0m"), slide=SlideInfo("a\nb"))
    (path,) = write(patch_map, tmp_path, ["png"], slide=slide_of(grey((500, 400))))
    assert Image.open(path).height > 500
