"""Text from outside in Qt: ids, paths, class names and errors are shown as they are, never taken for HTML.

Qt guesses: a tooltip or a label that looks like HTML is drawn as such, so that a slide called `<img src=…>` would load
that picture. Two helpers say what Qt shall not guess.
"""

from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QWidget


def as_plain(text: str) -> str:
    """`text` for a tooltip or a message box: what Qt would take for HTML is escaped, other text stays as it is."""
    if not Qt.mightBeRichText(text):
        return text
    return f'<span style="white-space: pre-wrap">{escape(text)}</span>'


def plain_labels(parent: QWidget) -> None:
    """Make all labels inside `parent` show plain text, but for those that were made for HTML."""
    for label in parent.findChildren(QLabel):
        if label.textFormat() == Qt.TextFormat.AutoText:
            label.setTextFormat(Qt.TextFormat.PlainText)
