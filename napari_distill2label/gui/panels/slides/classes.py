"""Names, colours and order of the classes, a line each; the first is the negative one."""

from collections.abc import Callable

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QCheckBox,
    QColorDialog,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from ....core.classes import split_label
from ....core.errors import Distill2LabelError
from ...actions.classes import counted
from ...messages import message_of
from ...session import Session
from ...widgets.controls import button, row, tab_through, tool_button
from ...widgets.icons import colour_icon, state_icon, theme_colour

NEGATIVE = "The first class is the negative one: no finding."


class ClassesEditor(QWidget):
    """A view of the session's classes. What cannot be done is said by `problem`, and the old name comes back."""

    problem = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.rows: list[ClassRow] = []
        self._lines = QVBoxLayout()
        self._lines.setSpacing(2)
        self.hint = QLabel(NEGATIVE)
        self.hint.setWordWrap(True)
        self.name = QLineEdit()
        self.name.setPlaceholderText("another finding")
        self.name.setAccessibleName("name of a new class")
        self.name.setToolTip("Name of a new class")
        self.name.returnPressed.connect(self.add_class)
        self.add = button("Add class", "Add another finding to look for", self.add_class)
        self.negative = QComboBox()
        self.negative.setAccessibleName("the negative class")
        self.negative.setToolTip("The class of slides without a finding")
        self.use = button("Use", "Take this class as the negative one, and the others as findings", self.use_negative)
        self.ask = QWidget()
        self.ask.setLayout(row(QLabel("Negative:"), self.negative, self.use, stretch=1))
        self.multi_label = QCheckBox("A slide may have several findings")
        self.multi_label.setToolTip(
            "Several classes at once on a slide: each finding gets its own probability. The label buttons then add and "
            "take off single findings."
        )
        self.multi_label.toggled.connect(self.set_multi_label)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 2, 0, 4)
        layout.addWidget(self.hint)
        layout.addWidget(self.ask)
        layout.addLayout(self._lines)
        layout.addLayout(row(self.name, self.add, stretch=0))
        layout.addWidget(self.multi_label)
        self.refresh()

    # ---- what the user does ---------------------------------------------------------------------------------------

    def add_class(self) -> None:
        if self._told(self.session.add_class, self.name.text()):
            self.name.clear()

    def use_negative(self) -> None:
        first = self.negative.currentText()
        self._told(setattr, self.session, "classes", [first, *(name for name in self._found() if name != first)])

    def set_multi_label(self, multi_label: bool) -> None:
        if multi_label != self.session.settings.architecture.multi_label:
            self._told(lambda: self.session.configure(architecture={"multi_label": multi_label}))

    def ask_colour(self, now: QColor, title: str) -> QColor:
        return QColorDialog.getColor(now, self, title)

    def choose_colour(self, name: str) -> None:
        now = QColor(*self.session.colours[self.session.classes.index(name)])
        chosen = self.ask_colour(now, f"Colour of {name}")
        if chosen.isValid():
            self._told(self.session.set_colour, name, chosen.getRgb()[:3])

    def _told(self, change: Callable[..., object], *arguments: object) -> bool:
        try:
            change(*arguments)
        except Distill2LabelError as error:
            self.problem.emit(message_of(error))
            self.refresh()
            return False
        return True

    # ---- following the session ------------------------------------------------------------------------------------

    def _found(self) -> list[str]:
        return sorted({name for slide in self.session.cohort.labelled for name in split_label(slide.label)})

    def refresh(self) -> None:
        """Show the classes; lines are made again only if there are more or fewer."""
        session, classes = self.session, self.session.classes
        self.ask.setVisible(not classes)
        self.hint.setText(NEGATIVE if classes else "Which class says that there is no finding?")
        if not classes and [self.negative.itemText(i) for i in range(self.negative.count())] != self._found():
            self.negative.clear()
            self.negative.addItems(self._found())
        while len(self.rows) > len(classes):
            self.rows.pop().deleteLater()
        while len(self.rows) < len(classes):
            self.rows.append(made := ClassRow(self, len(self.rows)))
            self._lines.addWidget(made)
            tab_through(self.use, *(each for line in self.rows for each in line.controls), self.name)
        counts = counted(slide.label for slide in session.cohort)
        for line, name, colour in zip(self.rows, classes, session.colours, strict=True):
            line.show_class(name, colour, counts.get(name, 0))
        multi_label = session.settings.architecture.multi_label
        if self.multi_label.isChecked() != multi_label:
            self.multi_label.setChecked(multi_label)


class ClassRow(QWidget):
    """Colour, name, how many slides, up, away."""

    def __init__(self, editor: ClassesEditor, place: int) -> None:
        super().__init__()
        self.editor, self.place, self._class = editor, place, ""
        self.colour = tool_button("", "Colour of the class, wherever it is shown", self._choose_colour)
        self.name = QLineEdit()
        self.name.editingFinished.connect(self._rename)
        self.count = QLabel()
        self.up = tool_button("", "", self._move_up)
        self.up.setArrowType(Qt.ArrowType.UpArrow)
        self.remove = tool_button("", "", self._remove)
        self.controls = (self.colour, self.name, self.up, self.remove)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (self.colour, self.name, self.count, self.up, self.remove):
            layout.addWidget(widget, 1 if widget is self.name else 0)

    def show_class(self, name: str, colour: tuple[int, int, int], count: int) -> None:
        """Show a class; a name that is being typed is left alone."""
        first, few = self.place == 0, len(self.editor.session.classes) <= 2
        viewer = self.editor.session.viewer
        if not (self.name.hasFocus() and self.name.isModified()) or name != self._class:
            self.name.setText(name)
        self._class = name
        self.colour.setIcon(colour_icon(colour, theme_colour(viewer).name()))
        self.remove.setIcon(state_icon("failed", theme_colour(viewer).name()))
        self.count.setText(f"{count} slide{'' if count == 1 else 's'}{', negative' if first else ''}")
        self.name.setToolTip("Name of the class. Labels follow when it is changed.")
        self.up.setEnabled(not first)
        self.up.setToolTip("This is the negative class already" if first else (
            "Make this the negative class" if self.place == 1 else "Move the class up"))  # fmt: skip
        self.remove.setEnabled(not few)
        self.remove.setToolTip(
            "Two classes are the fewest: the negative one, and what is looked for"
            if few
            else "Remove the class; its slides lose this label (undo brings it back)"
        )
        for widget, what in (
            (self.colour, "colour of"),
            (self.name, "name of"),
            (self.up, "move up"),
            (self.remove, "remove"),
        ):
            widget.setAccessibleName(f"{what} class {name}")

    def _choose_colour(self) -> None:
        self.editor.choose_colour(self._class)

    def _rename(self) -> None:
        if self.name.text().strip() != self._class:
            self.name.setModified(False)
            self.editor._told(self.editor.session.rename_class, self._class, self.name.text())

    def _move_up(self) -> None:
        self.editor._told(self.editor.session.move_class, self._class, self.place - 1)

    def _remove(self) -> None:
        self.editor._told(self.editor.session.remove_class, self._class)
