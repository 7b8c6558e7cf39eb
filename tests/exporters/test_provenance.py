"""What every file says of where it comes from."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from pyarrow import parquet

from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.exporters.formats import FORMATS, write
from napari_distill2label.exporters.provenance import provenance


def test_it_names_slide_model_and_settings_and_no_folder(new_map):
    model = {
        "network": "student",
        "weights_sha256": "ab",
        "slide_signature": "cd",
        "calibration": "ef",
        "path": "/secret",
    }
    grid = PatchGrid.over((30, 40), PatchSettings(size_px=10))
    found = provenance(new_map(grid, model=model, slide=SlideInfo("slide 1", "/home/me/S 1.svs", (0.5, 0.5))), 0.4, 3)
    assert (found["slide"], found["slide_signature"], found["weights_sha256"]) == ("S 1.svs", "cd", "ab")
    assert (found["threshold"], found["corrected_patches"], found["classes"]) == (0.4, 3, ["normal", "tumour"])
    assert "research use only" in found["research_use"]
    assert "/home" not in json.dumps(found)
    assert "/secret" not in json.dumps(found)
    assert found == provenance(
        new_map(grid, model=model, slide=SlideInfo("slide 1", "/home/me/S 1.svs", (0.5, 0.5))), 0.4, 3
    )
    assert (
        provenance(new_map(grid, slide=SlideInfo("s", "https://me:pw@host/a.zarr?key=1")), 0.5)["slide"] == "a.zarr?…"
    )


def said_by(path):
    """The provenance that a file of a result holds, as another program finds it."""
    if path.suffix == ".zarr":
        text = (path / ("zarr.json" if (path / "zarr.json").exists() else ".zattrs")).read_text("utf-8")
        about = json.loads(text)
        return about.get("attributes", about)["napari-distill2label"]["provenance"]
    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as tiff:
            found = tifffile.xml2dict(tiff.ome_metadata)["OME"]["StructuredAnnotations"]["MapAnnotation"]
        (one,) = (
            each
            for each in (found if isinstance(found, list) else [found])
            if each["Namespace"] == "napari-distill2label/provenance"
        )
        return json.loads(one["Value"]["M"]["value"])
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return json.loads(picture.text["provenance"])
    if path.suffix == ".parquet":
        return json.loads(parquet.read_schema(path).metadata[b"distill2label"])
    found = json.loads(path.read_text("utf-8"))
    return found.get("provenance", found)


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("report", "probability")])
def test_every_format_says_it_in_one_way(tmp_path, new_map, name):
    grid = PatchGrid.over((60, 90), PatchSettings(size_px=30))
    patch_map = new_map(
        grid, model={"network": "student", "weights_sha256": "ab"}, slide=SlideInfo("S-1", mpp=(0.5, 0.5))
    )
    corrections = np.full(grid.shape, -1, np.int8)
    corrections[0, 0] = 1
    paths = write(patch_map, tmp_path, [name], 0.25, corrections)
    path = paths[0].with_name(paths[0].name + FORMATS[name].beside)
    assert said_by(path) == json.loads(json.dumps(provenance(patch_map, 0.25, 1)))
    assert provenance(patch_map, 0.25)["date"] == patch_map.date
