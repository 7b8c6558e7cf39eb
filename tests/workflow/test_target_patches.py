"""Marks as labels of patches: of a map, or of HDF5 files of places, at the share of a patch that is asked for."""

import json

import numpy as np
import pandas as pd
import pytest
import shapely

from napari_distill2label.core.errors import CohortError, SettingsError
from napari_distill2label.core.events import ItemFailed, drain
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.notices import Notice, NoticeCode
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.store.maps.hdf5_geometry import Frame
from napari_distill2label.store.maps.hdf5_places import write_places
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.store.tables.points import read_points
from napari_distill2label.workflow.commands.convert import convert

SHAPE = (305, 413)
GRID = PatchGrid.over(SHAPE, PatchSettings(size_px=60))
AREAS = (
    ("tumour", (0, 0, 120, 61)),  # all of two patches of the first row, and a pixel of those below
    ("stroma", (120, 0, 150, 60)),  # half of the third
    ("Ignore*", (180, 0, 240, 60)),
    ("normal", (0, 120, 29, 180)),  # less than half of its patch
)


@pytest.fixture
def source(tmp_path):
    drawn = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(shapely.box(*box)),
            "properties": {"classification": {"name": name, "color": [10, 20, 30]}},
        }
        for name, box in AREAS
    ]
    (tmp_path / "S-1.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": drawn}))
    return tmp_path / "S-1.geojson"


def run(*arguments, **options):
    events = []
    files = drain(convert(*arguments, **options), events.append)
    return (files, *([event for event in events if isinstance(event, kind)] for kind in (ItemFailed, Notice)))


def labels(file):
    table = pd.read_csv(file)
    return {(row.minx, row.miny): row.label for row in table.itertuples()}


@pytest.mark.parametrize("kind", ["map", "places"])
def test_areas_label_the_patches_that_they_cover(tmp_path, source, kind):
    target = tmp_path / "target" / "S-1.zarr"
    if kind == "map":
        made = PatchMap.create(target, GRID, ("normal", "tumour"), SlideInfo("S-1"))
        for block in GRID.blocks(1000):
            probability = np.full((int(block.scored.sum()), 2), 0.5)
            made.write(block, probability, np.log(probability), probability[:, 1])
        made.finish([0.5, 0.5])
    else:
        target = write_places(tmp_path / "target" / "S-1_patches.h5", GRID, "S-1", None, Frame(SHAPE))
    (file,), failed, (said, *others) = run(source, tmp_path / "out", "csv", target_patches=target)
    assert not failed
    assert labels(file) == {(0, 0): "tumour", (60, 0): "tumour", (120, 0): "stroma"}
    assert said.code is NoticeCode.PATCHES_LABELLED
    assert said.values["patches"] == {"stroma": 1, "tumour": 2}
    assert said.values["without"] == len(GRID.corners) - 3
    assert NoticeCode.MARKS_TOO_SMALL in {notice.code for notice in others}
    (file,), _, _ = run(source, tmp_path / "less", "csv", target_patches=target, coverage=0.4)
    assert labels(file)[0, 120] == "normal"
    (file,), _, _ = run(source, tmp_path / "json", "geojson", target_patches=target)
    tile = json.loads(file.read_text())["features"][0]["properties"]
    assert (tile["objectType"], tile["classification"]) == ("tile", {"name": "tumour", "color": [10, 20, 30]})
    marks = read_points(file, labelled=True)["S-1"]
    assert marks.named == {"tumour", "stroma"}


def test_what_has_no_patches_is_said(tmp_path, source):
    with pytest.raises(CohortError, match="says nothing of where patches lie"):
        run(source, tmp_path / "out", "csv", target_patches=source)
    other = write_places(tmp_path / "S-2_patches.h5", GRID, "S-2")
    _, failed, _ = run(source, tmp_path / "out", "csv", target_patches=other)
    assert "has no patches of slide 'S-1'" in str(failed[0].error)
    with pytest.raises(SettingsError, match="no patches that are to be labelled"):
        run(source, tmp_path / "out", "csv", coverage=0.3)


def test_command(cli, tmp_path, source):
    target = write_places(tmp_path / "S-1_patches.h5", GRID, "S-1")
    status, out, err = cli(
        "convert", source, "-o", tmp_path / "out", "--to", "csv", "--target-patches", target, "--coverage", 0.4
    )
    assert (status, out.strip()) == (0, str(tmp_path / "out" / "S-1.csv")), err
    assert "2 tumour" in err
    status, _, err = cli("convert", source, "-o", tmp_path / "o", "--to", "csv", "--coverage", 0.4)
    assert status == 2
    assert "--target-patches" in err
