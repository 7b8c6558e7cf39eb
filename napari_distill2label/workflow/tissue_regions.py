"""The file with the tissue regions of a slide."""

from collections.abc import Mapping
from pathlib import Path

from ..core.errors import SlideError
from ..core.inputs import TissueRegions
from ..core.paths import slide_name
from ..slides.label_mask import is_label_image
from ..store.files.safe_names import disambiguated, safe_name


def regions_of(slide_id: str, tissue: TissueRegions | None) -> Path | None:
    """Return the file with the regions of a slide. None: it uses the tissue method of the settings.

    A folder has one file for each slide, of annotations or a label image. `SlideError` if it has none for the slide, or
    has several label images of it.
    """
    if tissue is None:
        return None
    if isinstance(tissue.source, Mapping):
        return Path(tissue.source[slide_id]) if slide_id in tissue.source else None
    source = Path(tissue.source)
    if not source.is_dir():
        return source
    name = safe_name(slide_id)
    path, apart = (source / f"{each}.geojson" for each in (name, disambiguated(name, slide_id)))
    if apart.is_file():  # another slide's id differs in capitals alone
        return apart
    others = (path.with_name(f"{path.name}.gz"), path.with_suffix(".xml"))
    if not path.is_file() and (other := next((each for each in others if each.is_file()), None)):
        return other
    if path.is_file():
        return path
    images = [each for each in sorted(source.iterdir()) if is_label_image(each) and slide_name(each) == name]
    if len(images) > 1:
        raise SlideError(f"{images[0]} and {images[1]} are both of slide {slide_id!r}: keep one of them")
    if not images:
        raise SlideError(f"{path}: no such file: the folder of regions has none for the slide {slide_id!r}")
    return images[0]
