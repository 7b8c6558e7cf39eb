"""The list of runs: what was trained, when and how well; load, compare, go on, open the folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QItemSelectionModel, QModelIndex, Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QAbstractItemView, QGridLayout, QLabel, QTableView, QVBoxLayout, QWidget

from ....store.run_summary import RunSummary
from ...plain_text import as_plain
from ...session import Session
from ...widgets.controls import button, existing

EMPTY = "No runs yet. What you train is listed here; a run or a model from elsewhere can be loaded from disk."
ROWS = 5  # in sight
MOST_COMPARED = 7  # runs with a colour of their own

Column = tuple[str, str, Callable[[RunSummary], str], Callable[[RunSummary], Any]]


def _number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)


COLUMNS: tuple[Column, ...] = (
    ("Run", "Name of its folder", lambda run: run.name, lambda run: run.name.lower()),
    ("State", "Finished, or where it was stopped", lambda run: _state(run), lambda run: run.state),
    ("AUROC", "Of the validation slides: 1 is perfect, 0.5 is chance", lambda run: _number(run.auroc, ".2f"),
     lambda run: -1.0 if run.auroc is None else run.auroc),
    ("Loss", "Validation loss of the selected epoch. Smaller is better", lambda run: _number(run.valid_loss),
     lambda run: float("inf") if run.valid_loss is None else run.valid_loss),
    ("Date", "When it was started", lambda run: run.started.strftime("%d %b %H:%M"), lambda run: run.started),
    ("Epochs", "Of teacher and student", lambda run: f"{run.epochs('teacher')[0]} + {run.epochs('student')[0]}",
     lambda run: run.epochs("student")[0]),
    ("Settings", "Kind of images and method", lambda run: f"{run.settings.preset}, {run.settings.method}",
     lambda run: (run.settings.preset, run.settings.method)),
    ("Corrections", "Corrected patches it was trained with", lambda run: f"{run.n_corrections:,}",
     lambda run: run.n_corrections),
)  # fmt: skip


def _state(run: RunSummary) -> str:
    return "✓ finished" if run.is_finished else f"✕ {run.state}" if run.problem else f"■ {run.state}"


class RunsModel(QAbstractTableModel):
    """The session's runs as Qt wants them."""

    def __init__(self, session: Session, parent: QWidget) -> None:
        super().__init__(parent)
        self._runs = session.runs
        self.rows: list[RunSummary] = []
        self._order: tuple[int, bool] | None = None  # column, descending

    def refresh(self) -> None:
        self.beginResetModel()
        self.rows = list(self._runs.found)
        if self._order is not None:
            column, down = self._order
            self.rows.sort(key=COLUMNS[column][3], reverse=down)
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return len(COLUMNS)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        run = self.rows[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[index.column()][2](run)
        if role == Qt.ItemDataRole.ToolTipRole:
            return as_plain(describe(run))
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[section][0]
        return COLUMNS[section][1] if role == Qt.ItemDataRole.ToolTipRole else None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        self._order = None if column < 0 else (column, order == Qt.SortOrder.DescendingOrder)
        self.refresh()


def describe(run: RunSummary) -> str:
    """All that is known of a run, for its tooltip."""
    lines = [str(run.folder), run.state]
    if not run.problem:
        lines += [
            f"{run.settings.preset}, {run.settings.method}; classes {', '.join(run.classes)}",
            f"{run.n_train} slides trained on, {run.n_valid} for validation" if run.n_train else "",
            f"{run.n_corrections} corrected patches" if run.n_corrections else "",
            f"models: {', '.join(run.models)}" if run.models else "no model yet",
        ]
    return "\n".join(line for line in lines if line)


class RunsView(QWidget):
    """The table and what can be done with the runs selected in it."""

    load = Signal(str)  # a folder
    resume = Signal(object)  # a RunSummary
    compare = Signal(object)  # a list of RunSummary; empty: no longer

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.empty = QLabel(EMPTY)
        self.empty.setWordWrap(True)
        self.model = RunsModel(session, self)
        self.table = QTableView()
        self.table.setModel(self.model)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSortingEnabled(True)
        existing(self.table.horizontalHeader()).setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.table.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.table.setWordWrap(False)
        existing(self.table.verticalHeader()).hide()
        self.table.setAccessibleName("runs")
        self.table.setTabKeyNavigation(False)  # Tab goes on to the next widget, arrow keys move inside
        self.table.doubleClicked.connect(lambda index: self._load())
        self.use = button("Load", "Load the selected run's models, to predict with", self._load)
        self.go_on = button("Resume", "Resume the selected run where it was stopped", self._resume)
        self.over = button("Compare", "Lay the curves of the selected runs over one another", self._compare)
        self.over.setCheckable(True)
        self.reveal = button("Open folder", "Show the selected run in the file manager", self._reveal)
        self.from_disk = button("Load from disk…", "Load a run, or a model bundle, from any folder", lambda: None)
        self.again = button("Refresh", "Look for runs on the disk again", session.runs.look)
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        for index, made in enumerate((self.use, self.go_on, self.over, self.reveal, self.from_disk, self.again)):
            grid.addWidget(made, index // 3, index % 3)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.empty)
        layout.addWidget(self.table)
        layout.addLayout(grid)
        existing(self.table.selectionModel()).selectionChanged.connect(self._on_selection)
        self.refresh()

    def selected(self) -> list[RunSummary]:
        """The selected runs, in the table's order."""
        rows = sorted(index.row() for index in existing(self.table.selectionModel()).selectedRows())
        return [self.model.rows[number] for number in rows if number < len(self.model.rows)]

    def refresh(self) -> None:
        """Show the session's runs; what was selected stays so."""
        before = {run.folder for run in self.selected()}
        self.model.refresh()
        selection, flags = existing(self.table.selectionModel()), QItemSelectionModel.SelectionFlag
        for number, run in enumerate(self.model.rows):
            if run.folder in before:
                selection.select(self.model.index(number, 0), flags.Select | flags.Rows)
        shown = bool(self.model.rows)
        self.empty.setVisible(not shown)
        self.table.setVisible(shown)
        height = self.table.rowHeight(0) if shown else 0
        rows = min(ROWS, max(2, len(self.model.rows)))
        self.table.setFixedHeight(existing(self.table.horizontalHeader()).sizeHint().height() + rows * height + 20)
        self.table.resizeColumnsToContents()
        for column, most in ((0, 120), (1, 130)):
            self.table.setColumnWidth(column, min(most, self.table.columnWidth(column)))
        self.refresh_buttons()

    def refresh_buttons(self) -> None:
        """What can be done with the selection, and why not the rest."""
        chosen = self.selected()
        busy = self.session.jobs.busy
        one = "" if len(chosen) == 1 else "Select one run in the list."
        usable = one or ("" if chosen[0].models else "This run has no trained model yet: resume it.")
        _enable(self.use, usable, "Load the selected run's models, to predict with")
        stopped = one or ("" if chosen[0].can_resume else "This run is finished." if not chosen[0].problem else
                          "This run is damaged.")  # fmt: skip
        stopped = stopped or ("Something else is going on." if busy else "")
        _enable(self.go_on, stopped, "Resume the selected run where it was stopped")
        curves = [run for run in chosen if run.curves]
        missing = "" if curves else "Select the runs to compare in the list (Ctrl+click for several)."
        _enable(self.over, missing, "Lay the curves of the selected runs over one another")
        if missing and self.over.isChecked():
            self.over.setChecked(False)
            self.compare.emit([])
        _enable(self.reveal, one, "Show the selected run in the file manager")

    def _on_selection(self, *_: object) -> None:
        self.refresh_buttons()
        if self.over.isChecked():
            self._compare()

    def _load(self) -> None:
        chosen = self.selected()
        if len(chosen) == 1 and chosen[0].models:
            self.load.emit(str(chosen[0].folder))

    def _resume(self) -> None:
        self.resume.emit(self.selected()[0])

    def _compare(self) -> None:
        runs = [run for run in self.selected() if run.curves][:MOST_COMPARED]
        self.compare.emit(runs if self.over.isChecked() else [])

    def _reveal(self) -> None:
        self.open_folder(self.selected()[0].folder)

    def open_folder(self, folder: Path) -> None:
        """In the system's file manager; a method of its own, so that a test can look on."""
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))


def names_apart(runs: list[RunSummary]) -> dict[str, RunSummary]:
    """Runs by names that differ: those of one name by their paths."""
    names = [run.name for run in runs]
    return {run.name if names.count(run.name) == 1 else str(run.folder): run for run in runs}


def _enable(widget: QWidget, reason: str, tip: str) -> None:
    widget.setEnabled(not reason)
    widget.setToolTip(as_plain(reason or tip))
