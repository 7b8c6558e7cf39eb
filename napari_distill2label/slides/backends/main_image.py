"""Which of several images in a file is the slide: the largest, and never a photograph of its label."""

import re
from collections.abc import Mapping

_KINDS = "label|macro|thumbnail|overview|map"
# "label", "Label image", "CMU-1.svs [label image]", Aperio's second line "macro 1280x431".
_BESIDE = re.compile(
    rf"(?:.*[\[(]\s*)?({_KINDS})(?:[ _](?:image|photo|photograph))?(?:\s+\d+x\d+)?(?:\s*[\])])?", re.IGNORECASE
)
_LARGE = 4  # an image of at least a quarter of the slide's area could be a slide too


def kind_of(name: str) -> str:
    """What an image of that name is that lies beside the slide: "label", "macro"…; "" for a slide."""
    named = _BESIDE.fullmatch(name.strip("\0 \t"))
    return named[1].lower() if named else ""


def largest(areas: Mapping[int, int], n_images: int, sizes: Mapping[int, str]) -> tuple[int, str]:
    """(number, notice) of the slide among images, by the area of each; the first of several that are as large.

    The notice says which was taken of `n_images`, where it is not the first, or another may be a slide too; `sizes` are
    those of the images in words.
    """
    chosen = max(areas, key=lambda number: (areas[number], -number))
    others = sum(area * _LARGE >= areas[chosen] for number, area in areas.items() if number != chosen)
    if chosen == 0 and not others:
        return chosen, ""
    more = "; of others that are as large, or nearly so, nothing is read" if others else ""
    return chosen, (
        f"holds {n_images} images: the largest, number {chosen + 1} ({sizes[chosen]}), is taken for the slide{more}"
    )


def only_beside(kinds: list[str]) -> str:
    """What a file holds instead of a slide, in words."""
    return f"holds no slide, only its {' and '.join(dict.fromkeys(filter(None, kinds))) or 'mask'}"
