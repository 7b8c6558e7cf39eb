"""Slide files to pixels to patches. Coordinates are (y, x) in level-0 pixels; no torch, no labels, no models.

`open_slide` reads any supported file into a `Slide`; `bags.lay_patches` and `bags.cut_bag` turn it into a
`core.bag.Bag`.
"""

from .registry import open_slide
from .slide import Slide

__all__ = ["Slide", "open_slide"]
