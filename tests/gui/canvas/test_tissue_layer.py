"""Masks of the tissue: found, painted, kept, loaded, and used by training and predicting. Without a window."""

import json
import shutil

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_distill2label.core.errors import CohortError
from napari_distill2label.gui.canvas import layers
from napari_distill2label.gui.session import session_of
from napari_distill2label.slides.regions import mask_from_geojson

from ..conftest import TINY


@pytest.fixture
def session(cohort_csv, tmp_path):
    folder = shutil.copytree(cohort_csv.parent, tmp_path / "a cohort")
    made = session_of(viewer := ViewerModel())
    made.read_cohort(folder / "cohort.csv")
    made.show("slide_000")
    yield made
    made.shutdown()
    del viewer


def test_it_lies_on_the_slide_to_the_pixel_and_can_be_painted(session):
    session.tissue_layer.show()
    layer, (slide,) = session.tissue_layer.layer, layers.find(session.viewer, layers.SLIDE)
    assert layer.data.shape == slide.data[0].shape[:2]
    np.testing.assert_allclose(layer._extent_augmented.world, slide._extent_augmented.world)
    assert layer.units == slide.units
    assert layer.editable
    assert session.viewer.layers.index(layer) == 1  # above the slide, below what is predicted of it
    assert set(np.unique(layer.data)) <= {0, 1}
    assert 0 < session.tissue_layer.fraction() <= 1


def test_what_is_painted_is_the_mask_and_is_kept(session):
    tissue = session.tissue
    session.tissue_layer.show()
    before = session.tissue_layer.fraction()
    session.tissue_layer.layer.data_setitem(tuple(np.indices(session.tissue_layer.layer.data.shape).reshape(2, -1)), 0)
    session.tissue_layer.layer.paint((10, 10), 1)
    tissue.flush()
    kept = mask_from_geojson(tissue.files["slide_000"], (135, 162))
    np.testing.assert_array_equal(kept.mask, session.tissue_layer.layer.data == 1)
    assert 0 < kept.fraction < before
    session.tissue_layer.layer.undo()  # to nothing at all
    session.show("slide_001")
    session.show("slide_000")
    assert not session.tissue_layer.layer.data.any()
    tissue.use = True
    assert tissue.in_use() is None
    assert "is empty" in session.notices[-1]


def test_it_comes_back_with_its_slide(session):
    tissue = session.tissue
    session.tissue_layer.show()
    session.tissue_layer.layer.paint((20, 20), 0)
    painted = np.array(session.tissue_layer.layer.data)
    session.show("slide_001")
    assert session.tissue_layer.layer is None
    session.show("slide_000")
    np.testing.assert_array_equal(session.tissue_layer.layer.data, painted)
    session.tissue_layer.hide()
    session.show("slide_001")
    session.show("slide_000")
    assert session.tissue_layer.layer is None
    assert "slide_000" in tissue.files


def test_found_again_is_as_found_before(session):
    tissue = session.tissue
    session.tissue_layer.show()
    found = np.array(session.tissue_layer.layer.data)
    session.tissue_layer.layer.data_setitem((np.array([0, 1]), np.array([0, 1])), 1 - found[[0, 1], [0, 1]])
    tissue.find()
    np.testing.assert_array_equal(session.tissue_layer.layer.data, found)


def test_all_slides_and_those_that_have_one_are_left_alone(session):
    tissue = session.tissue
    session.tissue_layer.show()
    session.tissue_layer.layer.paint((20, 20), 0)
    tissue.flush()
    painted = tissue.files["slide_000"].read_bytes()
    tissue.find([row.slide_id for row in session.cohort], again=False)
    assert len(tissue.files) == 8
    assert tissue.files["slide_000"].read_bytes() == painted
    assert tissue.folder == session.project.cohort_path.with_name("cohort.tissue")
    assert not tissue.looking


def test_regions_of_qupath_in_and_out(session, tmp_path):
    square = [[[0, 0], [81, 0], [81, 54], [0, 54], [0, 0]]]
    drawn = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": square}, "properties": {}}
    (tmp_path / "drawn.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [drawn]}))
    with pytest.raises(CohortError, match="no tissue mask yet"):
        session.tissue.save("slide_000", tmp_path / "out.geojson")
    session.tissue.load("slide_000", tmp_path / "drawn.geojson")
    expected = np.zeros((135, 162), bool)
    expected[:54, :81] = True
    np.testing.assert_array_equal(session.tissue_layer.layer.data == 1, expected)
    out = session.tissue.save("slide_000", tmp_path / "out.geojson")
    np.testing.assert_array_equal(mask_from_geojson(out, (135, 162)).mask, expected)


def test_what_cannot_be_read_is_told(session, tmp_path):
    (tmp_path / "broken.geojson").write_text("{")
    session.tissue.load("slide_000", tmp_path / "broken.geojson")
    assert "broken.geojson" in session.notices[-1]
    assert not session.tissue.files
    assert not session.tissue.looking
    session.project.row("slide_001").path.write_bytes(b"no image")
    session.tissue.find("slide_001")
    assert "slide_001" in session.notices[-1]


def test_training_and_predicting_look_where_the_mask_is(session, tmp_path):
    square = [[[0, 0], [81, 0], [81, 54], [0, 54], [0, 0]]]
    (tmp_path / "drawn.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": square}))
    tissue = session.tissue
    for row in session.cohort.slides[:4]:
        tissue.load(row.slide_id, tmp_path / "drawn.geojson")
    assert tissue.in_use() is None
    tissue.use = True
    assert len(tissue.in_use().source) == 4
    session.configure(**TINY)
    run = session.train(tmp_path / "run")
    assert len(run.config.tissue) == 4
    session.predict(["slide_000", "slide_007"])
    masked, whole = (session.predictions[name]["student"].patches.scored for name in ("slide_000", "slide_007"))
    assert masked.sum() == 6  # 27 px patches with their centres in 54 × 81 px
    assert masked[:2, :3].all()
    assert whole.all()
    # Going on with the run asks for the same masks, whatever is used now.
    tissue.use = False
    session.configure(teacher={"epochs": 2})
    session.train(tmp_path / "run", resume=True)


def test_a_mask_that_another_table_left_under_its_name_stays(session):
    left = session.tissue.folder / "slide_000.geojson"
    left.parent.mkdir()
    left.write_text('{"type": "FeatureCollection", "features": []}')
    session.tissue.find("slide_000")
    session.tissue_layer.show()
    session.tissue_layer.layer.paint((20, 20), 0)
    session.tissue.flush()
    assert left.read_text() == '{"type": "FeatureCollection", "features": []}'
    own = session.tissue.files["slide_000"]
    assert own.parent == left.parent
    session.tissue.find("slide_000")  # again: into its own file
    session.tissue.flush()
    assert session.tissue.files["slide_000"] == own
    assert sorted(left.parent.iterdir()) == sorted([left, own])


def test_slides_of_one_name_that_are_in_no_table_have_masks_of_their_own(cohort_csv, tmp_path):
    made, files = [], []
    for folder in ("here", "there"):
        place = shutil.copytree(cohort_csv.parent / "slides", tmp_path / folder)
        made.append((viewer := ViewerModel(), session_of(viewer)))
        session = made[-1][1]
        session.add_slides(place)
        session.show(session.cohort.slides[0].slide_id)
        session.tissue_layer.show()
        files.append(next(iter(session.tissue.files.values())))
    assert files[0] != files[1]
    for _, session in made:
        session.shutdown()
