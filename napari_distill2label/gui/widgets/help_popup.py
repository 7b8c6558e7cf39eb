"""The "?" of the window: every shortcut, from the one table, and what the mouse does."""

from html import escape
from itertools import groupby

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QLabel, QVBoxLayout, QWidget

from ..session import Session
from .shortcuts import SHORTCUTS, WINDOW, Shortcut

MOUSE = (
    ("Click a row of the table", "show that slide"),
    ("Drop files or folders on the table", "add the slides in them"),
    ("Rest the pointer on a patch", "its class and probability, in napari's status bar"),
)
PREFERENCES = "Device, run folder, autosave and more: File › Preferences › Distill to Label."


def native(key: str) -> str:
    """A key as this system writes it: ⌘ and ⌥ on a Mac."""
    return QKeySequence(key).toString(QKeySequence.SequenceFormat.NativeText)


def shown_keys(row: Shortcut) -> str:
    """'Alt+1 … Alt+9' for a row of many keys."""
    return native(row.keys[0]) if len(row.keys) == 1 else f"{native(row.keys[0])} … {native(row.keys[-1])}"


def help_text(classes: tuple[str, ...]) -> str:
    """The table as rich text; colours are those of the theme."""
    numbered = ", ".join(f"{number} {name}" for number, name in enumerate(classes[:9], 1))
    lines = []
    for group, rows in groupby(SHORTCUTS, lambda row: row.group):
        lines.append(f'<tr><td colspan="2" style="padding-top: 8px"><b>{escape(group)}</b></td></tr>')
        for row in rows:
            told = row.description.replace("class 1 … 9", f"a class ({numbered})")
            told += f" ({row.scope})" if row.scope != WINDOW else ""
            lines.append(_line(shown_keys(row), told))
    lines.append('<tr><td colspan="2" style="padding-top: 8px"><b>Mouse</b></td></tr>')
    lines += [_line(what, told) for what, told in MOUSE]
    return f"<table cellspacing='0' cellpadding='2'>{''.join(lines)}</table><p>{escape(PREFERENCES)}</p>"


def _line(left: str, right: str) -> str:
    return f'<tr><td style="padding-right: 14px; white-space: nowrap">{escape(left)}</td><td>{escape(right)}</td></tr>'


class HelpPopup(QDialog):
    """Not modal: it can stay open while one works."""

    def __init__(self, session: Session, parent: QWidget) -> None:
        super().__init__(parent)
        self.session = session
        self.setWindowTitle("Distill to Label: shortcuts")
        self.text = QLabel()
        self.text.setTextFormat(Qt.TextFormat.RichText)
        self.text.setAccessibleName("keyboard shortcuts")
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(self.text)
        layout.addWidget(buttons)

    def open_now(self) -> None:
        """Show it, up to date."""
        self.text.setText(help_text(self.session.classes))
        self.adjustSize()
        self.show()
        self.raise_()
