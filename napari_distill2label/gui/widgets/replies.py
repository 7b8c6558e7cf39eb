"""The answer to what was pressed, beside it: why something could not be done, or that it was done."""

from qtpy.QtCore import Qt
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import QAbstractButton, QApplication, QFrame, QLabel, QLayoutItem, QToolButton, QVBoxLayout, QWidget

from .controls import Panel, existing, row


class Reply(QFrame):
    """A line in a panel, below the row of the control in use; a newer answer takes its place."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self._panel = panel
        self.setObjectName("d2l-card")
        self.sign, self.text, self.close_reply = QLabel("⚠"), QLabel(), QToolButton()
        self.sign.setAccessibleName("problem")
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.PlainText)  # a path may hold what looks like a tag
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.text.setAccessibleName(f"answer in {panel.title()}")
        self.close_reply.setText("✕")
        self.close_reply.setAutoRaise(True)
        self.close_reply.setToolTip("Close this message")
        self.close_reply.setAccessibleName("close this message")
        self.close_reply.clicked.connect(lambda checked=False: self.clear())
        line = row(self.sign, self.text, self.close_reply, stretch=1)
        line.setContentsMargins(6, 2, 6, 2)
        self.setLayout(line)
        self._place()
        self.clear()

    @property
    def is_problem(self) -> bool:
        return bool(self.property("kind") == "error")

    def say(self, text: str, problem: bool = False) -> None:
        """Show an answer in place of the one before."""
        self.setProperty("kind", "error" if problem else "")
        existing(self.style()).polish(self)
        self.sign.setVisible(problem)
        self.text.setText(text)
        self._place()
        self.setVisible(bool(text))

    def clear(self) -> None:
        self.text.clear()
        self.hide()

    def _place(self) -> None:
        """Below the row of the control in use, in the innermost column that it is in; else on top of the panel."""
        control = self._in_use()
        around: QWidget = self._panel if control is None else existing(control.parentWidget())
        while around is not self._panel and not isinstance(around.layout(), QVBoxLayout):
            around = existing(around.parentWidget())
        if (before := existing(self.parentWidget()).layout()) is not None:
            before.removeWidget(self)
        column = around.layout()
        assert isinstance(column, QVBoxLayout)
        holders = (at for at in range(column.count()) if control is not None and _holds(column.itemAt(at), control))
        column.insertWidget(next(holders, -1) + 1, self)

    def _in_use(self) -> QWidget | None:
        """The button under the pointer, else what has the keyboard; not all systems give it to a button clicked."""
        if self._panel.underMouse():
            under = self._panel.childAt(self._panel.mapFromGlobal(QCursor.pos()))
            if isinstance(under, QAbstractButton) and not self.isAncestorOf(under):
                return under
        focus = QApplication.focusWidget()
        inside = focus is not None and self._panel.isAncestorOf(focus) and not self.isAncestorOf(focus)
        return focus if inside else None


def _holds(item: QLayoutItem | None, control: QWidget) -> bool:
    """Whether a widget is in this item of a layout, or in one inside it."""
    if item is None:
        return False
    if (widget := item.widget()) is not None:
        return widget is control or widget.isAncestorOf(control)
    inner = item.layout()
    return inner is not None and any(_holds(inner.itemAt(at), control) for at in range(inner.count()))
