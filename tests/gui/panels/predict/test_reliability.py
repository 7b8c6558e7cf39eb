"""The picture of a model's reliability: in a real dialog, with what its card says."""

import numpy as np

from napari_distill2label.gui.panels.predict.reliability import LARGEST, SMALLEST, ReliabilityDialog
from napari_distill2label.store.bundle import load_bundle
from napari_distill2label.store.run import Run

from ...conftest import LONG, click


def test_a_click_shows_how_reliable_the_student_is(panel, qtbot, run_folder):
    session = panel.session
    assert not panel.reliability.isEnabled()
    session.load_model(run_folder)
    assert panel.reliability.isEnabled()
    click(qtbot, panel.reliability)
    (dialog,) = panel.findChildren(ReliabilityDialog)
    qtbot.waitUntil(lambda: dialog.plot is not None, timeout=LONG)
    found = load_bundle(Run.open(run_folder).bundle("student")).config.calibration.reliability
    points = dialog.plot.listDataItems()[1]
    assert np.array_equal(
        np.column_stack([points.xData, points.yData]), np.column_stack([found.predicted, found.observed])
    )
    sizes = points.opts["symbolSize"]
    assert (max(sizes), min(sizes) >= SMALLEST) == (LARGEST, True)
    assert np.argmax(sizes) == np.argmax(found.count)
    said = "\n".join(label.text() for label in dialog.findChildren(type(panel.model)))
    assert f"{found.predicted[0]:.2f}&nbsp;" in said
    assert f"{found.observed[0]:.2f}&nbsp;" in said
    assert "A patch is labelled from a probability of" in said
    dialog.reject()


def test_a_network_without_a_calibration_has_no_picture_and_says_why(panel, run_folder):
    panel.session.load_model(run_folder)
    panel.session.network = "teacher"
    assert not panel.reliability.isEnabled()
    assert "is not calibrated" in panel.reliability.toolTip()
