"""A line on what is saved and what is not, and the questions before the window closes over that or over work."""

import weakref

from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import QLabel, QMainWindow, QMessageBox, QVBoxLayout, QWidget

from ...messages import message_of
from ...plain_text import as_plain
from ...session import Session
from ...widgets.controls import button, row, set_hint


class SaveStatus(QWidget):
    """Unsaved changes, and what could be restored."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.state = QLabel()
        self.state.setWordWrap(True)
        self.state.setAccessibleName("saved or not")
        self.state.setToolTip(
            "Click Save… to write the table. Until then a copy is saved and offered at the next start"
        )
        self.offer = QLabel()
        self.offer.setWordWrap(True)
        self.offer.setAccessibleName("what could be restored")
        self.restore = button("Restore", "Take it; Undo gives the slides back as they are now", self._restore)
        self.dismiss = button("Delete this copy", "", self._dismiss)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.state)
        layout.addWidget(self.offer)
        layout.addLayout(row(self.restore, self.dismiss))
        self.refresh()

    def refresh(self) -> None:
        offer = self.session.autosave.offer
        set_hint(self.offer, offer.text if offer else "")
        self.restore.setVisible(offer is not None)
        self.dismiss.setVisible(offer is not None)
        beside = self.session.project.cohort_path is not None
        self.dismiss.setText("Keep the table" if beside else "Delete this copy")
        self.dismiss.setAccessibleName(self.dismiss.text())
        self.dismiss.setToolTip(
            "Keep what the table says; the other is set aside as .d2l.bak.json" if beside else "Delete it"
        )
        set_hint(self.state, self.text())
        self.setVisible(bool(self.text() or offer))

    # A slot that held the session itself would keep it alive until the window's last widget is freed.

    def _restore(self) -> None:
        self.session.autosave.restore()

    def _dismiss(self) -> None:
        self.session.autosave.dismiss()

    def text(self) -> str:
        """What to say of the slides as they are; "" where there is nothing to say."""
        session, autosave = self.session, self.session.autosave
        if not session.project.unsaved:
            return ""
        file = session.project.cohort_path.name if session.project.cohort_path else "a table"
        if autosave.reason:
            return f"● Not saved: {autosave.reason}"
        if not autosave.enabled:
            return f"● Not saved in {file} yet. Autosave is off (Preferences)."
        when = f"; a copy is saved ({autosave.saved_at.astimezone():%H:%M})" if autosave.saved_at else ""
        return f"● Not saved in {file} yet{when}"


LONG_WORK = ("train", "features", "predict", "evaluate", "assess", "export")


class CloseGuard(QObject):
    """Asks before a person closes the window over changes that are kept nowhere, or over work that is going on.

    Warns, never traps; and a script, whose `viewer.close()` nothing can hold up, is not asked. However the window
    goes, `Session.shutdown` stops what runs, and a training can be gone on with after its last whole epoch.
    """

    def __init__(self, window: QMainWindow, session: Session) -> None:
        super().__init__(window)
        self._session = weakref.ref(session)
        self._agreed = False
        window.installEventFilter(self)

    @classmethod
    def watch(cls, widget: QWidget, session: Session) -> None:
        """Watch the window `widget` is in, once however many panels it has."""
        window = widget.window()
        if isinstance(window, QMainWindow) and not window.findChildren(cls):
            cls(window, session)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() != QEvent.Type.Close or self._agreed or not isinstance(watched, QMainWindow):
            return False
        if not (event.spontaneous() or _has_viewer(watched)):
            return False
        stops = self.running_text()
        if self.may_close(watched) and (not stops or self.ask_running(watched, stops)):
            if not (stops and event.spontaneous()):
                return False
            QTimer.singleShot(0, self._close)  # by a call, napari does not ask the same again
        event.ignore()
        return True

    def _close(self) -> None:
        self._agreed = True
        if isinstance(window := self.parent(), QMainWindow):
            window.close()

    def may_close(self, window: QWidget) -> bool:
        """No change would be lost, or the user does not mind."""
        session = self._session()
        if session is None:
            return True
        session.autosave.flush()
        if session.autosave.safe:
            return True
        answer = self.ask(window)
        if answer == QMessageBox.StandardButton.Save:
            return self.save(session)
        return answer == QMessageBox.StandardButton.Discard

    def running_text(self) -> str:
        """What closing the window would stop, in words; "" where nothing long is going on."""
        session = self._session()
        if session is None or (job := session.jobs.of_kind(*LONG_WORK)) is None:
            return ""
        kept = job.kept or "What it has not written yet is lost."
        if job.kind == "train":
            kept = "The run is saved up to its last completed epoch. Resume it later in the list of runs."
        waiting = len(session.jobs.queue) - (job in session.jobs.queue)
        more = f" {waiting} more {'waits' if waiting == 1 else 'wait'} and will not be begun." if waiting else ""
        return f"{job.title} is under way. Closing the window stops it.{more} {kept}"

    def ask_running(self, window: QWidget, text: str) -> bool:
        """Stop the work, and close the window?"""
        box = QMessageBox(QMessageBox.Icon.Question, "Distill to Label", as_plain(text), parent=window)
        stop = box.addButton("Stop and close", QMessageBox.ButtonRole.AcceptRole)
        box.setDefaultButton(box.addButton("Keep working", QMessageBox.ButtonRole.RejectRole))
        box.exec()
        return box.clickedButton() is stop

    def save(self, session: Session) -> bool:
        """Write what is not saved: the table where it was read from; without such a place the window stays."""
        try:
            if session.project.unsaved:
                session.write_cohort()
            if session.corrections.unsaved:
                session.corrections.save()
        except Exception as error:  # noqa: BLE001 - whatever it is, the window stays and says so
            session.project.tell(message_of(error))
            return False
        return True

    def ask(self, window: QWidget) -> QMessageBox.StandardButton:
        choices = QMessageBox.StandardButton
        session = self._session()
        buttons = choices.Discard | choices.Cancel
        if session is not None and (session.project.own_table is not None or not session.project.unsaved):
            buttons |= choices.Save
        text = "Labels or corrections are not saved. Closing the window loses them."
        return QMessageBox.warning(window, "Distill to Label", text, buttons, choices.Cancel)


def _has_viewer(window: QMainWindow) -> bool:
    """Is the canvas still there? `viewer.close()` takes it out of sight before the window."""
    centre = window.centralWidget()
    options = Qt.FindChildOption.FindDirectChildrenOnly
    return centre is not None and any(child.isVisible() for child in centre.findChildren(QWidget, options=options))
