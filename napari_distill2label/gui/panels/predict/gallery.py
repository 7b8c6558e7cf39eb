"""The most and the least convincing patches of the shown slide, to click at."""

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPainter, QPen, QPixmap, QShowEvent
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from ....store.maps.patch_map_view import PatchMapView
from ...messages import message_of
from ...plain_text import as_plain
from ...session import Session
from ...widgets.controls import row
from .patch_images import MARGIN, Picture, convincing

N, PX = 5, 56  # patches in a row, and their side on the screen
RANKINGS = {
    "probability": ("probability", "the probability of the finding in the patch"),
    "attention": ("attention", "attention: the weight of the patch in the slide's score"),
    "contribution": (
        "effect on the slide's score",
        "the effect on the slide's score: attention × evidence, what the patch adds to it",
    ),
}
EMPTY = "Predict this slide to see the patches with the highest and the lowest scores."


class Gallery(QWidget):
    """Two rows of patches; a click takes the view to the patch. Reads pixels only while it can be seen."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._stale = True
        self.by = QComboBox()
        for index, (ranking, (name, tip)) in enumerate(RANKINGS.items()):
            self.by.addItem(name, ranking)
            self.by.setItemData(index, f"Order by {tip}", Qt.ItemDataRole.ToolTipRole)
        self.by.setToolTip("Score to sort the patches by")
        self.by.setAccessibleName("order patches by")
        self.finding = QComboBox()
        self.finding.setToolTip("For which finding")
        self.finding.setAccessibleName("finding")
        self.finding.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.finding.setMinimumContentsLength(8)
        for box in (self.by, self.finding):
            box.activated.connect(lambda index: self.refresh())
        self.text = QLabel(EMPTY)
        self.text.setWordWrap(True)
        self.most, self.least = self._buttons("most"), self._buttons("least")
        self.headings = QLabel("Highest scoring"), QLabel("Lowest scoring")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row(self.finding, QLabel("by"), self.by, stretch=0))
        layout.addWidget(self.text)
        for heading, buttons in zip(self.headings, (self.most, self.least), strict=True):
            layout.addWidget(heading)
            grid = QGridLayout()
            grid.setContentsMargins(0, 0, 0, 0)
            grid.setSpacing(3)
            for column, made in enumerate(buttons):
                grid.addWidget(made, 0, column)
            grid.setColumnStretch(N, 1)
            layout.addLayout(grid)
        self.refresh()

    def _buttons(self, which: str) -> list[QToolButton]:
        made = [QToolButton() for _ in range(N)]
        for number, button in enumerate(made, 1):
            button.setAccessibleName(f"{which} scoring patch {number}")
            button.setToolTip(EMPTY)
            button.setIconSize(QSize(PX, PX))
            button.setFixedSize(PX + 4, PX + 4)
            button.setAutoRaise(True)
            button.clicked.connect(lambda checked=False, button=button: self._go(button.property("cell")))
        return made

    def _go(self, cell: tuple[int, ...] | None) -> None:
        if cell is not None:
            self.session.center_on(tuple(cell))

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if self._stale:
            self.refresh()

    def refresh(self) -> None:
        """Order the patches again and read their pixels, in the background."""
        session, view = self.session, self.session.display.view
        key = ("gallery", id(self))
        self._stale = not self.isVisible()
        if view is None or not view.is_complete:
            session.reader.cancel(key)
            self.show_pictures([], [], EMPTY)
            return
        self._show_findings(view)
        if self._stale:
            return
        row = session.project.row(view.slide_id)
        finding = view.classes.index(self.finding.currentText())
        by = self.by.currentData()
        path, mpp = row.path, row.mpp
        ratio = max(1, round(self.devicePixelRatioF()))
        session.reader.request(
            key,
            lambda: convincing(path, mpp, view, by, finding, N, PX * ratio),
            lambda found: self.show_pictures(*found, ""),
            lambda error: self.show_pictures([], [], message_of(error)),
        )

    def _show_findings(self, view: PatchMapView) -> None:
        findings = list(view.classes[1:])
        if [self.finding.itemText(index) for index in range(self.finding.count())] != findings:
            self.finding.clear()
            self.finding.addItems(findings)
            self.finding.setCurrentIndex(view.finding - 1)

    def show_pictures(self, most: list[Picture], least: list[Picture], text: str) -> None:
        """Show what was read, or say why there is nothing."""
        self.text.setText(text)
        self.text.setVisible(bool(text))
        for widget in (self.finding, self.by):
            widget.setEnabled(self.session.display.view is not None)
        for heading, buttons, pictures in zip(self.headings, (self.most, self.least), (most, least), strict=True):
            heading.setVisible(bool(pictures))
            for index, button in enumerate(buttons):
                picture = pictures[index] if index < len(pictures) else None
                button.setVisible(picture is not None)
                button.setProperty("cell", None if picture is None else list(picture.cell))
                if picture is not None:
                    button.setIcon(self._icon(picture))
                    about = self.session.display.text_of(self.session.shown, picture.cell)
                    button.setToolTip(as_plain(f"{about}. Click to go there."))
                    button.setAccessibleName(f"patch: {about}")

    def _icon(self, picture: Picture) -> QIcon:
        """The pixels, and a frame where the patch itself ends."""
        height, width = picture.pixels.shape[:2]
        pixels = picture.pixels.tobytes()
        pixmap = QPixmap.fromImage(QImage(pixels, width, height, 3 * width, QImage.Format.Format_RGB888))
        inside = width / (1 + 2 * MARGIN)
        painter = QPainter(pixmap)
        line = max(1.0, width / PX)
        # Dark within light: seen on any tissue.
        for colour, further in ((Qt.GlobalColor.white, line), (Qt.GlobalColor.black, 0.0)):
            painter.setPen(QPen(colour, line))
            side = inside + 2 * further
            painter.drawRect(QRectF((width - side) / 2, (height - side) / 2, side, side))
        painter.end()
        return QIcon(pixmap)
