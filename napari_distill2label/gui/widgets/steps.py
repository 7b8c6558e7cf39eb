"""The steps of the work, each below a header that says how things stand and folds it away."""

from typing import NamedTuple

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QKeyEvent, QPaintEvent, QResizeEvent
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QStyle,
    QStyleOption,
    QStylePainter,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ...core.errors import Distill2LabelError
from ..actions import requirements
from ..messages import message_of
from ..plain_text import as_plain
from ..session import Session
from .controls import Panel, existing, is_in_use, open_jobs
from .replies import Reply
from .window_state import window_state

DONE, RUNNING, NEXT = "done", "running", "next"
SIGNS = {DONE: "✓", RUNNING: "…", NEXT: "●"}
SAID = {DONE: "done", RUNNING: "at work", NEXT: "the next step"}


class State(NamedTuple):
    """What a header shows of a step."""

    mark: str  # DONE, RUNNING, NEXT or ''
    text: str


# ---- how things stand ---------------------------------------------------------------------------------------------


def next_step(session: Session) -> str | None:
    """The step to turn to now: 'slides', 'train', 'predict', 'review', 'export'; None when labels are exported."""
    if session.exported:
        return None
    if session.predictions:
        return "review"
    if session.model is not None and len(session.cohort):
        return "predict"
    return "slides" if requirements.train(session.project, session.choices) else "train"


def mark_of(step: str, session: Session) -> str:
    """How far a step is."""
    if any(job.kind == step for job in open_jobs(session.jobs)):
        return RUNNING
    done = {
        "slides": len(session.cohort) > 0
        and (session.model is not None or requirements.train(session.project, session.choices) is None),
        "train": session.model is not None,
        "predict": bool(session.predictions),
        "export": bool(session.exported),
    }
    if done.get(step):
        return DONE
    return NEXT if next_step(session) == step else ""


def state_of(step: str, panel: Panel) -> State:
    """Mark and text of a step's header; of work under way, how far it is."""
    session = panel.session
    mark = mark_of(step, session)
    job = next((job for job in open_jobs(session.jobs) if job.kind == step), None)
    if job is not None:
        if job.state == "queued":
            return State(mark, "queued")
        share = f", {100 * job.done // job.total} %" if job.total else ""
        return State(mark, f"{job.phase[0].lower()}{job.phase[1:]}{share}")
    try:
        return State(mark, panel.headline())
    except Distill2LabelError as error:  # a folder that is gone must not stop the header
        return State(mark, message_of(error))


# ---- widgets ------------------------------------------------------------------------------------------------------


class ElidedLabel(QLabel):
    """One line that shows what there is room for, and all of it in its tooltip."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)

    def minimumSizeHint(self) -> QSize:
        return QSize(20, super().minimumSizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        painter, option = QStylePainter(self), QStyleOption()
        option.initFrom(self)
        painter.drawPrimitive(QStyle.PrimitiveElement.PE_Widget, option)  # what the style sheet says of its ground
        room = self.contentsRect()
        shown = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, room.width())
        painter.drawItemText(room, self.alignment(), option.palette, self.isEnabled(), shown, self.foregroundRole())


class StepHeader(QToolButton):
    """Folds a step away and back, by click, Space or Enter; says how things stand.

    A long text stands on a line of its own below the title.
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self.setObjectName("d2l-header")
        self.setCheckable(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.name = title
        self.said, self.is_running = "", False
        self.arrow, self.title = QLabel(), QLabel(title)
        self.mark, self.beside, self.below = QLabel(), ElidedLabel(), ElidedLabel()
        font = self.title.font()
        font.setBold(True)
        self.title.setFont(font)
        above = QHBoxLayout()
        above.setSpacing(6)
        for label, stretch in ((self.arrow, 0), (self.title, 0), (self.beside, 1), (self.mark, 0)):
            label.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            above.addWidget(label, stretch)
        self.below.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.below.setContentsMargins(24, 0, 0, 0)  # below the title
        self.below.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.below.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.setSpacing(2)
        layout.addLayout(above)
        layout.addWidget(self.below)
        self.arrow.setFixedWidth(18)
        self.mark.setFixedWidth(18)
        self.mark.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.toggled.connect(self._turn)
        self._turn(False)

    def sizeHint(self) -> QSize:
        return existing(self.layout()).sizeHint()

    def minimumSizeHint(self) -> QSize:
        return existing(self.layout()).minimumSize()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.click()
        else:
            super().keyPressEvent(event)

    def show_state(self, state: State) -> None:
        """Show mark and text; the tooltip has all of it."""
        self.mark.setText(SIGNS.get(state.mark, ""))
        self.said, self.is_running = state.text, state.mark == RUNNING
        self._place_text()
        said = ", ".join(part for part in (SAID.get(state.mark, ""), state.text) if part)
        self.setAccessibleName(f"{self.name}: {said}" if said else self.name)
        self.setToolTip(as_plain(f"{self.name}{f' ({said})' if said else ''}. Click to open or close it."))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._place_text()

    def _place_text(self) -> None:
        """Beside the title where there is room for it, else on the line below.

        What an open step is doing changes all the time, and stays beside the title: its panel says all of it.
        """
        width = self.beside.fontMetrics().horizontalAdvance(self.said)
        is_below = width > self.beside.width() and not (self.isChecked() and self.is_running)
        self.beside.setText("" if is_below else self.said)
        self.below.setText(self.said if is_below else "")
        self.below.setVisible(is_below)

    def _turn(self, opened: bool) -> None:
        self.arrow.setText("▾" if opened else "▸")
        self._place_text()


class Step(QWidget):
    """A header with its panel below."""

    opened = Signal(str)  # name; by the user
    answered = Signal(str, str, bool)  # name; what the panel says to what was asked for; whether that is a problem

    def __init__(self, name: str, panel: Panel, opened: bool) -> None:
        super().__init__()
        self.name, self.panel = name, panel
        self.header = StepHeader(panel.title().replace(" · ", "  "))
        self.reply = Reply(panel)
        self._chosen = {"true": True, "false": False}.get(str(window_state().value(self._key)))
        self._has_shrunk = False
        self._opened_again = False  # by the user, after it had shrunk
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.header)
        layout.addWidget(panel)
        self.header.toggled.connect(panel.setVisible)
        self.header.clicked.connect(self._choose)
        panel.problem.connect(self._on_problem)
        panel.success.connect(self._on_success)
        panel.setVisible(False)
        self.header.setChecked(opened if self._chosen is None else self._chosen)
        self.refresh()

    @property
    def _key(self) -> str:
        return f"steps/{self.name}-1"

    @property
    def is_open(self) -> bool:
        return self.header.isChecked()

    @property
    def is_in_use(self) -> bool:
        """Whether the pointer or the keyboard is in the panel."""
        return self.is_open and is_in_use(self.panel)

    def set_open(self, opened: bool) -> None:
        self.header.setChecked(opened)

    def offer(self) -> None:
        """Open a step that has become possible, unless the user has ever folded or unfolded it."""
        if self._chosen is None:
            self.header.setChecked(True)

    def shrink(self) -> None:
        """Fold a step that is done, unless the user is in it, or has opened it again after it shrank."""
        done = mark_of(self.name, self.panel.session) == DONE
        if done and self.is_open and not self._opened_again and not self.is_in_use:
            self._has_shrunk = True
            self.header.setChecked(False)

    def refresh(self) -> None:
        self.header.show_state(state_of(self.name, self.panel))

    def _on_problem(self, text: str) -> None:
        self.answered.emit(self.name, text, True)

    def _on_success(self, text: str) -> None:
        self.answered.emit(self.name, text, False)

    def _choose(self, opened: bool) -> None:
        self._chosen = opened
        self._opened_again = opened and self._has_shrunk
        window_state().setValue(self._key, "true" if opened else "false")
        if opened:
            self.opened.emit(self.name)


def style_sheet(colours: dict[str, str]) -> str:
    """Headers, the strip and its cards, in the colours of the theme."""
    return f"""
    #d2l-header {{ background: {colours["foreground"]}; border: 1px solid transparent; border-radius: 3px; }}
    #d2l-header:hover {{ background: {colours["primary"]}; }}
    #d2l-header:focus {{ border: 1px solid {colours["current"]}; }}
    #d2l-header QLabel {{ background: transparent; }}
    #d2l-card {{ background: {colours["foreground"]}; border-radius: 3px; }}
    #d2l-card[kind="error"] {{ border: 1px solid {colours["error"]}; }}
    #d2l-card QLabel, #d2l-clear {{ background: transparent; }}
    """
