"""Step 1: which slides, and the diagnosis of each."""

from collections.abc import Iterable
from pathlib import Path

from qtpy.QtCore import QEvent, QTimer
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QInputDialog,
    QLabel,
    QLineEdit,
    QMenu,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ...slides.registry import SUFFIXES
from ...store.cohort import SPLITS
from ..session.class_list import counted
from ..session.gathering import Gathered, gathered
from ..session.session import Session
from ..widgets.icons import swatch, theme_colour
from ..widgets.parts import Fold, Panel, button, row, show_reason, told
from .classes_editor import ClassesEditor
from .kept_strip import CloseGuard, KeptStrip
from .slides_model import AUTO, SlidesFilter
from .slides_table import SlidesTable
from .tissue_editor import TissueEditor

EMPTY = (
    "No slides yet. Drop images or a folder here, add them with the buttons above, or open a table (cohort.csv) that "
    "lists them with their labels."
)
LABELS_IN_A_LINE = 3
AFTER_SELECTING = 90  # ms until a selected slide is opened: arrow keys run over many


class SlidesPanel(Panel):
    """Table of slides; classes; label buttons for the selected slides."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "1 · Slides")
        self.table = SlidesTable(session)
        self.model, self.filter = self.table.source, self.table.filter
        self.model.refused.connect(self._refused)
        self._make_files()
        self._make_finding()
        self._make_labelling()
        self.empty = QLabel(EMPTY)
        self.empty.setWordWrap(True)
        self.editor = ClassesEditor(session)
        self.editor.problem.connect(self.problem)
        self.classes_fold = Fold("Classes and colours", self.editor)
        self.tissue = TissueEditor(session)
        self.tissue.problem.connect(self.problem)
        self.tissue_fold = Fold("Tissue mask", self.tissue)
        self.kept = KeptStrip(session)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addLayout(row(self.add, self.add_folder, self.open, self.save))
        layout.addWidget(self.kept)
        layout.addWidget(self.empty)
        layout.addLayout(row(self.search, self.kind, self.columns, stretch=0))
        layout.addWidget(self.table)
        layout.addWidget(self.hint)
        layout.addLayout(self.labels)
        layout.addLayout(row(self.scale, self.split, self.remove))
        layout.addWidget(self.counts)
        layout.addLayout(row(self.missing, self.select, stretch=0))
        layout.addWidget(self.classes_fold)
        layout.addWidget(self.tissue_fold)
        self._following = False
        self._show_first = False
        self._selecting = QTimer(self, singleShot=True, interval=AFTER_SELECTING, timeout=self._show_selected)
        self._restyling = QTimer(self, singleShot=True, interval=0, timeout=self._restyle)
        self._opening = QTimer(self, singleShot=True, interval=0, timeout=self._show_any)
        self._listen()
        self.setAcceptDrops(True)
        self.refresh()
        self._follow_shown()
        session.autosave.look_for_unsaved()

    # ---- making ---------------------------------------------------------------------------------------------------

    def _make_files(self) -> None:
        self.add = button("Add slides…", "Add image files: one slide each", self.add_slides)
        self.add_folder = button("Add folder…", "Add all images in a folder and below", self.add_slides_of_folder)
        self.open = button(
            "Open…",
            "Open a cohort.csv: slides with labels, cases and splits, in place of these",
            self.open_cohort,
        )
        self.save = button("Save…", "", self.save_cohort)

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
        self.kind = QComboBox()
        self.kind.addItems(SlidesFilter.KINDS)
        self.kind.setAccessibleName("which slides are shown")
        self.kind.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.kind.setMinimumContentsLength(7)
        self.kind.setToolTip("Show only slides of this kind")
        self.kind.currentTextChanged.connect(self._filter)
        self.columns = button("Columns…", "Choose the columns of the table", self.choose_columns)

    def _make_labelling(self) -> None:
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.labels = QGridLayout()
        self.labels.setSpacing(4)
        self._labelled_by: list[str | None] = []
        self.scale = button("µm/px…", "", self.set_mpp)
        self.split_menu = self._split_menu()
        self.split = button("Split…", "", lambda: self._pop_up(self.split_menu, self.split))
        self.remove = button("Remove", "", self.remove_slides)
        self.counts = QLabel()
        self.counts.setWordWrap(True)
        self.counts.setAccessibleName("slides per class and split")
        self.missing = QLabel()
        self.missing.setWordWrap(True)
        self.missing.setAccessibleName("slides without µm/px")
        tip = "Select the slides that say no µm/px; then give it to all of them with the button µm/px"
        self.select = button("Select", tip, self.select_missing)

    def _split_menu(self) -> QMenu:
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        tips = ("training decides", "to learn from", "to pick the epoch by", "kept aside, to be evaluated on")
        for name, tip in zip((AUTO, *SPLITS), tips, strict=True):
            action = menu.addAction(f"{name}: {tip}")
            action.triggered.connect(lambda checked=False, name=name: self.set_split(name))
        return menu

    def _listen(self) -> None:
        session = self.session
        self.table.selectionModel().selectionChanged.connect(self._on_selection)
        self.table.delete_pressed.connect(self.remove_slides)
        self.filter.modelReset.connect(self._after_reset)
        self.listen(session.slides_changed, self.refresh)
        self.listen(session.colours_changed, self._on_colours)
        self.listen(session.settings_changed, self._on_settings)
        self.listen(session.shown_changed, self._follow_shown)
        self.listen(session.selection_changed, self._follow_selection)
        self.listen(session.cohort_opened, self._on_opened)
        self.listen(session.thumbnails.changed, self._on_glimpse)
        self.listen(session.tissue.changed, self.tissue.refresh)
        self.listen(session.shown_changed, self.tissue.refresh)
        self.listen(session.autosave.changed, self.kept.refresh)

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
        """Add what was chosen or dropped. Folders are walked beside the window; a table is opened."""
        paths = list(paths)
        if paths:
            self.session.background.ask(
                ("gather", id(self)),
                lambda: gathered(paths),
                self._add_gathered,
                lambda error: self.problem.emit(str(error)),
            )

    @told
    def _add_gathered(self, found: Gathered) -> None:
        for line in found.refused:
            self.session._tell(line)
        if found.tables and not found.slides:
            self.open_path(str(found.tables[0]))
        elif found.slides:
            self._show_first = self.session.shown is None
            self.session.add_slides(found.slides)

    def open_cohort(self) -> None:
        if path := self.ask_file("Open a table of slides", "Tables (*.csv *.tsv *.txt);;All files (*)"):
            self.open_path(path)

    @told
    def open_path(self, path: str) -> None:
        """Open a cohort.csv in place of the slides there are."""
        self.session.read_cohort(path)

    @told
    def save_cohort(self) -> None:
        name = self.session.cohort_path.name if self.session.cohort_path else "cohort.csv"
        if path := self.ask_save("Save slides and labels", name, "Tables (*.csv)"):
            written = self.session.write_cohort(path)
            self.session._tell(f"Saved {len(self.session.cohort)} slides with their labels in {written}")

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()

    dragMoveEvent = dragEnterEvent

    def dropEvent(self, event: QDropEvent) -> None:
        paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        event.acceptProposedAction()
        self.add_paths(paths)

    # ---- what the user does: slides -------------------------------------------------------------------------------

    @told
    def set_label(self, label: str | None) -> None:
        """Label the selected slides; where several findings can be present, add one or take it off."""
        if selected := self.selected():
            if label is not None and self.session.settings.model.several:
                self.session.toggle_label(selected, label)
            else:
                self.session.set_label(selected, label)

    @told
    def set_split(self, split: str) -> None:
        if selected := self.selected():
            self.session.set_split(selected, None if split == AUTO else split)

    @told
    def set_mpp(self) -> None:
        if selected := self.selected():
            mpp = self.ask_mpp(selected)
            if mpp is not None:
                self.session.set_mpp(selected, mpp)

    @told
    def remove_slides(self) -> None:
        self.session.remove_slides(self.selected())

    def choose_columns(self) -> None:
        self._pop_up(self.table.columns_menu(), self.columns)

    def _pop_up(self, menu: QMenu, below: QWidget) -> None:
        menu.popup(below.mapToGlobal(below.rect().bottomLeft()))

    def select_missing(self) -> None:
        """Select the slides that say no µm/px, so that it can be given to all of them."""
        self.search.clear()
        self.kind.setCurrentIndex(0)
        self.table.select_ids(row.slide_id for row in self.session.cohort if self.model.misses_mpp(row))

    @told
    def next_slide(self) -> None:
        """Show the next slide of the table, as it is sorted and filtered."""
        self._step(1)

    @told
    def previous_slide(self) -> None:
        """Show the slide above."""
        self._step(-1)

    def _step(self, by: int) -> None:
        slide_id = self.table.step(by)
        if slide_id is not None and slide_id != self.session.shown:
            self.session.show(slide_id, wait=False)

    def ask_mpp(self, slide_ids: list[str]) -> float | None:
        named = slide_ids[0] if len(slide_ids) == 1 else f"{len(slide_ids)} slides"
        value, accepted = QInputDialog.getDouble(self, "Size of a pixel", f"µm per pixel of {named}:", 0.5, 0.05, 20, 4)
        return value if accepted else None

    def selected(self) -> list[str]:
        """Ids of the selected slides, in the table's order."""
        return self.table.selected()

    def headline(self) -> str:
        """One line for the folded panel."""
        cohort = self.session.cohort
        if not len(cohort):
            return "no slides yet"
        return f"{len(cohort)} slides, {len(cohort.labelled)} labelled"

    # ---- following the session ------------------------------------------------------------------------------------

    def refresh(self) -> None:
        self.model.refresh()
        has_slides = self.model.rowCount() > 0
        self.empty.setVisible(not has_slides)
        for widget in (
            self.table, self.search, self.kind, self.columns, self.hint, self.counts, self.scale, self.split,
            self.remove, self.classes_fold, self.tissue_fold,
        ):  # fmt: skip
            widget.setVisible(has_slides)
        self.save.setEnabled(has_slides)
        self.save.setToolTip(
            "Save slides, labels, cases and splits as a cohort.csv" if has_slides else "There are no slides to save yet"
        )
        self.kept.refresh()
        self.tissue.refresh()
        self.table.show_prediction()
        self.editor.refresh()
        self._refresh_label_buttons(has_slides)
        self.counts.setText(self._counted())
        self._refresh_missing()
        self._refresh_selection()
        if self._show_first and has_slides:
            self._show_first = False
            self._opening.start()

    def _refresh_label_buttons(self, visible: bool) -> None:
        wanted = [*self.session.classes, None] if visible else []
        if wanted != self._labelled_by:
            while (item := self.labels.takeAt(0)) is not None:
                if item.widget() is not None:
                    item.widget().hide()
                    item.widget().deleteLater()
            for place, label in enumerate(wanted):
                made = button(label or "no label", "", lambda label=label: self.set_label(label))
                made.setAccessibleName(f"label selected slides: {label or 'no label'}")
                self.labels.addWidget(made, *divmod(place, LABELS_IN_A_LINE))
            self._labelled_by = wanted
        outline = theme_colour(self.session.viewer).name()
        for place, colour in enumerate(self.session.colours if visible else ()):
            self.labels.itemAt(place).widget().setIcon(swatch(colour, outline))

    def _counted(self) -> str:
        rows, classes = self.session.cohort.slides, self.session.classes
        counts = counted(row.label for row in rows)
        parts = [f"{counts.get(name, 0)} {name}" for name in classes]
        others = sum(count for name, count in counts.items() if name is not None and name not in classes)
        parts += [f"{others} other"] if others else []
        parts += [f"{counts[None]} without label"] if counts.get(None) else []
        text = f"{len(rows)} slides: {', '.join(parts)}"
        splits = [row.split for row in rows if row.label]
        if any(splits):
            named = [f"{splits.count(name)} {name}" for name in SPLITS if name in splits]
            # `store.splits.with_splits`: once some are given, the others are learnt from.
            left = splits.count(None)
            named += [f"{left} auto (train, since others are set)"] if left else []
            text += f"\nSplit: {', '.join(named)}"
        elif splits:
            text += "\nSplit: training divides the labelled slides itself"
        return text

    def _refresh_missing(self) -> None:
        missing = sum(map(self.model.misses_mpp, self.session.cohort)) if self.model.mpp_matters else 0
        says = "slide says" if missing == 1 else "slides say"
        show_reason(self.missing, f"{missing} {says} no µm/px, and others do: give it." if missing else "")
        self.select.setVisible(missing > 0)

    def _refresh_selection(self) -> None:
        count = len(self.session.selected)
        shown, all_of_them = self.filter.rowCount(), self.model.rowCount()
        parts = [f"{shown} of {all_of_them} shown"] if self.filter.active else []
        parts += [f"{count} selected: label as" if count else "Select slides to label them (Shift or Ctrl for several)"]
        self.hint.setText(" · ".join(parts))
        why = "Select slides in the table first"
        buttons = [self.labels.itemAt(index).widget() for index in range(self.labels.count())]
        for label, widget in zip(self._labelled_by, buttons, strict=True):
            tip = f"Label the selected slides {label!r}" if label else "Take the label off the selected slides"
            if label and self.session.settings.model.several:
                tip = f"Add the finding {label!r} to the selected slides, or take it off if all have it"
            widget.setEnabled(count > 0)
            widget.setToolTip(tip if count else why)
        for widget, tip in (
            (self.scale, "Say the µm/px of the selected slides, where the files do not know"),
            (self.split, "Say what training uses the selected slides for"),
            (self.remove, "Take the selected slides off the list (Del); files are left alone"),
        ):
            widget.setEnabled(count > 0)
            widget.setToolTip(tip if count else why)

    def _filter(self) -> None:
        self.filter.look_for(self.search.text(), self.kind.currentText())
        self._refresh_selection()
        self.table.read_visible()

    def _on_selection(self) -> None:
        if self._following:
            return
        self._tell_selection()
        if len(self.session.selected) == 1:
            self._selecting.start()

    def _tell_selection(self) -> None:
        self._following = True
        self.session.select(self.selected())
        self._following = False
        self._refresh_selection()

    @told
    def _show_selected(self) -> None:
        if len(selected := self.selected()) == 1 and selected[0] != self.session.shown:
            self.session.show(selected[0], wait=False)

    @told
    def _show_any(self) -> None:
        session = self.session
        if session.shown is None and session.showing is None and len(session.cohort):
            session.show(session.cohort.slides[0].slide_id, wait=False)

    def _on_opened(self) -> None:
        self._opening.start()

    def _follow_shown(self) -> None:
        """The shown slide is the selected one, both ways and without a loop."""
        shown = self.session.shown
        if shown is None or shown in self.session.selected:
            return
        self._following = True
        self.table.go_to(shown)
        self._following = False
        self._tell_selection()

    def _follow_selection(self) -> None:
        """Selected from the console, or in the other panel of this viewer."""
        if not self._following:
            self._select(self.session.selected)
            self._refresh_selection()

    def _after_reset(self) -> None:
        """Other rows, or another order: the slides that were selected still are, if they are there."""
        shown = [self.session.shown] if self.session.shown else []
        self._select(self.session.selected or shown)
        self.table.make_current(self.session.shown)
        self._tell_selection()

    def _select(self, slide_ids: Iterable[str]) -> None:
        self._following = True
        self.table.select_ids(slide_ids)
        self._following = False

    def _on_colours(self) -> None:
        self.model.redraw()
        self.editor.refresh()
        self._refresh_label_buttons(self.model.rowCount() > 0)

    def _on_settings(self) -> None:
        self.model.settings_changed()
        self.editor.refresh()
        self._refresh_selection()
        self._refresh_missing()

    def _on_glimpse(self, slide_id: str) -> None:
        self.model.glimpsed(slide_id)
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
