"""Draw regions of a slide, and say of each: none here, somewhere here, all of this."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QPushButton, QVBoxLayout, QWidget

from ....core.text import count_of
from ...canvas.region_layer import COLOURS
from ...plain_text import as_plain
from ...project.drawn_regions import SAYS
from ...session import Session
from ...widgets.controls import row, show_errors
from ...widgets.icons import colour_icon, theme_colour

ABOUT = (
    "Draw on the slide where you can say more than its label: no finding in this part, somewhere in it, or all over "
    "it. The next training learns from it. To delete a region or change it, use napari's tools of the layer of regions."
)
TIPS = {
    SAYS[0]: "Draw a part of the slide in which no patch has the finding",
    SAYS[1]: "Draw a part of the slide in which at least one patch has the finding",
    SAYS[2]: "Draw a part of the slide in which every patch has the finding",
}
RGB = {says: tuple(bytes.fromhex(colour[1:])) for says, colour in COLOURS.items()}


class RegionEditor(QWidget):
    """Three buttons that draw, and how many regions there are. What cannot be done is said by `problem`."""

    problem = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        about = QLabel(ABOUT)
        about.setWordWrap(True)
        self.finding = QComboBox()
        self.finding.setAccessibleName("finding of the region")
        self.finding.setToolTip("The finding that the region is about")
        self.buttons: dict[str, QPushButton] = {}
        for says in SAYS:
            made = QPushButton(says.capitalize())
            made.setCheckable(True)
            made.setAccessibleName(f"draw a region: {says}")
            made.clicked.connect(lambda checked, says=says: self.draw(says, checked))
            self.buttons[says] = made
        self.polygon = QCheckBox("Polygons, corner by corner")
        self.polygon.setAccessibleName("draw polygons")
        self.polygon.setToolTip("Click each corner, and the last one twice. Off: drag a box")
        self.state = QLabel()
        self.state.setWordWrap(True)
        self.state.setAccessibleName("regions")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 2, 0, 4)
        layout.addWidget(about)
        layout.addWidget(self.finding)
        layout.addLayout(row(*self.buttons.values()))
        layout.addWidget(self.polygon)
        layout.addWidget(self.state)
        self.refresh()

    @show_errors
    def draw(self, says: str, on: bool) -> None:
        """Draw regions that say this; a second click stops."""
        layer = self.session.canvas.regions
        if on:
            several = len(self.session.classes) > 2
            layer.draw(f"{self.finding.currentText()}: {says}" if several else says, self.polygon.isChecked())
        else:
            layer.stop()
        self.refresh()

    def refresh(self) -> None:
        session, outline = self.session, theme_colour(self.session.viewer).name()
        findings = list(session.classes[1:])
        if [self.finding.itemText(at) for at in range(self.finding.count())] != findings:
            self.finding.clear()
            self.finding.addItems(findings)
        self.finding.setVisible(len(findings) > 1)
        drawing = session.canvas.regions.mode.startswith("add_")
        said = session.canvas.regions.label.split(":")[-1].strip()
        for says, made in self.buttons.items():
            made.setIcon(colour_icon(RGB[says], outline))
            made.setEnabled(session.shown is not None)
            made.setToolTip(as_plain(TIPS[says]) if session.shown else "Select a slide first")
            made.setChecked(drawing and says == said)
        regions = session.regions
        slides = sum(bool(regions.by_slide.get(each.slide_id)) for each in session.cohort)
        count = regions.count
        if not count:
            self.state.setText("No regions yet: training learns from the labels of slides alone.")
        else:
            found = f"{count_of(count, 'region')} in {count_of(slides, 'slide')}"
            self.state.setText(f"{found}, saved in {regions.folder.name}.")
