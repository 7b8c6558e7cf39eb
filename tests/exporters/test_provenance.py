"""What every file says of where it comes from."""

import json

from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
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
