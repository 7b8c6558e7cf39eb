import json

import numpy as np
import pytest

import napari_distill2label as d2l
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import ItemDone, ItemFailed, Progress
from napari_distill2label.core.notices import Notice
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.slides.regions import read_regions
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.workflow.commands.segment_tissue import segment_tissue


def test_regions_of_a_cohort_are_written_corrected_and_predicted(trained, slides, cohort_csv, tmp_path, cli):
    """The round a user makes: find, correct in QuPath, predict with the folder; nothing corrected is lost."""
    regions, out = tmp_path / "Gewebe", tmp_path / "out"
    status, said, err = cli("segment-tissue", cohort_csv, "-o", regions)
    assert (status, err) == (0, "")
    assert said.splitlines() == [str(regions / f"{slide.name.removesuffix('.ome.tif')}.geojson") for slide in slides]
    assert 0.3 < read_regions(regions / "slide_000.geojson", (112, 128)).area / (112 * 128) < 1

    corrected = {"type": "Polygon", "coordinates": [[[0, 0], [60, 0], [60, 30], [0, 30], [0, 0]]]}
    (regions / "slide_000.geojson").write_text(json.dumps(corrected))
    status, said, err = cli("segment-tissue", slides[0], slides[1], "-o", regions)
    assert status == 0
    assert "slide_000.geojson exists already and is kept. Use --overwrite." in err
    assert json.loads((regions / "slide_000.geojson").read_text()) == corrected

    assert cli("predict", trained, *slides[:2], "-o", out, "--tissue", regions, "--format", "csv")[0] == 0
    scored = PatchMap.open(trained / "predictions" / "slide_000.student.zarr").patches.scored
    assert np.argwhere(scored).tolist() == [[0, 0], [0, 1]]

    assert cli("segment-tissue", slides[0], "-o", regions, "--overwrite")[0] == 0
    assert json.loads((regions / "slide_000.geojson").read_text()) != corrected
    (regions / "slide_001.geojson").unlink()
    status, _, err = cli("predict", trained, slides[1], "-o", out, "--tissue", regions)
    assert status == 1
    assert "the folder of regions has none for the slide 'slide_001'" in err


def test_slides_without_tissue_or_damaged_fail_and_the_others_go_on(slides, png, tmp_path, collect):
    glass = png("Glas", np.full((90, 90, 3), 242, np.uint8))
    events, files = collect(segment_tissue([glass, tmp_path / "none.svs", slides[0]], tmp_path / "out"))
    failed = {event.item: str(event.error) for event in events if isinstance(event, ItemFailed)}
    assert failed.keys() == {"Glas", "none"}
    assert failed["Glas"] == f"{glass}: The tissue method 'otsu' finds no tissue."
    assert files == [tmp_path / "out" / "slide_000.geojson"]
    assert [event.result for event in events if isinstance(event, ItemDone)] == files
    assert any(isinstance(event, Progress) for event in events)
    with pytest.raises(SettingsError, match="The tissue method 'none' finds no regions"):
        collect(segment_tissue([slides[0]], tmp_path / "out", PatchSettings(tissue="none")))


def test_the_rule_and_its_level_reach_the_work(png, tmp_path, cli, refused):
    image = np.full((100, 100, 3), 242, np.uint8)
    image[20:80, 20:80] = 210  # grey: nothing to see by its saturation
    slide = png("grau", image)
    assert cli("segment-tissue", slide, "-o", tmp_path)[0] == 1
    assert cli("segment-tissue", slide, "-o", tmp_path, "--patches.tissue", "white")[0] == 0
    assert read_regions(tmp_path / "grau.geojson", image.shape[:2]).area == 60 * 60
    assert (
        cli(
            "segment-tissue",
            slide,
            "-o",
            tmp_path,
            "--patches.tissue",
            "white",
            "--patches.white_level",
            "200",
            "--overwrite",
        )[0]
        == 1
    )
    assert "white_level" in refused("segment-tissue", slide, "-o", tmp_path, "--patches.white_level", "300")


def test_the_command_in_python(slides, tmp_path):
    assert d2l.segment_tissue(slides[:1], tmp_path) == [tmp_path / "slide_000.geojson"]


def test_notices_of_a_slide_are_passed_on(data_dir, tmp_path, collect):
    events, _ = collect(segment_tissue([data_dir / "slides" / "CMU-1-Small-Region.jpeg.tiff"], tmp_path))
    assert any(isinstance(event, Notice) and "100 times too small" in str(event) for event in events)
