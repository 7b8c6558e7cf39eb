"""A mask becomes regions and a mask again, whatever is painted."""

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from napari_distill2label.exporters.regions import write_regions
from napari_distill2label.slides.regions import mask_from_geojson, mask_from_polygons, points_inside, polygons_from_mask
from napari_distill2label.slides.tissue_mask import TissueMask


@st.composite
def masks(draw):
    """Of a slide whose last row and column of squares may be cut short."""
    downsample = draw(st.sampled_from([1.0, 2.0, 7.0, 16.0, 31.7]))
    cells = draw(arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
    sizes = [(round((count - 1) * downsample) + 1, int(count * downsample)) for count in cells.shape]
    return TissueMask(cells, tuple(draw(st.integers(low, max(low, high))) for low, high in sizes), downsample, "user")


def test_a_square_that_the_border_cuts_to_nothing_leaves_no_region(tmp_path):
    mask = TissueMask(np.array([[True, False, True, True], [True, True, True, True]]), (1, 3), 1.0, "user")
    assert shapely.union_all(polygons_from_mask(mask)).equals(shapely.box(0, 0, 1, 1) | shapely.box(2, 0, 3, 1))
    assert mask_from_geojson(write_regions(tmp_path / "a.geojson", mask, "a"), (1, 3), mask).mask[0].tolist() == [
        True, False, True, False,
    ]  # fmt: skip


@given(masks())
def test_a_mask_is_the_same_after_polygons(mask):
    regions = shapely.union_all(polygons_from_mask(mask))
    np.testing.assert_array_equal(mask_from_polygons(regions, mask).mask, mask.mask)


@given(masks().filter(lambda mask: mask.mask.any()))
def test_a_mask_is_the_same_after_a_file_of_regions(tmp_path_factory, mask):
    path = write_regions(tmp_path_factory.mktemp("regions") / "a.geojson", mask, "a")
    again = mask_from_geojson(path, mask.slide_shape, mask)
    np.testing.assert_array_equal(again.mask, mask.mask)


@given(masks().filter(lambda mask: mask.mask.any()), st.data())
def test_mask_and_regions_agree_on_every_pixel(mask, data):
    regions = shapely.union_all(polygons_from_mask(mask))
    pixels = data.draw(
        st.lists(st.tuples(*(st.integers(0, size) for size in mask.slide_shape)), min_size=1), "corners of pixels"
    )
    np.testing.assert_array_equal(points_inside(regions, np.array(pixels, float)), mask.contains(np.array(pixels)))
