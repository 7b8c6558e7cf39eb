"""Step 1: which slides, and the diagnosis of each."""

from collections.abc import Iterable
from pathlib import Path

from qtpy.QtCore import QEvent, QModelIndex
from qtpy.QtGui import QDragEnterEvent, QDragMoveEvent, QDropEvent
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
)

from ....core.errors import Distill2LabelError, OutputError
from ....slides.discovery import FoundFiles, find_slides
from ....slides.registry import SUFFIXES
from ....store.cohort import SPLITS
from ...actions.classes import counted
from ...messages import message_of
from ...project.table_file import FoundLabels
from ...session import Session
from ...widgets.controls import Collapsible, Panel, button, existing, pop_up, row, set_hint, show_errors, single_shot
from ...widgets.help_popup import native
from ...widgets.short import shorten_middle
from .changed_strip import ChangedStrip
from .classes import ClassesEditor
from .labels_bar import LabelBar
from .model import AUTO
from .regions import RegionEditor
from .save_status import CloseGuard, SaveStatus
from .slide_filter import CONTRADICTS, KINDS
from .stopped_strip import StoppedStrip
from .table import SlidesTable
from .tissue import TissueEditor

ANY_CLASS, ANY_SPLIT = "any label", "any split"
MOST_NAMED = 3  # classes that the header of the step counts
EMPTY = (
    "No slides yet. Drop images or a folder here, add them with the buttons above, or open a table (cohort.csv) that "
    "lists them with their labels."
)


class SlidesPanel(Panel):
    """Files in and out, the table of slides and what is found in it; which slide is shown is the selected one."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "1 · Slides")
        self.table = SlidesTable(session)
        self.model = self.table.source
        self.model.refused.connect(self._refused)
        self._make_files()
        self._make_finding()
        self.label_bar = LabelBar(session, self.table)
        self.label_bar.problem.connect(self.problem)
        self.empty = QLabel(EMPTY)
        self.empty.setWordWrap(True)
        self.editor = ClassesEditor(session)
        self.editor.problem.connect(self.problem)
        self.classes_fold = Collapsible("Classes and colours", self.editor)
        self.tissue = TissueEditor(session)
        self.tissue.problem.connect(self.problem)
        self.tissue_fold = Collapsible("Tissue mask", self.tissue)
        self.regions = RegionEditor(session)
        self.regions.problem.connect(self.problem)
        self.regions_fold = Collapsible("Regions", self.regions)
        self.regions_fold.toggle.setToolTip("Say where the finding is, and where it is not")
        self.save_status = SaveStatus(session)
        self.changed_strip = ChangedStrip(session)
        self.stopped = StoppedStrip(session)
        self.stopped.problem.connect(self.problem)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addLayout(row(self.add, self.add_folder, self.open))
        layout.addLayout(row(self.save, self.save_as))
        layout.addWidget(self.save_status)
        layout.addWidget(self.changed_strip)
        layout.addWidget(self.stopped)
        layout.addWidget(self.empty)
        layout.addLayout(row(self.search, self.columns, stretch=0))
        layout.addLayout(self._filters())
        layout.addWidget(self.table)
        layout.addWidget(self.label_bar)
        layout.addLayout(row(self.missing, self.select, stretch=0))
        layout.addLayout(row(self.contradicted, self.show_contradicted, stretch=0))
        layout.addWidget(self.classes_fold)
        layout.addWidget(self.tissue_fold)
        layout.addWidget(self.regions_fold)
        self._following = False
        self._show_first = False
        self._restyling = single_shot(self, 0, self._restyle)
        self._opening = single_shot(self, 0, self._show_any)
        self._listen()
        self.setAcceptDrops(True)
        self.refresh()
        self._follow_selection()
        session.autosave.look_for_unsaved()

    # ---- making ---------------------------------------------------------------------------------------------------

    def _make_files(self) -> None:
        self.add = button("Add slides…", "Add image files: one slide each", self.add_slides)
        self.add_folder = button("Add folder…", "Add all images in a folder and below", self.add_slides_of_folder)
        self.open = button(
            "Open…",
            "Open a cohort.csv: slides with labels, cases and splits, in place of these. A table without paths gives "
            "its labels to the slides that are here",
            self.open_cohort,
        )
        self.save = button("Save", "", self.save_cohort)
        self.save_as = button("Save as…", "", self.save_cohort_as)

    def _make_finding(self) -> None:
        self.search = QLineEdit()
        self.search.setPlaceholderText("Find slides…")
        self.search.setClearButtonEnabled(True)
        for cross in self.search.findChildren(QToolButton):
            cross.setToolTip("Show all slides again")
            cross.setAccessibleName("clear the search")
        self.search.setAccessibleName("find slides")
        self.search.setToolTip("Show only slides whose name, label, case, split or prediction hold these words")
        self.search.textChanged.connect(self._filter)
        self.of_class = self._filter_box("which class is shown", "Show only slides with this label")
        self.of_split = self._filter_box("which split is shown", "Show only slides of this split")
        for text, split in ((ANY_SPLIT, None), *((name, name) for name in (*SPLITS, AUTO))):
            self.of_split.addItem(text, split)
        self.kind = self._filter_box("which slides are shown", "Show only slides of this kind")
        self.kind.addItems(KINDS)
        for box in (self.of_class, self.of_split, self.kind):
            box.currentIndexChanged.connect(self._filter)
        self.columns = button("Columns…", "Choose the columns of the table", self.choose_columns)
        self.missing = QLabel()
        self.missing.setWordWrap(True)
        self.missing.setAccessibleName("slides without µm/px")
        tip = "Select the slides that have no pixel size; then enter it with the button µm/px"
        self.select = button("Select", tip, self.select_missing)
        self.contradicted = QLabel()
        self.contradicted.setWordWrap(True)
        self.contradicted.setAccessibleName("slides whose prediction contradicts their label")
        tip = "Show these slides alone in the table; choose ‘all slides’ above it to see all again"
        self.show_contradicted = button("Show", tip, self.find_contradicted)

    def _filters(self) -> QHBoxLayout:
        filters = row(self.of_class, self.of_split, self.kind)
        for index, share in enumerate((4, 4, 5)):
            filters.setStretch(index, share)
        return filters

    def _filter_box(self, name: str, tip: str) -> QComboBox:
        box = QComboBox()
        box.setAccessibleName(name)
        box.setToolTip(tip)
        box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)  # three share the width of the dock
        box.setMinimumWidth(84)
        return box

    def _listen(self) -> None:
        session = self.session
        existing(self.table.selectionModel()).selectionChanged.connect(self._on_selection)
        self.table.clicked.connect(self._on_click)
        self.model.modelReset.connect(self._after_reset)
        self.follow(self.refresh, "cohort", "saved_cohort", "table", "failures", "predictions", "network")
        self.listen(session.project.colours_changed, self._on_colours)
        self.listen(session.choices.changed, self._on_settings)
        self.listen(session.project.events.selected, self._follow_selection)
        self.listen(session.project.cohort_opened, self._on_opened)
        self.listen(session.previews.changed, self._on_preview)
        self.listen(session.tissue.changed, self.tissue.refresh)
        self.listen(session.project.events.shown, self.tissue.refresh)
        self.listen(session.regions.changed, self.regions.refresh)
        self.listen(session.project.events.shown, self.regions.refresh)
        self.listen(session.project.events.shown, self.label_bar.refresh_selection)
        self.listen(session.project.events.current, self._follow_current)
        self.listen(session.autosave.changed, self.save_status.refresh)
        self.listen(session.table_reload.changed, self.changed_strip.refresh)
        self.listen(session.project.events.cohort, self.changed_strip.refresh)
        self.listen(session.stopped.changed, self.stopped.refresh)

    def _refused(self, reason: str) -> None:
        self.problem.emit(reason)

    # ---- what the user does: files --------------------------------------------------------------------------------

    def add_slides(self) -> None:
        pattern = f"Slides ({' '.join('*' + suffix for suffix in SUFFIXES if suffix != '.zarr')});;All files (*)"
        self.add_paths(self.ask_files("Add slides", pattern))

    def add_slides_of_folder(self) -> None:
        if folder := self.ask_folder("Add all images of a folder"):
            self.add_paths([folder])

    def add_paths(self, paths: Iterable[str | Path]) -> None:
        """Add what was chosen or dropped. Folders are walked in the background; a table is opened."""
        paths = list(paths)
        if paths:
            self.session.reader.request(
                ("gather", id(self)),
                lambda: find_slides(paths),
                self._add_gathered,
                lambda error: self.problem.emit(message_of(error)),
            )

    @show_errors
    def _add_gathered(self, found: FoundFiles) -> None:
        for line in found.refused:
            self.session.project.tell(line)
        if found.tables and not found.slides:
            self.open_path(str(found.tables[0]))
        elif found.slides:
            for table in found.tables:
                self.session.project.tell(f"{table.name} was not opened: drop a table by itself, or use Open…")
            self._show_first = self.session.current is None
            self.session.add_slides(found.slides)

    def open_cohort(self) -> None:
        if path := self.ask_file("Open a table of slides", "Tables (*.csv *.tsv *.txt);;All files (*)"):
            self.open_path(path)

    @show_errors
    def open_path(self, path: str) -> None:
        """Open a cohort.csv in place of the slides there are, or take its labels. Unsaved changes are asked about."""
        found = self.session.slide_actions.look_into(path)
        session = self.session
        comes_back = (
            found.path == session.project.cohort_path and session.autosave.safe
        )  # with what is kept beside the table
        drops = (
            session.project.unsaved and len(session.cohort) and not comes_back and not isinstance(found, FoundLabels)
        )
        if not drops or self._may_replace(found.path.name):
            session.slide_actions.take_table(found)

    def _may_replace(self, name: str) -> bool:
        """The slides there are have changes that no table holds: may others take their place?"""
        buttons = QMessageBox.StandardButton
        answer = self.ask_unsaved(name)
        return self.save_cohort() if answer == buttons.Save else answer == buttons.Discard

    def ask_unsaved(self, name: str) -> QMessageBox.StandardButton:
        """`Save`, `Discard` (open without saving), or `Cancel`."""
        buttons = QMessageBox.StandardButton
        text = f"The slides here have changes that are not saved in a table. Open {name} in their place?"
        box = QMessageBox(QMessageBox.Icon.Question, "Distill to Label", text, parent=self)
        box.setInformativeText("Undo brings these slides back as they are now.")
        box.setStandardButtons(buttons.Save | buttons.Discard | buttons.Cancel)
        existing(box.button(buttons.Save)).setText("Save and open")
        existing(box.button(buttons.Discard)).setText("Open without saving")
        box.setDefaultButton(buttons.Save)
        return QMessageBox.StandardButton(box.exec())

    def save_cohort(self) -> bool:
        """Save in the table the slides come from, else ask for a place. Was it saved?"""
        if not len(self.session.cohort):
            self.problem.emit("there are no slides to save yet")
            return False
        own = self.session.project.own_table
        return self.save_cohort_as() if own is None else self._write(own)

    def save_cohort_as(self) -> bool:
        """Ask where, beginning at the table's own place, and save there. Was it saved?"""
        path = self.ask_table()
        return bool(path) and self._write(Path(path))

    def ask_table(self) -> str:
        """The path of a table to write; "" if nobody wants to."""
        project = self.session.project
        begin = project.own_table or (project.work_folder or Path.home()) / "cohort.csv"
        return self.ask_save("Save slides and labels", str(begin), "Tables (*.csv *.tsv *.txt)", False)

    def _write(self, path: Path) -> bool:
        try:
            self._told_saved(self._written(path))
        except (Distill2LabelError, OSError) as error:
            self.problem.emit(message_of(error))
            return False
        return not self.session.project.unsaved

    def _written(self, path: Path) -> Path | None:
        try:
            return self.session.write_cohort(path)
        except OutputError as error:
            if error.standing != "foreign":
                raise
            return self.session.write_cohort(path, overwrite=True) if self.ask_overwrite(message_of(error)) else None

    def ask_overwrite(self, text: str) -> bool:
        """May what is there be replaced?"""
        box = QMessageBox(QMessageBox.Icon.Warning, "Distill to Label", text, parent=self)
        replace = box.addButton("Replace", QMessageBox.ButtonRole.AcceptRole)
        box.setDefaultButton(box.addButton("Cancel", QMessageBox.ButtonRole.RejectRole))
        box.exec()
        return box.clickedButton() is replace

    def _told_saved(self, written: Path | None) -> None:
        if written is not None:
            self.success.emit(f"Saved {len(self.session.cohort)} slides with their labels in {written}")

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if _dropped(event):
            event.acceptProposedAction()

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:
        if _dropped(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        event.acceptProposedAction()
        self.add_paths(_dropped(event))

    # ---- what the user does: slides -------------------------------------------------------------------------------

    def choose_columns(self) -> None:
        pop_up(self.table.columns_menu(), self.columns)

    def select_missing(self) -> None:
        """Select the slides that say no µm/px, so that it can be given to all of them."""
        self.show_all()
        self.table.select_ids(row.slide_id for row in self.session.cohort if self.model.misses_mpp(row))

    def show_all(self) -> None:
        """Filter nothing out."""
        self.search.clear()
        for box in (self.of_class, self.of_split, self.kind):
            box.setCurrentIndex(0)

    def find_contradicted(self) -> None:
        """Show the slides whose prediction contradicts their label, and no others."""
        self.show_all()
        self.kind.setCurrentText(CONTRADICTS)

    def selected(self) -> list[str]:
        """Ids of the selected slides, in the table's order."""
        return self.table.selected()

    def headline(self) -> str:
        """One line for the folded panel."""
        session = self.session
        rows = session.cohort.slides
        if not rows:
            return "no slides yet"
        counts = counted(row.label for row in rows)
        unlabelled = counts.pop(None, 0)
        if len(counts) > MOST_NAMED or set(counts) - set(session.classes):
            parts = [f"{len(rows) - unlabelled} labelled"]
        else:
            parts = [f"{counts[name]} {shorten_middle(name, 16)}" for name in session.classes if counts.get(name)]
            parts += [f"{unlabelled} without label"] if unlabelled else []
        contradicted = len(session.project.contradicted)
        more = f"; {contradicted} contradicted" if contradicted else ""
        return f"{len(rows)} slide{'s' * (len(rows) != 1)}, {', '.join(parts)}{more}"

    # ---- following the session ------------------------------------------------------------------------------------

    def refresh(self) -> None:
        self.model.refresh()
        has_slides = bool(self.model.all_ids)
        self.empty.setVisible(not has_slides)
        for widget in (
            self.table, self.search, self.of_class, self.of_split, self.kind, self.columns, self.label_bar,
            self.classes_fold, self.tissue_fold, self.regions_fold,
        ):  # fmt: skip
            widget.setVisible(has_slides)
        own = self.session.project.own_table
        table = "a cohort.csv" if own is None else own.name
        for widget, tip in (
            (self.save, f"Save slides, labels, cases and splits in {table} ({native('Ctrl+S')})"),
            (self.save_as, "Save slides, labels, cases and splits in another table"),
        ):
            widget.setEnabled(has_slides)
            widget.setToolTip(tip if has_slides else "There are no slides to save yet")
        self.save_status.refresh()
        self.tissue.refresh()
        self.regions.refresh()
        self.table.show_prediction()
        self.editor.refresh()
        self.label_bar.refresh()
        self._refresh_missing()
        self._refresh_contradicted()
        self._refresh_classes()
        if self._show_first and has_slides:
            self._show_first = False
            self._opening.start()

    def _refresh_missing(self) -> None:
        missing = sum(map(self.model.misses_mpp, self.session.cohort)) if self.model.mpp_matters else 0
        has = "slide has" if missing == 1 else "slides have"
        set_hint(self.missing, f"{missing} {has} no pixel size. Enter it." if missing else "")
        self.select.setVisible(missing > 0)

    def _refresh_contradicted(self) -> None:
        count = len(self.session.project.contradicted)
        text = "1 prediction contradicts its label." if count == 1 else f"{count} predictions contradict their labels."
        set_hint(self.contradicted, text if count else "")
        self.show_contradicted.setVisible(count > 0)

    def _refresh_classes(self) -> None:
        """The classes to filter by; the one chosen stays chosen."""
        wanted = [None, *self.session.classes]
        box = self.of_class
        if [box.itemData(index) for index in range(box.count())] == wanted:
            return
        chosen = box.currentData()
        blocked = box.blockSignals(True)
        box.clear()
        for name in wanted:
            box.addItem(name or ANY_CLASS, name)
        box.setCurrentIndex(max(0, box.findData(chosen)))
        box.blockSignals(blocked)
        if box.currentData() != chosen:  # it was renamed, or taken off
            self._filter()

    def _filter(self) -> None:
        self.model.look_for(
            self.search.text(), self.kind.currentText(), self.of_class.currentData(), self.of_split.currentData()
        )
        self.label_bar.refresh_selection()
        self.table.read_visible()

    def _on_selection(self) -> None:
        if self._following:
            return
        self._tell_selection()
        self._show_selected()

    def _on_click(self, index: QModelIndex) -> None:
        self._show_selected()  # of a selected slide that failed, or was taken off the canvas: once more

    def _tell_selection(self) -> None:
        self._following = True
        self.session.select(self.selected())
        self._following = False
        self.label_bar.refresh_selection()

    @show_errors
    def _show_selected(self) -> None:
        """Show the selected slide; of several, the one that was chosen last, unless one of them is shown."""
        session = self.session
        if not session.selected:
            return
        last = self.table.current_id()
        one = last if last is not None and last in session.selected else session.selected[0]
        there = session.current in session.selected and (session.shown or session.opening) == session.current
        if not there or (len(session.selected) == 1 and session.current != one):
            session.show(one, wait=False)

    @show_errors
    def _show_any(self) -> None:
        session = self.session
        if session.current is None and len(session.cohort):
            session.show(session.cohort.slides[0].slide_id, wait=False)

    def _on_opened(self) -> None:
        self._opening.start()

    def _follow_selection(self) -> None:
        """Selected by a key, from the console, or in the other panel of this viewer."""
        if not self._following:
            self._select(self.session.selected)
            self.label_bar.refresh_selection()
            self._show_selected()

    def _follow_current(self) -> None:
        """Arrow keys go on from the slide that was asked for last."""
        if self.session.current is not None and self.table.current_id() != self.session.current:
            self._following = True
            self.table.make_current(self.session.current)
            self._following = False
        self.label_bar.refresh_selection()

    def _after_reset(self) -> None:
        """Other rows, or another order: the slides that were selected still are, if they are there."""
        current = [self.session.current] if self.session.current else []
        self._select(self.session.selected or current)
        self.table.make_current(self.session.current)
        self._tell_selection()

    def _select(self, slide_ids: Iterable[str]) -> None:
        self._following = True
        self.table.select_ids(slide_ids)
        self._following = False

    def _on_colours(self) -> None:
        self.model.redraw()
        self.editor.refresh()
        self.label_bar.refresh_buttons()

    def _on_settings(self) -> None:
        self.model.settings_changed()
        self.editor.refresh()
        self.label_bar.refresh_selection()
        self._refresh_missing()

    def _on_preview(self, slide_id: str) -> None:
        self.model.previewed(slide_id)
        self._refresh_missing()

    def _restyle(self) -> None:
        """Another theme, or another font size."""
        self.model.forget_pictures()
        self.table.set_thumbnails(self.model.show_thumbnails)
        self._on_colours()

    def event(self, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.Show, QEvent.Type.ParentChange):
            CloseGuard.watch(self, self.session)
        return super().event(event)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.FontChange) and hasattr(self, "_restyling"):
            self._restyling.start()


def _dropped(event: QDropEvent) -> list[str]:
    """Paths of the files and folders that are dragged."""
    return [url.toLocalFile() for url in existing(event.mimeData()).urls() if url.isLocalFile()]
