"""A form from the settings models: fields, ranges and tooltips are those of `core.settings`, declared once.

What differs from preset and method is marked, and each such value has a button that puts it back.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ....core.errors import SettingsError
from ....core.fields import (
    FIELDS,
    SETTINGS,
    changed_settings,
    declaration_of,
    nested,
    value_at,
    value_in_words,
)
from ....core.presets import build_settings
from ....core.settings import Settings
from ...messages import message_of
from ...session import Session
from ...widgets.controls import Fold, row

# What most people look at; everything else is folded away.
MAIN = ("teacher.epochs", "student.epochs", "patches.size_px", "patches.tissue")
SECTIONS = {
    name: (declared.annotation.model_config.get("title") or name)
    for name, declared in Settings.model_fields.items()
    if isinstance(declared.annotation, type) and issubclass(declared.annotation, BaseModel)
} | {"seed": "Repeatability"}
NARROW = 90  # px; an editor may become so narrow, so that the form fits a narrow dock


def _suffix(path: str) -> str:
    """Return the unit behind a number: ' px'. Nothing if the setting's name has the unit already."""
    row = FIELDS[path]
    return f" {row.unit}" if row.unit and f"({row.unit})" not in row.name else ""


class Setting:
    """One line of the form: name, editor, and the button that puts the preset's value back."""

    def __init__(self, path: str, editor: QWidget, put_back: Callable[[str], None]) -> None:
        self.path, self.editor = path, editor
        section = SECTIONS[path.split(".")[0]]
        editor.setToolTip(declaration_of(path).description or "")
        editor.setAccessibleName(f"{section}: {FIELDS[path].name}" if path not in MAIN else FIELDS[path].name)
        self.label = QLabel(FIELDS[path].name)
        self.label.setToolTip(editor.toolTip())
        self.label.setBuddy(editor)
        self.reset = QToolButton()
        self.reset.setText("↺")
        self.reset.setAutoRaise(True)
        self.reset.setAccessibleName(f"put back {FIELDS[path].name}")
        self.reset.clicked.connect(lambda checked=False: put_back(path))
        policy = self.reset.sizePolicy()
        policy.setRetainSizeWhenHidden(True)  # nothing moves when a value is changed
        self.reset.setSizePolicy(policy)
        self.field = QWidget()
        layout = row(editor, self.reset, stretch=0)
        layout.setSpacing(2)
        self.field.setLayout(layout)

    def show(self, settings: Settings, standard: Settings) -> None:
        """Show the value, and whether it is the preset's."""
        value, usual = value_at(settings, self.path), value_at(standard, self.path)
        blocked = self.editor.blockSignals(True)
        if isinstance(self.editor, QComboBox):
            self.editor.setCurrentIndex(self.editor.findData(value))
        elif isinstance(self.editor, QCheckBox):
            self.editor.setChecked(value)
        else:
            self.editor.setValue(self.editor.minimum() if value is None else value)
        self.editor.blockSignals(blocked)
        differs = value != usual
        font = self.label.font()
        if font.bold() != differs:  # a new font lays the form out anew
            font.setBold(differs)
            self.label.setFont(font)
        self.label.setText(f"{FIELDS[self.path].name} *" if differs else FIELDS[self.path].name)
        self.reset.setVisible(differs)
        self.reset.setToolTip(f"Put back what preset and method say: {value_in_words(self.path, usual)}")
        self.editor.setAccessibleDescription(self.reset.toolTip() if differs else "")


class SettingsForm(QWidget):
    """All settings but preset, method and device; shows the session's and changes them there."""

    def __init__(self, session: Session, report: Callable[[str], None]) -> None:
        super().__init__()
        self.session, self._report = session, report
        self.settings: dict[str, Setting] = {}
        self.sections: dict[str, Fold] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._form(MAIN))
        self.search = QLineEdit()
        self.search.setPlaceholderText("Find a setting…")
        self.search.setClearButtonEnabled(True)
        self.search.setAccessibleName("find a setting")
        clear = self.search.findChild(QToolButton)
        clear.setAccessibleName("clear what is searched for")
        clear.setToolTip("Show all settings again")
        self.search.setToolTip("Show only settings with this in their name or description")
        self.search.textChanged.connect(self.find)
        self.none_found = QLabel("No setting is called that.")
        self.none_found.hide()
        self.reset = QToolButton()
        self.reset.setText("↺ Put all back")
        self.reset.setAccessibleName("put all settings back")
        self.reset.setToolTip("All settings back to what preset and method say")
        self.reset.clicked.connect(lambda checked=False: session.reset_settings())
        rest = QWidget()
        inside = QVBoxLayout(rest)
        inside.setContentsMargins(8, 0, 0, 0)
        inside.addLayout(row(self.search, self.reset, stretch=0))
        inside.addWidget(self.none_found)
        grouped: dict[str, list[str]] = {}
        for path in SETTINGS:
            if path not in MAIN:
                grouped.setdefault(path.split(".")[0], []).append(path)
        for section, title in SECTIONS.items():
            content = QWidget()
            content.setLayout(self._form(grouped[section]))
            content.layout().setContentsMargins(8, 0, 0, 4)
            self.sections[section] = fold = Fold(title, content)
            fold.toggle.setToolTip(_about(section))
            inside.addWidget(fold)
        self.fold = Fold("All settings", rest)
        self.fold.toggle.setToolTip("Every setting, for those who know the method")
        layout.addWidget(self.fold)
        self.refresh()

    @property
    def editors(self) -> dict[str, QWidget]:
        """The editor of every setting, by its path."""
        return {path: setting.editor for path, setting in self.settings.items()}

    def _form(self, paths: Iterable[str]) -> QFormLayout:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(4)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        for path in paths:
            setting = self.settings[path] = Setting(path, self._editor(path), self.put_back)
            form.addRow(setting.label, setting.field)
        return form

    def _editor(self, path: str) -> QWidget:
        field = declaration_of(path)
        kind = field.annotation
        if get_origin(kind) is Literal:
            box = QComboBox()
            words = FIELDS[path].values
            for value in get_args(kind):
                box.addItem(words.get(value, value), value)
            box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            box.setMinimumWidth(NARROW)
            box.activated.connect(lambda index: self._set(path, box.itemData(index)))
            return box
        if kind is bool:
            check = QCheckBox()
            check.clicked.connect(lambda checked: self._set(path, checked))
            return check
        return self._spin_box(path, field)

    def _spin_box(self, path: str, field: FieldInfo) -> QAbstractSpinBox:
        kinds = get_args(field.annotation) or (field.annotation,)
        optional, is_float = type(None) in kinds, float in kinds
        low, high = _range(field)
        name = path.split(".")[-1]
        box = Number() if is_float else QSpinBox()
        if is_float:
            box.setDecimals(6 if name in ("learning_rate", "weight_decay") else 3)
            box.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
            low = max(low, 10 ** -box.decimals()) if any(hasattr(m, "gt") for m in field.metadata) else low
        step = 10 ** -box.decimals() if is_float else 1
        # One step below the range stands for "not set".
        box.setRange(low - step if optional else low, min(high, 2**31 - 1))
        if optional:
            box.setSpecialValueText(FIELDS[path].unset)
        box.setSuffix(_suffix(path))
        if path not in MAIN:
            box.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)  # all the room is for the number
        box.setKeyboardTracking(False)  # a number is taken when it is whole, not at each digit
        box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        box.setMinimumWidth(NARROW)
        box.valueChanged.connect(lambda value: self._set(path, None if optional and value < low - step / 2 else value))
        return box

    def _set(self, path: str, value: Any) -> None:
        if value == value_at(self.session.settings, path):
            return
        try:
            self.session.configure(**nested(path, value))
        except SettingsError as error:
            self._report(message_of(error))
            self.refresh()

    def put_back(self, path: str) -> None:
        """What preset and method say of one setting."""
        try:
            self.session.reset_settings(path)
        except SettingsError as error:
            self._report(message_of(error))

    def refresh(self) -> None:
        """Show what the session says."""
        settings = self.session.settings
        standard = self.session.choices.fitted(build_settings(self.session.choices.preset, self.session.choices.method))
        for setting in self.settings.values():
            setting.show(settings, standard)
        different = changed_settings(settings, standard)
        for section, fold in self.sections.items():
            count = sum(path.split(".")[0] == section and path not in MAIN for path in different)
            fold.toggle.setText(f"{SECTIONS[section]} ({count} changed)" if count else SECTIONS[section])
        folded = sum(path not in MAIN for path in different)
        self.fold.toggle.setText(f"All settings ({folded} changed)" if folded else "All settings")
        self.reset.setEnabled(bool(different))
        self.reset.setToolTip(
            "All settings back to what preset and method say"
            if different
            else "Nothing differs from what preset and method say"
        )

    def find(self, text: str) -> None:
        """Show the folded settings that have `text` in their name or description; all for no text."""
        words = text.lower().split()
        hits = 0
        for section, fold in self.sections.items():
            here = 0
            for path, setting in self.settings.items():
                if path in MAIN or path.split(".")[0] != section:
                    continue
                known = f"{path} {FIELDS[path].name} {declaration_of(path).description} {SECTIONS[section]}".lower()
                hit = all(word in known for word in words)
                here += hit
                fold.content.layout().setRowVisible(setting.field, hit)
            fold.setVisible(here > 0)
            fold.toggle.setChecked(bool(words) and here > 0)
            hits += here
        self.none_found.setVisible(hits == 0)


class Number(QDoubleSpinBox):
    """A spin box that shows no more digits than the number has: 0.3 and 0.0005, not 0.300000."""

    def textFromValue(self, value: float) -> str:
        text = self.locale().toString(float(value), "f", self.decimals())
        point = self.locale().decimalPoint()
        return text.rstrip("0").removesuffix(point) if point in text else text


def _range(field: FieldInfo) -> tuple[float, float]:
    low, high = 0, 2**31 - 1
    for limit in field.metadata:
        low = getattr(limit, "ge", getattr(limit, "gt", low))
        high = getattr(limit, "le", getattr(limit, "lt", high))
    return low, high


def _about(section: str) -> str:
    kind = Settings.model_fields[section].annotation
    return (getattr(kind, "__doc__", "") or "").strip().splitlines()[0] if section != "seed" else "The random numbers"
