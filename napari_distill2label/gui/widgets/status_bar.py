"""Always in sight below the steps: what goes on, what waits, what went wrong and what can be done about it."""

from collections.abc import Callable

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import (
    QApplication,
    QFrame,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPlainTextEdit,
    QProgressBar,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ..plain_text import as_plain
from ..runner.jobs import Cancelled, Done, Failure, Job
from ..runner.times import about, duration
from ..session import Session
from .controls import Collapsible, button, cancel_job, existing, open_jobs, row
from .error_report import versions
from .steps import ElidedLabel

STOP = "Stop at the next step. Finished work is saved."
TICK = 1000  # ms between two looks at the clock


def times(job: Job) -> str:
    """How long a job has taken, and what is left of it where anybody knows."""
    taken, remaining = duration(job.elapsed), job.remaining
    return taken if remaining is None else f"{taken} · {about(remaining)} left"


class JobRow(QWidget):
    """One job that runs or waits: what it does, how far it is, and a button to call it off."""

    def __init__(self, session: Session, job: Job | None = None) -> None:
        super().__init__()
        self.session, self.job = session, job
        self.text, self.times = ElidedLabel(), QLabel()
        self.text.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.text.setAccessibleName("work under way")
        self.cancel = QToolButton()
        self.cancel.setText("Cancel")
        self.cancel.setToolTip(STOP)
        self.cancel.clicked.connect(lambda checked=False: self._cancel())
        self.bar = QProgressBar()
        self.bar.setAccessibleName("progress")
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(8)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addLayout(row(self.text, self.cancel, stretch=0))
        layout.addWidget(self.bar)
        layout.addWidget(self.times)
        self.refresh()

    def refresh(self) -> None:
        job = self.job
        self.setVisible(job is not None)
        if job is None:
            return
        waits = job.state == "queued"
        text = f"{job.text[:1].upper()}{job.text[1:]}"
        doing = text if text.startswith((job.title, "Cancelling")) else f"{job.title} · {job.text}"
        self.text.setText(f"Next: {job.title}" if waits else doing)
        self.text.setToolTip(as_plain(self.text.text()))
        # Of 0 nobody knows how long: a bar without a range moves all the time, and a window without a graphics card
        # then computes its pictures with half of a core.
        self.bar.setVisible(not waits and job.total > 0)
        self.bar.setMaximum(max(1, job.total))
        self.bar.setValue(job.done)
        self.times.setText("" if waits else times(job))
        self.times.setVisible(bool(self.times.text()))
        self.cancel.setEnabled(job.state in ("queued", "running"))
        self.cancel.setText("Cancelling…" if job.state == "cancelling" else "Cancel")
        self.cancel.setToolTip("Take it out of the queue" if waits else STOP)
        self.cancel.setAccessibleName(f"cancel: {job.title}")

    def _cancel(self) -> None:
        if self.job is not None:
            cancel_job(self.session.jobs, self.job)


class Card(QFrame):
    """A message, with its details in a fold; of an error also: copy it, try again."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("d2l-card")
        self._retry: Callable[[], object] | None = None
        self.sign, self.text = QLabel("⚠"), QLabel()
        self.sign.setAccessibleName("error")
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.PlainText)  # a path may hold what looks like a tag
        self.text.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.text.setAccessibleName("status")
        self.details = QPlainTextEdit()
        self.details.setTabChangesFocus(True)
        self.details.setReadOnly(True)
        self.details.setMaximumHeight(140)
        self.details.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.details.setAccessibleName("details")
        self.fold = Collapsible("Details", self.details)
        self.retry = button("Try again", "Do it again, as suggested", self._try_again)
        self.copy = button("Copy", "Copy the message with its details and the versions, to ask for help", self.copy_all)
        self.close_card = QToolButton()
        self.close_card.setText("✕")
        self.close_card.setAutoRaise(True)
        self.close_card.setToolTip("Close this message")
        self.close_card.setAccessibleName("close this message")
        self.close_card.clicked.connect(lambda checked=False: self.clear())
        self._buttons = QWidget()
        for widget in (self._buttons, self.fold):
            widget.setObjectName("d2l-clear")
        buttons = row(self.retry, self.copy)
        buttons.addStretch()
        self._buttons.setLayout(buttons)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.setSpacing(3)
        line = row(self.sign, self.text, self.close_card, stretch=1)
        line.setAlignment(self.sign, Qt.AlignmentFlag.AlignTop)
        line.setAlignment(self.close_card, Qt.AlignmentFlag.AlignTop)
        layout.addLayout(line)
        layout.addWidget(self.fold)
        layout.addWidget(self._buttons)
        self.clear()

    @property
    def is_error(self) -> bool:
        return bool(self.property("kind") == "error")

    def show_message(
        self,
        text: str,
        details: str = "",
        error: bool = False,
        retry: Callable[[], object] | None = None,
        retry_text: str = "",
    ) -> None:
        """Show a message in place of the one before; `retry` gets a button that says `retry_text`."""
        self._retry = retry
        self.copy.setText("Copy")
        self.setProperty("kind", "error" if error else "")
        existing(self.style()).polish(self)
        self.text.setText(text)
        self.details.setPlainText(details)
        self.fold.toggle.setChecked(False)
        self.fold.setVisible(bool(details))
        self.sign.setVisible(error)
        self.retry.setText(retry_text or "Try again")
        self.retry.setVisible(retry is not None)
        self._buttons.setVisible(error or retry is not None)
        self.setVisible(bool(text))

    def clear(self) -> None:
        self.show_message("")

    def copy_all(self) -> None:
        """Message, details and versions to the clipboard."""
        parts = (self.text.text(), self.details.toPlainText(), versions())
        existing(QApplication.clipboard()).setText("\n\n".join(part for part in parts if part))
        self.copy.setText("Copied")

    def _try_again(self) -> None:
        retry = self._retry
        self.clear()
        if retry is not None:
            retry()


def end_text(job: Job) -> str:
    """How a job ended; of files that were written, where they are."""
    if job.kind != "export" or not isinstance(job.outcome, Done) or not job.outcome.value:
        return job.text
    files = job.outcome.value
    return f"{job.text}. {len(files)} file{'s' * (len(files) != 1)} in {files[0].parent}"


class StatusStrip(QWidget):
    """The queue, a card for the last message or error, and earlier work in a fold.

    An error stays on the first card until it is closed, its work is tried again, or work of its kind begins. Meanwhile
    the second card shows what else there is to say. A hint why something could not be done goes with the next thing
    that is done.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._failed_kind: str | None = None  # of the job whose error is on the first card; of a hint None
        self._seen: int | None = None  # id of the job that was shown last
        self.current = JobRow(session)
        self.bar = self.current.bar
        self.waiting: list[JobRow] = []
        self._queue = QVBoxLayout()
        self._queue.setContentsMargins(0, 0, 0, 0)
        self.card, self.second = Card(), Card()
        self.second.text.setAccessibleName("status beside the error")
        self.text, self.details, self.fold = self.card.text, self.card.details, self.card.fold
        self.past = QListWidget()
        self.past.setMaximumHeight(110)
        self.past.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.past.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.past.setAccessibleName("finished jobs")
        self.past.setToolTip("Click a line to see what it said")
        self.past.itemClicked.connect(lambda item: self._show_end(item.data(Qt.ItemDataRole.UserRole)))
        self.earlier = Collapsible("Finished jobs", self.past)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 2)
        layout.setSpacing(4)
        layout.addWidget(self.current)
        layout.addLayout(self._queue)
        layout.addWidget(self.card)
        layout.addWidget(self.second)
        layout.addWidget(self.earlier)
        self._clock = QTimer(self)
        self._clock.setInterval(TICK)
        self._clock.timeout.connect(self.current.refresh)
        self._sync()
        if (last := session.jobs.last) is not None and session.jobs.current is None:
            self._show_end(last)

    def show_text(self, text: str, details: str = "") -> None:
        """Something to know."""
        (self.second if self.card.is_error else self.card).show_message(text, details)

    def show_problem(self, text: str) -> None:
        """Something that could not be done, and why."""
        if not self._has_failed_job:
            self._failed_kind = None
        card = self.second if self._has_failed_job else self.card
        card.show_message(text, error=True)

    def take_back(self, text: str) -> None:
        """Something that was to be known is no news any more."""
        for card in (self.card, self.second):
            if text and not card.is_error and card.text.text() == text:
                card.clear()

    def hint_over(self) -> None:
        """Something was done: why something else could not be is no news any more."""
        if self.card.is_error and not self._has_failed_job:
            self.card.clear()
        if self.second.is_error:
            self.second.clear()

    def show_job(self, job: Job | None) -> None:
        """A job that began, moved on or ended."""
        self._sync()
        if job is None:
            return
        if job.outcome is not None:
            self._show_end(job)
        elif job.id != self._seen:
            self._cleared_card(job)
        self._seen = job.id

    def _show_end(self, job: Job) -> None:
        failed = isinstance(job.outcome, Failure)
        card = self._cleared_card(job)
        if failed:
            self._failed_kind = job.kind
        card.show_message(end_text(job), job.details, failed, job.retry, job.retry_text)

    @property
    def _has_failed_job(self) -> bool:
        """Is the error of a job on the first card?"""
        return self.card.is_error and self._failed_kind is not None

    def _cleared_card(self, job: Job) -> Card:
        """The card for what a job says, empty: what was said before is no news any more.

        The first one, unless the error of another kind of work is on it; a newer error takes its place.
        """
        self.second.clear()
        failed = isinstance(job.outcome, Failure)
        if self._has_failed_job and self._failed_kind != job.kind and not failed:
            return self.second
        self.card.clear()
        self._failed_kind = None
        return self.card

    def _sync(self) -> None:
        jobs = self.session.jobs
        running, waiting = jobs.current, [job for job in open_jobs(jobs) if job is not jobs.current]
        self.current.job = running
        self.current.refresh()
        if [shown.job for shown in self.waiting] != waiting:
            for shown in self.waiting:
                self._queue.removeWidget(shown)
                shown.deleteLater()
            self.waiting = [JobRow(self.session, job) for job in waiting]
            for shown in self.waiting:
                self._queue.addWidget(shown)
        if running is None:
            self._clock.stop()
        elif not self._clock.isActive():
            self._clock.start()
        self._list_past()

    def _list_past(self) -> None:
        past = self.session.jobs.past
        self.earlier.setVisible(bool(past))
        listed = [existing(self.past.item(index)) for index in range(self.past.count())]
        if [item.data(Qt.ItemDataRole.UserRole) for item in listed] == [*past[::-1]]:
            return
        self.past.clear()
        for job in reversed(past):
            sign = "✕" if isinstance(job.outcome, Failure) else "–" if isinstance(job.outcome, Cancelled) else "✓"
            item = QListWidgetItem(f"{sign} {end_text(job)} · {duration(job.elapsed)}")
            item.setData(Qt.ItemDataRole.UserRole, job)
            item.setToolTip(as_plain(end_text(job)))
            self.past.addItem(item)
        self.earlier.toggle.setText(f"Finished jobs ({len(past)})")
