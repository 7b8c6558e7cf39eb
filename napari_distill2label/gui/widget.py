"""The dock widget 'Distill to Label': four steps from slides to exported patch labels.

It holds no state: two of them on one viewer show the same `Session`, and closing the dock loses nothing.
"""

import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QFrame, QLabel, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from .export_panel import ExportPanel
from .jobs import Broken, Job
from .parts import Panel, StatusStrip, guard_wheel
from .predict_panel import PredictPanel
from .session import Session, session_of
from .slides_panel import SlidesPanel
from .train_panel import TrainPanel

if TYPE_CHECKING:
    import napari

RESEARCH_USE = "For research use only. Not for diagnosis."
WIDTH = 360  # px; leaves two thirds of a 1366 px screen to the slide


class DistillToLabel(QWidget):
    """The panel. `viewer` is a napari viewer or a plugin's proxy of one."""

    def __init__(self, viewer: "napari.viewer.Viewer") -> None:
        super().__init__()
        self.session = session_of(viewer)
        self.slides = SlidesPanel(self.session)
        self.train = TrainPanel(self.session)
        self.predict = PredictPanel(self.session)
        self.export = ExportPanel(self.session)
        self.panels: tuple[Panel, ...] = (self.slides, self.train, self.predict, self.export)
        self.status = StatusStrip(self.session)
        notice = QLabel(RESEARCH_USE)
        notice.setWordWrap(True)
        notice.setAlignment(Qt.AlignmentFlag.AlignCenter)
        notice.setAccessibleName("notice")
        self.research_use = notice

        content = QWidget()
        inside = QVBoxLayout(content)
        inside.setContentsMargins(4, 4, 4, 4)
        for panel in self.panels:
            inside.addWidget(panel)
            panel.problem.connect(self.status.show_text)
        inside.addStretch()
        self.scroll = QScrollArea()
        self.scroll.setWidgetResizable(True)
        self.scroll.setFrameShape(QFrame.Shape.NoFrame)
        self.scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll.setWidget(content)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.scroll, 1)
        layout.addWidget(self.status)
        layout.addWidget(notice)
        self.setMinimumWidth(WIDTH)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self.setAccessibleName("Distill to Label")
        guard_wheel(content)

        self._connections = [(self.session.jobs.changed, self._on_job), (self.session.message, self._on_message)]
        for signal, slot in self._connections:
            signal.connect(slot)
        # Of a closing window, a docked widget is told only that it is destroyed; then it must not be called any more.
        self.destroyed.connect(_disconnecting(self))
        self._watched = False

    def open_path(self, path: Path) -> None:
        """Start with a cohort.csv, or with the folder of a run or a bundle."""
        if path.is_dir():
            self.predict.load_path(str(path))
        else:
            self.slides.open_path(str(path))

    def event(self, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.Show, QEvent.Type.ParentChange):
            self._watch_window()
        return super().event(event)

    def _watch_window(self) -> None:
        """Shut the session down when the main window goes, and not when this dock is closed."""
        window = self.window()
        if window is not self and window.inherits("QMainWindow") and not self._watched:
            window.destroyed.connect(_shutting_down(self.session))
            self._watched = True

    def _on_job(self, job: Job) -> None:
        self.status.show_job(job)
        if isinstance(job.outcome, Broken) and not self.isVisible():
            from napari.utils.notifications import show_warning

            show_warning(job.text)  # else it would pass unseen

    def _on_message(self, text: str) -> None:
        if not self.session.jobs.busy:  # else it is among the job's notes
            self.status.show_text(text)


def _shutting_down(session: Session):
    found = weakref.ref(session)

    def slot(*_: object) -> None:
        if (alive := found()) is not None:
            alive.shutdown()

    return slot


def _disconnecting(widget: DistillToLabel):
    """A slot that outlives the widget it disconnects."""
    connections, panels = widget._connections, widget.panels

    def slot(*_: object) -> None:
        for signal, receiver in connections:
            signal.disconnect(receiver, missing_ok=True)
        for panel in panels:
            panel.disconnect_session()

    return slot
