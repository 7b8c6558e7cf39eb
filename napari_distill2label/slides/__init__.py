"""Slide files to pixels to patches. Coordinates are (y, x) in level-0 pixels; no torch, no labels, no models.

`open_slide` reads any supported file into a `Slide`; `patches.place_patches` and `patches.cut_bag` turn it into a
`core.bag.Bag`.
"""

from typing import TYPE_CHECKING

from .registry import open_slide

if TYPE_CHECKING:
    from .slide import Slide

__all__ = ["Slide", "open_slide"]


def __getattr__(name: str) -> object:
    if name != "Slide":  # comes with dask, which a window of steps and buttons can do without
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .slide import Slide

    return Slide
