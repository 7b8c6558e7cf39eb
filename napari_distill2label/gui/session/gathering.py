"""Which files a user means by what was dropped or chosen: slides in folders, tables among them. Any thread may ask."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...slides.registry import SUFFIXES

PathLike = str | os.PathLike[str]
TABLES = (".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Gathered:
    """What was found: slides in their order, tables, and what cannot be added with the reason, a line each."""

    slides: tuple[Path, ...] = ()
    tables: tuple[Path, ...] = ()
    refused: tuple[str, ...] = ()


def gathered(paths: Iterable[PathLike]) -> Gathered:
    """Files as given; of folders, all images in them and below. An OME-Zarr folder is a slide.

    Other files of a folder are passed over in silence; a file that was named itself and is no slide is refused.
    """
    slides: dict[Path, None] = {}
    tables, refused = [], []
    for path in (Path(path).absolute() for path in paths):
        suffix = path.suffix.lower()
        if not path.exists():
            refused.append(f"{path}: no such file")
        elif path.is_dir() and suffix != ".zarr":
            found = list(_inside(path))
            slides |= dict.fromkeys(found)
            if not found:
                refused.append(f"{path}: holds no image ({', '.join(SUFFIXES)})")
        elif suffix in SUFFIXES:
            slides[path] = None
        elif suffix in TABLES:
            tables.append(path)
        else:
            refused.append(f"{path}: not one of {', '.join(SUFFIXES)}")
    return Gathered(tuple(slides), tuple(tables), tuple(refused))


def _inside(folder: Path) -> Iterator[Path]:
    for place, names, files in os.walk(folder):
        if any(name.lower().endswith(".dcm") for name in files):
            yield Path(place)  # one slide in many files
            files = [name for name in files if not name.lower().endswith(".dcm")]
        stores = [name for name in names if name.lower().endswith(".zarr")]
        names[:] = sorted((name for name in names if name not in stores and not name.startswith(".")), key=natural)
        for name in sorted(stores + files, key=natural):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(place) / name


@lru_cache(maxsize=1 << 16)
def natural(text: str) -> tuple[tuple[bool, int | str], ...]:
    """A key to sort by: slide_9 comes before slide_10."""
    parts = (part for part in re.split(r"(\d+)", text) if part)
    return tuple((not part.isdecimal(), int(part) if part.isdecimal() else part.casefold()) for part in parts)
