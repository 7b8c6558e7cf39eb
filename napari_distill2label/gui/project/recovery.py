"""Where what is in no table yet is kept: a folder of the user's data."""

from pathlib import Path

from platformdirs import user_data_dir


def recovery_folder() -> Path:
    """The folder; it need not be there."""
    return Path(user_data_dir("napari-distill2label", appauthor=False)) / "unsaved"
