"""Every GeoJSON file that this program writes follows QuPath's rules (the check is `_qupath_features`)."""

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from napari_distill2label.core.events import ItemFailed, drain
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.exporters.formats import write
from napari_distill2label.exporters.label_image import LabelImage, write_label_regions
from napari_distill2label.exporters.merged_regions import RegionOptions
from napari_distill2label.exporters.regions import write_regions
from napari_distill2label.slides.tissue_mask import TissueMask
from napari_distill2label.store.maps.hdf5_places import write_places
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.workflow.commands.convert import convert

SHAPE = (305, 413)
CLASSES = ("normal", 'tumour "ü", 癌\n', "necrosis: old")
OUTLINE = [[10, 20], [60, 20], [60, 90], [10, 90], [10, 20]]
HOLE = [[20, 30], [20, 40], [30, 40], [30, 30], [20, 30]]
GRID = PatchGrid.over(SHAPE, PatchSettings(size_px=32, stride_px=20))
POINTS = PatchPoints.at(np.argwhere(np.ones((4, 5), bool)) * 60 + 30, SHAPE, PatchSettings(size_px=21))


def finished(patches, multi_label=False):
    made = PatchMap.create(None, patches, CLASSES, SlideInfo("S-1", mpp=(0.5, 0.25)), multi_label=multi_label)
    rng = np.random.default_rng(0)
    for block in patches.blocks(1000):
        probability = rng.dirichlet((0.3, 0.3, 0.3), int(block.scored.sum()))
        made.write(block, probability, np.log(probability + 1e-9), probability[:, 1])
    made.finish([0.3, 0.4, 0.3])
    return made


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("patches", [GRID, POINTS], ids=["grid", "points"])
def test_maps(tmp_path, qupath_features, patches, multi_label):
    made = finished(patches, multi_label)
    corrected = np.full(patches.shape, -1, np.int8)
    corrected.flat[:5] = 1
    for corrections in (None, corrected):
        (path,) = write(made, tmp_path, ["geojson"], corrections=corrections)
        kind = "tile" if patches is GRID else "detection"  # quick in QuPath, also by the hundred thousand
        assert len(qupath_features(path, kind)) == int(patches.scored.sum())
        for smooth in (False, True):
            (path,) = write(made, tmp_path, ["regions"], corrections=corrections, regions=RegionOptions(smooth))
            assert qupath_features(path, "annotation")


def test_tissue_and_labels_of_others(tmp_path, qupath_features):
    mask = TissueMask.blank(SHAPE)
    mask = mask.with_mask(np.random.default_rng(0).random(mask.mask.shape) < 0.5, source="regions")
    assert qupath_features(write_regions(tmp_path / "t.geojson", mask, "S-1"), "annotation")
    labels = np.random.default_rng(0).integers(0, 3, (40, 50)).astype(np.uint8)
    image = LabelImage(labels, (0.5, 0.5), {1: "a"}, {1: (1, 2, 3)}, (0.0, 0.0), "title")
    assert qupath_features(write_label_regions(tmp_path / "l.geojson", image), "annotation")


def of_qupath_02(path):
    """A file as QuPath 0.2 and 0.3 wrote it, and what other programs add."""
    old = {"classification": {"name": "Tumor: Positive", "colorRGB": -3670016}, "colorRGB": -1, "isLocked": True,
           "measurements": [{"name": "a", "value": 1.5}, {"name": "b", "value": float("nan")}]}  # fmt: skip
    features = [
        {"type": "Feature", "id": "PathDetectionObject", "geometry": {"type": "Polygon", "coordinates": [OUTLINE]},
         "properties": old},
        {"type": "Feature", "id": "cell 7", "geometry": {"type": "Polygon", "coordinates": [OUTLINE, HOLE]},
         "nucleusGeometry": {"type": "Polygon", "coordinates": [HOLE]},
         "properties": {"object_type": "cell", "classification": {"names": ["Tumor", "Positive"], "color": [1, 2, 3]},
                        "metadata": {"n": 3, "k": "v"}, "name": "n"}},
        {"type": "Feature", "geometry": {"type": "MultiPoint", "coordinates": [[1.5, 2], [3, 4]]},
         "properties": {"type": "annotation", "classification": "Stroma"}},
    ]  # fmt: skip
    path.write_text(json.dumps(features))
    return path


def asap(path):
    places = "".join(f'<Coordinate Order="{n}" X="{x}" Y="{y}"/>' for n, (x, y) in enumerate(OUTLINE[:-1]))
    path.write_text(
        f'<ASAP_Annotations><Annotations><Annotation Type="Polygon" PartOfGroup="t"><Coordinates>{places}'
        '</Coordinates></Annotation><Annotation Type="Dot" PartOfGroup="None"><Coordinates><Coordinate Order="0" '
        'X="5,5" Y="6"/></Coordinates></Annotation></Annotations></ASAP_Annotations>'
    )
    return path


def imagescope(path):
    def region(points, negative=0):
        vertices = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in points[:-1])
        return f'<Region Type="0" NegativeROA="{negative}"><Vertices>{vertices}</Vertices></Region>'

    path.write_text(
        f'<Annotations><Annotation Name="t"><Regions>{region(OUTLINE)}{region(HOLE, 1)}</Regions></Annotation>'
        "</Annotations>"
    )
    return path


def table(path):
    rows = pd.DataFrame({"minx": [0, 32], "miny": [0, 0], "width": 32, "height": 32, "label": ["=1", ""],
                         "prob_t": [0.25, None], "who": ["é", ""]})  # fmt: skip
    rows.to_csv(path, index=False) if path.suffix == ".csv" else rows.to_parquet(path)
    return path


def points(path):
    path.write_text("x,y,label,class\n1,2,a,b\n3.5,4,a,a\n")
    return path


def picture(path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[10:90, 20:70], labels[30:50, 30:50] = 1, 2
    Image.fromarray(labels).save(path)
    return path


def mask(path):
    (made,) = write(finished(GRID), path.parent, ["ome-tiff"])
    return made


def places(path):
    return write_places(path, GRID, "S-1")


def tiles(path):
    (made,) = write(finished(POINTS, multi_label=True), path.parent, ["geojson"])
    return made


SOURCES = {"S-1.geojson": of_qupath_02, "S-1.json": tiles, "S-1.xml": asap, "S-1.svs.xml": imagescope,
           "S-1.csv": table, "S-1.parquet": table, "S-1.tsv": points, "S-1.png": picture, "S-1.ome.tif": mask,
           "S-1_patches.h5": places}  # fmt: skip


@pytest.mark.parametrize("name", list(SOURCES))
def test_conversions(tmp_path, qupath_features, name):
    slide = tmp_path / "slides" / "S-1.tif"
    slide.parent.mkdir()
    tifffile.imwrite(slide, np.zeros((*SHAPE, 3), np.uint8), photometric="rgb")
    events = []
    (file,) = drain(convert(SOURCES[name](tmp_path / name), tmp_path / "out", "geojson", slides=slide), events.append)
    assert not [event for event in events if isinstance(event, ItemFailed)]
    assert qupath_features(file)


def test_what_older_versions_say_is_kept(tmp_path, qupath_features):
    (file,) = drain(convert(of_qupath_02(tmp_path / "S-1.geojson"), tmp_path / "out", "geojson"))
    detection, cell, points = (one["properties"] for one in qupath_features(file))
    assert detection == {
        "objectType": "detection", "classification": {"name": "Tumor: Positive", "color": [200, 0, 0]},
        "color": [255, 255, 255], "isLocked": True, "measurements": {"a": 1.5},
    }  # fmt: skip
    assert cell == {
        "objectType": "cell", "classification": {"names": ["Tumor", "Positive"], "color": [1, 2, 3]}, "name": "n",
        "metadata": {"n": "3", "k": "v", "id": "cell 7"},
    }  # fmt: skip
    assert points == {"objectType": "annotation", "classification": {"name": "Stroma"}}
