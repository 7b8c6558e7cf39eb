"""Classes by clicks: their names, colours and order, and which one is negative."""

import shutil

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor

from ...conftest import click
from .conftest import LONG


def test_classes_are_named_coloured_moved_and_removed_by_clicks(full, qtbot):
    session, classes = full.session, full.editor
    heard = []
    full.problem.connect(heard.append)
    full.classes_fold.toggle.click()
    qtbot.keyClicks(classes.name, "stroma")
    qtbot.keyClick(classes.name, Qt.Key.Key_Return)
    assert session.classes == ("normal", "tumour", "stroma")
    assert full.label_bar.labels.itemAt(2).widget().text() == "stroma"
    line = classes.rows[1].name
    line.setFocus()
    line.selectAll()
    qtbot.keyClicks(line, "cancer")
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert session.classes == ("normal", "cancer", "stroma")
    assert "tumour" not in {row.label for row in session.cohort}
    line.selectAll()
    qtbot.keyClicks(line, "normal")
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert "already" in heard[-1]
    assert line.text() == "cancer"
    classes.ask_colour = lambda now, title: QColor(1, 2, 3)
    click(qtbot, classes.rows[1].colour)
    assert session.colours[1] == (1, 2, 3)
    click(qtbot, classes.rows[2].up)
    assert session.classes == ("normal", "stroma", "cancer")
    click(qtbot, classes.rows[1].remove)
    assert session.classes == ("normal", "cancer")
    assert session.colours[1] == (1, 2, 3)
    assert not classes.rows[1].remove.isEnabled()
    assert "fewest" in classes.rows[1].remove.toolTip()
    assert not classes.rows[0].up.isEnabled()
    for _ in range(5):
        full.session.undo()
    assert session.classes == ("normal", "tumour")


def test_a_table_that_does_not_say_which_class_is_negative(panel, qtbot, cohort_csv, tmp_path):
    folder = shutil.copytree(cohort_csv.parent, tmp_path / "cohort")
    text = (folder / "cohort.csv").read_text().replace(",normal,", ",b-type,").replace(",tumour,", ",a-type,")
    (folder / "cohort.csv").write_text(text)
    panel.open_path(str(folder / "cohort.csv"))
    qtbot.waitUntil(lambda: panel.model.rowCount() == 8, timeout=LONG)
    assert panel.session.classes == ()
    panel.classes_fold.toggle.setChecked(True)
    assert panel.editor.ask.isVisibleTo(panel.editor)
    panel.editor.negative.setCurrentText("b-type")
    click(qtbot, panel.editor.use)
    assert panel.session.classes == ("b-type", "a-type")
    assert not panel.editor.ask.isVisibleTo(panel.editor)
