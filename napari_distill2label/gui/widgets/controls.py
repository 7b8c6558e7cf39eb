"""Small parts that the panels share: a base class, buttons, folds, spin boxes that leave the wheel alone."""

from collections.abc import Callable
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from qtpy.QtCore import QEvent, QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ...core.errors import Distill2LabelError
from ..messages import message_of
from ..plain_text import as_plain
from ..runner.jobs import Job, JobQueue
from ..session import Session
from .window_state import window_state

Part = TypeVar("Part")
_ended = ""  # where the last dialog for files ended
FOLDER_KEY = "dialogs/folder-1"
WHEEL_SPEED = 10  # % of its own


def begin_at(default: str) -> str:
    """Where a dialog for files begins: where the last one ended; of the first, `default`, else as on another day."""
    return _ended or default or str(window_state().value(FOLDER_KEY, ""))


def end_at(chosen: str, is_folder: bool = False) -> str:
    """What was chosen in such a dialog, as it is; the next one begins there. "" if it was called off."""
    global _ended
    if chosen:
        _ended = chosen if is_folder else str(Path(chosen).parent)
        window_state().setValue(FOLDER_KEY, _ended)
    return chosen


def existing(part: Part | None) -> Part:
    """A part that its owner always has (a table its header, a menu the action just added); Qt's types allow None."""
    assert part is not None
    return part


def single_shot(parent: QObject, interval: int, slot: Callable[[], object]) -> QTimer:
    """A timer that calls `slot` once, `interval` ms after it was started last."""
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(interval)
    timer.timeout.connect(slot)
    return timer


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


def plain_labels(parent: QWidget) -> None:
    """Make all labels inside `parent` show plain text, but for those that were made for HTML: Qt guesses otherwise."""
    for label in parent.findChildren(QLabel):
        if label.textFormat() == Qt.TextFormat.AutoText:
            label.setTextFormat(Qt.TextFormat.PlainText)


def slow_down_wheels(window: QWidget) -> None:
    """Let moving pictures of a window turn at a tenth of their speed.

    napari's wheel for work under way has 33 pictures a second, and each has the whole window drawn again: without a
    graphics card that takes more than a core away from the work.
    """
    for label in window.findChildren(QLabel):
        if (movie := label.movie()) is not None:
            movie.setSpeed(WHEEL_SPEED)


def show_errors(method: Callable[..., Any]) -> Callable[..., Any]:
    """For slots of a `Panel`, or of a part of it with a `problem`: an error for the user is shown instead of raised."""

    @wraps(method)
    def slot(self: "Panel", *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except (Distill2LabelError, OSError) as error:
            self.problem.emit(message_of(error))
            return None

    return slot


class Panel(QWidget):
    """The inside of one step of the work; the window puts it below a header (`steps.Step`) that folds it away.

    It holds widgets and no state: that is the session's. What the user asked for is answered by `problem` (why it
    could not be done) or `success`; the step shows it beside what was pressed.
    """

    problem = Signal(str)
    success = Signal(str)

    def __init__(self, session: Session, title: str) -> None:
        super().__init__()
        self.session = session
        self._title = title
        self._connections: list[tuple[Any, Callable[..., Any]]] = []
        self.setAccessibleName(title)

    def title(self) -> str:
        """The step's name, as its header shows it."""
        return self._title

    def headline(self) -> str:
        """How things stand, in a few words for the header: "12 slides, 10 labelled"."""
        return ""

    def listen(self, signal: Any, slot: Callable[..., Any]) -> None:
        """Connect a signal of the session until the panel goes."""
        signal.connect(slot)
        self._connections.append((signal, slot))

    def follow(self, slot: Callable[..., Any], *fields: str) -> None:
        """Call a slot when fields of the project change: those that it shows."""
        for name in fields:
            self.listen(self.session.project.events[name], slot)

    def disconnect_session(self) -> None:
        for signal, slot in self._connections:
            signal.disconnect(slot, missing_ok=True)
        self._connections.clear()

    # Dialogs, each in a method of its own so that a test or a script can answer for the user.

    def ask_files(self, title: str, pattern: str) -> list[str]:
        chosen = QFileDialog.getOpenFileNames(self, title, begin_at(self.start_folder()), pattern)[0]
        end_at(chosen[0] if chosen else "")
        return chosen

    def ask_file(self, title: str, pattern: str) -> str:
        return end_at(QFileDialog.getOpenFileName(self, title, begin_at(self.start_folder()), pattern)[0])

    def ask_folder(self, title: str) -> str:
        return end_at(QFileDialog.getExistingDirectory(self, title, begin_at(self.start_folder())), is_folder=True)

    def ask_save(self, title: str, name: str, pattern: str, confirm: bool = True) -> str:
        """`name` may be a whole path. `confirm` False: whoever writes asks about a file that is there."""
        proposed = str(Path(begin_at(self.start_folder())) / name)
        more = () if confirm else ("", QFileDialog.Option.DontConfirmOverwrite)
        return end_at(QFileDialog.getSaveFileName(self, title, proposed, pattern, *more)[0])

    def start_folder(self) -> str:
        """Where the first dialog begins: beside the slides."""
        return str(self.session.project.work_folder or "")


class JobButton(QPushButton):
    """Starts a job, and while that runs cancels it."""

    def __init__(self, session: Session, kind: str, text: str, tip: str) -> None:
        super().__init__(text)
        self._session, self._kind, self._text, self._tip = session, kind, text, tip
        self.setAccessibleName(text)

    def refresh(self, reason: str | None) -> str:
        """Show whether it can be pressed; return why not, for the label beside it."""
        job = self.job()
        if job is None:
            self._show(self._text, reason or self._tip, reason is None)
            return reason or ""
        if job.state == "cancelling":
            self._show("Cancelling…", "It stops at its next step. Finished work is saved.", False)
        elif job.state == "queued":
            self._show("Queued", "It starts after the current job. You can cancel it below.", False)
        else:
            self._show("Cancel", "Stop at the next step. Finished work is saved.", True)
        return ""

    def job(self) -> Job | None:
        """The running job of its kind, else one that waits."""
        return next((job for job in open_jobs(self._session.jobs) if job.kind == self._kind), None)

    def is_cancel(self) -> bool:
        """Would pressing it cancel the running job?"""
        job = self._session.jobs.current
        return job is not None and job.kind == self._kind

    def _show(self, text: str, tip: str, enabled: bool) -> None:
        self.setText(text)
        self.setToolTip(as_plain(tip))
        self.setEnabled(enabled)


def open_jobs(jobs: JobQueue) -> tuple[Job, ...]:
    """The running job, then those that wait for it, in their order."""
    running = () if jobs.current is None else (jobs.current,)
    return running + tuple(job for job in jobs.queue if job is not jobs.current and job.outcome is None)


def cancel_job(jobs: JobQueue, job: Job) -> None:
    """Stop a running job, or take a waiting one out of the queue."""
    if job is jobs.current:
        jobs.cancel()
    else:
        jobs.cancel(job)


def hint_label() -> QLabel:
    """A line for the reason why a button is disabled."""
    label = QLabel()
    label.setWordWrap(True)
    label.setAccessibleName("why this is not possible yet")
    return label


def set_hint(label: QLabel, reason: str) -> None:
    """Show a reason, or nothing and take no room."""
    label.setText(reason)
    label.setVisible(bool(reason))


def tool_button(text: str, tip: str, slot: Callable[..., Any]) -> QToolButton:
    """A flat button with a tooltip, connected; an icon may take the place of its text."""
    made = QToolButton()
    made.setText(text)
    made.setToolTip(as_plain(tip))
    made.setAutoRaise(True)
    made.clicked.connect(lambda checked=False: slot())
    return made


def button(text: str, tip: str, slot: Callable[..., Any]) -> QPushButton:
    """A push button with a tooltip, connected."""
    made = QPushButton(text)
    made.setToolTip(as_plain(tip))
    made.setAccessibleName(text.rstrip("…"))
    made.clicked.connect(lambda checked=False: slot())
    return made


def is_in_use(widget: QWidget) -> bool:
    """Whether the pointer is over a widget, or something inside it has the keyboard."""
    focus = QApplication.focusWidget()
    return widget.isVisible() and (widget.underMouse() or (focus is not None and widget.isAncestorOf(focus)))


def tab_through(*widgets: QWidget) -> None:
    """Let the Tab key go through widgets in this order: those that are made later would come last."""
    for before, after in pairwise(widgets):
        QWidget.setTabOrder(before, after)


def row(*widgets: QWidget, stretch: int | None = None) -> QHBoxLayout:
    """Widgets side by side; the one with index `stretch` takes the room that is left."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    for index, widget in enumerate(widgets):
        layout.addWidget(widget, 1 if index == stretch else 0)
    return layout


def pop_up(menu: QMenu, below: QWidget) -> None:
    """Open a menu below a button."""
    menu.popup(below.mapToGlobal(below.rect().bottomLeft()))


class Collapsible(QWidget):
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
