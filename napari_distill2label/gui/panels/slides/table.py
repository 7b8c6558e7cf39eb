"""The table of slides: columns that can be hidden and are remembered, rows that are read only while in sight."""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby

from qtpy.QtCore import QItemSelection, QItemSelectionModel, QModelIndex, QSize, Qt
from qtpy.QtGui import QResizeEvent, QShowEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QMenu, QTableView

from ....store.cohort import SPLITS
from ...session import Session
from ...widgets.controls import existing, single_shot
from ...widgets.window_state import window_state
from .delegates import ChoiceDelegate, MppDelegate, TextDelegate
from .model import (
    AUTO,
    CASE,
    COLUMNS,
    LABEL,
    MPP,
    NAME,
    NO_LABEL,
    PATCHES,
    PREDICTION,
    SLIDE_ID_ROLE,
    SPLIT,
    STATUS,
    THUMBNAIL,
    SlidesModel,
)

STATE = "slides/columns-1"
WIDTHS = {LABEL: 82, CASE: 84, SPLIT: 58, MPP: 104, PATCHES: 66, PREDICTION: 128, STATUS: 96}  # px
NAME_WIDTH = 110  # px; the least
BRIEF = 28  # px; of a column with marks alone
HIDDEN = (CASE, SPLIT, MPP, PATCHES, PREDICTION)  # until the user wants them; the prediction until there is one
AFTER_SCROLLING = 60  # ms until the rows in sight are read


class SlidesTable(QTableView):
    """A view of the session's slides."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.source = SlidesModel(session, self)
        self.setModel(self.source)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setWordWrap(False)
        self.setShowGrid(False)
        self.setMinimumHeight(236)
        self.setAccessibleName("slides")
        self.setTabKeyNavigation(False)  # Tab goes on to the next widget, arrow keys move inside
        self._add_delegates()
        self._reading = single_shot(self, AFTER_SCROLLING, self.read_visible)
        self._keeping = single_shot(self, 500, self._keep_columns)
        self._set_up_headers()
        existing(self.verticalScrollBar()).valueChanged.connect(lambda: self._reading.start())
        self.source.modelReset.connect(lambda: self._reading.start())
        self.set_thumbnails(session.project.preferences().thumbnails)

    def _add_delegates(self) -> None:
        def commit(slide_id: str, column: int, value: object) -> None:
            chosen = self.selected()
            self.source.change(chosen if slide_id in chosen else [slide_id], column, value)

        labels = ChoiceDelegate(lambda: [NO_LABEL, *self.session.classes], commit, self)
        splits = ChoiceDelegate(lambda: [AUTO, *SPLITS], commit, self)
        for column, delegate in (
            (LABEL, labels), (SPLIT, splits), (CASE, TextDelegate(commit, self)), (MPP, MppDelegate(commit, self))
        ):  # fmt: skip
            self.setItemDelegateForColumn(column, delegate)

    # ---- columns --------------------------------------------------------------------------------------------------

    def _set_up_headers(self) -> None:
        rows = existing(self.verticalHeader())
        rows.hide()
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)  # else Qt would ask every row for its height
        header = existing(self.horizontalHeader())
        header.setHighlightSections(False)
        # Its own, always empty: else it would ask every selected row for its flags whenever it is drawn.
        header.setSelectionModel(QItemSelectionModel(self.source, header))
        header.setMinimumSectionSize(28)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        for column, width in WIDTHS.items():
            self.setColumnWidth(column, width)
        self._fitting = False
        self._chosen = False  # has the user chosen columns?
        state = window_state().value(STATE)
        if not (state and header.restoreState(state) and header.count() == len(COLUMNS)):
            for column in HIDDEN:
                self.setColumnHidden(column, True)
        else:
            self._chosen = True
        self.setColumnHidden(NAME, False)
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        header.setSortIndicatorClearable(True)
        self.setSortingEnabled(True)
        header.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        header.customContextMenuRequested.connect(lambda at: self.columns_menu().exec(header.mapToGlobal(at)))
        header.sectionResized.connect(self._on_resized)
        self.fit()

    def columns_menu(self) -> QMenu:
        """Which columns are shown, and whether pictures are."""
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        for column, title in enumerate(COLUMNS):
            if column != NAME:
                self._add_check(menu, title, not self.isColumnHidden(column), partial(self.show_column, column))
        menu.addSeparator()
        self._add_check(menu, "Thumbnails", self.source.show_thumbnails, self.set_thumbnails)
        existing(menu.addAction("Reset columns")).triggered.connect(self.usual_columns)
        return menu

    def _add_check(self, menu: QMenu, title: str, checked: bool, slot: Callable[[bool], None]) -> None:
        action = existing(menu.addAction(title))
        action.setCheckable(True)
        action.setChecked(checked)
        action.toggled.connect(slot)

    def show_column(self, column: int, shown: bool) -> None:
        """Show or hide a column, from now on."""
        self._set_brief(False)
        self.setColumnHidden(column, not shown)
        self._chosen = True
        self.fit()
        self._keep_columns()

    def usual_columns(self) -> None:
        """As on the first day."""
        self._chosen = False
        self._set_brief(False)
        window_state().remove(STATE)
        for column, width in WIDTHS.items():
            self.setColumnHidden(column, column in HIDDEN)
            self.setColumnWidth(column, width)
        self.show_prediction()

    def show_prediction(self) -> None:
        """Show what was predicted as soon as there is something, unless the user has chosen columns."""
        if not self._chosen and self.session.predictions and self.isColumnHidden(PREDICTION):
            self._set_brief(True)
            self.setColumnHidden(PREDICTION, False)
        self.fit()

    def _set_brief(self, brief: bool) -> None:
        """Both the prediction and the words of the status do not fit beside each other in a narrow dock."""
        if self.source.brief != brief:
            self.source.brief = brief
            self._fitting = True
            self.setColumnWidth(STATUS, BRIEF if brief else WIDTHS[STATUS])
            self._fitting = False
            self.source.redraw((STATUS, STATUS))
            self.source.headerDataChanged.emit(Qt.Orientation.Horizontal, STATUS, STATUS)

    def set_thumbnails(self, shown: bool) -> None:
        """Show a picture of each slide; without them, rows are lower."""
        self.source.show_thumbnails = shown
        self.setIconSize(QSize(THUMBNAIL, THUMBNAIL) if shown else QSize(16, 16))
        existing(self.verticalHeader()).setDefaultSectionSize(
            THUMBNAIL + 4 if shown else self.fontMetrics().height() + 8
        )
        self.source.redraw((NAME, NAME))
        self._reading.start()

    def fit(self) -> None:
        """The name takes the room that is left."""
        others = sum(self.columnWidth(column) for column in WIDTHS if not self.isColumnHidden(column))
        width = max(NAME_WIDTH, existing(self.viewport()).width() - others)
        if self.columnWidth(NAME) != width:
            self.setColumnWidth(NAME, width)

    def _on_resized(self, column: int, before: int, after: int) -> None:
        by_hand = before and after and self.isVisible() and not self._fitting  # not hidden or shown
        if column != NAME and by_hand:
            if column == STATUS:
                self._set_brief(False)
            self._chosen = True
            self.fit()
            self._keeping.start()

    def _keep_columns(self) -> None:
        window_state().setValue(STATE, existing(self.horizontalHeader()).saveState())

    # ---- rows -----------------------------------------------------------------------------------------------------

    def selected(self) -> list[str]:
        """Ids of the selected slides, in the table's order."""
        ranges = existing(self.selectionModel()).selection()
        spans = sorted({(ranges[at].top(), ranges[at].bottom()) for at in range(len(ranges))})
        return [slide_id for top, bottom in spans for slide_id in self.source.ids[top : bottom + 1]]

    def select_ids(self, slide_ids: Iterable[str]) -> None:
        """Select these slides and no other; those filtered out cannot be."""
        rows = sorted(index.row() for slide_id in slide_ids if (index := self.index_of(slide_id)).isValid())
        selection = QItemSelection()
        for _, run in groupby(enumerate(rows), key=lambda pair: pair[1] - pair[0]):  # rows in a row are one range
            numbers = [number for _, number in run]
            selection.select(self.source.index(numbers[0], NAME), self.source.index(numbers[-1], NAME))
        flags = QItemSelectionModel.SelectionFlag
        existing(self.selectionModel()).select(selection, flags.ClearAndSelect | flags.Rows)

    def index_of(self, slide_id: str | None) -> QModelIndex:
        """Where a slide is shown; an invalid index if it is not listed, or filtered out."""
        number = self.source.row_of(slide_id)
        return self.source.index(number, NAME) if number >= 0 else QModelIndex()

    def go_to(self, slide_id: str | None) -> None:
        """Make a slide the current and only selected one, and scroll to it."""
        index = self.index_of(slide_id)
        if index.isValid():
            flags = QItemSelectionModel.SelectionFlag
            existing(self.selectionModel()).setCurrentIndex(index, flags.ClearAndSelect | flags.Rows)
            self.scrollTo(index)

    def make_current(self, slide_id: str | None) -> None:
        """Arrow keys go on from this slide; the selection stays as it is."""
        index = self.index_of(slide_id)
        if index.isValid():
            existing(self.selectionModel()).setCurrentIndex(index, QItemSelectionModel.SelectionFlag.NoUpdate)
            self.scrollTo(index)

    def current_id(self) -> str | None:
        """Id of the slide that arrow keys go on from."""
        index = existing(self.selectionModel()).currentIndex()
        return index.siblingAtColumn(NAME).data(SLIDE_ID_ROLE) if index.isValid() else None

    def visible_ids(self) -> list[str]:
        """Ids of the slides as the table has them: sorted, without those filtered out."""
        return list(self.source.ids)

    def ids_in_sight(self) -> list[str]:
        """Of the rows that can be seen without scrolling."""
        if not self.source.ids or not self.isVisible():
            return []
        last = self.rowAt(existing(self.viewport()).height() - 1)
        return self.source.ids[max(0, self.rowAt(0)) : None if last < 0 else last + 1]

    def read_visible(self) -> None:
        """Have the pictures of the rows in sight read, in the background."""
        if self.source.show_thumbnails:
            self.session.previews.request(self.ids_in_sight())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.fit()
        self._reading.start()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._reading.start()
