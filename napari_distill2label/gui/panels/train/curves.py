"""Curves of a training while it goes on, and of several runs over one another. pyqtgraph is imported when needed."""

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import QComboBox, QLabel, QToolButton, QVBoxLayout, QWidget

from ....core.classes import RGB, palette
from ....core.network_names import in_words
from ....store.run_summary import Curve, Curves
from ...runner.times import NO_BREAK
from ...session import Session
from ...widgets.controls import row
from ...widgets.plots import colour_axes, import_pyqtgraph, keep_still

WHOLE = ("loss", "valid_loss")  # always drawn; the terms of the loss only if they are asked for
HEIGHT = 112  # px of a plot
REDRAW = 150  # ms between two drawings: epochs of cached features take less
TERMS = {
    "loss": "total",
    "loss_class": "slide label",
    "loss_noise": "noise",
    "loss_perturbation": "perturbation",
    "loss_entropy": "certainty",
    "loss_bag": "teacher, slide",
    "loss_instance": "teacher, patches",
    "loss_negative": "negative slides",
    "loss_oof": "helper models",
    "loss_corrections": "corrections",
    "loss_inherited_label": "slide label, per patch",
    "valid_loss": "validation",
}
ABOUT = {
    "loss": "The weighted sum of the terms, which training makes small.",
    "valid_loss": "Loss of the slide labels on slides not trained on. When it rises while the others fall, the "
    "network learns its slides by heart.",
}
DASHES = (Qt.PenStyle.SolidLine, Qt.PenStyle.DashLine, Qt.PenStyle.DotLine, Qt.PenStyle.DashDotLine)
MARKS = ("━━", "╍╍", "┅┅", "┉┉")  # the same, in a legend
TICKS = 6  # at most, along the epochs
NO_AUROC = "No AUROC: it needs validation slides of both kinds, with and without a finding."


class CurvesView(QWidget):
    """Two plots, losses and validation AUROC by epoch, with legends that give the last value.

    `show_training` draws one training's terms, `show_runs` several runs' validation.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.curves: dict[str, Curves] = {}  # by name of the run; one of them while training
        self.best: Mapping[str, int] = {}
        self.asked: Mapping[str, int] = {}
        self.plots: tuple[Any, ...] = ()  # pyqtgraph's PlotItems: losses, AUROC
        self._view: Any = None
        self._chosen: str | None = None  # the model the user wants to see; else the one that is trained
        self.network = QComboBox()
        self.network.setToolTip("Whose curves to show")
        self.network.setAccessibleName("curves of which model")
        self.network.activated.connect(self._choose)
        self.title = QLabel()
        self.parts = QToolButton()
        self.parts.setText("Parts of the loss")
        self.parts.setToolTip("Show each term of the loss, too")
        self.parts.setAccessibleName("parts of the loss")
        self.parts.setCheckable(True)
        self.parts.setAutoRaise(True)
        self.parts.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.parts.setArrowType(Qt.ArrowType.RightArrow)
        self.parts.toggled.connect(self._on_parts)
        self.losses, self.auroc = _legend("legend of the losses"), _legend("legend of the AUROC")
        self._place = QVBoxLayout()
        self._place.setContentsMargins(0, 0, 0, 0)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(row(self.title, self.network, stretch=1))
        layout.addLayout(self._place)
        layout.addWidget(self.losses)
        layout.addWidget(self.auroc)
        layout.addWidget(self.parts)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REDRAW)
        self._timer.timeout.connect(self.draw)
        self.hide()

    # ---- what to show -----------------------------------------------------------------------------------------------

    def show_training(self, curves: Curves, best: Mapping[str, int], asked: Mapping[str, int]) -> None:
        """One training's terms; `best` is the best epoch by model, `asked` how many there will be."""
        self._show({"": curves} if curves else {}, best, asked)

    def show_runs(self, runs: Mapping[str, Curves]) -> None:
        """Validation of several runs over one another, by their names."""
        self._show(dict(runs), {}, {})

    def _show(self, curves: dict[str, Curves], best: Mapping[str, int], asked: Mapping[str, int]) -> None:
        self.curves, self.best, self.asked = curves, best, asked
        networks = list(dict.fromkeys(network for own in curves.values() for network in own))
        if [self.network.itemData(index) for index in range(self.network.count())] != networks:
            self.network.clear()
            for network in networks:
                self.network.addItem(in_words(network), network)
            if self._chosen not in networks:
                self._chosen = None
        wanted = self._chosen or (
            "student" if self.is_comparison and "student" in networks else networks and networks[-1]
        )
        self.network.setCurrentIndex(self.network.findData(wanted))
        self.title.setText("Compared" if self.is_comparison else "Curves of the")
        self.parts.setVisible(not self.is_comparison)
        self.setVisible(bool(networks))
        if networks and not self._timer.isActive():
            self._timer.start()

    def _on_parts(self, shown: bool) -> None:
        self.parts.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)
        self.draw()

    @property
    def is_comparison(self) -> bool:
        return bool(self.curves) and "" not in self.curves

    def _choose(self, index: int) -> None:
        self._chosen = self.network.itemData(index)
        self.draw()

    # ---- drawing ----------------------------------------------------------------------------------------------------

    def draw(self) -> None:
        """Draw now. The first time pyqtgraph is imported, in the background."""
        if not self.curves:
            return
        if self._view is None:
            self._session.reader.request(("plots", id(self)), import_pyqtgraph, self._make_plots)
            return
        network = self.network.currentData()
        for plot in self.plots:
            plot.clear()
        if self.is_comparison:
            lines = [(name, own.get(network, {}), "valid_loss") for name, own in self.curves.items()]
            scores = [(name, curve, "valid_auroc") for name, curve, _ in lines]
        else:
            curve = self.curves[""].get(network, {})
            terms = [name for name in curve if name in WHOLE or (self.parts.isChecked() and name.startswith("loss_"))]
            lines = [(TERMS.get(name, name.removeprefix("loss_")), curve, name) for name in terms]
            scores = [("validation slides", curve, "valid_auroc")]
        self._plot(0, lines, "Loss", self.losses, "")
        self._plot(1, scores, "AUROC", self.auroc, NO_AUROC)
        both = bool(self.auroc.property("drawn"))
        self.plots[1].setVisible(both)
        self.plots[0].getAxis("bottom").showLabel(not both)  # below the last one alone
        self._view.setFixedHeight(HEIGHT * (1 + both) + 40)
        self._mark_best(network)
        self._set_epochs(network)

    def _set_epochs(self, network: str) -> None:
        """The axis of the epochs: whole numbers, up to the last that is asked for."""
        seen = [epoch for own in self.curves.values() for epoch in own.get(network, {}).get("epoch", ())]
        last = int(max([*seen, self.asked.get(network, 1), 2]))
        self.plots[0].setXRange(1, last, padding=0.03)
        step = math.ceil((last - 1) / TICKS)
        ticks = [[(epoch, str(epoch)) for epoch in range(1, last + 1, step)]]
        for plot in self.plots:
            plot.getAxis("bottom").setTicks(ticks)

    def _plot(self, number: int, lines: list[tuple[str, Curve, str]], title: str, legend: QLabel, none: str) -> None:
        plot, entries = self.plots[number], []
        ground = self._colours()["background"]
        colours = [readable(colour, ground) for colour in palette(len(lines) + 1)[1:]]
        for index, (name, curve, column) in enumerate(lines):
            values = curve.get(column, [])
            known = [(epoch, value) for epoch, value in zip(curve.get("epoch", ()), values, strict=False)
                     if math.isfinite(value)]  # fmt: skip
            if not known:
                continue
            colour, dash = colours[index % len(colours)], index // len(colours) % len(DASHES)
            dash = dash if self.is_comparison or column != "valid_loss" else 1
            pen = self._pen(colour, DASHES[dash], 3 if column.startswith("valid") else 1.5)
            # A single epoch is no line yet: show it as a point.
            point = {"symbol": "o", "symbolSize": 6, "symbolBrush": colour, "symbolPen": None} if len(known) < 2 else {}
            plot.plot([epoch for epoch, _ in known], [value for _, value in known], pen=pen, **point)
            entries.append(_entry(name, known[-1][1], colour, MARKS[dash]))
        legend.setProperty("drawn", bool(entries))
        legend.setText(f"<b>{title}</b> &nbsp; " + " &nbsp; ".join(entries) if entries else none)
        legend.setVisible(bool(entries or none))

    def _mark_best(self, network: str) -> None:
        """A line at the epoch that is kept."""
        best = self.best.get(network)
        if best is None or self.is_comparison:
            return
        import pyqtgraph

        for plot in self.plots:
            pen = self._pen(self._colours()["text"], Qt.PenStyle.DotLine, 1)
            plot.addItem(pyqtgraph.InfiniteLine(best, pen=pen))

    def _make_plots(self, pyqtgraph: Any) -> None:
        """In the GUI thread, once pyqtgraph is there."""
        if self._view is not None or not self.curves:
            return
        view = pyqtgraph.GraphicsLayoutWidget()
        view.ci.setContentsMargins(0, 0, 0, 5)  # else the lowest label is cut off
        view.ci.setSpacing(2)
        view.setAccessibleName("curves of the training")
        view.setToolTip(
            "Losses by epoch above, AUROC of the validation slides below. The dotted line is the best epoch."
        )
        losses, auroc = view.addPlot(row=0, col=0), view.addPlot(row=1, col=0)
        for plot in (losses, auroc):
            keep_still(plot)
            plot.showGrid(x=False, y=True, alpha=0.2)
            plot.setLabel("bottom", "epoch")
            plot.getAxis("left").setWidth(52)
        auroc.setYRange(0, 1, padding=0.12)
        auroc.setXLink(losses)
        losses.setLabel("left", "loss")
        auroc.setLabel("left", "AUROC")
        auroc.getAxis("left").setTicks([[(0, "0"), (0.5, "0.5"), (1, "1")]])
        view.viewport().installEventFilter(self)
        self._place.addWidget(view)
        self._view, self.plots = view, (losses, auroc)
        self.restyle()
        self.draw()

    # ---- the theme --------------------------------------------------------------------------------------------------

    def restyle(self) -> None:
        """Take the colours of napari's theme."""
        if self._view is None:
            return
        colours = self._colours()
        self._view.setBackground(colours["background"])
        for plot in self.plots:
            colour_axes(plot, colours)

    def _colours(self) -> dict[str, str]:
        from napari.utils.theme import get_theme

        try:
            theme = get_theme(str(self._session.viewer.theme))
        except RuntimeError:  # the window is closing
            theme = get_theme("dark")
        return {name: getattr(theme, name).as_hex() for name in ("background", "secondary", "text")}

    @staticmethod
    def _pen(colour: Any, style: Qt.PenStyle, width: float) -> Any:
        import pyqtgraph

        return pyqtgraph.mkPen(colour, width=width, style=style)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and self._view is not None:  # napari has changed its theme
            QTimer.singleShot(0, self._restyle_and_draw)

    def _restyle_and_draw(self) -> None:
        self.restyle()
        self.draw()

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel:
            event.ignore()
            return True
        return super().eventFilter(watched, event)


def _entry(name: str, value: float, colour: RGB, mark: str) -> str:
    """An entry of a legend that is not broken over two lines."""
    text = f"{name} {value:.3f}".replace(" ", NO_BREAK)
    return f'<span style="color: rgb{colour}">{mark}</span>{NO_BREAK}{escape(text)}'


def readable(colour: RGB, ground: str) -> RGB:
    """The colour, mixed with black or white until it stands out from a ground ('#rrggbb') by 3 to 1 (WCAG 1.4.11)."""
    under = tuple(int(ground[start : start + 2], 16) for start in (1, 3, 5))
    towards = 255 if _luminance(under) < 0.2 else 0
    for share in range(0, 11):
        red, green, blue = (round(part + (towards - part) * share / 10) for part in colour)
        light, dark = sorted((_luminance((red, green, blue)), _luminance(under)), reverse=True)
        if (light + 0.05) / (dark + 0.05) >= 3:
            break
    return red, green, blue


def _luminance(colour: tuple[int, ...]) -> float:
    parts = [part / 255 for part in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _legend(name: str) -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.RichText)
    label.setAccessibleName(name)
    label.setToolTip("Last values. " + " ".join(ABOUT.values()))
    return label
