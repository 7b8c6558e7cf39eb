"""`features`: a frozen encoder over the slides of a cohort; its features kept in zarr."""

from collections.abc import Generator
from pathlib import Path

from ..core.errors import SettingsError, SlideError
from ..core.events import Event, Failed, Finished, Notice
from ..core.settings import GridSettings
from ..prediction.encoder import FrozenEncoder
from ..slides.bags import lay_patches
from ..slides.registry import open_slide
from ..store.cohort import Cohort
from ..store.files import safe_name
from .bags import PathLike, features_of


def features(
    cohort: Cohort, encoder: PathLike, out: PathLike, grid: GridSettings | None = None
) -> Generator[Event, None, list[Path]]:
    """Write `<slide_id>.zarr` with the features of every patch of every slide; returns the folders.

    `grid` None: the encoder's own patch side and scale over tissue (Otsu). What is there already is kept.
    """
    frozen = FrozenEncoder(encoder)
    description = frozen.description
    grid = grid or GridSettings(patch_px=description.patch_px, mpp=description.mpp, tissue="otsu")
    if grid.patch_px < description.minimum_px:
        raise SettingsError(
            f"patches of {grid.patch_px} px are too small for {description.name!r}: it takes {description.minimum_px}"
        )
    written = []
    for row in cohort:
        path = Path(out) / f"{safe_name(row.slide_id)}.zarr"
        try:
            with open_slide(row.path, row.mpp) as slide:
                yield from (Notice(f"{row.slide_id}: {notice}") for notice in slide.notices)
                yield from features_of(slide, lay_patches(slide, grid), frozen, path)
        except SlideError as error:
            yield Failed(row.slide_id, str(error))
        else:
            written.append(path)
            yield Finished(row.slide_id, path)
    return written
