"""The slides as a Qt table model, and the combo box that labels them."""

from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt, QTimer
from qtpy.QtWidgets import QComboBox, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from ..core.errors import CohortError
from .session import Session

COLUMNS = ("Slide", "Label", "Status")
NAME, LABEL, STATUS = range(3)
NO_LABEL = "–"
_TOOLTIPS = (
    "The slide's name. Select it to see it.",
    "The diagnosis of the whole slide. Double-click to change it.",
    "What was predicted, or what went wrong.",
)
SLIDE_ID_ROLE = Qt.ItemDataRole.UserRole


class SlidesModel(QAbstractTableModel):
    """A view of `Session.cohort`; it holds no data of its own but the ids in their order."""

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self._ids: tuple[str, ...] = ()
        self._rows: dict[str, Any] = {}
        self.refresh()

    def refresh(self) -> None:
        """Follow the session: reset only if slides came or went, so that the selection stays."""
        ids = tuple(row.slide_id for row in self.session.cohort)
        rows = {row.slide_id: row for row in self.session.cohort}
        if ids != self._ids:
            self.beginResetModel()
            self._ids, self._rows = ids, rows
            self.endResetModel()
        elif ids:
            self._rows = rows
            self.dataChanged.emit(self.index(0, 0), self.index(len(ids) - 1, len(COLUMNS) - 1))

    def slide_id(self, row: int) -> str:
        return self._ids[row]

    def row_of(self, slide_id: str | None) -> int:
        """-1 for a slide that is not listed."""
        return self._ids.index(slide_id) if slide_id in self._ids else -1

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008 - Qt's own signature
        return 0 if parent.isValid() else len(self._ids)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(COLUMNS)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        slide_id = self._ids[index.row()]
        if role == SLIDE_ID_ROLE:
            return slide_id
        slide = self._rows[slide_id]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            if index.column() == NAME:
                return slide_id
            if index.column() == LABEL:
                return slide.label or NO_LABEL
            return self.session.status(slide_id)
        if role == Qt.ItemDataRole.ToolTipRole:
            return str(slide.path) if index.column() == NAME else self.data(index)
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return COLUMNS[section]
            if role == Qt.ItemDataRole.ToolTipRole:
                return _TOOLTIPS[section]
        return None

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        flags = super().flags(index)
        return flags | Qt.ItemFlag.ItemIsEditable if index.column() == LABEL else flags

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        if role != Qt.ItemDataRole.EditRole or index.column() != LABEL:
            return False
        try:
            self.session.set_label(self._ids[index.row()], None if value == NO_LABEL else value)
        except CohortError:
            return False
        return True


class LabelDelegate(QStyledItemDelegate):
    """A combo box with the classes; what is chosen is set at once."""

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.session = session

    def createEditor(self, parent: QWidget, option: QStyleOptionViewItem, index: QModelIndex) -> QComboBox:
        box = QComboBox(parent)
        box.addItems([NO_LABEL, *self.session.classes])
        box.setAccessibleName(f"label of {index.data(SLIDE_ID_ROLE)}")
        box.activated.connect(lambda: (self.commitData.emit(box), self.closeEditor.emit(box)))
        QTimer.singleShot(0, box.showPopup)
        return box

    def setEditorData(self, editor: QComboBox, index: QModelIndex) -> None:
        editor.setCurrentText(index.data(Qt.ItemDataRole.EditRole))

    def setModelData(self, editor: QComboBox, model: SlidesModel, index: QModelIndex) -> None:
        model.setData(index, editor.currentText())
