"""`tissue`: where there is tissue, as regions to look at and correct before training and predicting."""

import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from ..core.errors import OutputError, SettingsError, SlideError
from ..core.events import Event, ItemDone, ItemFailed, Notice
from ..core.settings import GridSettings
from ..exporters.regions import write_regions
from ..slides.registry import open_slide
from ..slides.tissue import segment_tissue
from ..store.cohort import Cohort
from ..store.files.outputs import Outputs
from ..store.files.safe_names import safe_name, safe_names, told_apart

PathLike = str | os.PathLike[str]
Tissue = PathLike | Mapping[str, PathLike]  # one file, a folder of them, or a file for some slides by their ids


def tissue(
    slides: Cohort | Sequence[PathLike], out: PathLike, settings: GridSettings | None = None, *, overwrite: bool = False
) -> Generator[Event, None, list[Path]]:
    """Write `<slide_id>.geojson` with the tissue of every slide; returns the files.

    Parameters
    ----------
    slides
        A cohort, or files.
    out
        Folder of the results.
    settings
        Whose `tissue` and `white_level` say how it is found; None: Otsu on saturation.
    overwrite
        Replace files that are there. Without it they are kept: somebody may have corrected them.

    The regions are QuPath annotations: drag the file onto the slide, correct, and export them again. They are what
    `predict`'s `tissue` takes.
    """
    settings = settings or GridSettings(tissue="otsu")
    if settings.tissue == "all":
        raise SettingsError("the rule 'all' finds no regions: choose 'otsu' or 'white'")
    cohort = slides if isinstance(slides, Cohort) else Cohort.of_files(slides)
    cohort.check_found()
    yield from (Notice(line) for line in cohort.notices)
    names = safe_names((row.slide_id,) for row in cohort)
    places = {row.slide_id: Path(out) / f"{names[row.slide_id,]}.geojson" for row in cohort}
    files = []
    with Outputs([row.path for row in cohort], overwrite, "looking for tissue") as outputs:
        outputs.claim(path for path in places.values() if overwrite or not os.path.lexists(path))
        for row in cohort:
            path = places[row.slide_id]
            if os.path.lexists(path) and not overwrite:
                yield Notice(f"{row.slide_id}: {path} is there already and is kept; --overwrite replaces it")
                files.append(path)
                continue
            try:
                with open_slide(row.path, row.mpp) as slide:
                    yield from (Notice(f"{row.slide_id}: {notice}") for notice in slide.notices)
                    mask = yield from segment_tissue(slide, settings)
                    yield from (Notice(f"{row.slide_id}: {notice}") for notice in mask.notices)
                if not mask.mask.any():
                    raise SlideError(f"{row.path}: no tissue found by the rule {settings.tissue!r}")
                files.append(write_regions(path, mask, row.slide_id, outputs.writing))
            except (SlideError, OutputError) as error:
                yield ItemFailed(row.slide_id, error)
            else:
                yield ItemDone(row.slide_id, path)
    return files


def regions_of(slide_id: str, tissue: Tissue | None) -> Path | None:
    """The file of a slide's regions: `tissue` itself, or `<slide_id>.geojson` (`.gz`) in it where it is a folder.

    A mapping names a file for some slides; for the others the tissue rule of the settings holds (None). `SlideError`
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
