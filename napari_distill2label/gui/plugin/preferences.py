"""What a user prefers on this computer, in napari's own preferences (page *Distill to Label*)."""

from dataclasses import dataclass, fields
from typing import Any

NAME = "napari-distill2label"


@dataclass(frozen=True)
class Preferences:
    """The same names and defaults as under `configurations` in `napari.yaml`.

    Attributes
    ----------
    device
        Where training and predicting compute: auto, cpu, cuda or mps.
    spare_a_core
        Leave one processor core to the window while computing.
    keep_freed_memory
        Keep the memory that a training step frees for the next one: faster, but the process keeps its largest size.
    runs_folder
        Where new runs are put; empty: beside the slides.
    threshold
        Probability from which on a patch is labelled with a finding, in a new window.
    opacity
        Of the layers of labels, 0–1.
    colour_negatives
        Colour negative patches, too; else findings alone.
    autosave
        Keep labels, classes, settings and corrections in a file beside the cohort after each change.
    live_delay_ms
        How long the live loop waits after a change of a label, in ms: several changes are one.
    thumbnails
        Show a thumbnail of each slide in the table.
    """

    device: str = "auto"
    spare_a_core: bool = True
    keep_freed_memory: bool = False
    runs_folder: str = ""
    threshold: float = 0.5
    opacity: float = 0.6
    colour_negatives: bool = False
    autosave: bool = True
    live_delay_ms: int = 500
    thumbnails: bool = True


def preferences() -> Preferences:
    """As they are now; the defaults where napari knows none."""
    section = _section()
    if section is None:
        return Preferences()
    return Preferences(**{field.name: getattr(section, field.name, field.default) for field in fields(Preferences)})


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
