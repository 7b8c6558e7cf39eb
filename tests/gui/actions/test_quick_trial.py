"""Quick trial in the window: a real run on a few slides that says what it is not."""

from napari_distill2label.gui.dock import DistillToLabel
from napari_distill2label.store.run_summary import scan

from ..conftest import LONG, TINY, click


def test_a_trial_by_a_click_predicts(make_napari_viewer, qtbot, cohort_csv, tmp_path):
    import shutil

    table = shutil.copytree(cohort_csv.parent, tmp_path / "cohort") / "cohort.csv"
    viewer = make_napari_viewer(show=True)
    panel = DistillToLabel(viewer)
    viewer.window.add_dock_widget(panel, name="Distill to Label")
    session = panel.session
    session.read_cohort(table)
    session.configure(**TINY)
    panel.steps["train"].set_open(True)
    qtbot.waitUntil(panel.train.trial.isEnabled, timeout=LONG)
    click(qtbot, panel.train.trial)
    assert not panel.train.trial.isEnabled()
    assert panel.train.train.text() == "Cancel"
    qtbot.waitUntil(lambda: not session.jobs.busy, timeout=2 * LONG)
    said = "A quick trial: 1 epoch on 8 slides. Use Train for a model to work with."
    assert session.model.path == tmp_path / "cohort" / "trial"
    assert panel.status.text.text() == said
    qtbot.waitUntil(lambda: panel.train.progress.text().endswith(said), timeout=LONG)
    assert panel.train.headline() == said
    assert session.runs.free_folder("trial").name == "trial_2"
    assert panel.predict.model.text().endswith(said)
    session.predict("slide_000", wait=True)
    assert set(session.predictions) == {"slide_000"}
    (found,) = scan([tmp_path / "cohort" / "trial"])
    assert found.quick_trial
    assert "quick_trial=True" in session.log.python()
    session.shutdown()
