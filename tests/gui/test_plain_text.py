"""Text from outside is shown as it is: Qt takes none of it for HTML, in labels, tooltips or the canvas's tooltip."""

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QWidget

from napari_distill2label.gui.dock import DistillToLabel
from napari_distill2label.gui.plain_text import as_plain
from napari_distill2label.gui.widgets.controls import plain_labels
from napari_distill2label.slides.synthetic import draw_slide, write_image
from napari_distill2label.store.cohort import Cohort, CohortSlide

from .conftest import open_cohort

HTML = "<img src='file:x.png'><b>bold"


def is_plain(text: str) -> bool:
    """Would Qt draw this as it is, or with every outside tag escaped?"""
    return not Qt.mightBeRichText(text) or ("<img" not in text and "<b>" not in text)


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    return make_napari_viewer_proxy()


@pytest.fixture
def panel(viewer):
    made = DistillToLabel(viewer)
    viewer.window.add_dock_widget(made, name="Distill to Label")
    yield made
    made.session.shutdown()


def test_what_looks_like_html_is_escaped_and_the_rest_stays():
    assert as_plain("/data/Größe 1/a & b.svs") == "/data/Größe 1/a & b.svs"
    assert as_plain(HTML) != HTML
    assert is_plain(as_plain(HTML))
    assert "&lt;b&gt;bold" in as_plain(HTML)
    assert as_plain("p < 0.05 and\nmore").count("\n") == 1


def test_labels_made_for_html_stay_so(qtbot):
    parent = QWidget()
    qtbot.addWidget(parent)
    guessing, rich = QLabel("a", parent), QLabel("<b>a</b>", parent)
    rich.setTextFormat(Qt.TextFormat.RichText)
    plain_labels(parent)
    assert guessing.textFormat() == Qt.TextFormat.PlainText
    assert rich.textFormat() == Qt.TextFormat.RichText


def test_nothing_in_the_window_is_taken_for_html(qtbot, panel, tmp_path):
    folder = tmp_path / "<b>folder"
    folder.mkdir()
    paths = [folder / f"{name}.png" for name in ("<img src=x>a", "<i>b")]
    for index, path in enumerate(paths):
        write_image(path, draw_slide(index, bool(index), (64, 64)).image)
    session = panel.session
    rows = [CohortSlide(path.stem, path, HTML if index else "normal", HTML) for index, path in enumerate(paths)]
    open_cohort(session, Cohort(tuple(rows), ("normal", HTML)))
    session.select([paths[0].stem])
    session.show(paths[0].stem)
    qtbot.waitUntil(lambda: session.shown == paths[0].stem, timeout=60_000)
    session.set_label(paths[0].stem, HTML)
    session.project.tell(f"{HTML} told")
    panel.train.folder.setText(str(folder))
    for step in panel.steps.values():
        step.panel.problem.emit(f"{HTML} failed")
    qtbot.wait(300)
    labels = panel.findChildren(QLabel)
    assert len(labels) > 30
    guessing = [label.text() for label in labels if label.textFormat() == Qt.TextFormat.AutoText]
    assert not [text for text in guessing if Qt.mightBeRichText(text)]
    rich = [label.text() for label in labels if label.textFormat() == Qt.TextFormat.RichText]
    assert not [text for text in rich if "<img" in text]
    tips = [widget.toolTip() for widget in panel.findChildren(QWidget)]
    assert len([tip for tip in tips if "&lt;" in tip]) > 2
    assert [tip for tip in tips if not is_plain(tip)] == []
    model = panel.slides.table.source
    cells = [
        model.data(model.index(row, column), Qt.ItemDataRole.ToolTipRole)
        for row in range(model.rowCount())
        for column in range(model.columnCount())
    ]
    assert any("&lt;b&gt;folder" in (text or "") for text in cells)
    assert [text for text in cells if text and not is_plain(text)] == []
