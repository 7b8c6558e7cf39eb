"""Slides whose scanned area lies on a larger canvas: positions in files are QuPath's, which count from the area."""

import csv
import json

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_distill2label.core.events import ItemFailed, drain
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.maps.feature_map import FeatureMap
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.store.run import Run
from napari_distill2label.workflow.commands.convert import convert
from napari_distill2label.workflow.commands.export import export
from napari_distill2label.workflow.live import read_features

pytest.importorskip("openslide", reason="OpenSlide is not installed: pip install -e '.[slides]'")


@pytest.fixture
def scn(slides, tmp_path, write_scn):
    """A drawn slide, at 0.25 µm/px, 300 px below and 500 px right of the corner of its canvas."""
    write_scn(tmp_path / "a.scn", np.tile(tifffile.imread(slides[0]), (2, 2, 1)), (300, 500), (1000, 1200))
    return tmp_path / "a.scn"


def test_regions_in_and_files_out_count_from_the_scanned_area(trained, scn, tmp_path, cli, table):
    box = {"type": "Polygon", "coordinates": [[[100, 40], [200, 40], [200, 120], [100, 120], [100, 40]]]}
    region = {"type": "Feature", "geometry": box, "properties": {}}
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [region]}))
    out = tmp_path / "out"
    status, _, err = cli("predict", trained, scn, "-o", out, "--tissue", tmp_path / "a.geojson",
                         "--format", "csv,geojson,ome-tiff")  # fmt: skip
    assert status == 0, err
    assert err.count("scanned area is 256 × 224 px of a canvas of 1200 × 1000 px") == 1
    rows = table(out / "a.csv")
    centres = [(int(row["minx"]) + int(row["width"]) / 2, int(row["miny"]) + int(row["height"]) / 2) for row in rows]
    assert rows
    assert all(100 <= x <= 200 and 40 <= y <= 120 for x, y in centres)
    mask = tifffile.imread(out / "a.ome.tif", series=0, level=0)
    assert mask.shape == (224, 256)  # of the area, which is what QuPath shows
    with tifffile.TiffFile(out / "a.ome.tif") as tiff:
        assert "it lies at x=500, y=300 of the whole canvas" in tiff.ome_metadata
    (kept,) = Run.open(trained).predictions.glob("a.*.zarr")
    assert PatchMap.open(kept).slide.canvas_origin == (300, 500)
    found = np.argwhere(mask)
    assert found.min(axis=0)[0] >= 0
    assert found.max(axis=0)[0] < 160
    features = json.loads((out / "a.geojson").read_text())
    features = features["features"] if isinstance(features, dict) else features
    xs = [x for feature in features for x, _ in feature["geometry"]["coordinates"][0]]
    assert (min(xs), max(xs)) == (min(int(row["minx"]) for row in rows),
                                  max(int(row["minx"]) + int(row["width"]) for row in rows))  # fmt: skip


def test_points_count_from_the_scanned_area_too(trained, scn, tmp_path, cli, table):
    with (tmp_path / "centres.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("slide_id", "x", "y"), ("a", 60, 50), ("a", 200, 180)])
    status, _, err = cli("predict", trained, scn, "-o", tmp_path / "out", "--centres", tmp_path / "centres.csv",
                         "--format", "csv")  # fmt: skip
    assert status == 0, err
    rows = table(tmp_path / "out" / "a.csv")
    assert [
        (int(row["minx"]) + int(row["width"]) // 2, int(row["miny"]) + int(row["height"]) // 2) for row in rows
    ] == [
        (60, 50),
        (200, 180),
    ]


def test_maps_of_a_quick_trial_know_the_area(scn, tmp_path):
    grid = PatchGrid.over((224, 256), PatchSettings(size_px=64))
    found = FeatureMap.open_or_create(tmp_path / "features" / "a.zarr", grid, 8, {"encoder": "e"})
    for block in grid.blocks(1000):
        found.write(block, np.random.default_rng(0).normal(size=(len(block.corners), 8)).astype(np.float32))
    slides = drain(read_features(Cohort((CohortSlide("a", scn),), ("normal", "tumour")), tmp_path / "features")).slides
    assert slides["a"].info.canvas_origin == (300, 500)


def test_a_map_that_counts_from_the_canvas_is_to_be_predicted_again(scn, tmp_path, collect):
    grids = {shape: PatchGrid.over(shape, PatchSettings(size_px=64), None) for shape in ((1000, 1200), (224, 256))}
    maps = {}
    for shape, grid in grids.items():
        maps[shape] = PatchMap.create(None, grid, ("normal", "tumour"), SlideInfo("a", str(scn)))
        for block in grid.blocks(1000):
            logit = np.zeros((len(block.corners), 2))
            maps[shape].write(block, np.full_like(logit, 0.5), logit, logit[:, 0])
        maps[shape].finish([0.5, 0.5])
    for shape, said in (((1000, 1200), ["counts positions from the corner of the canvas"]), ((224, 256), [])):
        events, _ = collect(export(maps[shape], tmp_path / f"out {shape[0]}", ["csv"]))
        failed = [str(event.error) for event in events if isinstance(event, ItemFailed)]
        assert [text in reason for text, reason in zip(said, failed, strict=True)] == [True] * len(said)
        assert all("a.scn: " in reason and "predict again" in reason for reason in failed)


def corners_in(path):
    """The corners (x, y) of the boxes of a GeoJSON file, with their classes."""
    features = json.loads(path.read_text())["features"]
    return sorted(
        (*min(one["geometry"]["coordinates"][0]), one["properties"].get("classification", {}).get("name"))
        for one in features
    )


@pytest.mark.parametrize("form", ["geojson", "csv", "parquet", "places", "ome-tiff", "ome-zarr", "mask-png"])
def test_conversions_count_from_the_scanned_area(scn, tmp_path, form):
    """HDF5 of CLAM and TRIDENT alone counts from the canvas; a mask is of the area, as in QuPath."""
    corners, side = [(0, 0), (96, 32), (192, 160)], 32
    boxes = [{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [
                 [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]]},
              "properties": {"objectType": "tile", "classification": {"name": name}}}
             for (x, y), name in zip(corners, "aba", strict=True)]  # fmt: skip
    source = tmp_path / "a.geojson"
    source.write_text(json.dumps({"type": "FeatureCollection", "features": boxes}))
    (file,) = drain(convert(source, tmp_path / "out", form, slides=scn))
    if form == "places":
        with h5py.File(file) as opened:
            assert opened["coords"][:].tolist() == [[x + 500, y + 300] for x, y in corners]
    if form in ("ome-tiff", "mask-png"):
        labels = tifffile.imread(file, level=0) if form == "ome-tiff" else np.asarray(Image.open(file))
        assert labels.shape == (224, 256)
        for (x, y), value in zip(corners, (1, 2, 1), strict=True):
            assert (labels[y : y + side, x : x + side] == value).all()
        assert np.count_nonzero(labels) == 3 * side**2
    (back,) = drain(convert(file, tmp_path / "back", "geojson", slides=scn))
    names = "aba" if form != "places" else [None] * 3
    assert corners_in(back) == sorted((*corner, name) for corner, name in zip(corners, names, strict=True))
