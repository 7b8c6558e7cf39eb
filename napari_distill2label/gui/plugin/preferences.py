"""What a user prefers on this computer, in napari's own preferences (page *Distill to Label*)."""

from dataclasses import asdict, replace
from typing import Any

from ..project.preferences import Preferences

NAME = "napari-distill2label"


def preferences() -> Preferences:
    """As they are now; the defaults where napari knows none."""
    section = _section()
    if section is None:
        return Preferences()
    default = Preferences()
    return replace(default, **{name: getattr(section, name, value) for name, value in asdict(default).items()})


def remember(**changed: Any) -> None:
    """Keep preferences that were changed in the panel; nothing where napari knows none."""
    section = _section()
    for name, value in changed.items() if section is not None else ():
        setattr(section, name, value)


def _section() -> Any:
    """Our preferences in napari, an evented model; None if the plugin is not registered (a bare `ViewerModel`)."""
    from napari.settings import get_plugin_settings
    from npe2 import PluginManager

    known = PluginManager.instance()
    if NAME not in known or not known.get_manifest(NAME).contributions.configurations:
        return None  # napari would look through all installed packages, at every call
    try:
        return get_plugin_settings(NAME).general
    except (AttributeError, KeyError, ValueError):
        return None
