"""Colours of napari's theme, for the few widgets that napari's own style sheet says nothing about."""

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QWidget


def theme_colours(viewer: Any) -> dict[str, str]:
    """'#rrggbb' of background, foreground, primary, secondary, highlight, text, icon, warning, error and current."""
    from napari.utils.theme import get_theme

    theme = get_theme(str(getattr(viewer, "theme", "dark")))  # 'system' is dark or light by the desktop's choice
    names = ("background", "foreground", "primary", "secondary", "highlight", "text", "icon", "warning", "error")
    return {name: getattr(theme, name).as_hex() for name in (*names, "current")}


def themed(widget: QWidget, viewer: Any, sheet: Callable[[dict[str, str]], str]) -> Callable[[], None]:
    """Style a widget by `sheet(colours)`, now and whenever the theme changes. Returns what ends this."""

    def restyle(event: Any = None) -> None:
        widget.setStyleSheet(sheet(theme_colours(viewer)))

    restyle()
    viewer.events.theme.connect(restyle)

    def stop() -> None:
        viewer.events.theme.disconnect(restyle)

    return stop
