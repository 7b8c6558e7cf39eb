"""napari's *Open Sample*: two slides drawn by ourselves, in files, so that they can be trained on and predicted too."""

import atexit
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from platformdirs import user_cache_dir

from ..canvas.layers import LayerData, slide_layer

SHAPE = (1024, 1024)  # px at 0.5 µm
VERSION = 1  # of the drawings: another number draws them again


def negative_slide() -> list[LayerData]:
    """A drawn slide without tumour."""
    return [_layer("drawn_normal", positive=False)]


def positive_slide() -> list[LayerData]:
    """A drawn slide with nests and glands of tumour."""
    return [_layer("drawn_tumour", positive=True)]


def samples_folder() -> Path:
    """Where the drawn slides are kept: the user's own cache, else a new private folder for this process.

    Never a name in a folder of all users that somebody else could have made first.
    """
    folder = Path(user_cache_dir("napari-distill2label", appauthor=False)) / f"samples-{VERSION}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_mine(folder):
            return folder
    return _private_folder()


def _is_mine(folder: Path) -> bool:
    """Can this user write here, and nobody else?"""
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or not os.access(folder, os.W_OK):
        return False
    return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)


@cache
def _private_folder() -> Path:
    folder = tempfile.mkdtemp(
        prefix="napari-distill2label-"
    )  # of this user alone, under a name that nobody can foresee
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _layer(name: str, positive: bool) -> LayerData:
    from ...slides.registry import open_slide
    from ...slides.synthetic import KINDS, draw_slide, write_image

    path = samples_folder() / f"{name}.ome.tif"
    if not path.exists():
        write_image(path, draw_slide(2019, positive, SHAPE).image)
    return slide_layer(open_slide(path), name, label=KINDS[positive])
