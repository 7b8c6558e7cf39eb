"""What the selected slides are: label, µm/px, split; and how many there are of each."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QInputDialog, QLabel, QMenu, QPushButton, QVBoxLayout, QWidget

from ....store.cohort import SPLITS
from ...actions.classes import counted
from ...plain_text import as_plain
from ...session import Session
from ...widgets.controls import button, existing, pop_up, row, show_errors, tab_through
from ...widgets.icons import colour_icon, theme_colour
from .model import AUTO
from .table import SlidesTable

LABELS_IN_A_LINE = 3


class LabelBar(QWidget):
    """Buttons that act on the slides selected in a table. What cannot be done is said by `problem`."""

    problem = Signal(str)

    def __init__(self, session: Session, table: SlidesTable) -> None:
        super().__init__()
        self.session, self.table = session, table
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.labels = QGridLayout()
        self.labels.setSpacing(4)
        self._labelled_by: list[str | None] = []
        self._label_buttons: list[QPushButton] = []  # one each
        self.scale = button("µm/px…", "", self.set_mpp)
        self.share = button("Share…", "", self.set_share)
        self.split_menu = self._split_menu()
        self.split = button("Split…", "", lambda: pop_up(self.split_menu, self.split))
        self.remove = button("Remove", "", self.remove_slides)
        self.counts = QLabel()
        self.counts.setWordWrap(True)
        self.counts.setAccessibleName("slides per class and split")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.hint)
        layout.addLayout(self.labels)
        layout.addLayout(row(self.scale, self.share, self.split, self.remove))
        layout.addWidget(self.counts)

    def _split_menu(self) -> QMenu:
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        tips = ("training decides", "to learn from", "to pick the epoch by", "held out, to be evaluated on")
        for name, tip in zip((AUTO, *SPLITS), tips, strict=True):
            action = existing(menu.addAction(f"{name}: {tip}"))
            action.triggered.connect(lambda checked=False, name=name: self.set_split(name))
        return menu

    # ---- what the user does ---------------------------------------------------------------------------------------

    @show_errors
    def set_label(self, label: str | None) -> None:
        """Label the selected slides; where several findings can be present, add one or take it off."""
        if selected := self.table.selected():
            self.session.slide_actions.give_label(selected, label, self.session.settings.architecture.multi_label)

    @show_errors
    def set_split(self, split: str) -> None:
        if selected := self.table.selected():
            self.session.set_split(selected, None if split == AUTO else split)

    @show_errors
    def set_mpp(self) -> None:
        if selected := self.table.selected():
            mpp = self.ask_mpp(selected)
            if mpp is not None:
                self.session.set_mpp(selected, mpp or None)

    @show_errors
    def set_share(self) -> None:
        if selected := self.table.selected():
            percent = self.ask_share(selected)
            if percent is not None:
                self.session.set_share(selected, None if percent < 0 else percent / 100)

    @show_errors
    def remove_slides(self) -> None:
        self.session.remove_slides(self.table.selected())

    def ask_share(self, slide_ids: list[str]) -> float | None:
        """Return the share in per cent; below 0: not known; None: cancelled. It begins with what is entered."""
        named = slide_ids[0] if len(slide_ids) == 1 else f"{len(slide_ids)} slides"
        known = {row.share for row in self.session.cohort if row.slide_id in slide_ids} - {None}
        now = 100 * known.pop() if len(known) == 1 else -1.0
        text = f"Share of the tissue of {named} that has the finding, in %.\nA rough estimate helps. −1: not known."
        value, accepted = QInputDialog.getDouble(self, "Share of the finding", text, now, -1, 100, 0)
        return value if accepted else None

    def ask_mpp(self, slide_ids: list[str]) -> float | None:
        """Return µm/px; 0: as the file says; None: cancelled. It begins with what is entered, or else in the files."""
        named = slide_ids[0] if len(slide_ids) == 1 else f"{len(slide_ids)} slides"
        known = {self.table.source.mpp_of(row) or 0.0 for row in self.session.cohort if row.slide_id in slide_ids}
        now = known.pop() if len(known) == 1 else 0.0
        text = f"µm per pixel of {named}.\n0: as the file says."
        value, accepted = QInputDialog.getDouble(self, "Size of a pixel", text, now, 0, 20, 4)
        return value if accepted else None

    # ---- following the session ------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Other slides, labels or classes."""
        self.refresh_buttons()
        self.counts.setText(self._counted())
        self.refresh_selection()

    def refresh_buttons(self) -> None:
        """Other classes, or other colours."""
        visible = len(self.session.cohort) > 0
        wanted = [*self.session.classes, None] if visible else []
        if wanted != self._labelled_by:
            for former in self._label_buttons:
                self.labels.removeWidget(former)
                former.hide()
                former.deleteLater()
            self._labelled_by = wanted
            self._label_buttons = [self._label_button(label) for label in wanted]
            for place, made in enumerate(self._label_buttons):
                self.labels.addWidget(made, *divmod(place, LABELS_IN_A_LINE))
            tab_through(self.table, *self._label_buttons, self.scale, self.share, self.split, self.remove)
        outline = theme_colour(self.session.viewer).name()
        if visible:
            for made, colour in zip(self._label_buttons, self.session.colours, strict=False):  # the last: no label
                made.setIcon(colour_icon(colour, outline))

    def _label_button(self, label: str | None) -> QPushButton:
        made = button(label or "no label", "", lambda: self.set_label(label))
        made.setAccessibleName(f"label selected slides: {label or 'no label'}")
        return made

    def _selected_text(self) -> str:
        """Which slides a label goes to, and whether the picture is theirs yet."""
        session = self.session
        if not session.selected:
            return "Select slides to label them (Shift or Ctrl for several)"
        several = len(session.selected) > 1
        name = f"{len(session.selected)} selected" if several else session.selected[0]
        waiting = ""
        if session.opening is not None and session.shown is None:
            waiting = f" ({session.opening if several else 'its picture'} is loading)"
        elif not several and session.shown != session.selected[0]:
            waiting = " (its picture is not shown)"
        return f"{name}{waiting}: label as"

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

    def refresh_selection(self) -> None:
        """Other slides are selected, or found."""
        count = len(self.session.selected)
        model = self.table.source
        parts = [f"{len(model.ids)} of {len(model.all_ids)} shown"] if model.filter.active else []
        self.hint.setText(" · ".join([*parts, self._selected_text()]))
        why = "Select slides in the table first"
        for label, widget in zip(self._labelled_by, self._label_buttons, strict=True):
            tip = f"Label the selected slides {label!r}" if label else "Take the label off the selected slides"
            if label and self.session.settings.architecture.multi_label:
                tip = f"Add the finding {label!r} to the selected slides, or take it off if all have it"
            widget.setEnabled(count > 0)
            widget.setToolTip(as_plain(tip) if count else why)
        for widget, tip in (
            (self.scale, "Enter the pixel size of the selected slides"),
            (self.share, "Estimate how much of the selected slides has the finding: training learns from it"),
            (self.split, "Choose what training uses the selected slides for"),
            (self.remove, "Take the selected slides off the list (Del); files are left alone"),
        ):
            widget.setEnabled(count > 0)
            widget.setToolTip(tip if count else why)
