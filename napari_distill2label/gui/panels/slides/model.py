"""The slides as a Qt table model: a view of `Session.cohort`, sorted and filtered here.

A proxy model would sort and filter by asking for one cell at a time: a second for 10,000 slides.
"""

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

from psygnal import Signal as Psygnal
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt
from qtpy.QtGui import QIcon

from ....core.classes import split_label
from ....core.errors import Distill2LabelError
from ....core.geometry import PatchGrid, mean_mpp
from ....slides.discovery import natural_key
from ....slides.preview import SlidePreview
from ....store.cohort import CohortSlide
from ...messages import message_of
from ...plain_text import as_plain
from ...session import Session
from ...widgets.icons import alarm_colour, colour_icon, state_icon, theme_colour, thumbnail_icon
from .slide_filter import CONTRADICTS, PROBLEM, UNLABELLED, UNPREDICTED, SlideFilter

COLUMNS = ("Slide", "Label", "Case", "Split", "µm/px", "Patches", "P(finding)", "Status")
NAME, LABEL, CASE, SPLIT, MPP, PATCHES, PREDICTION, STATUS = range(len(COLUMNS))
EDITABLE = (LABEL, CASE, SPLIT, MPP)
NUMBERS = (MPP, PATCHES)
NO_LABEL = "–"
UNLIKE = "unlike training"
UNLIKE_TIP = (
    "The slide is unlike the slides that the model was trained on: {:.1f} times the distance that 9 of 10 slides "
    "like them keep. Another stain, scanner or kind of tissue? Its labels may be worth less."
)
AUTO = "auto"  # a split that the training deals
THUMBNAIL = 32  # px
_PLAIN = Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemNeverHasChildren
_FLAGS = _PLAIN, _PLAIN | Qt.ItemFlag.ItemIsEditable
SLIDE_ID_ROLE = Qt.ItemDataRole.UserRole
_TOOLTIPS = (
    "The slide's name. Select it to see it.",
    "The diagnosis of the whole slide. Double-click to change it.",
    "Slides of one case (patient) always go to the same split. Double-click to change it.",
    "What training uses the slide for: train, valid (picks the epoch), test (held out), or auto: training decides.",
    "Size of a pixel in µm, at full resolution. Double-click to give it where the file does not say.",
    "Patches looked at: counted where the slide has been predicted, else at most (≤).",
    "P(finding): the probability that the slide shows the likeliest finding, 0 to 1; then the class that the model "
    "gives the slide. A warning sign: the label says something else.",
    "What has been done with the slide, and what is wrong with it.",
)


class SlidesModel(QAbstractTableModel):
    """Rows are slides. It holds no data of its own but the ids in their order, and those of them that are shown."""

    refused = Psygnal(str)  # why an edit in the table was not taken

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.show_thumbnails = True
        self.brief = False  # of the state of a slide only the mark is shown, its words as a tooltip
        self._slides: tuple[CohortSlide, ...] = ()
        self.filter = SlideFilter()
        self._all_ids: list[str] = []
        self._ids: list[str] = []
        self._haystacks: dict[str, str] = {}
        self._is_sorted = False  # and nothing has changed since
        self._rows: dict[str, CohortSlide] = {}
        self._numbers: dict[str, int] = {}
        self._order: tuple[int, Qt.SortOrder] | None = None
        self._pixmaps: dict[str, tuple[SlidePreview | None, QIcon]] = {}
        self._grid = None
        self._counts: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self.refresh()

    # ---- following the session ------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Follow the session: reset only if slides came or went, so that the selection and the order stay."""
        slides = self.session.cohort.slides
        if slides is not self._slides:
            rows = {row.slide_id: row for row in slides}
            if rows.keys() != self._rows.keys() or (self._order is None and list(rows) != self._all_ids):
                self.beginResetModel()
                self._slides, self._rows, self._all_ids = slides, rows, list(rows)
                self._haystacks.clear()
                self._sort_ids()
                self._choose_ids()
                self.endResetModel()
                return
            self._slides, self._rows = slides, rows
        self.redraw()

    def redraw(self, columns: tuple[int, int] = (0, len(COLUMNS) - 1)) -> None:
        """All rows may look different; only those in sight are drawn again."""
        self._haystacks.clear()
        self._is_sorted = False
        if self._ids:
            self.dataChanged.emit(self.index(0, columns[0]), self.index(len(self._ids) - 1, columns[1]))

    def settings_changed(self) -> None:
        self._grid = None
        self.redraw((MPP, STATUS))

    def previewed(self, slide_id: str) -> None:
        """There is a picture of a slide now, and its scale and size are known."""
        self._is_sorted = False
        if (number := self.row_of(slide_id)) >= 0:
            self.dataChanged.emit(self.index(number, NAME), self.index(number, STATUS))

    def forget_pictures(self) -> None:
        """Draw them again: the theme has changed."""
        self._pixmaps.clear()

    @property
    def ids(self) -> list[str]:
        """Ids of the rows that are shown, in their order."""
        return self._ids

    @property
    def all_ids(self) -> list[str]:
        """Ids of all slides in the same order, shown or not."""
        return self._all_ids

    def row_of(self, slide_id: str | None) -> int:
        """-1 for a slide that is not listed, or filtered out."""
        return self._numbers.get(slide_id or "", -1)

    # ---- sorting --------------------------------------------------------------------------------------------------

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column, -1 for the table's own order. Later edits do not move rows away from under the pointer."""
        if self._is_sorted and self._order == (column, order):
            return  # a table view asks twice
        self.beginResetModel()  # whoever selects keeps ids: moving an index for each selected cell takes seconds
        self._order = None if column < 0 else (column, order)
        self._all_ids = list(self._rows)
        self._sort_ids()
        self._choose_ids()
        self.endResetModel()

    def _sort_ids(self) -> None:
        if self._order is not None:
            column, order = self._order
            keys = {slide_id: self._key(slide_id, column) for slide_id in self._all_ids}
            known = [slide_id for slide_id in self._all_ids if keys[slide_id] is not None]
            unknown = [slide_id for slide_id in self._all_ids if keys[slide_id] is None]
            known.sort(key=keys.__getitem__, reverse=order == Qt.SortOrder.DescendingOrder)
            self._all_ids = known + unknown  # what is not known comes last, either way
        self._is_sorted = True

    def _key(self, slide_id: str, column: int) -> Any:
        row = self._rows[slide_id]
        if column == LABEL:
            classes = self.session.classes
            names = split_label(row.label)
            return [classes.index(name) if name in classes else len(classes) for name in names] or None
        if column == MPP:
            return self.mpp_of(row)
        if column == PATCHES:
            return self._patches(row)[0]
        if column == PREDICTION:
            return self._score(slide_id)
        return natural_key(self.text(slide_id, column)) or None

    # ---- filtering ------------------------------------------------------------------------------------------------

    def look_for(
        self, text: str, kind: str | None = None, class_name: str | None = None, split: str | None = None
    ) -> None:
        """Show other slides: see `SlideFilter`. `kind` None: as before.

        Rows stay where they are while they are edited: a slide just labelled must not vanish under the pointer.
        """
        # A reset: taking rows out one range after the other is quadratic, with a selection even more so.
        self.beginResetModel()
        self.filter = SlideFilter(tuple(text.casefold().split()), kind or self.filter.kind, class_name, split)
        self._choose_ids()
        self.endResetModel()

    def _choose_ids(self) -> None:
        self._ids = list(filter(self._is_shown, self._all_ids)) if self.filter.active else self._all_ids
        self._numbers = {slide_id: number for number, slide_id in enumerate(self._ids)}

    def _is_shown(self, slide_id: str) -> bool:
        wanted, row = self.filter, self._rows[slide_id]
        if wanted.class_name is not None and wanted.class_name not in split_label(row.label):
            return False
        if wanted.split is not None and (row.split or AUTO) != wanted.split:
            return False
        if not self._is_of_kind(slide_id, wanted.kind):
            return False
        if not wanted.words:
            return True
        text = self._haystack(slide_id)
        return all(word in text for word in wanted.words)

    def _is_of_kind(self, slide_id: str, kind: str) -> bool:
        if kind == UNLABELLED:
            return self._rows[slide_id].label is None
        if kind == UNPREDICTED:
            return not self.session.predictions.get(slide_id)
        if kind == CONTRADICTS:
            return self.contradicts(slide_id)
        return kind != PROBLEM or self._state(slide_id)[0] in ("failed", "warning")

    def _haystack(self, slide_id: str) -> str:
        """What words are looked for in; kept until something changes."""
        if slide_id not in self._haystacks:
            row, project = self._rows[slide_id], self.session.project
            parts = [slide_id, row.label or "", row.case_id, row.split or ""]
            if slide_id in project.predictions or slide_id in project.failures:
                parts += [project.slide_summary(slide_id), CONTRADICTS if self.contradicts(slide_id) else ""]
                parts += [UNLIKE if self._is_unlike(slide_id) else ""]
            self._haystacks[slide_id] = "\n".join(parts).casefold()
        return self._haystacks[slide_id]

    # ---- Qt's questions -------------------------------------------------------------------------------------------

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008 - Qt's own signature
        return 0 if parent.isValid() else len(self._ids)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(COLUMNS)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        slide_id, column = self._ids[index.row()], index.column()
        if role == SLIDE_ID_ROLE:
            return slide_id
        if role == Qt.ItemDataRole.DisplayRole:
            return "" if self.brief and column == STATUS else self._display(slide_id, column)
        if role == Qt.ItemDataRole.AccessibleTextRole:
            contradicts = column == PREDICTION and self.contradicts(slide_id)
            return self.text(slide_id, column) + (f", {CONTRADICTS}" if contradicts else "")
        if role == Qt.ItemDataRole.EditRole:
            row = self._rows[slide_id]
            return row.mpp if column == MPP else self.text(slide_id, column)
        if role == Qt.ItemDataRole.DecorationRole:
            return self._decoration(slide_id, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return as_plain(self._tooltip(slide_id, column))
        if role == Qt.ItemDataRole.TextAlignmentRole and column in NUMBERS:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return "" if self.brief and section == STATUS else COLUMNS[section]
            if role == Qt.ItemDataRole.ToolTipRole:
                return f"{_TOOLTIPS[section]} Click to sort; right-click to choose columns."
        return None

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        return _FLAGS[index.column() in EDITABLE]  # asked for every selected cell, whenever the table is drawn

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        if role != Qt.ItemDataRole.EditRole or index.column() not in EDITABLE:
            return False
        return self.change(self._ids[index.row()], index.column(), value)

    def change(self, slide_ids: str | Iterable[str], column: int, value: Any) -> bool:
        """Set a column of slides; False, and `refused` says why, if it cannot be."""
        try:
            if column == LABEL:
                self.session.set_label(slide_ids, None if value == NO_LABEL else value)
            elif column == CASE:
                self.session.set_case(slide_ids, value)
            elif column == SPLIT:
                self.session.set_split(slide_ids, None if value in (AUTO, None) else value)
            elif column == MPP:
                self.session.set_mpp(slide_ids, value or None)
        except Distill2LabelError as error:
            self.refused.emit(message_of(error))
            return False
        return True

    # ---- what is shown --------------------------------------------------------------------------------------------

    def text(self, slide_id: str, column: int) -> str:
        """What a cell says."""
        row = self._rows[slide_id]
        if column == NAME:
            return slide_id
        if column == LABEL:
            return row.label or NO_LABEL
        if column == CASE:
            return row.case_id
        if column == SPLIT:
            return row.split or AUTO
        if column == MPP:
            return self._mpp_text(row)
        if column == PATCHES:
            count, exact = self._patches(row)
            return "" if count is None else f"{count:,}" if exact else f"≤ {count:,}"
        if column == PREDICTION:
            verdict = None if slide_id in self.session.failures else self.session.project.verdict(slide_id)
            return "" if verdict is None else f"{verdict.finding_probability:.2f} · {' + '.join(verdict.said)}"
        return self._state(slide_id)[1]

    def _display(self, slide_id: str, column: int) -> str:
        text = self.text(slide_id, column)
        if column == LABEL and (share := self._rows[slide_id].share) is not None:
            return f"{text}{chr(10) if self.show_thumbnails else ', '}{100 * share:.0f} %"
        # Rows with pictures have room for two lines.
        return text.replace(" · ", "\n") if column == PREDICTION and self.show_thumbnails else text

    def contradicts(self, slide_id: str) -> bool:
        """Does the model say something else of a slide than its label?"""
        verdict = None if slide_id in self.session.failures else self.session.project.verdict_on_label(slide_id)
        return verdict is not None and verdict.contradicts(self._rows[slide_id].label)

    def _state(self, slide_id: str) -> tuple[str, str, str]:
        """(mark, text, longer text) of a slide."""
        row, session = self._rows[slide_id], self.session
        preview = session.previews.get(slide_id, row.path)
        if reason := session.failures.get(slide_id) or (preview.reason if preview else ""):
            return "failed", "failed", reason
        if self.misses_mpp(row):
            return "warning", "no µm/px", "The file has no pixel size, but others do. Enter it."
        unknown = [name for name in split_label(row.label) if name not in session.classes]
        if unknown:
            return "warning", "no such class", f"The label {unknown[0]!r} is none of the classes."
        if self.contradicts(slide_id):
            return "warning", CONTRADICTS, self._contradiction(slide_id)
        if self._is_unlike(slide_id):
            return "warning", UNLIKE, UNLIKE_TIP.format(session.project.unlikeness(slide_id))
        if session.predictions.get(slide_id):
            return "done", "predicted", f"Predicted: {session.project.slide_summary(slide_id)}"
        if row.label:
            return "labelled", "labelled", "Has a label; not predicted yet."
        return "todo", "no label", "Has no label: it is not trained on, and can be predicted."

    def _is_unlike(self, slide_id: str) -> bool:
        """Is a slide marked as unlike the slides that its model was trained on?"""
        return (self.session.project.unlikeness(slide_id) or 0) > 1

    def _contradiction(self, slide_id: str) -> str:
        verdict, label = self.session.project.verdict_on_label(slide_id), self._rows[slide_id].label
        return f"The model says {verdict}. This contradicts the label, {label}: look at the slide again."

    @property
    def mpp_matters(self) -> bool:
        """Does some slide, or the patches' setting, have a µm/px?"""
        return self.session.previews.any_mpp or self._wanted_grid().mpp is not None

    def misses_mpp(self, row: CohortSlide) -> bool:
        """Is it known that nobody says this slide's µm/px, and does it matter?"""
        if not self.mpp_matters:
            return False
        preview = self.session.previews.get(row.slide_id, row.path)
        return row.mpp is None and preview is not None and not preview.reason and preview.mpp is None

    def mpp_of(self, row: CohortSlide) -> float | None:
        preview = self.session.previews.get(row.slide_id, row.path)
        return row.mpp or (mean_mpp(preview.mpp) if preview and preview.mpp else None)

    def _mpp_text(self, row: CohortSlide) -> str:
        if row.mpp is not None:
            return f"{row.mpp:.4g} (entered)"
        preview = self.session.previews.get(row.slide_id, row.path)
        if preview is None:
            return "…"
        return f"{mean_mpp(preview.mpp):.4g}" if preview.mpp else "not in file" if not preview.reason else ""

    def _patches(self, row: CohortSlide) -> tuple[int | None, bool]:
        """(patches, are they counted?): counted of a prediction, else as many as the grid has cells."""
        maps = self.session.predictions.get(row.slide_id, {})
        if found := maps.get(self.session.network or "") or next(iter(maps.values()), None):
            return self._counted(found), True
        preview = self.session.previews.get(row.slide_id, row.path)
        if preview is None or preview.shape is None:
            return None, False
        try:
            mpp = (row.mpp, row.mpp) if row.mpp else preview.mpp
            grid = PatchGrid.over(preview.shape, self._wanted_grid(), mpp)
        except Distill2LabelError:
            return None, False
        return grid.rows * grid.cols, False

    def _counted(self, patch_map: Any) -> int:
        if patch_map not in self._counts:
            self._counts[patch_map] = int(patch_map.patches.scored.sum())
        return self._counts[patch_map]

    def _score(self, slide_id: str) -> float | None:
        """Probability of the likeliest finding of a slide; None where nothing is predicted."""
        verdict = self.session.project.verdict(slide_id)
        return None if verdict is None else verdict.finding_probability

    def _wanted_grid(self) -> Any:
        if self._grid is None:
            self._grid = self.session.settings.patches
        return self._grid

    def _decoration(self, slide_id: str, column: int) -> Any:
        viewer = self.session.viewer
        if column == NAME and self.show_thumbnails:
            preview = self.session.previews.get(slide_id, self._rows[slide_id].path)
            kept = self._pixmaps.get(slide_id)
            if kept is None or kept[0] is not preview:
                pixels = preview.picture if preview else None
                kept = self._pixmaps[slide_id] = (
                    preview,
                    thumbnail_icon(pixels, THUMBNAIL, theme_colour(viewer, "icon")),
                )
            return kept[1]
        if column == LABEL:
            names, session = split_label(self._rows[slide_id].label), self.session
            known = [name for name in names if name in session.classes]
            if known:
                return colour_icon(
                    session.colours[session.classes.index(known[-1])], theme_colour(viewer, "icon").name()
                )
        if column == PREDICTION and self.contradicts(slide_id):
            return state_icon("warning", theme_colour(viewer, "warning").name())
        if column == STATUS:
            kind = self._state(slide_id)[0]
            shade = theme_colour(viewer, "warning" if kind == "warning" else "icon")
            return state_icon(kind, (alarm_colour(viewer) if kind == "failed" else shade).name())
        return None

    def _tooltip(self, slide_id: str, column: int) -> str:
        row = self._rows[slide_id]
        preview = self.session.previews.get(slide_id, row.path)
        if column == NAME:
            size = f"\n{preview.shape[1]:,} × {preview.shape[0]:,} px" if preview and preview.shape else ""
            return f"{row.path}{size}"
        if column == PREDICTION and self.text(slide_id, column):
            return (
                self._contradiction(slide_id)
                if self.contradicts(slide_id)
                else self.session.project.slide_summary(slide_id)
            )
        if column == STATUS:
            return self._state(slide_id)[2]
        if column == MPP:
            states = (
                f"the file says {mean_mpp(preview.mpp):.4g}" if preview and preview.mpp else "the file says nothing"
            )
            if row.mpp is not None:
                return f"{row.mpp:.4g} µm/px, as given by you; {states if preview else 'the file was not read yet'}"
            return f"µm per pixel: {states}" if preview else "The file has not been looked at yet."
        return self.text(slide_id, column) or _TOOLTIPS[column]
