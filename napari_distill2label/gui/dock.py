"""The dock widget 'Distill to Label': five steps from slides to exported patch labels.

It holds no state: two of them on one viewer show the same `Session`, and closing the dock loses nothing.
"""

import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import SignalInstance
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import QFrame, QLabel, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from ..mil.waiting import wait_passively
from .panels.predict.export_panel import ExportPanel
from .panels.predict.panel import PredictPanel
from .panels.predict.review_panel import ReviewPanel
from .panels.slides.panel import SlidesPanel
from .panels.slides.save_status import CloseGuard
from .panels.train.panel import TrainPanel
from .plain_text import as_plain
from .plugin.warm_up import warm_up
from .runner.jobs import Failure, Job
from .session import Session, session_of
from .widgets.controls import (
    Panel,
    existing,
    guard_wheel,
    plain_labels,
    row,
    single_shot,
    slow_down_wheels,
    tool_button,
)
from .widgets.help_popup import HelpPopup, native
from .widgets.shortcuts import Actions, bind
from .widgets.status_bar import StatusStrip
from .widgets.steps import Step, next_step, style_sheet
from .widgets.theme import themed

if TYPE_CHECKING:
    import napari

RESEARCH_USE = "For research use only. Not for diagnosis."
SETTLED = 50  # ms until a layout has taken in what was folded
WIDTH = 400  # px; room for a slide, its label and what is predicted; two thirds of a 1366 px screen stay the slide's
# Which step opens by itself when another has become the next; an earlier step stays as it is.
OPENS = {"train": ("train",), "predict": ("predict",), "review": ("predict", "review")}
# Which steps shrink to a line, where they are done, when a job of this kind begins.
SHRINKS = {"train": ("slides",), "predict": ("slides", "train"), "export": ("slides", "train", "predict")}


class DistillToLabel(QWidget):
    """The panel. `viewer` is a napari viewer or a plugin's proxy of one."""

    def __init__(self, viewer: "napari.viewer.Viewer") -> None:
        super().__init__()
        wait_passively()  # before torch is imported; training must not starve drawing, nor drawing training
        self.session = session = session_of(viewer)
        self.slides, self.train, self.predict = SlidesPanel(session), TrainPanel(session), PredictPanel(session)
        self.review, self.export = ReviewPanel(session), ExportPanel(session)
        named: dict[str, Panel] = {
            "slides": self.slides, "train": self.train, "predict": self.predict,
            "review": self.review, "export": self.export,
        }  # fmt: skip
        self.panels: tuple[Panel, ...] = tuple(named.values())
        self.steps = {name: Step(name, panel, opened=name == "slides") for name, panel in named.items()}
        self.status = StatusStrip(session)
        self.research_use = QLabel(RESEARCH_USE)
        self.research_use.setWordWrap(True)
        self.research_use.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.research_use.setAccessibleName("notice")
        self.help_popup: HelpPopup | None = None
        self._arrange()
        self.actions_of_keys = Actions(session, named, self.show_help)
        self.shortcuts = bind(self, self.actions_of_keys, self.status.show_problem)
        plain_labels(self)
        self._listen()
        session.reader.request("warm up", warm_up, lambda done: None)

    # ---- making -----------------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        content = QWidget()
        inside = QVBoxLayout(content)
        inside.setContentsMargins(4, 4, 4, 4)
        inside.setSpacing(4)
        for step in self.steps.values():
            inside.addWidget(step)
            step.answered.connect(self._answer)
            step.opened.connect(self._scroll_to)
        inside.addStretch()
        self.scroll_area = QScrollArea()
        self.scroll_area.setWidgetResizable(True)
        self.scroll_area.setFrameShape(QFrame.Shape.NoFrame)
        self.scroll_area.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # a stop of the Tab key at which nothing is seen
        self.scroll_area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll_area.setWidget(content)
        self._on_top: Step | None = None  # the step that is kept at the top
        bar = existing(self.scroll_area.verticalScrollBar())
        bar.rangeChanged.connect(self._stay_on_top)
        bar.actionTriggered.connect(self._leave_top)  # by wheel, by pointer
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(self._bar())
        layout.addWidget(self.scroll_area, 1)
        layout.addWidget(self.status)
        layout.addWidget(self.research_use)
        self.setMinimumWidth(WIDTH)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self.setAccessibleName("Distill to Label")
        guard_wheel(content)

    def _bar(self) -> Any:
        self.undo = tool_button("↶ Undo", "", self._undo)
        self.redo = tool_button("↷ Redo", "", self._redo)
        self.help = tool_button("?", f"Keyboard shortcuts and help ({native('F1')})", self.show_help)
        self.help.setAccessibleName("help")
        bar = row(self.undo, self.redo)
        bar.addStretch()
        bar.addWidget(self.help)
        bar.setContentsMargins(4, 2, 4, 0)
        return bar

    def _listen(self) -> None:
        session = self.session
        self._soon = single_shot(self, 50, self.refresh)  # many signals in a row refresh the headers once
        self._was_next: str | None = "slides"
        self._begun = 0  # id of the job that began last
        self._of_slide = ""  # what was told last of a slide that was asked for
        self._connections: list[tuple[SignalInstance, Callable[..., Any]]] = [
            (session.jobs.changed, self._on_job),
            (session.project.message, self._on_message),
            (session.canvas.slide_view.message_over, self._on_message_over),
            (session.project.history.changed, self._on_edit),
        ]
        shown = (
            "cohort",
            "saved_cohort",
            "failures",
            "predictions",
            "network",
            "model",
            "threshold",
            "shown",
            "exported",
        )
        changes = [session.project.events[name] for name in shown]
        changes += [
            session.choices.changed,
            session.corrections.changed,
            session.runs.changed,
            session.previews.changed,
        ]
        self._connections += [(signal, self._refresh_soon) for signal in changes]
        for signal, slot in self._connections:
            signal.connect(slot)
        restyled = themed(self, session.viewer, style_sheet)
        # Of a closing window, a docked widget is told only that it is destroyed; then it must not be called any more.
        self.destroyed.connect(_disconnecting(self, restyled))
        self._watched = False
        self._refresh_undo()
        self.refresh()

    # ---- what the user does -------------------------------------------------------------------------------------

    def open_path(self, path: Path) -> None:
        """Start with a cohort.csv, or with the folder of a run or a bundle."""
        if path.is_dir():
            self.predict.load_path(str(path))
        else:
            self.slides.open_path(str(path))

    def show_help(self) -> None:
        if self.help_popup is None:
            self.help_popup = HelpPopup(self.session, self)
        self.help_popup.open_now()

    def _undo(self) -> None:
        self.session.undo()

    def _redo(self) -> None:
        self.session.redo()

    # ---- following the session ------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """How each step stands; a step that has become possible opens, unless the user decided otherwise."""
        for step in self.steps.values():
            step.refresh()
        now = next_step(self.session)
        if now != self._was_next:
            self._was_next = now
            for name in OPENS.get(now or "", ()):
                if name in self.steps:
                    self.steps[name].offer()

    def _refresh_soon(self, *_: object) -> None:
        if not self._soon.isActive():
            self._soon.start()

    def _on_edit(self) -> None:
        self._hints_over()
        self._refresh_undo()

    # ---- answers ----------------------------------------------------------------------------------------------------

    def _answer(self, name: str, text: str, problem: bool) -> None:
        """Answer what was asked for in a step: beside it while the step is open, else at the bottom."""
        self._hints_over()
        step = self.steps[name]
        if not step.is_open:
            (self.status.show_problem if problem else self.status.show_text)(text)
            return
        step.reply.say(text, problem)
        QTimer.singleShot(0, lambda: self._see(step.reply))

    def _hints_over(self) -> None:
        """Something was done or asked for: why something else could not be is no news any more."""
        self.status.hint_over()
        for step in self.steps.values():
            if step.reply.is_problem:
                step.reply.clear()

    def _see(self, widget: QWidget) -> None:
        with suppress(RuntimeError):  # it went meanwhile
            if widget.isVisible():
                self._leave_top()
                self.scroll_area.ensureWidgetVisible(widget, 0, 8)

    def _refresh_undo(self) -> None:
        stack = self.session.project.history
        for button, word, text, key in (
            (self.undo, "Undo", stack.undo_text, "Ctrl+Z"),
            (self.redo, "Redo", stack.redo_text, "Ctrl+Shift+Z"),
        ):
            button.setEnabled(text is not None)
            button.setToolTip(as_plain(f"{word}: {text} ({native(key)})") if text else f"Nothing to {word.lower()}")
            button.setAccessibleName(word.lower())

    def _scroll_to(self, name: str) -> None:
        QTimer.singleShot(0, lambda: self._scroll_now(name))  # when the layout has made room for what was unfolded

    def _scroll_now(self, name: str) -> None:
        with suppress(RuntimeError):  # the widget went meanwhile
            self._leave_top()
            self.scroll_area.ensureWidgetVisible(self.steps[name], 0, 0)

    def event(self, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.Show, QEvent.Type.ParentChange):
            self._watch_window()
        return super().event(event)

    def _watch_window(self) -> None:
        """Shut the session down when the main window goes, and not when this dock is closed; ask before it goes."""
        CloseGuard.watch(self.slides, self.session)  # also while the step Slides is folded, and has never been shown
        window = self.window()
        if window is not None and window is not self and window.inherits("QMainWindow") and not self._watched:
            window.destroyed.connect(_shutting_down(self.session))
            self._watched = True

    def _on_job(self, job: Job) -> None:
        self.status.show_job(job)
        if job.id != self._begun and job.state == "running":
            self._begun = job.id
            self._on_begun(job)
        self._refresh_soon()
        if isinstance(job.outcome, Failure) and not self.isVisible():
            from napari.utils.notifications import show_warning

            show_warning(job.text)  # else it would pass unseen

    def _on_begun(self, job: Job) -> None:
        """What goes on comes into view, and what is done before it shrinks to a line."""
        self._hints_over()
        slow_down_wheels(existing(self.window()))
        for name in SHRINKS.get(job.kind, ()):
            self.steps[name].shrink()
        step = self.steps.get(job.kind)
        elsewhere = any(other.is_in_use for other in self.steps.values() if other is not step)
        if step is not None and step.is_open and not elsewhere:
            QTimer.singleShot(SETTLED, lambda: self._scroll_to_top(step))

    def _scroll_to_top(self, step: Step) -> None:
        """Now, and while the contents grow, until the user scrolls or something else is to be seen."""
        with suppress(RuntimeError):  # the widget went meanwhile
            self._on_top = step
            self._stay_on_top()

    def _stay_on_top(self, *_: object) -> None:
        if self._on_top is not None:
            existing(self.scroll_area.verticalScrollBar()).setValue(self._on_top.y())

    def _leave_top(self, *_: object) -> None:
        self._on_top = None

    def _on_message(self, text: str) -> None:
        job = self.session.jobs.current
        if job is None or text not in job.notes:  # else it is told when the job is over
            self.status.show_text(text)
            if self.session.canvas.slide_view.is_telling:
                self._of_slide = text

    def _on_message_over(self) -> None:
        self.status.take_back(self._of_slide)


def _shutting_down(session: Session) -> Callable[..., None]:
    found = weakref.ref(session)

    def slot(*_: object) -> None:
        if (alive := found()) is not None:
            alive.shutdown()

    return slot


def _disconnecting(widget: DistillToLabel, restyled: Callable[[], None]) -> Callable[..., None]:
    """A slot that outlives the widget it disconnects."""
    connections, panels = widget._connections, widget.panels

    def slot(*_: object) -> None:
        restyled()
        for signal, receiver in connections:
            signal.disconnect(receiver, missing_ok=True)
        for panel in panels:
            panel.disconnect_session()

    return slot
