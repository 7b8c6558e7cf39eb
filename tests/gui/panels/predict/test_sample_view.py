"""The random sample in a real viewer: drawn, labelled by buttons, measured, and a model re-calibrated."""

from napari_distill2label.gui import get_session
from napari_distill2label.gui.panels.predict.review_panel import ReviewPanel
from napari_distill2label.slides.synthetic import write_cohort
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.sample import read_sample

from ...conftest import LONG, TINY, click, open_cohort


def test_a_new_cohort_is_sampled_and_the_model_recalibrated(make_napari_viewer, qtbot, run_folder, tmp_path):
    viewer = make_napari_viewer()
    session = get_session(viewer)
    panel = ReviewPanel(session)
    viewer.window.add_dock_widget(panel, name="Review")
    view = panel.sample
    assert not view.draw.isEnabled()
    assert view.reason.text().startswith("Predict the slides of the new cohort first")
    session.load_model(run_folder)
    new = Cohort.read(write_cohort(tmp_path / "new", 1, seed=9, shape=(135, 162)))
    open_cohort(session, new.with_slides(type(row)(f"n{row.slide_id}", row.path, None, None, row.mpp) for row in new))
    session.predict()
    click(qtbot, panel.sample_fold.toggle)
    view.count.setValue(20)
    click(qtbot, view.draw)

    def labelled(number):
        return lambda: (
            session.sample.n_labelled == number
            and (session.sample.position is None or session.sample_actions.is_sampling())
        )

    qtbot.waitUntil(lambda: session.sample.position == 0, timeout=LONG)
    path = session.sample.path
    for number in range(20):
        qtbot.waitUntil(labelled(number), timeout=LONG)
        assert view.place.text().startswith(f"Patch {number + 1} of 20, in n")
        assert not view.measure.isEnabled()
        if number == 3:
            click(qtbot, view.back)
            qtbot.waitUntil(lambda: session.sample.position == 2, timeout=LONG)
            assert "It is labelled normal." in view.place.text()
            qtbot.waitUntil(session.sample_actions.is_sampling, timeout=LONG)
            click(qtbot, view.class_buttons["tumour"])
            qtbot.waitUntil(labelled(3), timeout=LONG)
        click(qtbot, view.class_buttons["tumour" if number % 2 else "normal"])
    qtbot.waitUntil(labelled(20), timeout=LONG)
    assert len(session.corrections) == 0
    assert view.place.text() == f"20 of 20 patches are labelled, in {path.name}."
    qtbot.waitUntil(lambda: not session.sample.unsaved, timeout=LONG)
    assert [own.label for own in read_sample(path).patches].count("tumour") == 11
    click(qtbot, view.measure)
    qtbot.waitUntil(lambda: session.sample.report is not None, timeout=LONG)
    assert "20 patches drawn at random, 11 of them positive" in view.result.text()
    assert "ECE" in view.result.text()
    assert "the recall in these slides is at least" in view.result.text()
    view._panel.ask_save = lambda *asked, **how: str(tmp_path / "here")
    click(qtbot, view.save)
    qtbot.waitUntil(lambda: session.model.path == tmp_path / "here", timeout=LONG)
    assert not session.predictions
    panel.disconnect_session()
    session.shutdown()


def test_of_several_findings_nothing_is_said_before_one_is_pressed(make_unpainted_viewer, qtbot, cohort_csv, tmp_path):
    session = get_session(viewer := make_unpainted_viewer())
    panel = ReviewPanel(session)
    viewer.window.add_dock_widget(panel, name="Review")
    session.read_cohort(cohort_csv)
    session.configure(**TINY | {"architecture": {**TINY["architecture"], "multi_label": True}})
    session.train(tmp_path / "run")
    new = Cohort.read(write_cohort(tmp_path / "new", 1, seed=9, shape=(135, 162)))
    open_cohort(session, new.with_slides(type(row)(f"n{row.slide_id}", row.path, None, None, row.mpp) for row in new))
    session.predict()
    session.draw_sample(20)
    view = panel.sample
    click(qtbot, panel.sample_fold.toggle)
    qtbot.waitUntil(session.sample_actions.is_sampling, timeout=LONG)
    assert not view.take.isEnabled()
    assert "first" in view.take.toolTip()
    view.label_both()
    assert session.sample.n_labelled == 0  # nothing pressed is not "normal"
    click(qtbot, view.class_buttons["tumour"])
    view.refresh()  # as when another slide is predicted meanwhile
    assert view.class_buttons["tumour"].isChecked()
    click(qtbot, view.take)
    assert session.sample.patches[0].label == "tumour"
    qtbot.waitUntil(session.sample_actions.is_sampling, timeout=LONG)
    assert not view.class_buttons["tumour"].isChecked()
    click(qtbot, view.class_buttons["tumour"])
    session.draw_sample(20, seed=1)  # its first patch is another one
    qtbot.waitUntil(session.sample_actions.is_sampling, timeout=LONG)
    assert not view.take.isEnabled()
    panel.disconnect_session()
    session.shutdown()
