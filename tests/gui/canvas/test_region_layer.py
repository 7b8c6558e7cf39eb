"""Regions that are drawn on a slide: what the layer holds is kept in a file, and shown again."""

import json

import numpy as np
import pytest

from napari_distill2label.core.errors import CohortError
from napari_distill2label.gui.canvas import layers, ownership
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.tables.points import read_points

from ..conftest import open_cohort

BOX = np.array([[9.5, 19.5], [9.5, 59.5], [39.5, 59.5], [39.5, 19.5]])


@pytest.fixture
def shown(session, cohort_csv):
    """The session with the cohort; a slide with a finding is shown. Returns (session, its id)."""
    session.read_cohort(cohort_csv)
    slide_id = next(row.slide_id for row in session.cohort if row.label == "tumour")
    session.show(slide_id)
    return session, slide_id


def test_what_is_drawn_is_in_the_file_and_comes_back(shown, cohort_csv):
    session, slide_id = shown
    assert session.regions.in_use() is None
    session.canvas.regions.draw("none here")
    layer = session.canvas.regions.layer
    assert str(layer.mode) == "add_rectangle"
    assert tuple(layer.scale) == tuple(ownership.find(session.viewer, ownership.SLIDE)[0].scale)
    layer.add_rectangles(BOX)
    (region,) = session.regions.by_slide[slide_id]
    assert region.label == "none here"
    assert np.array_equal(region.outline, BOX)
    session.canvas.regions.draw("somewhere here", polygon=True)
    assert str(layer.mode) == "add_polygon"
    layer.add_polygons(BOX[:3] + 10)
    layer.add_lines(np.array([[0, 0], [5, 5]]))  # it covers nothing
    assert [own.label for own in session.regions.by_slide[slide_id]] == ["none here", "somewhere here"]
    folder = session.regions.in_use()
    assert folder == cohort_csv.with_name("cohort.regions")
    points = read_points(folder, labelled=True)[slide_id]
    first = points.areas[0]
    # Corners of pixels, as QuPath counts: the box holds 40 × 30 whole pixels.
    assert (first.label, first.outline.bounds) == ("none here", (20, 10, 60, 40))
    assert json.loads((folder / f"{slide_id}.geojson").read_text())["features"][0]["properties"]["objectType"]
    other = next(row.slide_id for row in session.cohort if row.slide_id != slide_id)
    session.show(other)
    assert session.canvas.regions.layer is None
    session.show(slide_id)
    assert list(session.canvas.regions.layer.features["label"]) == ["none here", "somewhere here"]
    # Another day.
    open_cohort(session, Cohort((), ()))
    assert session.regions.count == 0
    session.read_cohort(cohort_csv)
    session.show(slide_id)
    assert session.regions.count == 2
    assert np.allclose(session.canvas.regions.layer.data[0], BOX)


def test_regions_are_changed_and_removed_with_naparis_tools(shown):
    session, slide_id = shown
    session.canvas.regions.draw("none here")
    layer = session.canvas.regions.layer
    layer.add_rectangles([BOX, BOX + 20])
    layer.mode = "select"
    layer.selected_data = {1}
    session.canvas.regions.draw("all of this")
    assert [own.label for own in session.regions.by_slide[slide_id]] == ["none here", "all of this"]
    layer.selected_data = {0}
    layer.remove_selected()
    assert [own.label for own in session.regions.by_slide[slide_id]] == ["all of this"]
    layer.selected_data = {0}
    layer.remove_selected()
    assert session.regions.in_use() is None


def test_a_file_of_somebody_else_is_left_alone(shown, cohort_csv):
    session, slide_id = shown
    folder = cohort_csv.with_name("cohort.regions")
    folder.mkdir()
    theirs = folder / f"{slide_id}.geojson"
    theirs.write_text("{}", "utf-8")
    session.canvas.regions.draw("none here")
    session.canvas.regions.layer.add_rectangles(BOX)
    assert theirs.read_text("utf-8") == "{}"
    assert any(notice.startswith("The regions are not saved.") for notice in session.notices)


def test_a_training_learns_from_what_is_drawn(shown, tmp_path):
    from ..conftest import TINY

    session, _ = shown
    session.configure(**TINY, split={"test": 0.0, "valid": 0.0})
    session.canvas.regions.draw("none here")
    session.canvas.regions.layer.add_rectangles(BOX)
    run = session.train(tmp_path / "run")
    assert run.config.inputs.region_labels == str(session.regions.folder)
    said = [notice for notice in session.notices if "region" in notice]
    assert said == ["1 region of 1 slide is trained with."]
    session.project.shown = None
    with pytest.raises(CohortError, match="no slide is shown"):
        session.canvas.regions.draw("none here")


def test_the_layer_is_ours_and_clipped_to_the_slide(shown):
    session, _ = shown
    session.canvas.regions.draw("all of this")
    assert ownership.tags_of(session.canvas.regions.layer)["role"] == layers.REGIONS


def test_undo_takes_back_what_was_drawn_last(shown):
    session, slide_id = shown
    session.set_label(slide_id, "normal")
    session.canvas.regions.draw("none here")
    session.canvas.regions.layer.add_rectangles(BOX)
    session.canvas.regions.layer.add_rectangles(BOX + 20)
    viewer = session.viewer
    for n, undo in ((1, session.undo), (2, session.redo), (1, session.undo), (0, session.undo), (1, session.redo)):
        undo()
        layer = session.canvas.regions.layer
        assert len(session.regions.by_slide[slide_id]) == len(layer.data) == n
        assert viewer.layers.selection.active is layer  # whoever draws goes on drawing
        assert str(layer.mode) == "add_rectangle"
    session.undo()
    session.undo()
    assert session.project.row(slide_id).label == "tumour"
