"""The session without a window: every verb, on a `ViewerModel`."""

import gc
import subprocess
import sys
import weakref

import pytest
from napari.components import ViewerModel

from napari_distill2label.core.errors import BundleError, CohortError, SettingsError, SlideError
from napari_distill2label.core.presets import build_settings
from napari_distill2label.gui import get_session
from napari_distill2label.gui.actions import requirements
from napari_distill2label.gui.canvas import layers
from napari_distill2label.gui.session import session_of

from .conftest import TINY


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def session(viewer):
    yield (made := get_session(viewer))
    made.shutdown()


def test_one_session_per_viewer():
    one, other = ViewerModel(), ViewerModel()
    assert session_of(one) is session_of(one)
    assert session_of(one) is not session_of(other)


def test_the_session_goes_with_its_viewer():
    viewer = ViewerModel()
    session = session_of(viewer)
    gone = weakref.ref(viewer), weakref.ref(session)
    del viewer, session
    gc.collect()
    alive = [reference() is not None for reference in gone]
    assert alive == [False, False]


def test_the_whole_path(session, viewer, cohort_csv, tmp_path):
    session.read_cohort(cohort_csv)
    assert session.classes == ("normal", "tumour")
    session.configure(**TINY)
    session.show("slide_001")
    run = session.train(tmp_path / "run")
    assert run.models == ("teacher", "student")
    assert session.network == "student"
    maps = session.predict()
    assert len(maps) == 8
    roles = [layers.tags_of(layer)["role"] for layer in viewer.layers]
    assert roles[:2] == [layers.SLIDE, layers.PROBABILITY]
    assert roles[-3:] == [layers.LABELS, layers.CORRECTIONS, layers.OUTLINES]
    assert session.slides["status"].str.match(r"(normal|tumour) · P\(tumour\) 0\.\d\d").all()
    session.set_threshold(0.0)
    assert session.label_counts() == {"normal": 0, "tumour": maps[1].scored.sum()}
    (labels,) = layers.find(viewer, layers.LABELS)
    assert (labels.data == 2).all()
    session.show("slide_002")
    assert {layers.tags_of(layer)["slide_id"] for layer in viewer.layers} == {"slide_002"}
    files = session.export(tmp_path / "out", ["csv", "ome-tiff"], slides="slide_002")
    assert sorted(file.name for file in files) == ["slide_002.csv", "slide_002.ome.tif"]
    # Teacher and student side by side; the one chosen is seen.
    session.predict("slide_002", network="teacher")
    shown = {layers.tags_of(layer)["model"]: layer.visible for layer in layers.find(viewer, layers.LABELS)}
    assert shown == {"student": False, "teacher": True}


def test_a_run_brings_slides_and_predictions(session, viewer, run_folder, tmp_path):
    get_session(other := ViewerModel()).load_model(run_folder)
    get_session(other).predict("slide_000")
    model = session.load_model(run_folder)
    assert model.networks == ("teacher", "student")
    assert len(session.cohort) == 8
    session.show("slide_000")
    assert layers.find(viewer, layers.LABELS)
    assert (
        session.project.work_folder == session.project.runs_folder == run_folder.parent
    )  # nothing new is put into a run
    session.write_cohort(tmp_path / "mine.csv")
    assert session.project.work_folder == tmp_path


def test_predictions_of_other_slides_with_the_same_id_are_left_alone(session, run_folder, cohort_csv, tmp_path):
    get_session(other := ViewerModel()).load_model(run_folder)
    get_session(other).predict("slide_000")
    copy = tmp_path / "slide_000.ome.tif"
    copy.write_bytes((cohort_csv.parent / "slides" / "slide_001.ome.tif").read_bytes())
    session.add_slides(copy)
    session.load_model(run_folder)
    assert session.predictions == {}


def test_work_for_slides_that_went_is_not_taken_for_others_with_their_ids(session, run_folder, tmp_path, cohort_csv):
    session.load_model(run_folder)
    (late,) = session.predict("slide_000")
    copy = tmp_path / "slide_000.ome.tif"
    copy.write_bytes((cohort_csv.parent / "slides" / "slide_001.ome.tif").read_bytes())
    (tmp_path / "others.csv").write_text(f"slide_id,path,label\nslide_000,{copy},normal\n")
    session.read_cohort(tmp_path / "others.csv")
    session.project.take_maps([late])
    session.live.take([late])
    assert session.predictions == {}
    assert not layers.find(session.viewer, layers.LABELS)


def test_undo_brings_no_prediction_of_another_model(session, run_folder):
    session.load_model(run_folder)
    session.predict("slide_000")
    session.remove_slides(["slide_000"])
    session.undo()
    assert "slide_000" in session.predictions
    session.remove_slides(["slide_000"])
    session.load_model(run_folder / "teacher")
    session.undo()
    assert "slide_000" not in session.predictions


def test_a_run_that_brings_slides_inherits_no_corrections(session, run_folder, tmp_path):
    session.load_model(run_folder)
    session.predict("slide_000")
    session.show("slide_000")
    session.corrections.save(kept := tmp_path / "mine.csv")
    assert session.correct("tumour", (0, 0))
    session.remove_slides([row.slide_id for row in session.cohort])
    session.load_model(run_folder)
    assert len(session.cohort) == 8
    assert len(session.corrections) == 0
    assert session.corrections.path is None
    assert kept.read_text().splitlines()[1].startswith("slide_000,")
    assert session.corrections.default_path().parent == run_folder.parent  # and not in the run


def test_a_bundle_alone_predicts_in_memory(session, run_folder, cohort_csv):
    session.add_slides(cohort_csv.parent / "slides" / "slide_003.ome.tif")
    session.load_model(run_folder / "teacher")
    (patch_map,) = session.predict()
    assert patch_map.path is None
    assert session.network == "teacher"


def test_reasons_why_not(session, cohort_csv):
    assert "Add slides" in requirements.train(session.project, session.choices).problem
    assert "Train first" in requirements.predict(session.project, False).problem
    assert "Predict first" in requirements.export(session.project).problem
    ids = session.add_slides(cohort_csv.parent / "slides")
    assert len(ids) == 8
    assert "'normal'" in requirements.train(session.project, session.choices).problem
    session.set_label(ids[:2], "normal")
    assert "'tumour'" in requirements.train(session.project, session.choices).problem
    session.set_label(ids[2], "tumour")
    assert requirements.train(session.project, session.choices) is None
    session.classes = "normal, cancer"
    assert "'tumour' is none of the classes" in requirements.train(session.project, session.choices).problem
    session.classes = "normal, tumour"
    session.configure("wsi")
    assert "ONNX" in requirements.train(session.project, session.choices).problem
    with pytest.raises(CohortError, match="ONNX"):
        session.train()


def test_labels_and_classes(session, cohort_csv):
    ids = session.add_slides(cohort_csv.parent / "slides")
    with pytest.raises(CohortError, match="unknown label 'cancer'"):
        session.set_label(ids, "cancer")
    with pytest.raises(CohortError, match="no slide 'x'"):
        session.set_label("x", "normal")
    with pytest.raises(CohortError, match="two or more"):
        session.classes = "normal"
    session.set_label(ids[0], "tumour")
    session.set_label(ids[0], None)
    assert not session.cohort.labelled


def test_adding_twice_and_what_cannot_be_added(session, cohort_csv, tmp_path):
    slides = cohort_csv.parent / "slides"
    assert len(session.add_slides(slides)) == 8
    assert session.add_slides(slides) == []
    (tmp_path / "notes.docx").write_text("x")
    (tmp_path / "slide_000.png").write_bytes(b"x")
    assert session.add_slides([tmp_path / "missing.tif", tmp_path / "notes.docx", tmp_path / "slide_000.png"]) == []
    told = "\n".join(session.notices)
    assert "no such file" in told
    assert "not one of" in told
    assert "another slide is named 'slide_000'" in told


def test_cohort_in_and_out(session, cohort_csv, tmp_path):
    session.read_cohort(cohort_csv)
    session.set_label("slide_000", "tumour")
    path = session.write_cohort(tmp_path / "mine é.csv")
    other = get_session(other_viewer := ViewerModel())
    assert not other_viewer.layers
    assert other.read_cohort(path)["slide_000"].label == "tumour"
    with pytest.raises(CohortError):
        session.read_cohort(tmp_path / "missing.csv")
    assert len(session.cohort) == 8


def test_classes_that_cannot_be_ordered_are_asked_for(session, tmp_path, cohort_csv):
    rows = cohort_csv.read_text().replace(",normal,", ",adenoma,").replace(",tumour,", ",carcinoma,")
    path = cohort_csv.parent / "other.csv"
    path.write_text(rows)
    session.read_cohort(path)
    assert session.classes == ()
    assert "negative class" in session.notices[-1]
    assert "Name the classes" in requirements.train(session.project, session.choices).problem
    session.classes = ["adenoma", "carcinoma"]
    assert requirements.train(session.project, session.choices) is None


def test_a_damaged_slide_says_so_and_the_others_go_on(session, run_folder, cohort_csv, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG and no more")
    session.add_slides([bad, cohort_csv.parent / "slides" / "slide_001.ome.tif"])
    with pytest.raises(SlideError, match=r"bad\.png"):
        session.show("bad")
    session.load_model(run_folder)
    maps = session.predict()
    assert [patch_map.slide_id for patch_map in maps] == ["slide_001"]
    assert session.project.slide_summary("bad").startswith("failed: ")


def test_mpp_of_the_user_moves_slide_and_labels_together(session, viewer, run_folder):
    session.load_model(run_folder)
    session.show("slide_000")
    session.predict("slide_000")
    session.set_mpp("slide_000", 0.4)
    for layer in viewer.layers:
        cells = 27 if layers.tags_of(layer)["role"] != layers.SLIDE else 1
        assert layer.scale[0] == pytest.approx(0.4 * cells)
    with pytest.raises(CohortError, match="not between"):
        session.set_mpp("slide_000", 100)


def test_settings(session):
    with pytest.raises(SettingsError, match=r"patches\.size_px"):
        session.configure(patches={"size_px": 0})
    assert session.choices.overrides == {}
    session.configure("breast", teacher={"epochs": 3})
    assert (session.settings.patches.size_px, session.settings.teacher.epochs) == (32, 3)
    session.configure(teacher={"learning_rate": 0.1})
    assert session.settings.teacher.epochs == 3
    session.reset_settings()
    assert session.settings.teacher.epochs == build_settings("breast").teacher.epochs
    with pytest.raises(SettingsError):
        session.set_threshold(1.5)


def test_errors_of_a_job_reach_the_caller(session, tmp_path):
    with pytest.raises(BundleError, match="no model bundle"):
        session.load_model(tmp_path)
    assert not session.jobs.busy


def test_a_slide_removed_from_the_list_or_the_viewer_is_closed(session, viewer, cohort_csv):
    session.read_cohort(cohort_csv)
    session.show("slide_000")
    slide = session.canvas.slide_view._open["slide_000"]
    viewer.layers.clear()
    assert session.shown is None
    with pytest.raises(SlideError, match="closed"):
        slide.read(0, 0, 0, 5, 5)
    session.show("slide_000")
    session.remove_slides(["slide_000"])
    assert len(session.cohort) == 7
    assert not viewer.layers


def test_other_peoples_layers_stay(session, viewer, cohort_csv):
    session.read_cohort(cohort_csv)
    other = viewer.add_points([[1, 1]])
    session.show("slide_000")
    session.show("slide_001")
    assert other in viewer.layers


def test_the_panel_imports_neither_torch_nor_sklearn():
    code = (
        "import sys, napari_distill2label.gui.dock as w; "
        "print([m for m in ('torch', 'sklearn', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- a queue, resuming, and the console ---------------------------------------------------------------------------


def test_predicting_may_be_asked_for_before_the_training_has_ended(session, cohort_csv, tmp_path):
    session.read_cohort(cohort_csv)
    session.configure(**TINY)
    asked = []

    def ask(job, event):
        if not asked:
            asked.append(session.predict("slide_000", network="teacher", wait=False))
            asked.append(
                session.export(tmp_path / "out", ["csv"], wait=False)
                if requirements.export(session.project) is None
                else 0
            )

    session.jobs.event.connect(ask)
    session.train(tmp_path / "run")
    assert asked[0].state == "done"
    assert asked[0].result()[0].model["network"] == "teacher"


def test_a_prediction_of_a_training_that_failed_says_so(session, cohort_csv, tmp_path, monkeypatch):
    asked = []

    def broken(*args, **kwargs):
        asked.append(session.predict(wait=False))
        yield
        raise RuntimeError("boom")

    session.read_cohort(cohort_csv)
    monkeypatch.setattr("napari_distill2label.workflow.commands.train.train", broken)
    session.train(tmp_path / "run", wait=False)
    assert "Training did not come to its end" in asked[0].text


def test_a_prediction_of_a_training_that_was_cancelled_is_cancelled_too(session, cohort_csv, tmp_path):
    asked = []

    def stop(job, event):
        if not asked:
            asked.append(session.predict(wait=False))
            session.cancel(job)

    session.read_cohort(cohort_csv)
    session.configure(**TINY)
    session.jobs.event.connect(stop)
    session.train(tmp_path / "run", wait=False)
    assert asked[0].state == "cancelled"
    assert asked[0].text == ("Predicting: cancelled. Training was cancelled: there is no new model to predict with.")


def test_a_run_that_was_stopped_goes_on(session, cohort_csv, tmp_path):
    from napari_distill2label.core.events import EpochEnd

    session.read_cohort(cohort_csv)
    session.configure(**TINY | {"teacher": {"epochs": 3}})

    def stop(job, event):
        if isinstance(event, EpochEnd) and event.network == "teacher":
            session.cancel()

    session.jobs.event.connect(stop)
    job = session.train(tmp_path / "run", wait=False)
    assert job.state == "cancelled"
    assert session.model is None
    session.jobs.event.disconnect(stop)
    epochs = []
    session.jobs.event.connect(lambda job, event: epochs.append(event) if isinstance(event, EpochEnd) else None)
    session.set_label("slide_001", None)  # the run goes on with the labels it was begun with
    run = session.resume(tmp_path / "run")
    assert run.models == ("teacher", "student")
    assert [event.epoch for event in epochs if event.network == "teacher"] == [2, 3]
    assert session.model.path == tmp_path / "run"
    with pytest.raises(BundleError, match="is no run"):
        session.resume(tmp_path)


def test_memory_that_ran_out_offers_less(session, cohort_csv, tmp_path, monkeypatch):
    import torch

    asked = []

    def train(cohort, out, settings, **how):
        asked.append(settings)
        yield
        raise torch.OutOfMemoryError("CUDA out of memory")

    session.read_cohort(cohort_csv)
    monkeypatch.setattr("napari_distill2label.workflow.commands.train.train", train)
    job = session.train(tmp_path / "run", wait=False)
    assert "out of memory" in job.text
    assert job.retry_text == "Try again with half as many patches at once"
    job.retry()
    before, after = asked
    assert after.teacher.max_patches_per_bag == before.teacher.max_patches_per_bag // 2
    assert after.student.batch_size == before.student.batch_size // 2
    # On a GPU, the processor is what is left; it is asked for by name here, as there is none.
    settings = before.model_copy(update={"device": "cuda"})
    job = session.train(tmp_path / "other", settings, wait=False)
    assert job.retry_text == "Try again on the processor (CPU)"
    job.retry()
    assert asked[-1].device == "cpu"


def test_two_trainings_in_the_queue_have_two_folders(session, cohort_csv, monkeypatch):
    outs = []

    def train(cohort, out, settings, **how):
        outs.append(out)
        if len(outs) == 1:
            session.train(wait=False)
        yield
        raise RuntimeError("enough")

    session.read_cohort(cohort_csv)
    monkeypatch.setattr("napari_distill2label.workflow.commands.train.train", train)
    session.train(wait=False)
    assert len(set(outs)) == 2
    assert {out.parent for out in outs} == {session.project.runs_folder} == {cohort_csv.parent}


def test_features_and_training_on_them(session, cohort_csv, feature_folder, tmp_path):
    session.read_cohort(cohort_csv)
    session.configure("wsi", "paper", **TINY)
    assert "frozen encoder" in requirements.train(session.project, session.choices).problem
    with pytest.raises(SettingsError, match="frozen encoder"):
        session.extract_features()
    session.feature_folder = feature_folder
    assert requirements.train(session.project, session.choices) is None
    session.train(tmp_path / "run")
    assert session.model.features == feature_folder
    assert session.predict("slide_001")[0].is_complete


def test_metrics_are_a_table(session, run_folder, cohort_csv):
    with pytest.raises(SettingsError, match="load a run"):
        session.evaluate(cohort_csv.parent / "truth.csv")
    session.load_model(run_folder)
    table = session.evaluate(cohort_csv.parent / "truth.csv", split="all")
    assert list(table["model"].unique()) == ["teacher", "student"]
    assert {"level", "auroc", "f1", "n"} <= set(table.columns)
    assert (table.query("level == 'slide'")["n"] == 8).all()


def test_the_console_finds_every_verb_and_its_help(session):
    import napari_distill2label as d2l

    verbs = ("train", "resume", "predict", "export", "evaluate", "extract_features", "load_model", "show", "set_label")
    assert set(verbs) <= set(dir(session))
    for name in verbs:
        assert getattr(session, name).__doc__
    assert d2l.get_session(session.viewer) is session
    with pytest.raises(ValueError, match="no napari viewer"):
        d2l.get_session()
