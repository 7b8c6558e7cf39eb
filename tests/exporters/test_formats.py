"""`export.write`: which files, under which names."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from napari_distill2label.core.errors import BundleError, SettingsError
from napari_distill2label.core.events import Task
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.core.text import printable
from napari_distill2label.exporters.formats import (
    FORMATS,
    files_of_map,
    format_names,
    iter_write,
    names_of_files,
    write,
)
from napari_distill2label.slides.label_mask import read_label_mask
from napari_distill2label.store.maps.patch_map import PatchMap

GRID = PatchGrid.over((60, 90), PatchSettings(size_px=30))
AT_A_STROKE = ("png", "regions", "probability", "report")  # seconds of work, whose steps are not known before
NAMES = ('no, "none"', "=1+1\n癌", "опухоль; a/b")  # of classes


def test_every_format(tmp_path, new_map):
    paths = write(new_map(GRID), tmp_path, list(FORMATS))
    names = [
        "slide 1.ome.tif", "slide 1.geojson", "slide 1.csv", "slide 1.png",
        "slide 1_regions.geojson", "slide 1_probability.ome.tif", "slide 1_mask.png", "slide 1.ome.zarr",
        "slide 1_v0.4.ome.zarr", "slide 1.parquet", "slide 1.html",
    ]  # fmt: skip
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "slide 1.csv-metadata.json"])


def test_aliases_are_the_same_format_once(tmp_path, new_map):
    assert format_names(["ome.tif", "OME-TIF", "mask", ".csv", "csv"]) == ["ome-tiff", "csv"]
    with pytest.raises(SettingsError, match="unknown format 'svg': choose from ome-tiff, geojson, csv, png, "):
        write(new_map(GRID), tmp_path, ["csv", "svg"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("slide_id", ["../outside", "..", "a/b", "C:\\x", "Präparat 1"])
def test_files_stay_in_the_folder(tmp_path, new_map, slide_id):
    folder = tmp_path / "out"
    for path in write(new_map(GRID, slide=SlideInfo(slide_id)), folder, list(FORMATS)):
        assert path.parent == folder
        assert path.exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_an_unfinished_map_is_refused(tmp_path):
    patch_map = PatchMap.create(None, GRID, ("n", "p"), SlideInfo("s"))
    with pytest.raises(BundleError, match="not finished"):
        write(patch_map, tmp_path, ["csv"])


def test_the_threshold_of_the_map_holds_unless_another_is_given(tmp_path, new_map):
    patch_map = new_map(GRID, threshold=0.95)
    (path,) = write(patch_map, tmp_path, ["csv"])
    assert "tumour" not in path.read_text().split("\n", 1)[1]
    (path,) = write(patch_map, tmp_path, ["csv"], threshold=0.5)
    assert "tumour" in path.read_text().split("\n", 1)[1]


def test_corrections_that_do_not_fit_write_nothing(tmp_path, new_map):
    with pytest.raises(SettingsError, match="corrections"):
        write(new_map(GRID), tmp_path, list(FORMATS), corrections=np.zeros((9, 9), np.int8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FORMATS)
def test_closing_it_leaves_no_half_file(tmp_path, new_map, name):
    patch_map = new_map(PatchGrid.over((2000, 3000), PatchSettings(size_px=10)))
    work = iter_write(patch_map, tmp_path, [name])
    event = next(work)
    assert (event.task, event.item) == (Task.WRITE, "slide 1")
    assert event.total is None or 0 <= event.step <= event.total
    work.close()
    assert list(tmp_path.iterdir()) == []
    events = list(iter_write(patch_map, tmp_path, [name]))
    if name not in AT_A_STROKE:
        assert events[-1].step == events[-1].total
    assert len(list(tmp_path.iterdir())) == 1 + (name == "csv")


@pytest.mark.parametrize("mpp", [None, (0.5, 0.5)])
@pytest.mark.parametrize("labels", [[[1]], [[1, 1]], [[2, 3, 0]]], ids=["one patch", "no finding", "some"])
def test_odd_maps_in_every_format(tmp_path, labels, mpp):
    """One patch, no finding, no pixel size, and names with quotes, commas, line ends and other scripts."""
    labels = np.array(labels)
    grid = PatchGrid.over((30, 30 * labels.shape[1]), PatchSettings(size_px=30)).with_tissue(labels > 0)
    patch_map = PatchMap.create(None, grid, NAMES, SlideInfo("s", mpp=mpp))
    for block in grid.blocks(10):
        probability = np.eye(3)[labels[block.window][block.scored] - 1]
        patch_map.write(block, probability, probability, probability[:, 1])
    patch_map.finish([1, 0, 0])
    paths = {path.name: path for path in write(patch_map, tmp_path, list(FORMATS))}
    assert len(paths) == len(FORMATS)
    expected = [NAMES[value - 1] for value in labels.ravel().tolist() if value]
    found = json.loads(paths["s.geojson"].read_text("utf-8"))["features"]
    assert [one["properties"]["classification"]["name"] for one in found] == expected
    table = pd.read_csv(paths["s.csv"])
    assert [name.removeprefix("'") for name in table["label"]] == expected
    for name in ("s.ome.tif", "s.ome.zarr", "s_v0.4.ome.zarr", "s_mask.png"):
        mask = read_label_mask(paths[name])
        assert [printable(mask.classes[value]) for value in (1, 2, 3)] == [printable(each) for each in NAMES]
        assert (mask.mpp is None) == (mpp is None)
        np.testing.assert_array_equal(np.unique(mask.labels), np.unique(labels))


def test_finished_files_stay_when_it_is_closed(tmp_path, new_map):
    work = iter_write(new_map(GRID), tmp_path, ["csv", "geojson"])
    assert next(work).step == 6  # all rows of the table, whose file is closed next
    next(work)
    work.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slide 1.csv", "slide 1.csv-metadata.json"]


def test_export_needs_no_torch_and_no_napari():
    code = (
        "import sys, napari_distill2label.exporters.formats, napari_distill2label.exporters.png,"
        " napari_distill2label.exporters.geojson,"
        " napari_distill2label.slides.label_mask;"
        "assert not {'torch', 'napari', 'qtpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_two_files_of_a_call_have_one_name(tmp_path, new_map):
    """Ids and findings that read like the parts of other files' names."""
    findings = ("x", "x_mask", "mask", "regions")
    ids = ("a", "a_mask", "a_regions", "A_x", "a_x_mask", "a_probability")
    slides = {slide_id: (slide_id, findings if slide_id == "a" else ()) for slide_id in ids}
    names = names_of_files(slides, list(FORMATS))
    files = [file.name for slide_id in ids for file in files_of_map(tmp_path, list(FORMATS), names[slide_id])]
    assert len({file.casefold() for file in files}) == len(files)
    patch_map = new_map(GRID, classes=("normal", *findings), multi_label=True, slide=SlideInfo("a"))
    written = write(patch_map, tmp_path, list(FORMATS), names=names["a"])
    assert written == files_of_map(tmp_path, list(FORMATS), names["a"], beside=False)
    # Files that were not asked for change no name.
    assert names_of_files(slides, ["csv"])["a_mask"][None, ""] == "a_mask"
