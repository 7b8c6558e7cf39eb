"""A promise is asked for in a real dialog, and kept."""

from dataclasses import replace

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QDialogButtonBox, QDoubleSpinBox

from napari_distill2label.gui.panels.predict.promise_dialog import ask_promise
from napari_distill2label.slides.synthetic import write_cohort
from napari_distill2label.store.cohort import Cohort

from ...conftest import LONG, click, open_cohort


def test_a_promise_is_asked_for_and_kept(panel, qtbot, run_folder, tmp_path):
    session = panel.session
    session.load_model(run_folder)
    assert not panel.promise.isEnabled()
    assert panel.promise.toolTip().startswith("Predict slides labelled 'normal' first")
    assert panel.promised.text() == "This is the threshold that the student comes with."
    table = write_cohort(tmp_path / "others", 8, seed=9, shape=(135, 162))
    rows = [replace(row, slide_id=f"new {row.slide_id}", case_id=row.slide_id) for row in Cohort.read(table)]
    open_cohort(session, Cohort(tuple(rows), session.classes))
    session.predict()
    assert panel.promise.isEnabled()

    def answer():
        dialog = QApplication.activeModalWidget()
        share, sure = dialog.findChildren(QDoubleSpinBox)
        assert (share.value(), sure.value()) == (5.0, 90.0)
        share.setValue(20)
        sure.setValue(70)
        box = dialog.findChild(QDialogButtonBox)
        click(qtbot, box.button(QDialogButtonBox.StandardButton.Ok))

    QTimer.singleShot(300, answer)
    click(qtbot, panel.promise)
    qtbot.waitUntil(lambda: session.project.promise is not None and not session.jobs.busy, timeout=LONG)
    assert panel.promised.text() == (
        "On 70% of new negative slides, at most 20% of the patches are labelled as a finding. "
        "This rests on 4 negative slides of 4 patients."
    )
    panel.set_threshold(0.9)
    assert panel.promised.text() == ""


def test_a_promise_that_is_not_asked_for_changes_nothing(panel):
    QTimer.singleShot(300, lambda: QApplication.activeModalWidget().reject())
    assert ask_promise(panel) is None
