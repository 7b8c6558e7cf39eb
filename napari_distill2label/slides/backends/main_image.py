"""The slide among the images of a file: the largest one, and never a photograph of the label."""

import re
from collections.abc import Mapping

from ...core.notices import Notice, NoticeCode

_KINDS = "label|macro|thumbnail|overview|map"
# "label", "Label image", "CMU-1.svs [label image]", Aperio's second line "macro 1280x431".
_BESIDE = re.compile(
    rf"(?:.*[\[(]\s*)?({_KINDS})(?:[ _](?:image|photo|photograph))?(?:\s+\d+x\d+)?(?:\s*[\])])?", re.IGNORECASE
)
_LARGE = 4  # an image of at least a quarter of the slide's area could be a slide too


def kind_of(name: str) -> str:
    """Return the kind of an image by its name: "label", "macro"…; "" for a slide."""
    named = _BESIDE.fullmatch(name.strip("\0 \t"))
    return named[1].lower() if named else ""


def largest(areas: Mapping[int, int], n_images: int, sizes: Mapping[int, str]) -> tuple[int, Notice | None]:
    """Return (number, notice) of the slide among images, by their areas; the first of equally large ones.

    The notice says which of `n_images` was chosen if it is not the first, or if another may be a slide too; `sizes` are
    the sizes of the images in words.
    """
    chosen = max(areas, key=lambda number: (areas[number], -number))
    others = sum(area * _LARGE >= areas[chosen] for number, area in areas.items() if number != chosen)
    if chosen == 0 and not others:
        return chosen, None
    values = {"n": n_images, "chosen": chosen + 1, "size": sizes[chosen], "others": others > 0}
    return chosen, Notice(NoticeCode.SEVERAL_IMAGES, values)


def only_beside(kinds: list[str]) -> str:
    """Describe the images of a file that has no slide."""
    return f"holds no slide, only its {' and '.join(dict.fromkeys(filter(None, kinds))) or 'mask'}"
