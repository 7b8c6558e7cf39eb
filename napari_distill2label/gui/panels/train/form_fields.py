"""Editors of settings, made from the declarations in `core.settings`: choice, yes or no, number."""

from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

from magicgui.widgets import create_widget
from pydantic.fields import FieldInfo
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractSpinBox, QCheckBox, QComboBox, QDoubleSpinBox, QSizePolicy
from superqt.utils import signals_blocked

from ....core.fields import SETTINGS, declaration_of

NARROW = 90  # px; an editor may become so narrow, so that the form fits a narrow dock
DIFFERS = "differs"  # the networks have different values


class Choice:
    """A box of the values of a setting."""

    def __init__(self, path: str, changed: Callable[[Any], None]) -> None:
        names, values = SETTINGS[path].values, get_args(declaration_of(path).annotation)
        choices = [(names.get(value, value), value) for value in values]
        self._made = create_widget(annotation=Literal[values], options={"choices": choices})
        self.widget: QComboBox = self._made.native
        self.widget.setPlaceholderText(DIFFERS)
        self.widget.activated.connect(lambda index: changed(values[index]))
        self._values = values

    def show(self, value: Any) -> None:
        """Show a value; None if there are several."""
        with signals_blocked(self.widget):
            self.widget.setCurrentIndex(-1 if value is None else self._values.index(value))


class YesOrNo:
    """A box to tick."""

    def __init__(self, path: str, changed: Callable[[Any], None]) -> None:
        self._made = create_widget(annotation=bool, options={"text": ""})
        self.widget: QCheckBox = self._made.native
        self.widget.clicked.connect(lambda checked: changed(checked))

    def show(self, value: bool | None) -> None:
        """Show a value; None if there are several."""
        with signals_blocked(self.widget):
            self.widget.setTristate(value is None)
            state = Qt.CheckState.Checked if value else Qt.CheckState.Unchecked
            self.widget.setCheckState(Qt.CheckState.PartiallyChecked if value is None else state)


class Number(QDoubleSpinBox):
    """A spin box that shows no more digits than the number has: 0.3 and 0.0005, not 0.300000."""

    def textFromValue(self, value: float) -> str:
        text = self.locale().toString(float(value), "f", self.decimals())
        point = self.locale().decimalPoint()
        return text.rstrip("0").removesuffix(point) if point in text else text


class NumberField:
    """A spin box. One step below the range stands for "not set", or for different values."""

    def __init__(self, path: str, changed: Callable[[Any], None], shared: bool) -> None:
        declared, row = declaration_of(path), SETTINGS[path]
        kinds = get_args(declared.annotation) or (declared.annotation,)
        self._whole, optional = float not in kinds, type(None) in kinds
        low, high = _range(declared)
        self.widget = box = Number()
        box.setDecimals(0 if self._whole else 6 if path.endswith(("learning_rate", "weight_decay")) else 3)
        if not self._whole:
            box.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
            low = max(low, 10 ** -box.decimals()) if any(hasattr(limit, "gt") for limit in declared.metadata) else low
        below = low - 10 ** -box.decimals()
        box.setRange(below if optional or shared else low, min(high, 2**31 - 1))
        if optional or shared:
            box.setSpecialValueText(DIFFERS if shared else row.unset)
        if row.unit and f"({row.unit})" not in row.name:
            box.setSuffix(f" {row.unit}")
        if not row.basic:
            box.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)  # leaves the width to the number
        box.setKeyboardTracking(False)  # a number counts once it is complete, not at each digit
        box.valueChanged.connect(lambda value: changed(self._value_of(value)))
        self._optional, self._low = optional, low

    def _value_of(self, shown: float) -> float | int | None:
        if self._optional and shown < self._low - 10 ** -self.widget.decimals() / 2:
            return None
        return round(shown) if self._whole else shown

    def show(self, value: float | None) -> None:
        """Show a value; None if it is not set, or if there are several."""
        with signals_blocked(self.widget):
            self.widget.setValue(self.widget.minimum() if value is None else value)


Editor = Choice | YesOrNo | NumberField


def make_editor(path: str, changed: Callable[[Any], None], shared: bool = False) -> Editor:
    """Return the editor of a setting, which calls `changed` with each value the user gives.

    A `shared` one stands for the same setting of several networks.
    """
    kind = declaration_of(path).annotation
    editor: Editor
    if get_origin(kind) is Literal:
        editor = Choice(path, changed)
    elif kind is bool:
        editor = YesOrNo(path, changed)
    else:
        editor = NumberField(path, changed, shared)
    if not isinstance(editor, YesOrNo):
        editor.widget.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        editor.widget.setMinimumWidth(NARROW)
    return editor


def _range(declared: FieldInfo) -> tuple[float, float]:
    low, high = 0.0, float(2**31 - 1)
    for limit in declared.metadata:
        low = getattr(limit, "ge", getattr(limit, "gt", low))
        high = getattr(limit, "le", getattr(limit, "lt", high))
    return low, high
