"""Regions are one file, a folder with a file per slide, or compressed files."""

from pathlib import Path

import pytest

from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.inputs import TissueRegions
from napari_distill2label.workflow.tissue_regions import regions_of


def test_regions_are_a_file_or_a_folder_of_them(tmp_path):
    assert regions_of("a", None) is None
    assert regions_of("a", TissueRegions(tmp_path / "any.geojson")) == tmp_path / "any.geojson"
    (tmp_path / "a.geojson").touch()
    assert regions_of("a", TissueRegions(tmp_path)) == tmp_path / "a.geojson"
    for slide_id in ("b", "../a"):
        with pytest.raises(SlideError, match=r"no such file: the folder of regions has none for the slide"):
            regions_of(slide_id, TissueRegions(tmp_path))
    assert Path(regions_of("a", TissueRegions(str(tmp_path)))).is_file()


def test_a_folder_of_regions_may_hold_compressed_files(tmp_path):
    packed = tmp_path / "a.geojson.gz"
    packed.touch()
    assert regions_of("a", TissueRegions(tmp_path)) == packed
    (tmp_path / "a.geojson").touch()
    assert regions_of("a", TissueRegions(tmp_path)) == tmp_path / "a.geojson"
    with pytest.raises(SlideError, match=r"b\.geojson: no such file"):
        regions_of("b", TissueRegions(tmp_path))


def test_a_folder_of_regions_may_hold_label_images(tmp_path):
    (tmp_path / "a.ome.tif").touch()
    (tmp_path / "b.ome.zarr").mkdir()
    assert regions_of("a", TissueRegions(tmp_path)) == tmp_path / "a.ome.tif"
    assert regions_of("b", TissueRegions(tmp_path)) == tmp_path / "b.ome.zarr"
    (tmp_path / "a.png").touch()
    with pytest.raises(SlideError, match=r"a\.ome\.tif and .*a\.png are both of slide 'a': keep one"):
        regions_of("a", TissueRegions(tmp_path))
    (tmp_path / "a.geojson").touch()
    assert regions_of("a", TissueRegions(tmp_path)) == tmp_path / "a.geojson"
