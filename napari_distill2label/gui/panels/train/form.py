"""The settings form: a row per setting, made from its declaration in `core.settings`.

The first rows are the basic settings. A basic setting that every network has, such as the learning rate, has one row
that sets it for all of them. *Advanced* has the other settings of every network; their rows are made when they are
first looked at. A value that differs from those of kind of images and method is marked, and a button resets it.
"""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any

from pydantic import BaseModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QLabel, QLineEdit, QToolButton, QVBoxLayout, QWidget

from ....core.errors import SettingsError
from ....core.fields import SETTINGS, changed_settings, nested, value_at, value_in_words
from ....core.presets import build_settings
from ....core.settings import Settings, merged
from ...messages import message_of
from ...session import Session
from ...widgets.controls import Collapsible, guard_wheel, plain_labels, row
from .form_fields import make_editor

NETWORKS = ("teacher", "oof", "student")
GROUPS = {  # of settings, by name
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
SECTIONS = {name: str(group.model_config["title"]) for name, group in GROUPS.items()}


def basic_rows() -> list[tuple[str, ...]]:
    """Return the settings of the rows that most users look at. A row of several settings sets all of them."""
    basic = [path for path, field in SETTINGS.items() if field.basic]
    rows: dict[tuple[str, ...], None] = {}
    for path in basic:
        shared = tuple(f"{network}.{path.rpartition('.')[2]}" for network in NETWORKS)
        rows[shared if set(shared) <= set(basic) else (path,)] = None
    return list(rows)


class Row:
    """A line of the form: name, editor, and the button that resets the value."""

    def __init__(
        self, paths: tuple[str, ...], section: str, change: Callable[[Any], None], reset: Callable[[], None]
    ) -> None:
        self.paths, self.name = paths, SETTINGS[paths[0]].name
        self.editor = make_editor(paths[0], change, shared=len(paths) > 1)
        self.text = SETTINGS[paths[0]].description + (" For all networks." if len(paths) > 1 else "")
        widget = self.editor.widget
        widget.setToolTip(self.text)
        widget.setAccessibleName(f"{section}: {self.name}" if section else self.name)
        self.label = QLabel(self.name)
        self.label.setToolTip(self.text)
        self.label.setBuddy(widget)
        self.reset = QToolButton()
        self.reset.setText("↺")
        self.reset.setAutoRaise(True)
        self.reset.setAccessibleName(f"reset {self.name}")
        self.reset.clicked.connect(lambda checked=False: reset())
        policy = self.reset.sizePolicy()
        policy.setRetainSizeWhenHidden(True)  # nothing moves when a value is changed
        self.reset.setSizePolicy(policy)
        self.field = QWidget()
        layout = row(widget, self.reset, stretch=0)
        layout.setSpacing(2)
        self.field.setLayout(layout)

    def show(self, settings: Settings, standard: Settings) -> None:
        """Show the value, and whether it differs from the standard one."""
        values = {value_at(settings, path) for path in self.paths}
        self.editor.show(values.pop() if len(values) == 1 else None)
        changed = [path for path in self.paths if value_at(settings, path) != value_at(standard, path)]
        font = self.label.font()
        if font.bold() != bool(changed):  # setting a font lays out the whole form again
            font.setBold(bool(changed))
            self.label.setFont(font)
        self.label.setText(f"{self.name} *" if changed else self.name)
        self.reset.setVisible(bool(changed))
        usual = dict.fromkeys(value_in_words(path, value_at(standard, path)) for path in self.paths)
        self.reset.setToolTip(f"Reset to {', '.join(usual)}")
        self.editor.widget.setAccessibleDescription(self.reset.toolTip() if changed else "")

    def matches(self, words: Iterable[str]) -> bool:
        """Whether each of the words is in the name or the description."""
        known = f"{' '.join(self.paths)} {self.name} {self.text}".lower()
        return all(word in known for word in words)


class SettingsForm(QWidget):
    """All settings but kind of images, method and device. It shows those of the session and changes them there."""

    def __init__(self, session: Session, report: Callable[[str], None]) -> None:
        super().__init__()
        self.session, self._report = session, report
        self.basic: list[Row] = []
        self.advanced: dict[str, list[Row]] = {}  # those that were made
        self.sections: dict[str, Collapsible] = {}
        self._forms: dict[str, QFormLayout] = {}  # inside them
        shown_above = {paths[0] for paths in basic_rows() if len(paths) == 1}
        self._paths = {
            section: [path for path in SETTINGS if path.startswith(f"{section}.") and path not in shown_above]
            for section in SECTIONS
        }
        self._make_search()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row(self.search, self.reset, stretch=0))
        layout.addWidget(self.none_found)
        self.basic_form = self._form()
        for paths in basic_rows():
            self.basic.append(self._row(paths, ""))
            self.basic_form.addRow(self.basic[-1].label, self.basic[-1].field)
        layout.addLayout(self.basic_form)
        self.fold = Collapsible("Advanced", self._make_advanced())
        self.fold.toggle.setToolTip("Every setting of every network")
        layout.addWidget(self.fold)
        self.refresh()

    def _make_search(self) -> None:
        self.search = QLineEdit()
        self.search.setPlaceholderText("Find a setting…")
        self.search.setClearButtonEnabled(True)
        self.search.setAccessibleName("find a setting")
        self.search.setToolTip("Show only settings with these words in their name or description")
        clear = self.search.findChild(QToolButton)
        clear.setAccessibleName("clear the search")
        clear.setToolTip("Show all settings again")
        self.search.textChanged.connect(self.find)
        self.none_found = QLabel("No setting has these words.")
        self.none_found.hide()
        self.reset = QToolButton()
        self.reset.setText("↺ Reset all")
        self.reset.setAccessibleName("reset all settings")
        self.reset.clicked.connect(lambda checked=False: self.session.reset_settings())

    def _make_advanced(self) -> QWidget:
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(8, 0, 0, 0)
        for section, paths in self._paths.items():
            if not paths:
                continue
            form = self._forms[section] = self._form()
            form.setContentsMargins(8, 0, 0, 4)
            inside = QWidget()
            inside.setLayout(form)
            self.sections[section] = fold = Collapsible(SECTIONS[section], inside)
            fold.toggle.setToolTip((GROUPS[section].__doc__ or "").strip().splitlines()[0])
            fold.toggle.toggled.connect(partial(self._make_rows, section))
            layout.addWidget(fold)
        return content

    def _make_rows(self, section: str, opened: bool = True) -> None:
        """Make the rows of a section, once: 70 of them would take half of the time in which the panel opens."""
        if section in self.advanced:
            return
        self.advanced[section] = [self._row((path,), SECTIONS[section]) for path in self._paths[section]]
        settings, standard = self._values()
        for each in self.advanced[section]:
            self._forms[section].addRow(each.label, each.field)
            each.show(settings, standard)
        guard_wheel(self.sections[section])  # as the dock does with what is there from the beginning
        plain_labels(self.sections[section])

    @property
    def rows(self) -> list[Row]:
        """All rows, the basic ones first."""
        for section in self.sections:
            self._make_rows(section)
        return self._made_rows()

    def _made_rows(self) -> list[Row]:
        return [*self.basic, *chain(*self.advanced.values())]

    def row_of(self, *paths: str) -> Row:
        """Return the row of exactly these settings. `KeyError` if there is none."""
        return {row.paths: row for row in self.rows}[paths]

    def _form(self) -> QFormLayout:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(4)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        return form

    def _row(self, paths: tuple[str, ...], section: str) -> Row:
        return Row(paths, section, lambda value: self._set(paths, value), lambda: self._reset(paths))

    def _set(self, paths: tuple[str, ...], value: Any) -> None:
        if all(value == value_at(self.session.settings, path) for path in paths):
            return
        try:
            self.session.configure(**merged({}, *(nested(path, value) for path in paths)))
        except SettingsError as error:
            self._report(message_of(error))
            self.refresh()

    def _reset(self, paths: tuple[str, ...]) -> None:
        try:
            self.session.reset_settings(*paths)
        except SettingsError as error:
            self._report(message_of(error))

    def refresh(self) -> None:
        """Show the settings of the session."""
        settings, standard = self._values()
        for each in self._made_rows():
            each.show(settings, standard)
        changed = set(changed_settings(settings, standard))
        folded = 0
        for section, fold in self.sections.items():
            count = len(changed.intersection(self._paths[section]))
            fold.toggle.setText(f"{SECTIONS[section]} ({count} changed)" if count else SECTIONS[section])
            folded += count
        self.fold.toggle.setText(f"Advanced ({folded} changed)" if folded else "Advanced")
        self.reset.setEnabled(bool(changed))
        self.reset.setToolTip(
            "Reset all settings to those of kind of images and method" if changed else "No setting was changed"
        )

    def _values(self) -> tuple[Settings, Settings]:
        """Return the settings of the session, and those of kind of images and method."""
        choices = self.session.choices
        return self.session.settings, choices.fitted(build_settings(choices.preset, choices.method))

    def find(self, text: str) -> None:
        """Show the settings with `text` in their name or description; all for no text."""
        words = text.lower().split()
        hits = 0
        for each in self.basic:
            hit = each.matches(words)
            self.basic_form.setRowVisible(each.field, hit)
            hits += hit
        for section, fold in self.sections.items():
            self._make_rows(section)
            others = [word for word in words if word not in SECTIONS[section].lower()]
            found = [each.matches(others) for each in self.advanced[section]]
            for each, hit in zip(self.advanced[section], found, strict=True):
                self._forms[section].setRowVisible(each.field, hit)
            fold.setVisible(any(found))
            fold.toggle.setChecked(bool(words) and any(found))
            hits += sum(found)
        if words and any(not fold.isHidden() for fold in self.sections.values()):
            self.fold.toggle.setChecked(True)
        self.none_found.setVisible(hits == 0)
