"""Probability maps, read by tifffile's OME parser."""

import json

import numpy as np
import pytest
import tifffile

from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.exporters.probability_maps import write_probability_maps


@pytest.mark.parametrize("mpp", [None, (0.5, 0.25)])
def test_channels_scale_and_place(new_map, tmp_path, mpp):
    grid = PatchGrid.over((95, 4123), PatchSettings(size_px=10, stride_px=7), origin=(-3, 2))
    tissue = np.random.default_rng(1).random(grid.shape) < 0.8
    patch_map = new_map(
        grid.with_tissue(tissue), slide=SlideInfo("slide 1", None, mpp), classes=("normal", "tu\x1bm <&>")
    )
    path = write_probability_maps(tmp_path / "a.ome.tif", patch_map, 0.5)
    with tifffile.TiffFile(path) as tiff:
        (series,) = tiff.series
        assert (series.axes, series.shape, series.dtype) == ("CYX", (3, *grid.shape), np.float32)
        found = series.asarray()
        ome = tifffile.xml2dict(tiff.ome_metadata)["OME"]
    np.testing.assert_array_equal(found[:2], np.moveaxis(patch_map.probability, -1, 0))
    np.testing.assert_array_equal(found[2], patch_map.attention)
    assert np.isnan(found[:, ~tissue]).all()
    pixels = ome["Image"]["Pixels"]
    assert [channel["Name"] for channel in pixels["Channel"]] == ["prob_normal", "prob_tu\\x1bm <&>", "attention"]
    scale = mpp or (1, 1)
    assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeX"]) == (7 * scale[0], 7 * scale[1])
    assert pixels["PhysicalSizeXUnit"] == ("µm" if mpp else "pixel")
    plane = pixels["Plane"][0]
    assert (plane["PositionY"], plane["PositionX"]) == ((-3 + 4.5) * scale[0], (2 + 4.5) * scale[1])
    (entry,) = [ome["StructuredAnnotations"]["MapAnnotation"]["Value"]["M"]]
    assert json.loads(entry["value"])["slide_id"] == "slide 1"


def test_points_have_no_picture(new_map, tmp_path):
    points = PatchPoints.at([[20, 20], [40, 40]], (80, 80), PatchSettings(size_px=10))
    with pytest.raises(SlideError, match="needs a grid"):
        write_probability_maps(tmp_path / "a.ome.tif", new_map(points), 0.5)
