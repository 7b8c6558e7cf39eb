"""Regions of tissue to take patches from: one file, a folder, or a file per slide."""

import os
from collections.abc import Mapping
from pathlib import Path

from ..core.errors import SlideError
from ..store.files.safe_names import safe_name, told_apart

PathLike = str | os.PathLike[str]
Tissue = PathLike | Mapping[str, PathLike]  # one file, a folder of them, or a file for some slides by their ids


def regions_of(slide_id: str, tissue: Tissue | None) -> Path | None:
    """Return the file with the regions of a slide: `tissue`, or `<slide_id>.geojson` (`.gz`) in it if it is a folder.

    A mapping has files for some slides. The others use the tissue method of the settings (None). `SlideError`
    if a folder has none for the slide.
    """
    if isinstance(tissue, Mapping):
        return Path(tissue[slide_id]) if slide_id in tissue else None
    if tissue is None or not Path(tissue).is_dir():
        return None if tissue is None else Path(tissue)
    name = safe_name(slide_id)
    path, apart = (Path(tissue) / f"{each}.geojson" for each in (name, told_apart(name, slide_id)))
    if apart.is_file():  # another slide's id differs in capitals alone
        return apart
    packed = path.with_name(f"{path.name}.gz")
    if not path.is_file() and packed.is_file():
        return packed
    if not path.is_file():
        raise SlideError(f"{path}: no such file: the folder of regions has none for the slide {slide_id!r}")
    return path
