"""Where patches lie, checked against the definitions, pixel by pixel."""

import json
from itertools import pairwise

import numpy as np
import pytest

from napari_distill2label.core.errors import SettingsError, SlideError
from napari_distill2label.core.geometry import PatchGrid, PatchPoints, level0_px, mean_mpp, patches_from_json
from napari_distill2label.core.settings import PatchSettings


def grid(shape=(500, 500), patch_px=27, slide_mpp=None, origin=(0, 0), **settings):
    return PatchGrid.over(shape, PatchSettings(size_px=patch_px, **settings), slide_mpp, origin)


def counted(size, side, stride, start):
    """Patches whose centre lies in an image of `size` px, by trying them out."""
    return sum(0 <= start + i * stride + side / 2 < size for i in range(1000))


def test_the_colon_grid():
    # 18 whole patches fit 500 px; of the 19th, which starts at 486, the centre at 499.5 is inside
    patches = grid()
    assert patches.shape == (19, 19)
    assert patches.corners[-1].tolist() == [486, 486]
    assert grid(shape=(499, 499)).shape == (18, 18)  # 499.5 is outside
    assert grid(border="drop").shape == (18, 18)


@pytest.mark.parametrize("side", [1, 2, 5, 8, 27, 32])
@pytest.mark.parametrize("stride", [1, 3, 8, 40])
@pytest.mark.parametrize("origin", [(0, 0), (3, 10), (-2, -4)])
def test_a_cell_exists_if_and_only_if_its_patchs_centre_is_in_the_image(side, stride, origin):
    if min(origin) < -side / 2:
        return
    for shape in ((40, 57), (41, 64), (32, 33)):
        patches = grid(shape, side, stride_px=stride, origin=origin)
        assert patches.shape == tuple(
            counted(size, side, stride, start) for size, start in zip(shape, origin, strict=True)
        )


@pytest.mark.parametrize("stride", [3, 8, 40])
def test_dropped_edges_leave_patches_that_lie_inside(stride):
    patches = grid((41, 64), 8, stride_px=stride, border="drop")
    corners = patches.corners
    assert (corners + 8 <= (41, 64)).all()
    assert (corners.max(0) + 8 + stride > (41, 64)).all()


def test_an_origin_whose_first_centre_is_outside_is_refused():
    assert grid(origin=(-13, -13)).corners[0].tolist() == [-13, -13]
    with pytest.raises(ValueError, match="origin"):
        grid(origin=(-14, 0))


def test_a_patch_larger_than_the_slide_is_one_plain_line():
    for shape in ((26, 500), (500, 26)):
        with pytest.raises(SlideError, match=r"^a patch of 27 px is larger than the slide[^\n]*$"):
            grid(shape)
        with pytest.raises(SlideError, match="larger"):
            PatchPoints.at(np.zeros((1, 2)), shape, PatchSettings(size_px=27))
    assert grid((27, 27)).shape == (1, 1)


@pytest.mark.parametrize(
    ("px", "model", "slide", "expected"),
    [
        (224, 0.5, (0.25, 0.25), 448),
        (224, 0.5, (0.499, 0.499), 224),  # 224.4
        (27, 0.55, (0.25, 0.25), 59),  # 59.4
        (27, 0.5, (0.2525, 0.2525), 53),  # 53.47
        (27, None, (0.25, 0.25), 27),
        (27, 0.5, None, 27),
        (1, 0.1, (0.9, 0.9), 1),
        (100, 0.5, (0.25, 1.0), 100),  # pixels that are not square: by their area
    ],
)
def test_model_pixels_become_whole_level0_pixels(px, model, slide, expected):
    assert level0_px(px, model, slide) == expected


def test_side_and_stride_are_each_rounded():
    patches = grid((1000, 1000), 27, (0.25, 0.25), mpp=0.55, stride_px=13)
    assert (patches.side, patches.stride) == (59, 29)  # 59.4 and 28.6
    assert (patches.patch_px, patches.mpp) == (27, 0.55)
    assert all((np.diff(axis) == 29).all() for axis in (patches.corners[:, 1][: patches.cols],))


@pytest.mark.parametrize(("side", "stride"), [(27, 27), (27, 9), (8, 8), (8, 20), (9, 4)])
@pytest.mark.parametrize("origin", [(0, 0), (5, -3)])
def test_placement_puts_every_layer_pixel_on_its_patchs_centre(side, stride, origin):
    patches = grid((101, 90), side, stride_px=stride, origin=origin)
    scale, translate = patches.placement((0.5, 0.25))
    for row, col in ((0, 0), (1, 2), (patches.rows - 1, patches.cols - 1)):
        corner = np.add(origin, (row * stride, col * stride))
        centre = corner + (side - 1) / 2  # of pixels corner … corner + side − 1
        assert np.array(scale) * (row, col) + translate == pytest.approx(centre * (0.5, 0.25))
    # napari's layer pixel reaches half a pixel to each side: the cell is the stride-square round the centre
    assert scale == (stride * 0.5, stride * 0.25)


def test_placement_without_mpp_is_in_pixels():
    assert grid((100, 100), 27, stride_px=9, origin=(2, 4)).placement(None) == ((9, 9), (15, 17))


@pytest.mark.parametrize(("side", "stride"), [(27, 27), (27, 10), (8, 8), (8, 20), (9, 4), (1, 1)])
def test_cells_at_finds_the_cell_of_every_patchs_centre(side, stride):
    patches = grid((101, 90), side, stride_px=stride, origin=(4, 0))
    cells = np.argwhere(patches.scored)
    centres = patches.corners + (side - 1) / 2
    assert (patches.cells_at(centres) == cells).all()
    inside = stride / 2 - 0.01  # and of every point of its square
    for dy, dx in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        assert (patches.cells_at(centres + np.array((dy, dx)) * inside) == cells).all()
    assert patches.cells_at(np.array([[-500.0, 0.0]]))[0, 0] < 0


def test_tissue_chooses_the_patches_scored():
    patches = grid((50, 50), 10)
    tissue = np.zeros((5, 5), bool)
    tissue[1, 2] = tissue[4, 0] = True
    chosen = patches.with_tissue(tissue)
    assert chosen.corners.tolist() == [[10, 20], [40, 0]]
    assert chosen.shape == (5, 5)
    assert patches.scored.all()
    with pytest.raises(ValueError, match="tissue"):
        patches.with_tissue(np.ones((2, 2), bool))


@pytest.mark.parametrize("per_block", [1, 7, 64, 10_000])
@pytest.mark.parametrize("density", [0.02, 0.4, 1.0])
def test_blocks_cover_each_scored_patch_exactly_once(per_block, density):
    patches = grid((300, 417), 9, stride_px=13)
    patches = patches.with_tissue(np.random.default_rng(0).random(patches.shape) < density)
    filled = np.zeros((*patches.shape, 2), np.int64)
    count = np.zeros(patches.shape, int)
    for block in patches.blocks(per_block):
        assert 1 <= len(block.corners) <= max(1, per_block)
        assert block.scored.shape == count[block.window].shape
        assert block.scored.sum() == len(block.corners)
        count[block.window] += block.scored
        filled[block.window][block.scored] = block.corners
    assert (count == patches.scored).all()
    assert (filled[patches.scored] == patches.corners).all()


def test_points_blocks_cover_each_point_exactly_once_in_order():
    points = PatchPoints.at(np.random.default_rng(0).random((23, 2)) * 90, (100, 100), PatchSettings(size_px=9))
    blocks = list(points.blocks(5))
    assert [len(block.corners) for block in blocks] == [5, 5, 5, 5, 3]
    assert (np.concatenate([block.corners for block in blocks]) == points.corners).all()
    assert [block.window[0] for block in blocks] == [slice(a, b) for a, b in pairwise([0, 5, 10, 15, 20, 23])]


def test_point_centres_are_rounded_half_up():
    given = np.array([[10.5, 11.5], [10.49, 11.51], [0.0, -0.5], [99.49, 12.0]])
    points = PatchPoints.at(given, (100, 100), PatchSettings(size_px=27))
    assert points.centres.tolist() == [[11, 12], [10, 12], [0, 0], [99, 12]]
    assert points.corners[0].tolist() == [11 - 13, 12 - 13]
    assert points.shape == (4,)
    assert PatchPoints.at(given, (100, 100), PatchSettings(size_px=8)).corners[0].tolist() == [11 - 4, 12 - 4]


@pytest.mark.parametrize("point", [(101.5, 5.0), (-1.51, 5.0), (5.0, 300.0), (np.nan, 5.0)])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_point_outside_the_slide_is_one_plain_line(point):
    with pytest.raises(SlideError, match=r"^1 of 2 centres lie outside the slide[^\n]*$"):
        PatchPoints.at(np.array([(5.0, 5.0), point]), (100, 100), PatchSettings(size_px=9))


def test_patches_survive_json():
    patches = grid((300, 417), 9, (0.25, 0.25), (3, -2), mpp=0.5, stride_px=13)
    tissue = np.random.default_rng(0).random(patches.shape) < 0.5
    again = patches_from_json(json.loads(json.dumps(patches.to_json())), tissue)
    assert again.to_json() == patches.to_json()
    assert (again.corners == patches.with_tissue(tissue).corners).all()
    assert patches_from_json(patches.to_json(), None).scored.all()

    points = PatchPoints.at(
        np.array([[5.0, 6.0], [40.0, 30.0]]), (100, 100), PatchSettings(size_px=9, mpp=0.5), (0.5, 0.5)
    )
    again = patches_from_json(json.loads(json.dumps(points.to_json())), points.centres)
    assert again.to_json() == points.to_json()
    assert (again.corners == points.corners).all()


def test_a_centre_on_the_border_is_moved_onto_the_last_pixel():
    points = PatchPoints.at(np.array([[99.7, 0.0], [-0.9, 49.4]]), (100, 50), PatchSettings(size_px=5))
    assert points.centres.tolist() == [[99, 0], [0, 49]]
    with pytest.raises(SlideError, match="1 of 2 centres lie outside"):
        PatchPoints.at(np.array([[5.0, 5.0], [102.0, 0.0]]), (100, 50), PatchSettings(size_px=5))


def test_a_grid_in_um_is_the_same_area_on_every_slide():
    settings = PatchSettings(size_um=64, stride_um=32, mpp=0.5)
    for mpp in (0.5, 0.25, 0.23):
        patches = PatchGrid.over((3000, 3000), settings, (mpp, mpp))
        assert patches.side * mpp == pytest.approx(64, abs=mpp / 2)
        assert patches.stride * mpp == pytest.approx(32, abs=mpp / 2)
        assert patches.patch_px == 128
    assert PatchGrid.over((3000, 3000), settings, (0.25, 0.5)).side == round(64 / mean_mpp((0.25, 0.5)))
    with pytest.raises(
        SettingsError, match=r"patches\.stride_um has no scale: set patches\.mpp or patches\.size_um too"
    ):
        PatchGrid.over((3000, 3000), PatchSettings(stride_um=32), (0.5, 0.5))
