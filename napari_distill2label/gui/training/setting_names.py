"""Settings by their paths, as the form shows them. Names, units and ranges are declared in `core.settings`. No Qt."""

from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ...core.settings import Settings

HIDDEN = ("preset", "method", "device")  # have boxes of their own
# What most people look at; everything else is folded away.
MAIN = ("teacher.epochs", "student.epochs", "patches.size_px", "patches.tissue")

SECTIONS = {
    name: (field.annotation.model_config.get("title") or name)
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
} | {"seed": "Repeatability"}


def setting_paths(kind: type[BaseModel] = Settings, prefix: str = "") -> list[str]:
    """'patches.size_px', …, 'seed': every single setting that the form shows."""
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
    """('patches.mpp', 0.5) -> {'grid': {'mpp': 0.5}}."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def value_at(settings: Settings, path: str) -> Any:
    """The value of a setting."""
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def shown_as(path: str, key: str) -> Any:
    """Return how the window shows a setting: its `unit`, its word for None (`unset`), or the `names` of its values."""
    extra = field_of(path).json_schema_extra
    assert isinstance(extra, dict)
    return extra[key]


def suffix(path: str) -> str:
    """Return the unit behind a number: ' px'. Nothing if the setting's name has the unit already."""
    unit = shown_as(path, "unit")
    return f" {unit}" if unit and f"({unit})" not in name_of(path) else ""


def name_of(path: str) -> str:
    """Return what the form calls a setting."""
    return str(field_of(path).title)


def value_in_words(path: str, value: Any) -> str:
    """Return a value as the form shows it: '27 px', 'keep all', "slide's own"."""
    if value is None:
        return str(shown_as(path, "unset"))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return str(shown_as(path, "names").get(value, value))
    return f"{value:g} {shown_as(path, 'unit')}".strip()


def changed(settings: Settings, standard: Settings) -> list[str]:
    """Paths of the settings that are not what preset and method say."""
    return [path for path in setting_paths() if value_at(settings, path) != value_at(standard, path)]
