"""Conversions keep labels and places, or say what they cannot keep: real files, read back by what reads their kind."""

import json

import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
import zarr
from PIL import Image

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import ItemDone, ItemFailed, Progress, drain
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.notices import Notice, NoticeCode
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.exporters import objects
from napari_distill2label.exporters.formats import write
from napari_distill2label.slides.label_mask import read_label_mask
from napari_distill2label.store.maps.hdf5_places import read_places
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.store.tables.points import read_points
from napari_distill2label.workflow.commands.convert import TARGETS, convert
from napari_distill2label.workflow.corrections import Corrections

CLASSES = ("normal", "tumour")
SHAPE = (305, 413)
RING = {"type": "Polygon", "coordinates": [[[20, 10], [120, 10], [120, 90], [20, 90], [20, 10]],
                                           [[50, 30], [80, 30], [80, 60], [50, 60], [50, 30]]]}  # fmt: skip
TRIANGLE = {"type": "Polygon", "coordinates": [[[200.2, 100.3], [290.7, 101.4], [231.1, 177.9], [200.2, 100.3]]]}


@pytest.fixture
def slide(tmp_path):
    path = tmp_path / "slides" / "S-1.tif"
    path.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", resolution=(20000, 20000), resolutionunit="CENTIMETER")
    return path


def feature(geometry, class_name="", **properties):
    classification = {"classification": {"name": class_name, "color": [10, 20, 30]}} if class_name else {}
    return {
        "type": "Feature",
        "id": f"id-{class_name}",
        "geometry": geometry,
        "properties": {**classification, **properties},
    }


def annotations(path, *features):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def finished(patches, mpp=None):
    made = PatchMap.create(None, patches, CLASSES, SlideInfo("S-1", mpp=mpp))
    rng = np.random.default_rng(0)
    for block in patches.blocks(1000):
        probability = np.eye(2)[rng.integers(0, 2, int(block.scored.sum()))] * 0.8 + 0.1
        made.write(block, probability, np.log(probability), probability[:, 1])
    made.finish([0.5, 0.5])
    return made


def grid():
    whole = PatchGrid.over(SHAPE, PatchSettings(size_px=32, stride_px=20))
    return whole.with_tissue(np.random.default_rng(1).random(whole.shape) < 0.7)


def points():
    centres = np.argwhere(np.ones((5, 7), bool)) * 55 + np.random.default_rng(2).integers(13, 37, (35, 2))
    return PatchPoints.at(centres, SHAPE, PatchSettings(size_px=21))


def run(*arguments, **options):
    events = []
    files = drain(convert(*arguments, **options), events.append)
    failed = [event for event in events if isinstance(event, ItemFailed)]
    notices = [event for event in events if isinstance(event, Notice) and event.code is NoticeCode.LEFT_OUT]
    return files, failed, notices


@pytest.mark.parametrize("place", [grid, points])
@pytest.mark.parametrize("first", ["geojson", "csv", "parquet"])
@pytest.mark.parametrize("then", ["geojson", "csv", "parquet"])
def test_labels_of_patches_survive_any_two_formats(tmp_path, place, first, then):
    patches = place()
    made = finished(patches)
    (exported,) = write(made, tmp_path, [first])
    files, failed, notices = run(exported, tmp_path / "out", then)
    assert not failed
    found = Corrections(files[0]).of("S-1", patches, CLASSES)
    np.testing.assert_array_equal(found, made.to_labels()[patches.scored].astype(int) - 1)
    again, failed, _ = run(files[0], tmp_path / "again", first)
    assert not failed
    assert numbers(again[0]) == numbers(exported)
    assert not notices


def numbers(path):
    """The probabilities of the tumour, by box."""
    if path.suffix == ".geojson":
        found = json.loads(path.read_text())["features"]
        rows = [(*shapely.geometry.shape(one["geometry"]).bounds, one["properties"]["measurements"]["prob_tumour"])
                for one in found]  # fmt: skip
    else:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
        ends = table.minx + table.width, table.miny + table.height
        rows = zip(table.minx, table.miny, *ends, table.prob_tumour, strict=True)
    return sorted((*map(float, row[:4]), round(float(row[4]), 5)) for row in rows)


@pytest.mark.parametrize("form", ["ome-tiff", "ome-zarr", "ome-zarr-0.4", "mask-png"])
def test_areas_become_pixels_and_areas_again(tmp_path, slide, form):
    source = annotations(tmp_path / "S-1.geojson", feature(RING, "tumour"), feature(TRIANGLE, "normal"))
    files, failed, notices = run(source, tmp_path / "masks", form, slides=slide)
    assert not failed
    assert not notices
    mask = read_label_mask(files[0])
    assert mask.labels.shape == SHAPE
    assert mask.mpp == pytest.approx((0.5, 0.5))
    assert {value: name for value, name in mask.classes.items() if value} == {1: "normal", 2: "tumour"}
    assert {value: colour for value, colour in mask.colours.items() if value} == {1: (10, 20, 30), 2: (10, 20, 30)}
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    for value, geometry in ((2, RING), (1, TRIANGLE)):
        inside = shapely.contains_xy(shapely.geometry.shape(geometry), x, y)
        np.testing.assert_array_equal(mask.labels == value, inside)
    again, failed, _ = run(files[0], tmp_path / "again", "geojson", slides=slide.parent)
    assert not failed
    outlines = {
        one["properties"]["classification"]["name"]: shapely.geometry.shape(one["geometry"])
        for one in json.loads(again[0].read_text())["features"]
    }
    assert outlines["tumour"].equals(shapely.geometry.shape(RING))
    assert np.array_equal(shapely.contains_xy(outlines["normal"], x, y), mask.labels == 1)


def test_a_label_image_becomes_another_without_its_slide(tmp_path):
    labels = np.zeros((1200, 900), np.uint16)
    labels[100:800, 30:500] = 700
    (tmp_path / "S-1.png").parent.mkdir(exist_ok=True)
    Image.fromarray(labels).save(tmp_path / "S-1.png")
    for form, opened in (("ome-tiff", tifffile.imread), ("ome-zarr", lambda path: zarr.open(path)["0"][...])):
        (file,), failed, _ = run(tmp_path / "S-1.png", tmp_path / form, form)
        assert not failed
        np.testing.assert_array_equal(opened(file), labels)
        (back,), failed, _ = run(file, tmp_path / f"{form}-png", "mask-png")
        assert not failed
        np.testing.assert_array_equal(np.asarray(Image.open(back)), labels)


def test_marks_that_would_be_lost_stop_a_source_and_not_the_others(tmp_path, slide):
    line = {"type": "LineString", "coordinates": [[0, 0], [9, 9]]}
    point = {"type": "MultiPoint", "coordinates": [[3.5, 7.5], [30.5, 20.5]]}
    mixed = annotations(tmp_path / "S-1.geojson", feature(RING, "tumour"), feature(line, "x"), feature(point, "tumour"))
    fine = annotations(tmp_path / "S-2.geojson", feature(point, "tumour", name="a, b", isLocked=True))
    (tmp_path / "S-3.geojson").write_text("{")
    files, failed, _ = run(tmp_path, tmp_path / "out", "csv")
    assert [path.name for path in files] == ["S-2.csv"]
    assert [failure.item for failure in failed] == ["S-1.geojson", "S-3.geojson"]
    assert "would lose: areas (1), lines (1)." in str(failed[0].error)
    table = pd.read_csv(files[0])
    assert table[["slide_id", "x", "y", "label", "name"]].values.tolist() == [
        ["S-2", 3.0, 7.0, "tumour", "a, b"], ["S-2", 30.0, 20.0, "tumour", "a, b"]
    ]  # fmt: skip
    files, failed, notices = run(mixed, tmp_path / "lost", "csv", allow_loss=True)
    assert not failed
    assert notices[0].values["what"] == {"areas": 1, "lines": 1}
    assert len(pd.read_csv(files[0])) == 2
    _, failed, _ = run(fine, tmp_path / "mask", "ome-tiff", slides=tmp_path / "slides")
    assert "not among the slides" in str(failed[0].error)
    _, failed, _ = run(mixed, tmp_path / "mask", "ome-tiff")
    assert "its size is not known" in str(failed[0].error)
    _, failed, _ = run(mixed, tmp_path / "mask", "ome-tiff", slides=slide)
    assert "would lose: lines (1), points (1)." in str(failed[0].error)


def test_an_area_under_another_class_is_no_pixel(tmp_path, slide):
    inner = {"type": "Polygon", "coordinates": [[[90, 20], [110, 20], [110, 40], [90, 40], [90, 20]]]}
    source = annotations(tmp_path / "S-1.geojson", feature(inner, "tumour"), feature(RING, "tissue"))
    _, failed, _ = run(source, tmp_path / "out", "ome-tiff", slides=slide)
    assert "would lose: areas under an area of another class (1)." in str(failed[0].error)
    (file,), _, _ = run(source, tmp_path / "out", "ome-tiff", slides=slide, allow_loss=True)
    mask = read_label_mask(file)
    assert mask.classes[int(mask.labels[30, 100])] == "tumour"
    assert mask.classes[int(mask.labels[80, 100])] == "tissue"


def test_geojson_keeps_what_qupath_says(tmp_path):
    cell = feature(RING, "Tumor: Positive", objectType="cell", measurements=[{"name": "a", "value": 1.5}],
                   metadata={"k": "v"}, name="n", color=[1, 2, 3]) | {"nucleusGeometry": TRIANGLE}  # fmt: skip
    source = annotations(tmp_path / "S-1.geojson", cell, feature(TRIANGLE, "Ignore*"))
    (file,), failed, notices = run(source, tmp_path / "out", "geojson")
    assert not failed
    assert not notices
    found = json.loads(file.read_text())
    first, second = found["features"]
    assert found["provenance"]["converted_from"] == "S-1.geojson"
    assert first["properties"] == {
        "objectType": "cell", "classification": {"name": "Tumor: Positive", "color": [10, 20, 30]},
        "measurements": {"a": 1.5}, "metadata": {"k": "v", "id": "id-Tumor: Positive"}, "name": "n", "color": [1, 2, 3],
    }  # fmt: skip
    for key, expected in (("geometry", RING), ("nucleusGeometry", TRIANGLE)):
        assert shapely.geometry.shape(first[key]).equals(shapely.geometry.shape(expected))
    assert second["properties"]["classification"]["name"] == "Ignore*"


@pytest.mark.parametrize("place", [grid, points])
def test_places_of_a_map_and_back(tmp_path, place):
    patches = place()
    made = finished(patches)
    (exported,) = write(made, tmp_path, ["geojson"])
    (file,), failed, notices = run(exported, tmp_path / "places", "places")
    assert not failed
    assert set(notices[0].values["what"]) == {"class", "measurements"}
    assert file.name == "S-1_patches.h5"
    assert sorted(read_places(file).patches.corners.tolist()) == sorted(patches.corners.tolist())
    (table,), failed, _ = run(file, tmp_path / "out", "csv")
    assert not failed
    found = pd.read_csv(table)
    assert sorted(found[["miny", "minx"]].values.tolist()) == sorted(patches.corners.tolist())
    assert set(found.width) == {patches.side}


def test_maps_are_exported_and_give_their_places(tmp_path):
    patches = grid()
    made = PatchMap.create(tmp_path / "S-1.zarr", patches, CLASSES, SlideInfo("S-1", mpp=(0.5, 0.5)))
    for block in patches.blocks(1000):
        probability = np.full((int(block.scored.sum()), 2), 0.5)
        made.write(block, probability, np.log(probability), probability[:, 1])
    made.finish([0.5, 0.5])
    files, failed, _ = run(tmp_path / "S-1.zarr", tmp_path / "out", "regions")
    assert not failed
    assert [file.name for file in files] == ["S-1_regions.geojson"]
    (file,), failed, notices = run(tmp_path / "S-1.zarr", tmp_path / "out", "places")
    assert not failed
    assert set(notices[0].values["what"]) == {"labels and probabilities"}
    assert read_places(file).patches.corners.tolist() == patches.corners.tolist()


def test_nothing_is_replaced_and_formats_are_known(tmp_path):
    source = annotations(tmp_path / "S-1.geojson", feature(TRIANGLE, "a"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "S-1.geojson").write_text("mine")
    _, failed, _ = run(source, out, "geojson")
    assert (out / "S-1.geojson").read_text() == "mine"
    assert len(failed) == 1
    _, failed, _ = run(source, tmp_path, "geojson")  # onto itself
    assert len(failed) == 1
    assert "S-1.geojson" in str(failed[0].error)
    files, _, _ = run(source, out, "geojson", overwrite=True)
    assert json.loads(files[0].read_text())["features"]
    with pytest.raises(SettingsError, match="choose from"):
        run(source, out, "docx")
    _, failed, _ = run(source, out, "report")
    assert "Patch maps alone can be written as report" in str(failed[0].error)
    assert set(TARGETS) >= {"csv", "places"}


def test_command(cli, tmp_path):
    source = annotations(tmp_path / "S-1.geojson", feature({"type": "Point", "coordinates": [3.5, 7.5]}, "=1+1"))
    status, out, err = cli("convert", source, "-o", tmp_path / "out", "--to", "csv")
    assert (status, out.strip()) == (0, str(tmp_path / "out" / "S-1.csv")), err
    assert "'=1+1" in (tmp_path / "out" / "S-1.csv").read_text()
    status, _, err = cli("convert", source, tmp_path / "no.geojson", "-o", tmp_path / "out", "--to", "parquet")
    assert status == 1
    assert "no such file" in err
    status, _, err = cli("convert", source, "-o", tmp_path / "out", "--to", "ome-tiff")
    assert status == 1
    assert "--slide" in err


def test_events_say_what_is_done(tmp_path):
    source = annotations(tmp_path / "S-1.geojson", feature(TRIANGLE, "a"))
    events = list(convert([source], tmp_path / "out", "geojson"))
    assert [event.item for event in events if isinstance(event, ItemDone)] == ["S-1"]


def test_only_a_slide_that_is_given_is_named_in_the_result(tmp_path, slide):
    """A result that is renamed is of the slide of its new name, unless it is known to be of another."""
    source = annotations(tmp_path / "S-1.geojson", feature(TRIANGLE, "a"))
    for slides, expected in (((), {"S-2"}), (slide, {"S-1"})):
        (file,), _, _ = run(source, tmp_path / "out", "geojson", slides=slides, overwrite=True)
        renamed = file.rename(file.with_name("S-2.geojson"))
        assert read_points(renamed, labelled=True).keys() == expected


@pytest.fixture
def many(tmp_path, monkeypatch):
    """Sources of 12 objects, which are read two by two, or of tiles of a mask, by kind."""
    monkeypatch.setattr(objects, "AT_ONCE", 2)
    table = tmp_path / "S-1.csv"
    rows = [f"S-1,{80 * x},{50 * y},50,50,{'ab'[x % 2]}" for y in range(3) for x in range(4)]
    table.write_text("\n".join(["slide_id,minx,miny,width,height,label", *rows]) + "\n")
    (geojson,), _, _ = run(table, tmp_path / "json", "geojson")
    mask = tmp_path / "mask" / "S-1.tif"
    mask.parent.mkdir()
    values = np.arange(6, dtype=np.uint16).repeat(SHAPE[0] * SHAPE[1] // 6 + 1)
    tifffile.imwrite(mask, values[: SHAPE[0] * SHAPE[1]].reshape(SHAPE), tile=(64, 64))
    dots = '<Annotation Type="Dot"><Coordinates><Coordinate X="5" Y="6"/></Coordinates></Annotation>' * 12
    xml = tmp_path / "xml" / "S-1.xml"
    xml.parent.mkdir()
    xml.write_text(f"<ASAP_Annotations>{dots}</ASAP_Annotations>")
    return {"table": table, "geojson": geojson, "mask": mask, "xml": xml}


@pytest.mark.parametrize(
    ("source", "to"),
    [*((source, "geojson") for source in ("table", "geojson", "mask", "xml")), ("xml", "csv"),
     *(("geojson", to) for to in TARGETS if to != "geojson"), ("mask", "ome-tiff"), ("mask", "ome-zarr")],
)  # fmt: skip
def test_cancelling_anywhere_leaves_no_file(many, slide, tmp_path, source, to):
    out = tmp_path / "out"
    work = convert(many[source], out, to, slides=slide)
    steps = sum(isinstance(event, Progress) for event in work)
    assert list(out.iterdir())
    assert steps > 3
    for stop in sorted({0, steps // 3, 2 * steps // 3, steps - 2}):  # the last one says that the source is done
        there = tmp_path / f"out-{stop}"
        work = convert(many[source], there, to, slides=slide)
        for _ in zip(range(stop + 1), (event for event in work if isinstance(event, Progress)), strict=False):
            pass
        work.close()
        assert not [file for file in (there.rglob("*") if there.exists() else ()) if file.is_file()]
