"""napari's *Open Sample*: two slides drawn by ourselves, in files, so that they can be trained on and predicted too."""

import os
import tempfile
from pathlib import Path

from .layers.layers import LayerData, slide_layer

SHAPE = (1024, 1024)  # px at 0.5 µm
VERSION = 1  # of the drawings: another number draws them anew


def negative_slide() -> list[LayerData]:
    """A drawn slide without tumour."""
    return [_layer("drawn_normal", positive=False)]


def positive_slide() -> list[LayerData]:
    """A drawn slide with nests and glands of tumour."""
    return [_layer("drawn_tumour", positive=True)]


def samples_folder() -> Path:
    """Where the drawn slides are kept."""
    try:
        from platformdirs import user_cache_dir  # napari depends on it

        folder = Path(user_cache_dir("napari-distill2label")) / f"samples-{VERSION}"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    folder = Path(tempfile.gettempdir()) / f"napari-distill2label-samples-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _layer(name: str, positive: bool) -> LayerData:
    from ..slides.registry import open_slide
    from ..slides.synthetic import KINDS, draw_slide, write_image

    path = samples_folder() / f"{name}.ome.tif"
    if not path.exists():
        write_image(path, draw_slide(2019, positive, SHAPE).image)
    return slide_layer(open_slide(path), name, label=KINDS[positive])
