"""Where what is in no table yet is kept: a folder of the user's data."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from platformdirs import user_data_dir


def recovery_folder() -> Path:
    """The folder; it need not be there."""
    return Path(user_data_dir("napari-distill2label", appauthor=False)) / "unsaved"


def folder_of_slides(paths: Iterable[Path | str], what: str) -> Path:
    """Where something is kept of slides that are in no table yet.

    Each set of folders of slides has its own: slides of one name elsewhere are other slides.
    """
    places = sorted({str(Path(path).parent) for path in paths})
    return recovery_folder() / f"{hashlib.sha256(json.dumps(places).encode()).hexdigest()[:16]}.{what}"
