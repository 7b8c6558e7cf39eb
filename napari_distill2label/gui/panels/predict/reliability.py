"""How far a model's probabilities of slides can be believed: a picture, of slides that it had not seen."""

from collections.abc import Sequence
from html import escape
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QLabel, QVBoxLayout, QWidget

from ....core.calibration import Calibration
from ...plain_text import threshold_text
from ...session import Session
from ...widgets.plots import colour_axes, import_pyqtgraph, keep_still
from ...widgets.short import shorten_middle
from ...widgets.theme import theme_colours

SIDE = 360  # px of the plot
SMALLEST, LARGEST = 8, 26  # px of a point: its area is in proportion to its slides
ABOUT = (
    "Each point is a group of training slides with similar probabilities, given by a classifier that had not seen "
    "them. On the line, probabilities come true: of slides with 0.80, four in five have the finding."
)
UNCALIBRATED = "This network is not calibrated. Train with the recommended method, and choose its student."


class ReliabilityDialog(QDialog):
    """Predicted probability and observed share of slides, and what the calibration assumes of patches."""

    def __init__(self, session: Session, calibration: Calibration, classes: Sequence[str], parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("How reliable the probabilities are")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._session, self._found = session, calibration.reliability
        about, facts = QLabel(ABOUT), QLabel(facts_of(calibration, classes))
        facts.setTextFormat(Qt.TextFormat.RichText)
        frame = QWidget()
        frame.setFixedSize(SIDE, SIDE)
        self._place = QVBoxLayout(frame)
        self._place.setContentsMargins(0, 0, 0, 0)
        layout = QVBoxLayout(self)
        for label in (about, facts):
            label.setWordWrap(True)
            label.setMinimumWidth(SIDE)
        layout.addWidget(about)
        layout.addWidget(frame)
        layout.addWidget(facts)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout.addWidget(buttons)
        self.plot: Any = None
        session.reader.request(("plots", id(self)), import_pyqtgraph, self._draw)

    def _draw(self, pyqtgraph: Any) -> None:
        colours, found = theme_colours(self._session.viewer), self._found
        view = pyqtgraph.PlotWidget(background=colours["background"])
        view.setAccessibleName("reliability of the slides' probabilities")
        self.plot = plot = view.getPlotItem()
        plot.setContentsMargins(0, 0, 0, 6)  # else the lowest label is cut off
        keep_still(plot)
        colour_axes(plot, colours)
        plot.setLabel("bottom", "predicted probability")
        plot.setLabel("left", "share with the finding")
        plot.setRange(xRange=(0, 1), yRange=(0, 1), padding=0.06)
        plot.plot([0, 1], [0, 1], pen=pyqtgraph.mkPen(colours["secondary"], style=Qt.PenStyle.DashLine))
        most = max(found.count, default=1)
        sizes = [SMALLEST + (LARGEST - SMALLEST) * (count / most) ** 0.5 for count in found.count]
        plot.plot(
            list(found.predicted), list(found.observed), pen=None, symbol="o", symbolSize=sizes,
            symbolBrush=colours["current"], symbolPen=colours["text"],
        )  # fmt: skip
        self._place.addWidget(view)


def facts_of(calibration: Calibration, classes: Sequence[str]) -> str:
    """Return the same in words, as HTML: each point, the estimated share of positive patches, and the threshold."""
    found, gap = calibration.reliability, "&nbsp;" * 3
    lines = [
        "".join(f'<td align="right">{value}{gap}</td>' for value in (f"{predicted:.2f}", f"{observed:.2f}", count))
        for predicted, observed, count in zip(found.predicted, found.observed, found.count, strict=True)
    ]
    head = "".join(f"<td>{title}{gap}</td>" for title in ("predicted", "with the finding", "slides"))
    rows = "".join(f"<tr>{each}</tr>" for each in (head, *lines))
    named = zip(classes[1:], calibration.findings, strict=True)
    shares = ", ".join(f"{escape(shorten_middle(name, 24))} {own.prior:.2f}" for name, own in named)
    return (
        f"<table>{rows}</table><p>Share of positive patches in slides with the finding, estimated: {shares}.<br>"
        f"A patch is labelled from a probability of {threshold_text(calibration.threshold)} on.</p>"
    )
