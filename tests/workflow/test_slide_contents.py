"""What a file says of slides, whatever its format."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_distill2label.core.errors import CohortError, SlideError
from napari_distill2label.core.events import Progress, drain
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.maps.hdf5_geometry import Frame
from napari_distill2label.store.maps.hdf5_places import write_places
from napari_distill2label.workflow import slide_contents
from napari_distill2label.workflow.slide_contents import files_of, read_contents, with_areas

NO_SLIDES = Cohort(())


@pytest.fixture
def slide(tmp_path):
    path = tmp_path / "slides" / "S-1.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, np.zeros((60, 80, 3), np.uint8), photometric="rgb")
    return path


def test_annotations_of_a_folder(tmp_path):
    square = {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]]}
    (tmp_path / "b.geojson").write_text(json.dumps({"type": "Feature", "geometry": square, "properties": {}}))
    (tmp_path / "a.xml").write_text(
        '<ASAP_Annotations><Annotations><Annotation Type="Dot" PartOfGroup="t"><Coordinates>'
        '<Coordinate Order="0" X="5" Y="6"/></Coordinates></Annotation></Annotations></ASAP_Annotations>'
    )
    files = files_of([tmp_path, tmp_path / "b.geojson"])
    assert [file.name for file in files] == ["a.xml", "b.geojson"]
    (dot,), (area,) = (read_contents(file, NO_SLIDES) for file in files)
    assert [(one.slide_id, next(iter(one.objects())).name) for one in (dot, area)] == [("a", "t"), ("b", "")]
    assert next(iter(dot.objects())).points.tolist() == [[5, 6]]
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match="holds no file that can be converted"):
        files_of(tmp_path / "empty")


@pytest.mark.parametrize("most", [1, 2, 100])
def test_a_table_is_of_all_its_slides(tmp_path, slide, monkeypatch, most):
    path = tmp_path / "t.csv"
    path.write_text("slide_id,x,y,label,n,what\nS-1,1,2,a,1,\nS-2,3,4,b,1,\nS-1,5,6,a,,x\n")
    monkeypatch.setattr(slide_contents, "MOST_ROWS", most)
    found = [one for one in read_contents(path, NO_SLIDES) if not isinstance(one, Progress)]
    for _ in range(2):  # objects are read anew each time
        assert [(one.slide_id, [thing.name for thing in one.objects()]) for one in found] == [
            ("S-1", ["a", "a"]), ("S-2", ["b"])
        ]  # fmt: skip
    first, second = found[0].objects()
    assert first.measurements == {"n": 1}
    assert second.properties == {"metadata": {"what": "x"}}
    with pytest.raises(SlideError, match="'S-2', which is not among the slides"):
        list(read_contents(path, Cohort.of_files(slide)))


def test_a_label_image_needs_its_slide_for_areas_alone(tmp_path, slide):
    labels = np.zeros((30, 40), np.uint8)  # reduced twice
    labels[10:20, 5:9] = 3
    Image.fromarray(labels).save(tmp_path / "S-1.png")
    (found,) = read_contents(tmp_path / "S-1.png", NO_SLIDES)
    np.testing.assert_array_equal(found.image.labels, labels)
    with pytest.raises(SlideError, match="does not say how large its slide is"):
        drain(with_areas(found))
    (found,) = read_contents(tmp_path / "S-1.png", Cohort.of_files(slide))
    (area,) = drain(with_areas(found)).objects()
    assert (area.name, area.geometry.bounds) == ("3", (10, 20, 18, 40))


def test_places_are_patches_and_boxes(tmp_path):
    grid = PatchGrid.over((60, 80), PatchSettings(size_px=16))
    path = write_places(tmp_path / "S-1_patches.h5", grid, "S-1", frame=Frame((60, 80)))
    (found,) = read_contents(path, NO_SLIDES)
    assert found.slide_id == "S-1"
    assert found.patches.corners.tolist() == grid.corners.tolist()
    assert [one.geometry.bounds[:2] for one in found.objects()] == [(x, y) for y, x in grid.corners.tolist()]
    assert found.besides == ""
