"""Regions of a project's slides: told once, kept under the slide's name."""

import numpy as np
import pytest

from napari_distill2label.gui.project.drawn_regions import DrawnRegion, geojson_of, read_regions

BOX = np.array([[0.5, 1.5], [0.5, 9.5], [7.5, 9.5]])


@pytest.fixture
def regions(session, tmp_path):
    from PIL import Image

    path = tmp_path / "S 1.png"
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(path)
    session.add_slides(path)
    return session.regions


def test_regions_come_back_from_their_file_as_they_were(tmp_path):
    drawn = (DrawnRegion(BOX, "none here"), DrawnRegion(BOX + 3, "b: all of this"))
    (tmp_path / "s.geojson").write_text(geojson_of(drawn), "utf-8")
    found = read_regions(tmp_path, ["s", "other"])
    ((path, again),) = found.values()
    assert path == tmp_path / "s.geojson"
    assert [own.label for own in again] == ["none here", "b: all of this"]
    assert {tuple(point) for point in again[0].outline} == {tuple(point) for point in BOX}
    assert geojson_of(drawn) == geojson_of(drawn)  # ids too


def test_the_same_again_is_no_change(regions):
    heard = []
    regions.changed.connect(heard.append)
    regions.set("S 1", (DrawnRegion(BOX, "none here"),))
    regions.set("S 1", (DrawnRegion(BOX.copy(), "none here"),))
    assert heard == ["S 1"]
    assert regions.count == 1
    assert regions.in_use() == regions.folder
    regions.set("S 1", ())
    assert heard == ["S 1", "S 1"]
    assert regions.in_use() is None
