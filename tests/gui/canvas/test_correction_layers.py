"""Corrections are the user's: painted or set, undone, kept in a file, never touched by a model. No window needed."""

import json

import numpy as np
import pytest

from napari_distill2label.core.errors import CohortError, OutputError, SettingsError
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.gui.canvas import correction_marks, layers
from napari_distill2label.gui.canvas.layers import CORRECTIONS, LABELS, OUTLINES
from napari_distill2label.gui.project.corrections import Agreement
from napari_distill2label.workflow.corrections import Corrections

from ..conftest import TINY

POSITIVE = np.linspace(0, 1, 48).reshape(6, 8)


def layer(viewer, role=CORRECTIONS):
    (found,) = layers.find(viewer, role)
    return found


def test_a_correction_lies_above_the_prediction_and_is_not_touched(reviewed, make_patch_map):
    session, viewer, _ = reviewed(probability=POSITIVE)
    assert viewer.layers[-2:] == [layer(viewer), layer(viewer, OUTLINES)]
    assert layer(viewer).editable
    assert not layer(viewer, LABELS).editable
    assert session.correct("tumour", (0, 1))
    expected = np.zeros((6, 8), np.uint8)
    expected[0, 1] = 2
    np.testing.assert_array_equal(layer(viewer).data, expected)
    assert layer(viewer, LABELS).data[0, 1] == 1
    session.set_threshold(0.9)
    session.project.take_maps([make_patch_map((120, 160), np.stack([1 - POSITIVE, POSITIVE], -1)[::-1], size_px=20)])
    np.testing.assert_array_equal(layer(viewer).data, expected)
    assert session.corrections.known("slide")[0, 1] == 1
    assert (session.corrections.known("slide") == -1).sum() == 47
    assert session.corrections.known("another") is None


def test_undo_and_redo(reviewed):
    session, viewer, _ = reviewed()
    session.correct("tumour", (0, 1))
    session.correct("normal", (0, 1))
    assert session.undo() == "correct a patch to normal"
    assert session.corrections.correction_at("slide", (0, 1)) == "tumour"
    session.undo()
    assert layer(viewer).data.sum() == 0
    session.redo()
    assert layer(viewer).data[0, 1] == 2
    session.clear_corrections()
    assert len(session.corrections) == 0
    session.undo()
    assert session.corrections.slides == {"slide": 1}


def outlined(session, viewer):
    """Row and column of each cell around which four lines are, with the class of their colour."""
    marks = layer(viewer, OUTLINES)
    found = set()
    for lines, colour in zip(marks.data.reshape(-1, 4, 2, 2), marks.edge_color.reshape(-1, 4, 4)[:, 0], strict=True):
        ends = np.concatenate([lines[:, 0], lines.sum(1)])
        cell = np.round((ends.min(0) + ends.max(0)) / 2).astype(int).tolist()
        assert (np.abs(ends - cell) <= 0.5 + 1e-6).all()  # within the cell
        if not np.allclose(colour, correction_marks.WHITE):
            rgb = tuple(np.round(colour[:3] * 255).astype(int).tolist())
            found.add((*cell, session.classes[[tuple(each) for each in session.colours].index(rgb)]))
    return found


def test_what_is_corrected_is_outlined_and_the_tissue_below_it_is_seen(reviewed, make_patch_map):
    session, viewer, _ = reviewed()
    assert outlined(session, viewer) == set()
    session.correct("tumour", (0, 1))
    session.correct("normal", (2, 3))
    assert outlined(session, viewer) == {(0, 1, "tumour"), (2, 3, "normal")}
    marks, painted = layer(viewer, OUTLINES), layer(viewer)
    np.testing.assert_allclose([marks.scale, marks.translate], [painted.scale, painted.translate])
    assert (painted.colormap.map(np.array([1, 2]))[:, 3] < 0.5).all()
    assert marks.edge_color[:8].min() == 1  # white, below the colours
    assert not marks.editable
    session.undo()
    assert outlined(session, viewer) == {(0, 1, "tumour")}
    painted.paint((5, 5), 1)
    assert outlined(session, viewer) == {(0, 1, "tumour"), (5, 5, "normal")}
    painted.visible = False  # napari's eye
    assert not marks.visible
    session.project.take_maps([make_patch_map((120, 160), size_px=40)])
    assert outlined(session, viewer) == {(0, 0, "tumour"), (2, 2, "normal")}


def test_many_corrections_are_outlined_without_rims(reviewed, monkeypatch):
    monkeypatch.setattr(correction_marks, "RIMMED", 2)
    session, viewer, _ = reviewed()
    drawn = []
    for column in range(4):
        session.correct("tumour", (0, column))
        drawn.append(len(layer(viewer, OUTLINES).data))
    assert drawn == [8, 16, 12, 16]  # four lines a cell, twice with the white ones
    assert outlined(session, viewer) == {(0, column, "tumour") for column in range(4)}


def test_outlines_and_frame_end_with_the_slide(reviewed):
    session, viewer, _ = reviewed(stride_px=50)  # the slide has 120 × 160 px
    corner = session.display.view.patches.rows - 1, session.display.view.patches.cols - 1
    session.correct("tumour", corner)
    marks = layer(viewer, OUTLINES)
    ends = np.concatenate([marks.data[:, 0], marks.data.sum(1)])
    (slide,) = layers.find(viewer, layers.SLIDE)
    in_slide = np.array([slide.world_to_data(marks.data_to_world(point)) for point in ends])
    assert in_slide.min() >= -0.5 - 1e-4
    assert (in_slide <= np.array([120, 160]) - 0.5 + 1e-4).all()


def test_the_frame_ends_with_the_slide(reviewed, make_patch_map):
    session, viewer, _ = reviewed()
    session.project.take_maps([make_patch_map((120, 160), size_px=50)])
    session.canvas.corrections.choose((2, 3))
    frame = layer(viewer, layers.FRAME).data[0]
    np.testing.assert_allclose([frame.min(0), frame.max(0)], [(99.5, 149.5), (119.5, 159.5)])


def test_painting_is_taken_over_and_naparis_undo_too(reviewed):
    session, viewer, _ = reviewed()
    told = []
    session.corrections.changed.connect(lambda: told.append(len(session.corrections)))
    session.paint("normal")
    painted = layer(viewer)
    assert (painted.mode, painted.selected_label) == ("paint", 1)
    assert viewer.layers.selection.active is painted
    assert session.canvas.corrections.is_painting
    with painted.block_history():
        painted.paint((2, 2), 1)
        painted.paint((2, 3), 1)
    assert session.corrections.correction_at("slide", (2, 3)) == "normal"
    assert told[-1] == 2
    painted.undo()
    assert len(session.corrections) == 0
    painted.redo()
    assert len(session.corrections) == 2
    assert session.project.history.undo_text.startswith("paint 2")
    session.undo()
    assert painted.data.sum() == 0
    session.canvas.corrections.stop_painting()
    assert painted.mode == "pan_zoom"


def test_only_patches_and_classes_can_be_corrected(reviewed, make_patch_map):
    session, viewer, patch_map = reviewed()
    tissue = np.ones((6, 8), bool)
    tissue[0] = False
    patches = patch_map.patches.with_tissue(tissue)
    from napari_distill2label.store.maps.patch_map import PatchMap

    bare = PatchMap.create(None, patches, ("normal", "tumour"), SlideInfo("slide"), model={"network": "student"})
    for block in patches.blocks(50):
        n = int(block.scored.sum())
        bare.write(block, np.full((n, 2), 0.5), np.zeros((n, 2)), np.zeros(n))
    bare.finish([0.5, 0.5])
    session.project.take_maps([bare])
    painted = layer(viewer)
    painted.data_setitem((np.array([0, 1, 2]), np.array([0, 0, 0])), 2)
    painted.data_setitem((np.array([3]), np.array([3])), 7)  # no class has that number
    assert painted.data[:4, 0].tolist() == [0, 2, 2, 0]
    assert painted.data[3, 3] == 0
    assert session.corrections.slides == {"slide": 2}
    assert not session.correct("tumour", (0, 0))
    with pytest.raises(SettingsError, match="no class 'x'"):
        session.correct("x", (1, 1))


def test_the_pointer_then_the_frame(reviewed):
    session, _, _ = reviewed()
    assert not session.correct("tumour")  # neither
    session.center_on((5, 5))
    assert session.correct("tumour")
    session.display.point_at((30.0, 45.0))
    assert session.correct("normal")
    assert session.corrections.correction_at("slide", (5, 5)) == "tumour"
    assert session.corrections.correction_at("slide", (1, 2)) == "normal"
    session.center_on((4, 4))  # the pointer rests, and what it points at has moved away below it
    assert session.correct("tumour")
    assert session.corrections.correction_at("slide", (4, 4)) == "tumour"
    assert session.corrections.correction_at("slide", (1, 2)) == "normal"


def test_without_a_prediction_there_is_nothing_to_correct(reviewed):
    session, _, _ = reviewed()
    session.project.predictions = {}
    session.corrections._slides.clear()
    for act in (lambda: session.correct("tumour", (0, 0)), session.next_uncertain):
        with pytest.raises(SettingsError, match="predict the slide first"):
            act()


def test_next_uncertain(reviewed):
    session, viewer, _ = reviewed(probability=POSITIVE)
    session.set_threshold(0.3)
    order = np.argsort(np.abs(POSITIVE.astype(np.float32) - np.float32(0.3)), axis=None, kind="stable")
    first = session.next_uncertain()
    assert first == np.unravel_index(order[0], (6, 8))
    assert session.canvas.corrections.framed == ("slide", first)
    (slide,) = layers.find(viewer, layers.SLIDE)
    centre = slide.world_to_data(viewer.scene.camera.center[-2:])
    np.testing.assert_allclose(centre, np.array(first) * 20 + 9.5)
    frame = layer(viewer, layers.FRAME)
    np.testing.assert_allclose(frame.data[0].min(0), np.array(first) * 20 - 0.5)
    np.testing.assert_allclose(frame.data[0].max(0), np.array(first) * 20 + 19.5)
    session.correct("tumour", np.unravel_index(order[1], (6, 8)))
    assert session.next_uncertain() == np.unravel_index(order[2], (6, 8))  # that one needs no look any more
    assert len(layers.find(viewer, layers.FRAME)) == 1
    for index in order[6:]:
        session.correct("normal", np.unravel_index(index, (6, 8)))
    seen = {session.next_uncertain() for _ in range(3)}
    assert seen == {tuple(np.unravel_index(index, (6, 8))) for index in order[3:6]}
    assert session.next_uncertain() == first  # once round
    for index in order[:6]:
        session.correct("normal", np.unravel_index(index, (6, 8)))
    assert session.next_uncertain() is None


def test_does_the_model_agree(reviewed):
    session, _, _ = reviewed(probability=POSITIVE)
    for cell in ((5, 7), (5, 6), (0, 0)):
        session.correct("tumour", cell)
    session.correct("normal", (0, 1))
    assert session.agreement() == {"normal": Agreement(1, 0), "tumour": Agreement(2, 1)}
    session.set_threshold(0.99)
    assert session.agreement("slide")["tumour"] == Agreement(1, 2)
    assert session.agreement("another") == {}


def test_the_file_is_what_training_and_export_read(reviewed, tmp_path):
    session, viewer, patch_map = reviewed()
    session.correct("tumour", (0, 1))
    session.correct("normal", (5, 7))
    path = session.corrections.save(tmp_path / "mine.csv")
    assert path.read_text().splitlines() == ["slide_id,x,y,label", "slide,29.5,9.5,tumour", "slide,149.5,109.5,normal"]
    assert not session.corrections.unsaved
    known = Corrections(path).of("slide", patch_map.patches, patch_map.classes)
    np.testing.assert_array_equal(known.reshape(patch_map.patches.shape), session.corrections.known("slide"))
    (file,) = session.export(tmp_path / "out", ["csv"], inputs=Inputs(corrections=path))
    import pandas as pd

    table = pd.read_csv(file)
    assert table.source.value_counts().to_dict() == {"model": 46, "corrected": 2}
    assert table.loc[table.source == "corrected", "label"].tolist() == ["tumour", "normal"]
    # And back: what is on no patch or names no class is kept.
    path.write_text(path.read_text() + "slide,5000,5000,tumour\nslide,1,1,mucosa\nelsewhere,3,4,tumour\n")
    before = session.corrections.known("slide")
    session.corrections.clear()
    session.corrections.load(path)
    np.testing.assert_array_equal(session.corrections.known("slide"), before)
    np.testing.assert_array_equal(layer(viewer).data, before + 1)
    assert len(session.corrections) == 5
    session.corrections.load(path)  # twice is once
    assert len(session.corrections) == 5
    again = session.corrections.save(tmp_path / "again.csv")
    assert sorted(again.read_text().splitlines()) == sorted(path.read_text().splitlines())


def test_a_file_that_is_something_else(reviewed, tmp_path):
    session, _, _ = reviewed()
    session.correct("tumour", (0, 1))
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CohortError, match=r"x\.csv"):
        session.corrections.load(tmp_path / "x.csv")
    assert len(session.corrections) == 1
    (tmp_path / "none.csv").write_text("slide_id,x,y,label\n")
    session.corrections.load(tmp_path / "none.csv")
    assert len(session.corrections) == 1


def test_corrections_are_laid_on_another_grid(reviewed, make_patch_map):
    session, viewer, _ = reviewed()
    session.correct("tumour", (2, 3))
    session.project.take_maps([make_patch_map((120, 160), size_px=40)])
    assert layer(viewer).data.tolist() == [[0] * 4, [0, 2, 0, 0], [0] * 4]
    session.project.take_maps([make_patch_map((120, 160), size_px=20)])
    assert len(session.corrections) == 1


def test_kept_by_itself_beside_the_cohort(reviewed, tmp_path):
    session, _, _ = reviewed()
    session.write_cohort(tmp_path / "cohort.csv")
    (tmp_path / "cohort_corrections.csv").write_text("somebody else's\n")
    session.correct("tumour", (2, 3))
    session.correct("tumour", (2, 4))
    assert session.corrections.path == tmp_path / "cohort_corrections_2.csv"
    assert len(session.corrections.path.read_text().splitlines()) == 3
    assert not session.corrections.unsaved
    session.undo()
    assert len(session.corrections.path.read_text().splitlines()) == 2
    # A file that joins is where they are kept from now on: all of them.
    (tmp_path / "more.csv").write_text("slide_id,x,y,label\nslide,10,10,normal\n")
    session.corrections.load(tmp_path / "more.csv")
    assert len((tmp_path / "more.csv").read_text().splitlines()) == 3
    session.corrections.path = tmp_path / "cohort_corrections_2.csv"
    assert (tmp_path / "cohort_corrections.csv").read_text() == "somebody else's\n"


def test_a_table_with_columns_of_its_own_is_read_and_never_written(reviewed, tmp_path):
    session, _, _ = reviewed()
    session.write_cohort(tmp_path / "cohort.csv")
    mine = tmp_path / "mine.csv"
    mine.write_text("slide_id,x,y,label,why\nslide,10,10,tumour,mitoses\n")
    before = mine.read_bytes()
    session.corrections.load(mine)
    session.correct("tumour", (2, 3))
    assert session.corrections.path == tmp_path / "cohort_corrections.csv"
    assert len(session.corrections.path.read_text().splitlines()) == 3
    assert mine.read_bytes() == before


def test_a_file_that_somebody_changed_meanwhile_is_left_to_them(reviewed, tmp_path):
    session, _, _ = reviewed()
    session.correct("tumour", (2, 3))
    path = session.corrections.save(tmp_path / "mine.csv")
    path.write_text(path.read_text() + "slide,1,1,normal\n")
    theirs = path.read_bytes()
    session.correct("tumour", (2, 4))
    other = session.corrections.save()
    assert other != path
    assert path.read_bytes() == theirs
    assert len(other.read_text().splitlines()) == 3
    assert "was changed since" in session.notices[-1]


def test_corrections_go_onto_no_slide_and_no_table(reviewed, tmp_path):
    session, _, _ = reviewed()
    session.write_cohort(tmp_path / "cohort.csv")
    session.correct("tumour", (2, 3))
    before = (tmp_path / "cohort.csv").read_bytes()
    with pytest.raises(OutputError, match="read here"):
        session.corrections.save(tmp_path / "cohort.csv")
    assert (tmp_path / "cohort.csv").read_bytes() == before


def test_formulas_in_names_come_back(reviewed, tmp_path):
    from napari_distill2label.store import corrections

    slide = corrections.SlideCorrections()
    slide.add([(1.5, -2.0, "=tumour"), (3.0, 4.0, "-x")])
    path = corrections.write(tmp_path / "c.csv", {"+slide": slide})
    assert path.read_text().splitlines()[1:] == ["'+slide,-2,1.5,'=tumour", "'+slide,4,3,'-x"]
    assert corrections.read(path)["+slide"].labels.tolist() == ["=tumour", "-x"]


def test_a_place_that_cannot_be_written_is_said_and_nothing_is_lost(reviewed, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "a file"))
    session, _, _ = reviewed()
    (tmp_path / "a file").write_text("")
    session.corrections.path = tmp_path / "a file" / "corrections.csv"
    session.correct("tumour", (2, 3))
    assert "The corrections are not saved." in session.notices[-1]
    assert session.corrections.unsaved
    assert len(session.corrections) == 1


def test_other_slides_have_no_corrections(reviewed, cohort_csv, tmp_path):
    session, _, _ = reviewed()
    session.correct("tumour", (2, 3))
    session.read_cohort(cohort_csv)
    assert len(session.corrections) == 0
    assert session.corrections.path is None
    assert len((tmp_path / "corrections.csv").read_text().splitlines()) == 2  # but they are not lost


def test_closing_the_window_keeps_them(reviewed, tmp_path):
    session, _, _ = reviewed()
    session.correct("tumour", (2, 3))
    session.shutdown()
    assert (tmp_path / "corrections.csv").read_text().splitlines()[1:] == ["slide,69.5,49.5,tumour"]
    session.shutdown()
    assert len(list(tmp_path.glob("*.csv"))) == 1


def test_showing_another_slide_and_coming_back(reviewed, tmp_path):
    session, viewer, _ = reviewed()
    session.correct("tumour", (2, 3))
    session.center_on((2, 3))
    (tmp_path / "other.png").write_bytes((tmp_path / "slide.png").read_bytes())
    session.add_slides(tmp_path / "other.png")
    session.show("other")
    assert session.canvas.corrections.framed is None
    assert not layers.find(viewer, CORRECTIONS)
    session.show("slide")
    assert layer(viewer).data[2, 3] == 2
    layers.remove(viewer, [layer(viewer)])  # deleting the layer deletes no work
    session.show("slide", again=True)
    assert layer(viewer).data[2, 3] == 2


def test_points(reviewed):
    centres = [(20, 30), (60, 90), (100, 100)]
    session, viewer, _ = reviewed(centres=centres)
    assert len(layer(viewer).data) == 0
    session.center_on((1,))
    assert session.correct("normal")
    np.testing.assert_array_equal(layer(viewer).data, [(60, 90)])
    assert not layer(viewer).face_color[:, 3].any()  # a ring: the nucleus is seen
    assert not layers.find(viewer, OUTLINES)
    assert session.corrections.save().read_text().splitlines()[1:] == ["slide,90,60,normal"]
    session.undo()
    assert len(layer(viewer).data) == 0
    with pytest.raises(SettingsError, match="one by one"):
        session.paint("normal")


def test_several_classes_at_once(reviewed):
    probability = np.zeros((6, 8, 3))
    probability[0, :, 1] = probability[:, 0, 2] = 0.9
    session, _, patch_map = reviewed()
    names = ("normal", "tumour", "necrosis")
    from napari_distill2label.store.maps.patch_map import PatchMap

    multi_label = PatchMap.create(
        None, patch_map.patches, names, SlideInfo("slide"), model={"network": "student"}, multi_label=True
    )  # fmt: skip
    for block in multi_label.patches.blocks(100):
        values = probability[block.window][block.scored]
        multi_label.write(block, values, values, values[:, 1])
    multi_label.finish([0.5] * 3)
    session.project.take_maps([multi_label])
    for label, cell in (("tumour", (0, 0)), ("necrosis", (0, 0)), ("necrosis", (0, 1)), ("normal", (5, 5))):
        session.correct(label, cell)
    assert session.agreement() == {"normal": Agreement(1, 0), "necrosis": Agreement(1, 1)}


def test_retraining_takes_corrections_as_known(cohort_csv, run_folder, tmp_path):
    import shutil

    from napari.components import ViewerModel

    from napari_distill2label.gui import get_session
    from napari_distill2label.gui.actions import requirements
    from napari_distill2label.store.bundle import load_bundle

    shutil.copytree(cohort_csv.parent, tmp_path / "cohort")
    session = get_session(viewer := ViewerModel())
    session.read_cohort(tmp_path / "cohort" / "cohort.csv")
    session.configure(**TINY)
    session.load_model(run_folder)
    session.show("slide_001")
    session.predict("slide_001")
    assert "Correct some patches" in requirements.retrain(session.project, session.choices, session.corrections).problem
    with pytest.raises(SettingsError):
        session.retrain()
    session.correct("normal", (0, 0))
    session.correct("tumour", (1, 1))
    session.configure(student={"gamma_corrections": 0})
    assert "γk" in requirements.retrain(session.project, session.choices, session.corrections).problem
    session.configure(student={"gamma_corrections": 1})
    for away, back in ((session.set_label, "tumour"), (session.set_split, None)):  # of what is passed over
        away("slide_001", "test" if back is None else None)
        assert session.corrections.count_unused(session.settings) == 2
        assert (
            "No correction would count"
            in requirements.retrain(session.project, session.choices, session.corrections).problem
        )
        away("slide_001", back)
    assert session.corrections.count_unused(session.settings) == 0
    run = session.retrain()
    assert run.folder != run_folder
    assert load_bundle(run.bundle("student")).config.n_corrections == 2
    assert session.corrections.slides == {"slide_001": 2}  # they outlive the model
    session.predict("slide_001")
    assert layer(viewer).data[1, 1] == 2
    assert session.corrections.path == tmp_path / "cohort" / "cohort_corrections.csv"


def test_areas_of_qupath_correct_the_patches_they_cover_and_their_file_is_left_alone(reviewed, tmp_path):
    session, _, patch_map = reviewed()
    session.correct("normal", (0, 0))
    square = [[0, 0], [40, 0], [40, 40], [0, 40], [0, 0]]  # 2 × 2 patches of 20 px
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square]},
         "properties": {"classification": {"name": name}}} for name in ("tumour", "mucosa")
    ]  # fmt: skip
    path = tmp_path / "slide.geojson"
    path.write_text(json.dumps(features))
    before = path.read_bytes()
    session.corrections.load(path)
    expected = np.full(patch_map.patches.shape, -1)
    expected[:2, :2] = 1
    expected[0, 0] = 0  # corrected itself
    np.testing.assert_array_equal(session.corrections.known("slide"), expected)
    assert session.corrections.path == tmp_path / "corrections_2.csv"
    saved = session.corrections.save(tmp_path / "c.csv")
    assert len(saved.read_text().splitlines()) == 1 + 4
    assert path.read_bytes() == before


def test_other_patches_take_the_place_of_those_there_were(reviewed, make_patch_map):
    session, viewer, _ = reviewed()
    session.center_on((5, 7))
    session.display.hovered = ("slide", (5, 7))  # the pointer rests
    session.project.take_maps([make_patch_map((120, 160), size_px=40)])  # 3 × 4
    assert session.canvas.corrections.framed is None
    assert not layers.find(viewer, layers.FRAME)
    assert not session.correct("tumour")
    session.center_on((2, 3))
    assert session.correct("tumour")
    assert session.corrections.correction_at("slide", (2, 3)) == "tumour"


def test_undo_shows_the_patch_that_was_corrected_and_leaves_the_view_of_one_who_paints(reviewed):
    session, viewer, _ = reviewed()
    session.correct("tumour", (1, 1))
    session.center_on((5, 7))
    session.undo()
    assert session.canvas.corrections.framed == ("slide", (1, 1))
    layer(viewer).paint((4, 4), 2)
    session.center_on((5, 7))
    centre = viewer.scene.camera.center
    session.undo()
    assert session.corrections.correction_at("slide", (4, 4)) is None
    assert session.canvas.corrections.framed == ("slide", (5, 7))
    assert viewer.scene.camera.center == centre
