"""Step 1: which slides, and the diagnosis of each."""

from qtpy.QtCore import QItemSelectionModel, Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QInputDialog,
    QLabel,
    QLineEdit,
    QTableView,
    QVBoxLayout,
)

from ..slides.registry import SUFFIXES
from .parts import Panel, button, row, told
from .session import Session
from .slides_model import LABEL, NAME, SLIDE_ID_ROLE, STATUS, LabelDelegate, SlidesModel

EMPTY = "No slides yet: add images, or open a cohort.csv that lists them with their labels."


class SlidesPanel(Panel):
    """Table of slides; classes; label buttons for the selected slides."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "1 · Slides")
        self.add = button("Add slides…", "Add image files: one slide each", self.add_slides)
        self.open = button("Open cohort…", "Open a cohort.csv: slides with labels, cases and splits", self.open_cohort)
        self.save = button("Save…", "Save slides and labels as a cohort.csv", self.save_cohort)
        self.classes = QLineEdit()
        self.classes.setToolTip("Names of the classes, the negative one (no finding) first, separated by commas")
        self.classes.setPlaceholderText("normal, tumour")
        self.classes.setAccessibleName("classes, the negative one first")
        self.classes.editingFinished.connect(self.set_classes)
        self.model = SlidesModel(session, self)
        self.table = self._make_table()
        self.empty = QLabel(EMPTY)
        self.empty.setWordWrap(True)
        self.labels = QHBoxLayout()
        self.scale = button("µm/px…", "Say the µm/px of the selected slides, where the files do not know", self.set_mpp)
        self.remove = button(
            "Remove", "Take the selected slides off the list; files are left alone", self.remove_slides
        )
        self.counts = QLabel()
        self.counts.setWordWrap(True)
        self.counts.setAccessibleName("slides per class")

        classes_label = QLabel("Classes")
        classes_label.setBuddy(self.classes)
        classes_label.setToolTip(self.classes.toolTip())
        layout = QVBoxLayout(self)
        layout.addLayout(row(self.add, self.open, self.save))
        layout.addLayout(row(classes_label, self.classes, stretch=1))
        layout.addWidget(self.empty)
        layout.addWidget(self.table)
        layout.addLayout(self.labels)
        layout.addWidget(self.counts)
        layout.addLayout(row(self.scale, self.remove))

        self._following = False
        self.table.selectionModel().selectionChanged.connect(self._on_selection)
        self.listen(session.slides_changed, self.refresh)
        self.listen(session.shown_changed, self._follow_shown)
        self.refresh()
        self._follow_shown()

    def _make_table(self) -> QTableView:
        table = QTableView()
        table.setModel(self.model)
        table.setItemDelegateForColumn(LABEL, LabelDelegate(self.session, table))
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        table.setTextElideMode(Qt.TextElideMode.ElideRight)
        table.verticalHeader().hide()
        header = table.horizontalHeader()
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(LABEL, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(STATUS, QHeaderView.ResizeMode.Stretch)
        table.setMinimumHeight(150)
        table.setAccessibleName("slides")
        return table

    # ---- what the user does ---------------------------------------------------------------------------------------

    @told
    def add_slides(self) -> None:
        pattern = f"Slides ({' '.join('*' + suffix for suffix in SUFFIXES if suffix != '.zarr')});;All files (*)"
        paths = self.ask_files("Add slides", pattern)
        new = self.session.add_slides(paths) if paths else []
        if new and self.session.shown is None:
            self.session.show(new[0])

    def open_cohort(self) -> None:
        if path := self.ask_file("Open a cohort", "Tables (*.csv *.tsv *.txt);;All files (*)"):
            self.open_path(path)

    @told
    def open_path(self, path: str) -> None:
        cohort = self.session.read_cohort(path)
        if len(cohort):
            self.session.show(cohort.slides[0].slide_id)

    @told
    def save_cohort(self) -> None:
        if path := self.ask_save("Save the cohort", "cohort.csv", "Tables (*.csv)"):
            self.session.write_cohort(path)

    @told
    def set_classes(self) -> None:
        try:
            self.session.classes = self.classes.text()
        finally:
            self.refresh()

    @told
    def set_label(self, label: str | None) -> None:
        if selected := self.selected():
            self.session.set_label(selected, label)

    @told
    def set_mpp(self) -> None:
        if selected := self.selected():
            mpp = self.ask_mpp(selected)
            if mpp is not None:
                self.session.set_mpp(selected, mpp)

    @told
    def remove_slides(self) -> None:
        self.session.remove_slides(self.selected())

    def ask_mpp(self, slide_ids: list[str]) -> float | None:
        named = slide_ids[0] if len(slide_ids) == 1 else f"{len(slide_ids)} slides"
        value, accepted = QInputDialog.getDouble(self, "Size of a pixel", f"µm per pixel of {named}:", 0.5, 0.05, 20, 4)
        return value if accepted else None

    def selected(self) -> list[str]:
        """Ids of the selected slides, in the table's order."""
        return [index.data(SLIDE_ID_ROLE) for index in self.table.selectionModel().selectedRows()]

    # ---- following the session ------------------------------------------------------------------------------------

    def refresh(self) -> None:
        self.model.refresh()
        has_slides = self.model.rowCount() > 0
        self.empty.setVisible(not has_slides)
        for widget in (self.table, self.counts, self.scale, self.remove):
            widget.setVisible(has_slides)
        self.save.setEnabled(has_slides)
        self.save.setToolTip(
            "Save slides and labels as a cohort.csv" if has_slides else "There are no slides to save yet"
        )
        if not self.classes.hasFocus() or not self.classes.isModified():
            self.classes.setText(", ".join(self.session.classes))
        self._refresh_label_buttons(has_slides)
        self.counts.setText(self._counted())
        self._refresh_selection()

    def _refresh_label_buttons(self, visible: bool) -> None:
        wanted = [*self.session.classes, None] if visible else []
        if wanted != getattr(self, "_label_buttons", []):
            while (item := self.labels.takeAt(0)) is not None:
                if item.widget() is not None:
                    item.widget().deleteLater()
            for label in wanted:
                text = label or "no label"
                tip = f"Label the selected slides {label!r}" if label else "Take the label off the selected slides"
                made = button(text, tip, lambda label=label: self.set_label(label))
                made.setAccessibleName(f"label selected slides: {text}")
                self.labels.addWidget(made)
            self._label_buttons = wanted

    def _counted(self) -> str:
        labels = [row.label for row in self.session.cohort]
        parts = [f"{labels.count(name)} {name}" for name in self.session.classes]
        others = len([label for label in labels if label and label not in self.session.classes])
        parts += [f"{others} other"] if others else []
        parts += [f"{labels.count(None)} without label"] if labels.count(None) else []
        return f"{len(labels)} slides: {', '.join(parts)}"

    def _on_selection(self) -> None:
        self._refresh_selection()
        if not self._following and len(self.selected()) == 1:
            # After the click is dealt with: opening a slide may take a moment.
            QTimer.singleShot(0, self._show_selected)

    @told
    def _show_selected(self) -> None:
        if len(selected := self.selected()) == 1 and selected[0] != self.session.shown:
            self.session.show(selected[0])

    def _refresh_selection(self) -> None:
        count = len(self.selected())
        buttons = [self.labels.itemAt(index).widget() for index in range(self.labels.count())]
        for widget in (*buttons, self.scale, self.remove):
            widget.setEnabled(count > 0)

    def _follow_shown(self) -> None:
        """The shown slide is the selected one, both ways and without a loop."""
        number = self.model.row_of(self.session.shown)
        if number < 0 or self.session.shown in self.selected():
            return
        self._following = True
        index = self.model.index(number, NAME)
        flags = QItemSelectionModel.SelectionFlag.ClearAndSelect | QItemSelectionModel.SelectionFlag.Rows
        self.table.selectionModel().setCurrentIndex(index, flags)
        self.table.scrollTo(index)
        self._following = False
