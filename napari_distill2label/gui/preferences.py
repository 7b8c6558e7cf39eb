"""What a user prefers on this computer, in napari's own preferences (page *Distill to Label*)."""

from dataclasses import dataclass, fields

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
    runs_folder
        Where new runs are put; empty: beside the slides.
    threshold
        Probability from which on a patch is labelled with a finding, in a new window.
    opacity
        Of the layers of labels, 0–1.
    autosave
        Keep labels, classes, settings and corrections in a file beside the cohort after each change.
    live_delay_ms
        How long the live loop waits after a change of a label, in ms: several changes are one.
    thumbnails
        Show a thumbnail of each slide in the table.
    """

    device: str = "auto"
    spare_a_core: bool = True
    runs_folder: str = ""
    threshold: float = 0.5
    opacity: float = 0.6
    autosave: bool = True
    live_delay_ms: int = 500
    thumbnails: bool = True


def preferences() -> Preferences:
    """As they are now; the defaults where napari knows none."""
    from napari.settings import get_plugin_settings
    from npe2 import PluginManager

    known = PluginManager.instance()
    if NAME not in known or not known.get_manifest(NAME).contributions.configurations:
        return Preferences()  # napari would look through all installed packages, at every call
    try:
        section = get_plugin_settings(NAME).general
    except (AttributeError, KeyError, ValueError):  # the plugin is not registered: a script on a bare `ViewerModel`
        return Preferences()
    return Preferences(**{field.name: getattr(section, field.name, field.default) for field in fields(Preferences)})
