"""Which files of a folder are annotations, and what slide they are of."""

import pytest

from napari_distill2label.core.errors import CohortError
from napari_distill2label.slides.annotations import find_files, object_name, read_objects


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["b.xml", "a.geojson", "c.json", ".hidden.xml", "notes.txt"], ["a.geojson", "b.xml"]),
        (["b.XML", "c.json"], ["b.XML"]),
        (["c.json", "notes.txt"], ["c.json"]),
        (["notes.txt"], []),
    ],
)
def test_the_files_of_a_folder(tmp_path, files, found):
    for name in files:
        (tmp_path / name).touch()
    assert [file.name for file in find_files(tmp_path)] == found


@pytest.mark.parametrize("name", ["S.1.xml", "S.1.ome.xml", "S.1.geojson", "S.1.geojson.gz"])
def test_the_name_of_the_slide(name):
    assert object_name(f"/x/{name}") == "S.1"


@pytest.mark.parametrize("name", ["a.xml", "a.geojson"])
def test_a_file_that_is_not_there(tmp_path, name):
    with pytest.raises(CohortError, match="no such file"):
        read_objects(tmp_path / name)


def test_geojson_is_read_as_before(tmp_path):
    (tmp_path / "a.geojson").write_text('{"type": "Point", "coordinates": [1, 2]}')
    assert read_objects(tmp_path / "a.geojson")[0].points.tolist() == [[1, 2]]
