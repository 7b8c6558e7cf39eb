"""A form from the settings models: fields, ranges and tooltips are those of `core.settings`, declared once."""

from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QFormLayout, QLabel, QSpinBox, QVBoxLayout, QWidget

from ..core.errors import SettingsError
from ..core.settings import Settings
from .parts import Fold
from .session import Session

# What most people look at; everything else is in the fold below.
MAIN = ("teacher.epochs", "student.epochs", "grid.patch_px", "grid.tissue", "device")
NAMES = {
    "teacher.epochs": "Teacher epochs",
    "student.epochs": "Student epochs",
    "grid.patch_px": "Patch side",
    "grid.patch_um": "Patch side on the slide",
    "grid.stride_px": "Stride",
    "grid.stride_um": "Stride on the slide",
    "grid.mpp": "Patch scale",
    "grid.tissue": "Background rule",
    "seed": "Seed",
    "device": "Device",
}
SUFFIXES = {"patch_px": " px", "patch_um": " µm", "stride_px": " px", "stride_um": " µm", "mpp": " µm/px"}
NOT_SET = {"stride_px": "the patch side", "mpp": "the slide's own", "bag_patches": "the whole bag"}
HIDDEN = ("preset", "recipe")  # have boxes of their own
DEVICES = ("auto", "cpu", "cuda", "mps")


def setting_paths(kind: type[BaseModel] = Settings, prefix: str = "") -> list[str]:
    """'grid.patch_px', …, 'seed': every single setting."""
    paths = []
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            paths += setting_paths(field.annotation, f"{prefix}{name}.")
        elif f"{prefix}{name}" not in HIDDEN:
            paths.append(f"{prefix}{name}")
    return paths


def field_of(path: str) -> FieldInfo:
    """The declaration of a setting."""
    *parts, name = path.split(".")
    kind: Any = Settings
    for part in parts:
        kind = kind.model_fields[part].annotation
    return kind.model_fields[name]


def nested(path: str, value: Any) -> dict[str, Any]:
    """('grid.mpp', 0.5) -> {'grid': {'mpp': 0.5}}."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def value_at(settings: Settings, path: str) -> Any:
    """The value of a setting."""
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


class SettingsForm(QWidget):
    """All settings but preset and recipe; shows the session's and changes them there."""

    def __init__(self, session: Session, report: Callable[[str], None]) -> None:
        super().__init__()
        self.session, self._report = session, report
        self.editors: dict[str, QWidget] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._form(MAIN))
        rest = QWidget()
        inside = QVBoxLayout(rest)
        inside.setContentsMargins(12, 0, 0, 0)
        sections: dict[str, list[str]] = {}
        for path in setting_paths():
            if path not in MAIN:
                sections.setdefault(path.split(".")[0], []).append(path)
        for section, paths in sections.items():
            heading = QLabel(section.capitalize())
            heading.setToolTip((Settings.model_fields[section].annotation.__doc__ or "").strip())
            inside.addWidget(heading)
            inside.addLayout(self._form(paths))
        self.fold = Fold("All settings", rest)
        layout.addWidget(self.fold)
        self.refresh()

    def _form(self, paths: Any) -> QFormLayout:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for path in paths:
            name = NAMES.get(path, path.split(".")[-1].replace("_", " ").capitalize())
            editor = self._editor(path)
            editor.setToolTip(field_of(path).description or "")
            editor.setAccessibleName(f"{path.split('.')[0]}: {name}" if "." in path else name)
            label = QLabel(name)
            label.setToolTip(editor.toolTip())
            label.setBuddy(editor)
            form.addRow(label, editor)
            self.editors[path] = editor
        return form

    def _editor(self, path: str) -> QWidget:
        field = field_of(path)
        kind = field.annotation
        if path == "device" or get_origin(kind) is Literal:
            box = QComboBox()
            box.addItems(DEVICES if path == "device" else get_args(kind))
            box.textActivated.connect(lambda text: self._set(path, text))
            return box
        if kind is bool:
            check = QCheckBox()
            check.clicked.connect(lambda checked: self._set(path, checked))
            return check
        return self._spin_box(path, field)

    def _spin_box(self, path: str, field: FieldInfo) -> QSpinBox | QDoubleSpinBox:
        kinds = get_args(field.annotation) or (field.annotation,)
        optional, is_float = type(None) in kinds, float in kinds
        low, high = _range(field)
        name = path.split(".")[-1]
        box = QDoubleSpinBox() if is_float else QSpinBox()
        if is_float:
            box.setDecimals(6 if name in ("learning_rate", "weight_decay") else 3)
            box.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
            low = max(low, 10 ** -box.decimals()) if any(hasattr(m, "gt") for m in field.metadata) else low
        step = 10 ** -box.decimals() if is_float else 1
        # One step below the range stands for "not set".
        box.setRange(low - step if optional else low, min(high, 2**31 - 1))
        if optional:
            box.setSpecialValueText(NOT_SET.get(name, "not set"))
        box.setSuffix(SUFFIXES.get(name, ""))
        box.setKeyboardTracking(False)  # a number is taken when it is whole, not at each digit
        box.valueChanged.connect(lambda value: self._set(path, None if optional and value < low - step / 2 else value))
        return box

    def _set(self, path: str, value: Any) -> None:
        if value == value_at(self.session.settings, path):
            return
        try:
            self.session.configure(**nested(path, value))
        except SettingsError as error:
            self._report(str(error))
            self.refresh()

    def refresh(self) -> None:
        """Show what the session says."""
        settings = self.session.settings
        for path, editor in self.editors.items():
            value = value_at(settings, path)
            blocked = editor.blockSignals(True)
            if isinstance(editor, QComboBox):
                editor.setCurrentText(value)
            elif isinstance(editor, QCheckBox):
                editor.setChecked(value)
            else:
                editor.setValue(editor.minimum() if value is None else value)
            editor.blockSignals(blocked)


def _range(field: FieldInfo) -> tuple[float, float]:
    low, high = 0, 2**31 - 1
    for limit in field.metadata:
        low = getattr(limit, "ge", getattr(limit, "gt", low))
        high = getattr(limit, "le", getattr(limit, "lt", high))
    return low, high
