"""Whoever follows docs/tutorial.md finds every name it gives: in the real window, in the step it is about, in sight.

What the tutorial writes in bold are texts of the window; in italics below a step, what its boxes offer; keys are those
of the window's own table.
"""

import re
import shutil
import threading
from pathlib import Path

import pytest
from qtpy.QtWidgets import QAbstractButton, QComboBox, QLabel, QLineEdit, QTableView

from napari_distill2label.core.events import Progress, Task
from napari_distill2label.gui.dock import DistillToLabel
from napari_distill2label.gui.widgets.shortcuts import SHORTCUTS
from napari_distill2label.gui.widgets.steps import StepHeader

from .conftest import LONG, TINY, click

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
STEPS = ("slides", "train", "predict", "review", "export")
OF_THE_SYSTEM = {"Ctrl+A", "Shift", "Ctrl"}  # in dialogs and tables everywhere


def by_hand() -> str:
    return PAGE.read_text("utf-8").split("\n## The same, by hand, in the window\n")[1].split("\n## ")[0]


def sections() -> dict[str, str]:
    """What is said of each step, below its heading; and before the first, of the window ('')."""
    before, *parts = re.split(r"^### (.+)$", by_hand(), flags=re.MULTILINE)
    return {"": before} | dict(zip(parts[::2], parts[1::2], strict=True))


def plain(text: str) -> str:
    """Without what changes: numbers of things in brackets, the star of a changed setting."""
    return re.sub(r"\s+", " ", re.sub(r" \(.*\)$| \*$", "", text.replace("&", ""))).strip()


def texts(widget) -> set[str]:
    """Every text of a part of the window that is in sight, or would be after scrolling."""
    found = set()
    for part in (widget, *widget.findChildren((QAbstractButton, QLabel, QLineEdit, QTableView))):
        if not part.isVisible():
            continue
        if isinstance(part, StepHeader):
            found |= {part.name, part.mark.text()}
        elif isinstance(part, QTableView):
            model, header = part.model(), part.horizontalHeader()
            shown = [place for place in range(header.count()) if not header.isSectionHidden(place)]
            found |= {str(model.headerData(place, header.orientation())) for place in shown}
        elif isinstance(part, QLineEdit):
            found |= {part.text(), part.placeholderText()}
        elif isinstance(part, QAbstractButton | QLabel):
            found.add(part.text())
    return {plain(text) for text in found}


class Seen:
    """What has been in sight in each step, and around them, up to now."""

    def __init__(self, panel: DistillToLabel) -> None:
        self.panel = panel
        self.texts = {name: set() for name in (*STEPS, "")}
        self.choices = {name: set() for name in STEPS}

    def look(self) -> None:
        panel = self.panel
        self.texts[""] |= texts(panel) | {panel.parent().windowTitle()}
        for name, step in panel.steps.items():
            step.set_open(True)
            self.texts[name] |= texts(step)
            for box in step.findChildren(QComboBox):
                if box.isVisible():
                    self.choices[name] |= {box.itemText(index) for index in range(box.count())}


@pytest.fixture
def cohort(cohort_csv, tmp_path):
    """A copy: corrections are kept beside the slides."""
    return shutil.copytree(cohort_csv.parent, tmp_path / "cohort")


def waiting(stop):
    """Work that goes on until it is let go, or closed."""

    def work(*args, **kwargs):
        while not stop.wait(0.01):
            yield Progress(Task.TRAIN, 1, 50, "teacher", 1, 1)

    return work


def walk(panel, qtbot, monkeypatch, cohort, run_folder, tmp_path) -> Seen:
    """The way of the tutorial, in small."""
    session, seen = panel.session, Seen(panel)
    session.configure(**TINY)
    seen.look()
    panel.slides.ask_folder = lambda *args: str(cohort / "slides")
    click(qtbot, panel.slides.add_folder)
    qtbot.waitUntil(lambda: session.shown == "slide_000", timeout=LONG)
    for number, row in enumerate(session.cohort):
        session.set_label(row.slide_id, session.classes[number % 2])
    panel.train.form.fold.toggle.setChecked(True)
    seen.look()
    panel.train.form.search.setText("learning rate")
    session.configure(student={"learning_rate": 0.0005})
    seen.look()
    stop = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr("napari_distill2label.workflow.commands.train.train", waiting(stop))
        click(qtbot, panel.train.train)
        qtbot.waitUntil(lambda: panel.steps["train"].header.mark.text() == "…", timeout=LONG)
        seen.look()
        click(qtbot, panel.train.train)
        qtbot.waitUntil(lambda: not session.jobs.busy, timeout=LONG)
        stop.set()
    session.load_model(run_folder)
    panel.predict.slides.setCurrentText("this slide")
    click(qtbot, panel.predict.predict)
    # Layers come one a turn of the event loop; the patches can be corrected from the one of corrections on.
    qtbot.waitUntil(lambda: not session.jobs.busy and session.corrections.known("slide_000") is not None, timeout=LONG)
    panel.steps["review"].set_open(True)
    click(qtbot, panel.review.next)
    session.correct("tumour")
    session.export(tmp_path / "out", ["csv"])
    panel.refresh()
    qtbot.waitUntil(lambda: panel.export.reveal.isVisible() and panel.export.corrections.isVisible(), timeout=LONG)
    seen.look()
    return seen


def test_every_name_of_the_tutorial_is_in_the_window(
    make_napari_viewer, qtbot, monkeypatch, cohort, run_folder, tmp_path
):
    viewer = make_napari_viewer(show=True)
    panel = DistillToLabel(viewer)
    viewer.window.add_dock_widget(panel, name="Distill to Label")
    try:
        seen = walk(panel, qtbot, monkeypatch, cohort, run_folder, tmp_path)
    finally:
        panel.session.shutdown()
    parts = sections()
    headings = ["", *(step.panel.title() for step in panel.steps.values())]
    assert list(parts) == headings
    missing, count = [], 0
    for name, heading in zip(("", *STEPS), headings, strict=True):
        names = {re.sub(r"\s+", " ", text) for text in re.findall(r"\*\*(.+?)\*\*", parts[heading], re.DOTALL)}
        count += len(names)
        there = seen.texts[name] | {text for text in seen.texts[""] if text in ("↶ Undo", "?") or text[:1].isdigit()}
        missing += [f"{heading}: {text}" for text in sorted(names - there)]
        italic = set(re.findall(r"(?<![*\w])\*([a-z][a-z ]+)\*(?![*\w])", parts[heading])) if name else set()
        missing += [f"{heading}: {text}" for text in sorted(italic - seen.choices.get(name, set()))]
    assert not missing
    assert count > 40


def test_every_key_of_the_tutorial_is_one_of_the_window():
    keys = set(re.findall(r"\{kbd\}`(.+?)`", by_hand()))
    assert keys - {key for row in SHORTCUTS for key in row.keys} <= OF_THE_SYSTEM
    assert len(keys) > 10
