"""Step 5: what is written, where, and what would be lost; what was done, to the clipboard."""

import sys

import pandas as pd
import pytest
from qtpy.QtWidgets import QApplication

from napari_distill2label.gui import get_session
from napari_distill2label.gui.panels.predict.export_panel import ALL, SELECTED, THIS, ExportPanel
from napari_distill2label.gui.widgets.file_manager import reveal_command

from ...conftest import LONG, click


@pytest.fixture
def panel(make_napari_viewer_proxy, qtbot):
    viewer = make_napari_viewer_proxy()
    made = ExportPanel(get_session(viewer))
    qtbot.addWidget(made)
    yield made
    made.disconnect_session()
    made.session.shutdown()


@pytest.fixture
def predicted(panel, run_folder):
    """Two slides of eight have a prediction."""
    panel.session.load_model(run_folder)
    panel.session.predict(["slide_001", "slide_002"])
    panel.refresh()
    return panel


def test_what_is_missing_is_said_beside_the_button(panel):
    assert not panel.export.isEnabled()
    assert "Predict first" in panel.reason.text()
    assert panel.headline() == "nothing to export yet"
    assert not panel.copy_python.isEnabled()
    assert "first" in panel.copy_python.toolTip()
    assert not panel.reveal.isVisibleTo(panel)


def test_files_of_the_slides_that_were_chosen(predicted, qtbot, tmp_path):
    panel = predicted
    assert panel.headline() == "2 slides to export"
    assert panel.chosen_slides() == ["slide_001", "slide_002"]
    panel.session.project.shown = "slide_005"
    panel.slides.setCurrentText(THIS)
    panel.refresh()
    assert "has no prediction" in panel.reason.text()
    panel.session.project.shown = "slide_002"
    panel.refresh()
    panel.folder.setText(str(tmp_path / "out"))
    for name in ("ome-tiff", "geojson", "png"):
        panel.formats[name].setChecked(False)
    panel.session.set_threshold(0.31)
    assert panel.threshold.text().startswith("0.31")
    click(qtbot, panel.export)
    assert panel.export.text() == "Cancel"
    qtbot.waitUntil(lambda: bool(panel.session.exported), timeout=LONG)
    assert [path.name for path in (tmp_path / "out").glob("[!.]*.csv")] == ["slide_002.csv"]
    qtbot.waitUntil(lambda: panel.reveal.isVisibleTo(panel))
    assert str(tmp_path / "out") in panel.result.text()
    assert panel.headline().startswith("1 file written at ")
    panel.formats["csv"].setChecked(False)
    assert panel.reason.text() == "Choose at least one format."


def only_csv(panel):
    for name in ("ome-tiff", "geojson", "png"):
        panel.formats[name].setChecked(False)


def test_what_would_be_replaced_is_said_before(predicted, qtbot, tmp_path):
    panel = predicted
    (tmp_path / "slide_001.csv").write_text("mine")
    panel.folder.setText(str(tmp_path))
    qtbot.waitUntil(lambda: panel.replaced.text().startswith("1 file there were not written"), timeout=LONG)
    panel.formats["csv"].setChecked(False)
    qtbot.waitUntil(lambda: panel.replaced.text() == "", timeout=LONG)


@pytest.mark.parametrize("answer", [False, True])
def test_files_of_others_are_replaced_only_by_a_yes(predicted, qtbot, tmp_path, answer):
    panel, asked = predicted, []
    only_csv(panel)
    (tmp_path / "slide_001.csv").write_text("mine")
    panel.may_replace = lambda paths: asked.append([path.name for path in paths]) or answer
    panel.folder.setText(str(tmp_path))
    click(qtbot, panel.export)
    qtbot.waitUntil(lambda: bool(asked), timeout=LONG)
    assert asked == [["slide_001.csv"]]
    if not answer:
        assert [path.name for path in tmp_path.glob("[!.]*")] == ["slide_001.csv"]
        assert (tmp_path / "slide_001.csv").read_text() == "mine"
        return
    qtbot.waitUntil(lambda: len(panel.session.exported) == 2, timeout=LONG)
    assert (tmp_path / "slide_001.csv").read_text().startswith("minx,")
    panel.session.project.exported = []
    panel.session.set_threshold(0.9)
    click(qtbot, panel.export)  # ours: renewed without a question
    qtbot.waitUntil(lambda: len(panel.session.exported) == 2, timeout=LONG)
    assert len(asked) == 1


def test_the_slides_themselves_are_never_written_onto(predicted, qtbot):
    panel = predicted
    slide = panel.session.cohort["slide_001"].path
    before = {path: path.read_bytes() for path in slide.parent.iterdir() if path.is_file()}
    panel.may_replace = lambda paths: pytest.fail("not even asked")
    panel.folder.setText(str(slide.parent))
    qtbot.waitUntil(lambda: "onto your slides" in panel.replaced.text(), timeout=LONG)
    click(qtbot, panel.export)
    qtbot.waitUntil(lambda: panel.session.jobs.last is not None and panel.session.jobs.last.kind == "export")
    qtbot.waitUntil(lambda: panel.session.jobs.last.state == "failed", timeout=LONG)
    assert "read here" in panel.session.jobs.last.text
    assert {path: path.read_bytes() for path in slide.parent.iterdir() if path.is_file()} == before


def test_selected_slides(predicted):
    panel = predicted
    panel.session.project.selected = ("slide_002", "slide_007")
    panel.slides.setCurrentText(SELECTED)
    assert panel.chosen_slides() == ["slide_002"]
    panel.slides.setCurrentText(ALL)
    assert panel.chosen_slides() == ["slide_001", "slide_002"]


def test_copy_what_was_done(predicted, qtbot, tmp_path):
    panel = predicted
    panel.session.export(tmp_path, ["csv"])
    for button, word in ((panel.copy_python, "export("), (panel.copy_shell, "distill2label predict")):
        QApplication.clipboard().clear()
        click(qtbot, button)
        qtbot.waitUntil(lambda word=word: word in QApplication.clipboard().text(), timeout=LONG)
        assert panel.copied.text().startswith("Copied ")


def test_corrections_are_laid_over_and_told_apart(predicted, qtbot, tmp_path):
    panel = predicted
    own = tmp_path / "corrections.csv"
    own.write_text("slide_id,x,y,label\nslide_001,13,13,tumour\nslide_001,40,13,normal\nslide_006,13,13,tumour\n")
    panel.session.corrections.load(own)
    qtbot.waitUntil(lambda: panel.corrections.isVisibleTo(panel), timeout=LONG)
    assert "(2 patches)" in panel.corrections.text()  # those of slides that are written
    panel.folder.setText(str(tmp_path / "out"))
    click(qtbot, panel.export)
    qtbot.waitUntil(lambda: bool(panel.session.exported), timeout=LONG)
    table = pd.read_csv(tmp_path / "out" / "slide_001.csv")
    corrected = table[table["source"] == "corrected"]
    assert corrected["label"].tolist() == ["tumour", "normal"]
    before = panel.session.exported
    panel.corrections.setChecked(False)
    click(qtbot, panel.export)
    qtbot.waitUntil(lambda: panel.session.exported is not before, timeout=LONG)
    assert "source" not in pd.read_csv(tmp_path / "out" / "slide_001.csv")


def test_every_control_says_what_it_is(panel):
    for control in (*panel.formats.values(), panel.slides, panel.folder, panel.browse, panel.corrections, panel.export,
                    panel.reveal, panel.copy_python, panel.copy_shell):  # fmt: skip
        assert control.toolTip(), control
        assert control.accessibleName() or control.text()


@pytest.mark.parametrize(("system", "first"), [("darwin", "open"), ("win32", "explorer")])
def test_the_file_is_shown_in_its_folder(monkeypatch, tmp_path, system, first):
    monkeypatch.setattr(sys, "platform", system)
    command = reveal_command(tmp_path / "a file.csv")
    assert command[0] == first
    assert "a file.csv" in command[-1]


def test_without_a_file_manager_the_folder_is_opened(predicted, qtbot, monkeypatch, tmp_path):
    panel, opened = predicted, []
    monkeypatch.setattr(
        "napari_distill2label.gui.widgets.file_manager.reveal_command", lambda path: ["no such program"]
    )
    monkeypatch.setattr("qtpy.QtGui.QDesktopServices.openUrl", lambda url: bool(opened.append(url.toLocalFile())))
    panel.session.project.exported = [tmp_path / "a.csv"]
    panel.refresh()
    with qtbot.waitSignal(panel.problem, timeout=LONG) as told:
        click(qtbot, panel.reveal)
    assert opened == [str(tmp_path)]
    assert str(tmp_path) in told.args[0]  # nothing opens it here: said, with the folder's name
