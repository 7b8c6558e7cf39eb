"""A line that says that another program has changed the table, and offers to take what it changed."""

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QLabel, QMessageBox, QVBoxLayout, QWidget

from ...plain_text import as_plain
from ...project.table_reload import conflict_lines
from ...session import Session
from ...widgets.controls import button, row, set_hint

LOOK_EVERY = 2000  # ms
MOST_LINES = 12


class ChangedStrip(QWidget):
    """In sight only while there is something to say. What was changed in both places is asked about, line by line."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setAccessibleName("the table was changed by another program")
        self.reload = button(
            "Reload", "Take what was changed there; what you changed here stays. Undo takes it back", self._reload
        )
        self.keep = button("Keep mine", "Leave it; saving asks before it replaces the table", self._keep)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addLayout(row(self.reload, self.keep))
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._look)
        self._timer.start(LOOK_EVERY)
        self.refresh()

    def refresh(self) -> None:
        found = self.session.table_reload.found
        set_hint(self.text, self.session.table_reload.text)
        self.reload.setVisible(found is not None and found.cohort is not None)
        self.setVisible(found is not None)

    # Slots that held the session itself would keep it alive until the window's last widget is freed.

    def _look(self) -> None:
        self.session.table_reload.look()

    def _keep(self) -> None:
        self.session.table_reload.keep()

    def _reload(self) -> None:
        reload = self.session.table_reload
        conflicts = reload.merge().conflicts
        prefer_there = self.ask(conflict_lines(conflicts)) if conflicts else False
        if prefer_there is not None:
            reload.take(prefer_there)

    def ask(self, lines: list[str]) -> bool | None:
        """Which side counts where both have changed a value: the table's (True), this one (False), or None: neither."""
        box = QMessageBox(QMessageBox.Icon.Question, "Distill to Label", "", parent=self)
        box.setText("These values were changed here and by another program. Which ones count?")
        more = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
        box.setInformativeText(as_plain("\n".join([*lines[:MOST_LINES], *more])))
        if more:
            box.setDetailedText("\n".join(lines))
        mine = box.addButton("Mine", QMessageBox.ButtonRole.AcceptRole)
        theirs = box.addButton("The table's", QMessageBox.ButtonRole.DestructiveRole)
        box.addButton("Cancel", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(mine)
        box.exec()
        clicked = box.clickedButton()
        return True if clicked is theirs else False if clicked is mine else None
