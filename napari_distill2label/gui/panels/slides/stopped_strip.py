"""A line that offers to go on with a training that was stopped."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from ...actions.training_check import resumed_settings
from ...session import Session
from ...widgets.controls import button, row, show_errors


class StoppedStrip(QWidget):
    """In sight only while there is something to offer. What cannot be done is said by `problem`."""

    problem = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setAccessibleName("training that was stopped")
        self.resume = button("Resume", "Continue this training after its last whole epoch", self._resume)
        self.later = button("Not now", "Leave it; it stays in the list of runs in step 2", self._refuse)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addLayout(row(self.resume, self.later))
        self.refresh()

    def refresh(self) -> None:
        stopped = self.session.stopped
        self.text.setText(stopped.text)
        self.text.setToolTip(str(stopped.offer.folder) if stopped.offer else "")
        self.setVisible(stopped.offer is not None)

    @show_errors
    def _resume(self) -> None:
        if (run := self.session.stopped.offer) is not None:
            self.session.resume(run.folder, resumed_settings(run.settings, self.session.settings), wait=False)

    def _refuse(self) -> None:
        self.session.stopped.refuse()
