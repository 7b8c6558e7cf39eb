"""Which files a user means by what was dropped or chosen: see `slides.discovery`."""

from ...slides.discovery import TABLES, Gathered, PathLike, gathered, natural

__all__ = ["TABLES", "Gathered", "PathLike", "gathered", "natural"]
