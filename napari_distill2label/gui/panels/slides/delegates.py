"""Editors of single cells of the table of slides; what is chosen is set for all selected rows at once."""

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QAbstractItemModel, QModelIndex, QObject, Qt
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QLineEdit, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from ....slides.scale import LIMITS
from ...widgets.controls import single_shot
from .model import CASE, COLUMNS, SLIDE_ID_ROLE

Commit = Callable[[str, int, object], None]  # slide id, column, value


class _CellDelegate(QStyledItemDelegate):
    def __init__(self, commit: Commit, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._commit = commit

    def _done(self, index: QModelIndex, value: object) -> None:
        self._commit(index.data(SLIDE_ID_ROLE), index.column(), value)

    def setEditorData(self, editor: QWidget, index: QModelIndex) -> None:
        """Once: a row that is drawn again meanwhile (a picture has come) must not undo what is being typed."""
        if not editor.property("filled"):
            editor.setProperty("filled", True)
            self._fill(editor, index.data(Qt.ItemDataRole.EditRole))

    def _fill(self, editor: QWidget, value: Any) -> None:
        """Put a value into the editor."""
        raise NotImplementedError

    def _named(self, editor: QWidget, index: QModelIndex) -> None:
        editor.setAccessibleName(f"{COLUMNS[index.column()]} of {index.data(SLIDE_ID_ROLE)}")
        editor.setToolTip("Applies to all selected slides if this one is among them")


class ChoiceDelegate(_CellDelegate):
    """A combo box; what is chosen is set at once."""

    def __init__(self, choices: Callable[[], Sequence[str]], commit: Commit, parent: QObject | None = None) -> None:
        super().__init__(commit, parent)
        self._choices = choices

    def createEditor(self, parent: QWidget, option: QStyleOptionViewItem, index: QModelIndex) -> QComboBox:
        box = QComboBox(parent)
        now = index.data(Qt.ItemDataRole.EditRole)
        choices = list(self._choices())
        box.addItems(choices if now in choices else [*choices, now])
        self._named(box, index)
        box.activated.connect(lambda: self._close(box))
        single_shot(box, 0, box.showPopup).start()
        return box

    def _close(self, box: QComboBox) -> None:
        self.commitData.emit(box)
        self.closeEditor.emit(box)

    def _fill(self, editor: QComboBox, value: str) -> None:
        editor.setCurrentText(value)

    def setModelData(self, editor: QComboBox, model: QAbstractItemModel, index: QModelIndex) -> None:
        self._done(index, editor.currentText())


class TextDelegate(_CellDelegate):
    """A line of text."""

    def createEditor(self, parent: QWidget, option: QStyleOptionViewItem, index: QModelIndex) -> QLineEdit:
        line = QLineEdit(parent)
        self._named(line, index)
        return line

    def _fill(self, editor: QLineEdit, value: str) -> None:
        editor.setText(value)

    def setModelData(self, editor: QLineEdit, model: QAbstractItemModel, index: QModelIndex) -> None:
        if index.column() == CASE and editor.text().strip() != index.data(Qt.ItemDataRole.EditRole):
            self._done(index, editor.text())


class MppDelegate(_CellDelegate):
    """µm per pixel; the lowest value means: what the file says."""

    def createEditor(self, parent: QWidget, option: QStyleOptionViewItem, index: QModelIndex) -> QDoubleSpinBox:
        box = QDoubleSpinBox(parent)
        box.setDecimals(4)
        box.setRange(0, LIMITS[1])
        box.setSingleStep(0.05)
        box.setSpecialValueText("from the file")
        self._named(box, index)
        return box

    def _fill(self, editor: QDoubleSpinBox, value: float | None) -> None:
        editor.setValue(value or 0)

    def setModelData(self, editor: QDoubleSpinBox, model: QAbstractItemModel, index: QModelIndex) -> None:
        editor.interpretText()
        if editor.value() != (index.data(Qt.ItemDataRole.EditRole) or 0):
            self._done(index, editor.value() or None)
