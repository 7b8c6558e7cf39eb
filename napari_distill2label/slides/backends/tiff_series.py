"""The slide among the images of a TIFF: the largest, and never the label, whatever the order of the pages."""

import math
import struct

import tifffile

from ...core.errors import SlideError
from ...core.notices import Notice
from .main_image import kind_of, largest, only_beside

_PAGE_NAME = 285
_MASK = 4  # NewSubfileType
_MOST_PAGES = 20_000


def check_pages(path: object, tiff: tifffile.TiffFile) -> None:
    """Raise `SlideError` if the chain of pages is a circle, or longer than any slide's.

    tifffile finds circles of up to 100 pages only, and would follow longer ones for ever.
    """
    file, layout = tiff.filehandle, tiff.tiff
    offset = tiff.pages.first.offset
    seen: set[int] = set()
    while offset and offset < file.size:
        if offset in seen:
            raise SlideError(f"{path}: damaged, its chain of pages runs in a circle")
        if len(seen) == _MOST_PAGES:
            raise SlideError(f"{path}: holds more than {_MOST_PAGES} pages: no slide has so many")
        seen.add(offset)
        file.seek(offset)
        try:
            (tags,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
            file.seek(offset + layout.tagnosize + tags * layout.tagsize)
            (offset,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
        except struct.error:  # the file ends here
            return


def beside(series: tifffile.TiffPageSeries) -> str:
    """Return the kind of an associated image in lower case: "label", "macro"…; "" for a slide."""
    key = series.keyframe
    description = str(getattr(key, "description", ""))[:2000].splitlines()[:3]
    names = (series.name, str(key.tags.valueof(_PAGE_NAME, "")), *description)
    return next(filter(None, map(kind_of, names)), "")


def main_series(path: object, tiff: tifffile.TiffFile) -> tuple[int, Notice | None]:
    """Return (index, notice) of the image that is the slide.

    The notice says which image was chosen if it is not the first, or if another one is about as large.

    Raises
    ------
    SlideError
        There are only labels, photographs of the whole glass, or thumbnails.
    """
    named = [beside(series) for series in tiff.series]
    slides = {
        index: series.keyframe
        for index, series in enumerate(tiff.series)
        if not named[index] and not int(series.keyframe.subfiletype) & _MASK
    }
    if not slides:
        raise SlideError(f"{path}: {only_beside(named)}")
    whole = {index: key for index, key in slides.items() if not key.is_reduced} or slides
    areas = {index: math.prod((key.imagewidth, key.imagelength)) for index, key in whole.items()}
    sizes = {index: f"{key.imagewidth} × {key.imagelength} px" for index, key in whole.items()}
    return largest(areas, len(named), sizes)
