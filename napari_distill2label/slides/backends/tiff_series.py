"""Which of the images in a TIFF is the slide: the largest, and never its label, however the pages are ordered."""

import math
import re
import struct

import tifffile

from ...core.errors import SlideError

ASSOCIATED = ("label", "macro", "thumbnail", "overview", "map")
_KINDS = "|".join(ASSOCIATED)
# "label", "Label image", "CMU-1.svs [label image]", Aperio's second line "macro 1280x431".
_BESIDE = re.compile(
    rf"(?:.*[\[(]\s*)?({_KINDS})(?:[ _](?:image|photo|photograph))?(?:\s+\d+x\d+)?(?:\s*[\])])?", re.IGNORECASE
)
_PAGE_NAME = 285
_MASK = 4  # NewSubfileType
_MOST_PAGES = 20_000


def check_pages(path: object, tiff: tifffile.TiffFile) -> None:
    """`SlideError` if the chain of pages runs in a circle, or is longer than any slide's. It is walked alone.

    The library that reads them looks for circles of up to 100 pages, and walks the others for ever.
    """
    file, layout = tiff.filehandle, tiff.tiff
    offset, seen = tiff.pages.first.offset, set()
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
    """What an image is that lies beside the slide, in small letters: "label", "macro"…; "" for a slide."""
    key = series.keyframe
    description = str(getattr(key, "description", ""))[:2000].splitlines()[:3]
    for text in (series.name, str(key.tags.valueof(_PAGE_NAME, "")), *description):
        named = _BESIDE.fullmatch(text.strip("\0 \t"))
        if named:
            return named[1].lower()
    return ""


def main_series(path: object, tiff: tifffile.TiffFile) -> tuple[int, str]:
    """(index, notice) of the image that is the slide.

    The notice says which was taken, where it is not the first, or where another one is about as large.

    Raises
    ------
    SlideError
        There is nothing but a label, a photograph of the whole glass, or a thumbnail.
    """
    named = [beside(series) for series in tiff.series]
    slides = [index for index, name in enumerate(named) if not name and not _is_mask(tiff.series[index])]
    if not slides:
        raise SlideError(
            f"{path}: holds no slide, only its {' and '.join(dict.fromkeys(filter(None, named))) or 'mask'}"
        )
    whole = [index for index in slides if not tiff.series[index].keyframe.is_reduced] or slides
    chosen = max(whole, key=lambda index: (_area(tiff.series[index]), -index))
    others = [
        index for index in whole if index != chosen and _area(tiff.series[index]) * 4 >= _area(tiff.series[chosen])
    ]
    if chosen == 0 and not others:
        return chosen, ""
    key = tiff.series[chosen].keyframe
    return chosen, (
        f"holds {len(tiff.series)} images: the largest, number {chosen + 1} ({key.imagewidth} × {key.imagelength} px), "
        f"is taken for the slide{'' if not others else '; of others as large, or nearly so, nothing is read'}"
    )


def _is_mask(series: tifffile.TiffPageSeries) -> bool:
    return bool(int(series.keyframe.subfiletype) & _MASK)


def _area(series: tifffile.TiffPageSeries) -> int:
    return math.prod((series.keyframe.imagewidth, series.keyframe.imagelength))
