"""Small parts that the panels share: a base class, the status strip, spin boxes that leave the wheel alone."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QFileDialog,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ..core.errors import Distill2LabelError
from ..core.names import is_url
from .jobs import Job
from .session import Session


class _WheelGuard(QObject):
    """Scrolling the panel must not change a value the pointer happens to pass over."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return False


def guard_wheel(parent: QWidget) -> None:
    """Make all spin and combo boxes inside `parent` ignore the wheel until they are clicked."""
    guard = _WheelGuard(parent)
    for kind in (QAbstractSpinBox, QComboBox):
        for box in parent.findChildren(kind):
            box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            box.installEventFilter(guard)


def told(method: Callable[..., Any]) -> Callable[..., Any]:
    """For slots of a `Panel`: an error meant for the user is shown in the panel instead of raised."""

    @wraps(method)
    def slot(self: "Panel", *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except (Distill2LabelError, OSError) as error:
            self.problem.emit(str(error))
            return None

    return slot


class Panel(QGroupBox):
    """One step of the work. Holds widgets and no state: that is the session's."""

    problem = Signal(str)

    def __init__(self, session: Session, title: str) -> None:
        super().__init__(title)
        self.session = session
        self._connections: list[tuple[Any, Callable[..., Any]]] = []
        self.setAccessibleName(title)

    def listen(self, signal: Any, slot: Callable[..., Any]) -> None:
        """Connect a signal of the session until the panel goes."""
        signal.connect(slot)
        self._connections.append((signal, slot))

    def disconnect_session(self) -> None:
        for signal, slot in self._connections:
            signal.disconnect(slot, missing_ok=True)
        self._connections.clear()

    # Dialogs, each in a method of its own so that a test or a script can answer for the user.

    def ask_files(self, title: str, pattern: str) -> list[str]:
        return QFileDialog.getOpenFileNames(self, title, self.start_folder(), pattern)[0]

    def ask_file(self, title: str, pattern: str) -> str:
        return QFileDialog.getOpenFileName(self, title, self.start_folder(), pattern)[0]

    def ask_folder(self, title: str) -> str:
        return QFileDialog.getExistingDirectory(self, title, self.start_folder())

    def ask_save(self, title: str, name: str, pattern: str) -> str:
        return QFileDialog.getSaveFileName(self, title, str(Path(self.start_folder()) / name), pattern)[0]

    def start_folder(self) -> str:
        """Where dialogs begin: beside the cohort, or the first slide."""
        path = self.session.cohort_path or next((row.path for row in self.session.cohort if not is_url(row.path)), None)
        return str(path.parent) if path else ""


class JobButton(QPushButton):
    """Starts a job, and while that runs cancels it."""

    def __init__(self, session: Session, kind: str, text: str, tip: str) -> None:
        super().__init__(text)
        self._session, self._kind, self._text, self._tip = session, kind, text, tip
        self.setAccessibleName(text)

    def refresh(self, reason: str | None) -> str:
        """Show whether it can be pressed; return why not, for the label beside it."""
        job = self._session.jobs.current
        if job is not None and job.kind == self._kind:
            cancelling = job.state == "cancelling"
            self.setText("Cancelling…" if cancelling else "Cancel")
            self.setEnabled(not cancelling)
            self.setToolTip("Stop at the next step. What is finished is kept.")
            return ""
        if job is not None:
            reason = f"{job.title} is still going on."
        self.setText(self._text)
        self.setEnabled(reason is None)
        self.setToolTip(reason or self._tip)
        return reason or ""

    def is_cancel(self) -> bool:
        job = self._session.jobs.current
        return job is not None and job.kind == self._kind


def reason_label() -> QLabel:
    """A line for the reason why a button is disabled."""
    label = QLabel()
    label.setWordWrap(True)
    label.setAccessibleName("why this is not possible yet")
    return label


def show_reason(label: QLabel, reason: str) -> None:
    """Show a reason, or nothing and take no room."""
    label.setText(reason)
    label.setVisible(bool(reason))


def button(text: str, tip: str, slot: Callable[..., Any]) -> QPushButton:
    """A push button with a tooltip, connected."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setAccessibleName(text.rstrip("…"))
    made.clicked.connect(lambda checked=False: slot())
    return made


def row(*widgets: QWidget, stretch: int | None = None) -> QHBoxLayout:
    """Widgets side by side; the one with index `stretch` takes the room that is left."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    for index, widget in enumerate(widgets):
        layout.addWidget(widget, 1 if index == stretch else 0)
    return layout


class Fold(QWidget):
    """A line that opens and closes what is below it."""

    def __init__(self, title: str, content: QWidget) -> None:
        super().__init__()
        self.toggle = QToolButton()
        self.toggle.setText(title)
        self.toggle.setAccessibleName(title)
        self.toggle.setCheckable(True)
        self.toggle.setAutoRaise(True)
        self.toggle.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.toggle.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.content = content
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.toggle)
        layout.addWidget(content)
        self.toggle.toggled.connect(self._open)
        self._open(False)

    def _open(self, opened: bool) -> None:
        self.toggle.setArrowType(Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow)
        self.content.setVisible(opened)


class StatusStrip(QWidget):
    """Always in sight below the panels: what goes on, what went wrong, and its details in a fold."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.text.setAccessibleName("status")
        self.bar = QProgressBar()
        self.bar.setAccessibleName("progress")
        self.bar.setTextVisible(False)
        self.details = QPlainTextEdit()
        self.details.setReadOnly(True)
        self.details.setMaximumHeight(140)
        self.details.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.details.setAccessibleName("details of the error")
        self.fold = Fold("Details", self.details)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 2)
        for widget in (self.bar, self.text, self.fold):
            layout.addWidget(widget)
        self.show_text("")
        self.show_job(session.jobs.current or session.jobs.last)

    def show_text(self, text: str, details: str = "") -> None:
        """A message; `details` is what only the curious read."""
        self.text.setText(text)
        self.text.setVisible(bool(text))
        self.details.setPlainText(details)
        self.fold.setVisible(bool(details))

    def show_job(self, job: Job | None) -> None:
        """The running job's progress, or how the last one ended."""
        running = job is not None and job.is_running
        self.bar.setVisible(running)
        if job is None:
            return
        self.bar.setRange(0, job.total)  # 0 of 0: busy, nobody knows how long
        self.bar.setValue(job.done)
        self.show_text(job.text, "" if running else job.details)
