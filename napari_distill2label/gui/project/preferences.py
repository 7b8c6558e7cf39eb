"""What a user prefers on this computer, as a value. `plugin.preferences` reads it from napari."""

from dataclasses import dataclass


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
