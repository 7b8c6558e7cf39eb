"""The Review panel in a real viewer: clicks on its buttons, strokes on the canvas."""

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox

from napari_distill2label.core.notices import Notice, NoticeCode
from napari_distill2label.gui.canvas import layers
from napari_distill2label.gui.canvas.layers import CORRECTIONS
from napari_distill2label.gui.panels.predict.ground_truth import as_html
from napari_distill2label.gui.panels.predict.panel import PredictPanel
from napari_distill2label.gui.panels.predict.review_panel import EMPTY, NO_PATCH, ReviewPanel
from napari_distill2label.store import corrections
from napari_distill2label.workflow.commands.compare import Part, TruthComparison

from ...conftest import LONG, click

POSITIVE = np.linspace(0, 1, 48).reshape(6, 8)


@pytest.fixture
def made(reviewed, make_napari_viewer, qtbot):
    """(panel, session, viewer) with a prediction over a slide."""
    viewer = make_napari_viewer()
    session, _, _ = reviewed(viewer, POSITIVE)
    qtbot.waitUntil(lambda: bool(layers.find(viewer, CORRECTIONS)), timeout=LONG)
    panel = ReviewPanel(session)
    viewer.window.add_dock_widget(panel, name="Review")
    yield panel, session, viewer
    panel.disconnect_session()
    session.shutdown()


def test_without_a_prediction_it_says_what_to_do(make_napari_viewer, qtbot):
    from napari_distill2label.gui import get_session

    session = get_session(make_napari_viewer())
    panel = ReviewPanel(session)
    qtbot.addWidget(panel)
    assert panel.empty.text() == EMPTY
    assert panel.empty.isVisibleTo(panel)
    assert not panel.body.isVisibleTo(panel)
    assert not panel.retrain.isEnabled()
    assert panel.reason.text() == "Correct some patches first."
    assert panel.truth_reason.text().startswith("Predict first")
    assert panel.headline() == "no corrections yet"
    panel.disconnect_session()


def test_from_patch_to_patch(made, qtbot):
    panel, session, _ = made
    assert panel.patch.text() == NO_PATCH
    assert not panel.class_buttons["tumour"].isEnabled()
    click(qtbot, panel.next)
    slide_id, first = session.canvas.corrections.framed
    row, col = first
    assert panel.patch.text().startswith(f"Row {row + 1}, column {col + 1}: ")
    click(qtbot, panel.class_buttons["tumour"])
    assert session.corrections.correction_at(slide_id, first) == "tumour"
    assert session.canvas.corrections.framed[1] != first  # and on to the next
    panel.onward.setChecked(False)
    second = session.canvas.corrections.framed[1]
    click(qtbot, panel.class_buttons["normal"])
    assert session.canvas.corrections.framed[1] == second
    assert "corrected: normal" in panel.patch.text()
    click(qtbot, panel.class_buttons[None])
    assert session.corrections.slides == {"slide": 1}
    assert panel.headline() == "1 patch in 1 slide"
    assert "not saved yet" in panel.file.text()
    assert "tumour" in panel.agreement.text()
    click(qtbot, panel.clear)
    assert panel.headline() == "no corrections yet"
    assert not panel.clear.isEnabled()


def on_canvas(viewer, place):
    """Screen position in the canvas of a place in the world."""
    canvas = viewer.window._qt_viewer.canvas.native
    y, x = (np.array(place) - viewer.scene.camera.center[-2:]) * viewer.scene.camera.zoom
    return canvas, QPoint(round(canvas.width() / 2 + x), round(canvas.height() / 2 + y))


def test_painting_with_the_mouse(made, qtbot):
    panel, session, viewer = made
    with qtbot.waitExposed(viewer.window._qt_window):
        viewer.window._qt_window.show()
    viewer.reset_view()
    click(qtbot, panel.brush_buttons["tumour"])
    (painted,) = layers.find(viewer, CORRECTIONS)
    assert viewer.layers.selection.active is painted
    canvas, start = on_canvas(viewer, (10.0, 10.0))
    qtbot.mouseMove(canvas, start)
    qtbot.mousePress(canvas, Qt.MouseButton.LeftButton, pos=start)
    for x in range(15, 55, 5):
        qtbot.wait(20)  # vispy drops moves that come at once
        _, place = on_canvas(viewer, (10.0, float(x)))
        moved = QMouseEvent(
            QEvent.Type.MouseMove, QPointF(place), QPointF(canvas.mapToGlobal(place)), Qt.MouseButton.NoButton,
            Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier,
        )  # fmt: skip
        QApplication.sendEvent(canvas, moved)
    qtbot.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=place)
    assert np.argwhere(session.corrections.known("slide") >= 0).tolist() == [[0, 0], [0, 1], [0, 2]]
    assert session.project.history.undo_text == "paint 3 corrections"  # one stroke, one step
    assert panel.brush_buttons["tumour"].isChecked()
    click(qtbot, panel.brush_buttons["tumour"])
    assert painted.mode == "pan_zoom"
    assert not any(brush.isChecked() for brush in panel.brush_buttons.values())
    # And without painting, what the pointer is on is what a key would correct.
    _, there = on_canvas(viewer, (50.0, 70.0))
    qtbot.mouseMove(canvas, there)
    qtbot.waitUntil(lambda: session.display.hovered == ("slide", (2, 3)))
    assert session.correct("normal")
    assert session.corrections.correction_at("slide", (2, 3)) == "normal"


def test_files(made, qtbot, tmp_path):
    panel, session, _ = made
    session.correct("tumour", (1, 1))
    panel.ask_save = lambda *args: str(tmp_path / "mine.csv")
    click(qtbot, panel.save)
    assert "saved in mine.csv" in panel.file.text()
    session.correct(None, (1, 1))
    # Another file than the one these corrections are kept in, which may be written at any moment.
    panel.ask_file = lambda *args: str(tmp_path / "theirs.csv")
    (tmp_path / "theirs.csv").write_text("slide_id,x,y,label\nslide,50,50,normal\n")
    click(qtbot, panel.load)
    qtbot.waitUntil(lambda: session.corrections.correction_at("slide", (2, 2)) == "normal", timeout=LONG)
    problems = []
    panel.problem.connect(problems.append)
    panel.load_path(str(tmp_path / "missing.csv"))
    qtbot.waitUntil(lambda: bool(problems), timeout=LONG)
    assert "missing.csv" in problems[0]


def test_a_file_that_was_asked_for_before_other_slides_came_is_not_theirs(made, hold, qtbot, tmp_path, cohort_csv):
    panel, session, _ = made
    (tmp_path / "theirs.csv").write_text("slide_id,x,y,label\nslide_000,50,50,normal\n")
    held = hold(corrections, "read")
    panel.load_path(str(tmp_path / "theirs.csv"))
    qtbot.waitUntil(held.begun.is_set, timeout=LONG)
    session.read_cohort(cohort_csv)
    held.go.set()
    qtbot.waitUntil(held.ended.is_set)
    qtbot.wait(200)
    assert (session.corrections.slides, session.corrections.path) == ({}, None)


def test_truth(made, qtbot, tmp_path):
    panel, session, _ = made
    rows = [f"slide,{col * 20 + 9},{row * 20 + 9},tumour" for row in (4, 5) for col in range(8)]
    (tmp_path / "truth.csv").write_text("slide_id,x,y,label\n" + "\n".join(rows) + "\n")
    panel.ask_file = lambda *args: str(tmp_path / "truth.csv")
    click(qtbot, panel.truth_table)
    qtbot.waitUntil(lambda: not panel.metrics.isHidden(), timeout=LONG)
    text = panel.metrics.text.text()
    assert "48 patches of 1 slide" in text
    assert "AUROC 1.000" in text
    assert panel.metrics.curve is not None
    (tmp_path / "truth.csv").write_text("slide_id,x,y,label\nother,1,1,tumour\n")
    click(qtbot, panel.truth_table)
    qtbot.waitUntil(lambda: session.jobs.last is not None and session.jobs.last.state == "failed", timeout=LONG)
    assert "has no entry for any" in session.jobs.last.text


def test_what_labels_mean_is_asked_for_in_the_windows_words(made, qtbot, tmp_path):
    panel, session, _ = made
    (tmp_path / "truth.csv").write_text("slide_id,x,y,label\nslide,9,9,Tumor\nslide,29,9,artefact\n")
    panel.compare(str(tmp_path / "truth.csv"))
    qtbot.waitUntil(lambda: session.jobs.last is not None and session.jobs.last.state == "failed", timeout=LONG)
    assert "‘Tumor=tumour’ under ‘Labels mean’" in session.jobs.last.text
    panel.label_map.setText("Tumor=tumour, artefact=")
    panel.compare(str(tmp_path / "truth.csv"))
    qtbot.waitUntil(lambda: not panel.metrics.isHidden(), timeout=LONG)
    assert "The ground truth labels 46 normal, 1 tumour patches" in panel.metrics.text.text()  # an artefact is neither


def test_slides_learnt_from_have_a_line_of_their_own():
    metrics = {"n": 7, "auroc": 0.75, "accuracy": 0.5, "f1": None}
    none = np.empty(0)
    parts = (Part(False, 2, metrics), Part(True, 1, metrics | {"n": 9, "auroc": 1.0}))
    notice = Notice(NoticeCode.MARKS_MISPLACED, {"cause": "<b>"})
    found = TruthComparison(
        2,
        0.5,
        ("normal", "tumour"),
        metrics,
        np.eye(2, dtype=int),
        none,
        none,
        parts,
        (notice,),
    )
    text = as_html(found)
    assert "<b>7 patches of 2 slides not learnt from</b>, threshold 0.5<br>AUROC 0.750" in text
    assert "<b>9 patches of 1 slide learnt from</b>, threshold 0.5<br>AUROC 1.000" in text
    assert "Patches of the slides not learnt from, by what is true" in text
    assert "The ground truth: &lt;b&gt;" in text
    flattered = as_html(replace(found, parts=parts[1:]))
    assert "learnt from all of these slides: the figures flatter it" in flattered


def test_themes_and_names(made, qtbot):
    panel, _, viewer = made
    for theme in ("light", "dark"):
        viewer.theme = theme
    for kind in (QAbstractButton, QComboBox):
        for control in panel.findChildren(kind):
            assert control.accessibleName() or control.text(), control
            assert control.toolTip(), control.accessibleName()
    panel.truth_fold.toggle.setChecked(True)
    assert panel.minimumSizeHint().width() <= 340  # a dock of 360 px, its scroll bar beside it


def test_long_names_do_not_widen_it(reviewed, make_napari_viewer, qtbot, tmp_path):
    names = ("normal mucosa without dysplasia", "adenocarcinoma, moderately differentiated", "adenoma of high grade")
    viewer = make_napari_viewer()
    probability = np.stack([np.full((6, 8), 0.2), np.full((6, 8), 0.7), np.full((6, 8), 0.1)], -1)
    session, _, _ = reviewed(viewer, probability, classes=names)
    qtbot.waitUntil(lambda: bool(layers.find(viewer, CORRECTIONS)), timeout=LONG)
    panels = ReviewPanel(session), PredictPanel(session)
    for panel in panels:
        viewer.window.add_dock_widget(panel)
    review, predict = panels
    session.correct(names[1], (0, 0))
    (tmp_path / "truth.csv").write_text(f'slide_id,x,y,label\nslide,9,9,"{names[1]}"\nslide,39,9,"{names[2]}"\n')
    review.truth_fold.toggle.setChecked(True)
    review.compare(str(tmp_path / "truth.csv"))
    qtbot.waitUntil(lambda: not review.metrics.isHidden(), timeout=LONG)
    predict.gallery_fold.toggle.setChecked(True)
    for panel in panels:
        assert panel.minimumSizeHint().width() <= 340
    assert review.class_buttons[names[1]].accessibleName() == f"this patch: {names[1]}"
    for panel in panels:
        panel.disconnect_session()
    session.shutdown()


def test_a_closed_panel_is_not_called_any_more(made, qtbot):
    panel, session, viewer = made
    panel.disconnect_session()
    viewer.window.remove_dock_widget(panel)
    panel.deleteLater()
    qtbot.wait(20)
    session.correct("tumour", (0, 0))
    viewer.theme = "light"
    session.set_threshold(0.2)
