"""What the window remembers from one day to the next: widths, columns, what is folded. Nothing a result depends on."""

from qtpy.QtCore import QSettings


def window_state() -> QSettings:
    """A file of its own, in the user's configuration folder. Keys carry a version: `slides/columns-1`."""
    return QSettings(
        QSettings.Format.IniFormat, QSettings.Scope.UserScope, "napari-distill2label", "napari-distill2label"
    )
