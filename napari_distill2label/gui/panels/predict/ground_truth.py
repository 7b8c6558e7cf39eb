"""The predictions against a truth: figures, a confusion matrix, a table of the classes and the ROC curve."""

from html import escape
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from ...messages import window_messages
from ...plain_text import threshold_text
from ...widgets.short import shorten_middle

if TYPE_CHECKING:
    from ....workflow.commands.compare import Part, TruthComparison

CURVE_HEIGHT = 200  # px
NARROW = 10  # characters of a class's name that fit above a column
EXPLAINED = (
    "AUROC: the chance that a patch with a finding scores higher than one without; 0.5 is guessing, 1 is perfect. "
    "Sensitivity: the share of a class's patches that are called so. Precision: the share of those called so that are."
)


class MetricsView(QWidget):
    """Shows an `TruthComparison`; text that can be selected and copied, and a curve."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.RichText)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.text.setAccessibleName("figures against the truth")
        self.text.setToolTip(EXPLAINED)
        self.curve: Any = None
        self._line: Any = None
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.addWidget(self.text)
        self.setVisible(False)

    def show_assessment(self, found: "TruthComparison") -> None:
        """Show what predictions are worth."""
        self.text.setText(as_html(found))
        self.setVisible(True)
        if len(found.false_positive):
            self._draw(found)
        if self.curve is not None:
            self.curve.setVisible(bool(len(found.false_positive)))

    def _draw(self, found: "TruthComparison") -> None:
        import pyqtgraph as pg  # here, since few look at it and it takes a moment

        if self.curve is None:
            self.curve = pg.PlotWidget()
            self.curve.setFixedHeight(CURVE_HEIGHT)
            self.curve.setAccessibleName("ROC curve")
            self.curve.setToolTip("ROC curve: how many findings are found for how many false alarms, at any threshold")
            self.curve.setLabel("bottom", "false positive rate")
            self.curve.setLabel("left", "true positive rate")
            self.curve.setRange(xRange=(0, 1), yRange=(0, 1), padding=0.02)
            self.curve.setMouseEnabled(x=False, y=False)
            self.curve.hideButtons()
            self.curve.setMenuEnabled(False)
            self._guess = self.curve.plot([0, 1], [0, 1])
            self._line = self.curve.plot([], [])
            self._layout.addWidget(self.curve)
        self._line.setData(found.false_positive, found.true_positive)
        self.follow_theme()

    def follow_theme(self) -> None:
        """Take the colours of napari's theme."""
        if self.curve is None:
            return
        import pyqtgraph as pg
        from napari.utils.theme import get_theme

        theme = get_theme(self._viewer.theme)
        text = theme.text.as_hex()
        self.curve.setBackground(theme.background.as_hex())
        for side in ("bottom", "left"):
            axis = self.curve.getAxis(side)
            axis.setPen(text)
            axis.setTextPen(text)
        self._guess.setPen(pg.mkPen(theme.secondary.as_hex(), style=Qt.PenStyle.DashLine))
        self._line.setPen(pg.mkPen(theme.current.as_hex(), width=2))


def as_html(found: "TruthComparison") -> str:
    """Figures, confusion matrix and classes as rich text."""
    head = "".join(_part_line(part, found.threshold) for part in found.parts)
    if found.parts[0].learnt:
        head += "<p>The model learnt from all of these slides: the figures flatter it.</p>"
    said = "<br>".join(escape(window_messages.notice(notice)) for notice in found.notices)
    names = [escape(shorten_middle(name)) for name in found.classes]
    columns = names
    if len(names) > 2 or max(map(len, names)) > NARROW:  # numbers in place of names, which would not fit
        names = [f"{number} {name}" for number, name in enumerate(names, 1)]
        columns = [str(number) for number in range(1, len(names) + 1)]
    confusion = _table(
        ["truth \\ label", *columns],
        [[name, *map(str, counts)] for name, counts in zip(names, found.confusion.tolist(), strict=True)],
    )
    classes = _table(
        ["class", "patches", "sensitivity", "precision", "F1"],
        [
            [escape(shorten_middle(row.name, NARROW)), str(row.patches), _share(row.sensitivity), _share(row.precision),
             _figure(row.f1)]
            for row in found.per_class
        ],
    )  # fmt: skip
    which = " of the slides not learnt from" if len(found.parts) > 1 else ""
    matrix = f"<p>Patches{which}, by what is true and what they are labelled:</p>{confusion}"
    return f"{head}{matrix}<p></p>{classes}<p>{said}</p>"


def _part_line(part: "Part", threshold: float) -> str:
    """One line of figures: slides that the model learnt from, or others."""
    metrics, slides = part.metrics, f"{part.slides} slide{'s' * (part.slides != 1)}"
    kind = "learnt from" if part.learnt else "not learnt from"
    return (
        f"<p><b>{metrics['n']} patches of {slides} {kind}</b>, "
        f"threshold {threshold_text(threshold)}<br>AUROC {_figure(metrics['auroc'])} · accuracy "
        f"{_share(metrics['accuracy'])} · F1 {_figure(metrics['f1'])}</p>"
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["".join(f'<td align="{"left" if i == 0 else "right"}">{cell}</td>' for i, cell in enumerate(row))
             for row in [header, *rows]]  # fmt: skip
    return f'<table cellpadding="2">{"".join(f"<tr>{line}</tr>" for line in lines)}</table>'


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
