"""`segment_tissue`: write the tissue of slides as regions, to correct them before training and predicting."""

import os
from collections.abc import Generator, Sequence
from pathlib import Path

from ...core.errors import OutputError, SettingsError, SlideError
from ...core.events import Event, ItemDone, ItemFailed
from ...core.messages import Remedy
from ...core.notices import Notice, NoticeCode
from ...core.paths import PathLike
from ...core.settings import PatchSettings
from ...exporters.regions import write_regions
from ...slides.registry import open_slide
from ...slides.tissue import segment_tissue as segment_slide
from ...store.cohort import Cohort
from ...store.files.outputs import Outputs
from ...store.files.safe_names import safe_names


def segment_tissue(
    slides: Cohort | Sequence[PathLike],
    out: PathLike,
    settings: PatchSettings | None = None,
    *,
    overwrite: bool = False,
) -> Generator[Event, None, list[Path]]:
    """Write `<slide_id>.geojson` with the tissue of every slide. Return the files.

    Parameters
    ----------
    slides
        A cohort, or files.
    out
        Folder of the results.
    settings
        Settings of which `tissue` and `white_level` are used; None: Otsu on saturation.
    overwrite
        Replace existing files. Without it they are kept, because they may have been corrected.

    The regions are QuPath annotations: drag the file onto the slide, correct them, and export them again. `predict`
    takes them as `tissue`.
    """
    settings = settings or PatchSettings(tissue="otsu")
    if settings.tissue == "none":
        raise SettingsError(
            "The tissue method 'none' finds no regions.", remedy=Remedy("set", "patches.tissue", "otsu")
        )
    cohort = slides if isinstance(slides, Cohort) else Cohort.of_files(slides)
    cohort.check_found()
    yield from cohort.notices
    names = safe_names((row.slide_id,) for row in cohort)
    places = {row.slide_id: Path(out) / f"{names[row.slide_id,]}.geojson" for row in cohort}
    files = []
    with Outputs([row.path for row in cohort], overwrite, "looking for tissue") as outputs:
        outputs.claim(path for path in places.values() if overwrite or not os.path.lexists(path))
        for row in cohort:
            path = places[row.slide_id]
            if os.path.lexists(path) and not overwrite:
                yield Notice(NoticeCode.REGIONS_EXIST, {"file": path}, row.slide_id)
                files.append(path)
                continue
            try:
                with open_slide(row.path, row.mpp) as slide:
                    yield from (notice.about(row.slide_id) for notice in slide.notices)
                    mask = yield from segment_slide(slide, settings)
                    yield from (notice.about(row.slide_id) for notice in mask.notices)
                if not mask.mask.any():
                    raise SlideError(f"The tissue method {settings.tissue!r} finds no tissue.", file=row.path)
                files.append(write_regions(path, mask, row.slide_id, outputs.writing))
            except (SlideError, OutputError) as error:
                yield ItemFailed(row.slide_id, error)
            else:
                yield ItemDone(row.slide_id, path)
    return files
