"""What the window remembers between two starts: which steps are open. Per user, never in a cohort's folder."""

from qtpy.QtCore import QSettings

NAME = "napari-distill2label"
VERSION = 1  # of what is kept: another number begins anew


def remembered(key: str) -> bool | None:
    """What was remembered under a key; None: nothing."""
    text = _settings().value(f"{VERSION}/{key}")
    return {"true": True, "false": False}.get(str(text).lower())


def remember(key: str, value: bool) -> None:
    """Keep a choice for the next window."""
    _settings().setValue(f"{VERSION}/{key}", value)


def forget() -> None:
    """Begin anew."""
    _settings().clear()


def _settings() -> QSettings:
    return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, NAME, "window")
