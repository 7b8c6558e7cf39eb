"""Find slides from the files, folders, patterns and URLs that a user gives. No Qt; any thread may call."""

import glob
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from ..core.errors import CohortError
from ..core.foreign_files import read_file
from ..core.paths import LABELS_NAMESPACE, LARGEST_RECORD, OWN_ATTRIBUTE, RECORD, PathLike, is_url, slide_name
from .registry import SUFFIXES

Place = TypeVar("Place", bound=Path | str)
TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".xls", ".ods")  # spreadsheets are refused later, with a reason
_OME_TIFF = (".ome.tif", ".ome.tiff")
_INDEXES = (".vms", ".vmu")  # Hamamatsu: a text that names the JPEG files of the slide
_LARGEST_TEXT = 1 << 22  # bytes; limit for such a text, and for a zarr's metadata


@dataclass(frozen=True)
class FoundFiles:
    """Slides in their order, tables, and one line for each path that cannot be added."""

    slides: tuple[Path, ...] = ()
    tables: tuple[Path, ...] = ()
    refused: tuple[str, ...] = ()


def find_slides(paths: Iterable[PathLike]) -> FoundFiles:
    """Find files as given, and all slides in folders and below (see `slides_in`). An OME-Zarr folder is a slide.

    Other files of a folder are ignored. A given file that is not a slide is refused.
    """
    slides: list[Path] = []
    tables, refused = [], []
    for path in (Path(path).absolute() for path in paths):
        suffix = path.suffix.lower()
        if not path.exists():
            refused.append(f"{path}: no such file")
        elif path.is_dir() and suffix != ".zarr":
            found = list(slides_in(path))
            slides += found
            if not found:
                refused.append(f"{path}: holds no image ({', '.join(SUFFIXES)})")
        elif suffix in SUFFIXES:
            slides.append(path)
        elif suffix in TABLES:
            tables.append(path)
        else:
            refused.append(f"{path}: not one of {', '.join(SUFFIXES)}")
    return FoundFiles(tuple(without_duplicates(slides)), tuple(tables), tuple(refused))


def named_slides(paths: Iterable[PathLike]) -> list[Path | str]:
    """Return the slides of a command line: files and URLs as given, slides of folders, matches of patterns.

    A slide that is given twice is returned once. A file that does not exist is returned too: opening it fails later.

    Raises
    ------
    CohortError
        A folder has no slide, or a pattern (`slides/*.svs`, in quotes) matches none.
    """
    found: list[Path | str] = []
    for path in paths:
        if is_url(path):
            found.append(str(path))
        elif os.path.lexists(path):
            found += _of_place(Path(path))
        elif glob.has_magic(os.fspath(path)):
            found += _matching(os.fspath(path))
        else:
            found.append(Path(path))
    return without_duplicates(found)


def without_duplicates(paths: Iterable[Place]) -> list[Place]:
    """Return each file once, under the first of its names (links are other names)."""
    seen: dict[str, Place] = {}
    for path in paths:
        seen.setdefault(str(path) if is_url(path) else os.path.normcase(os.path.realpath(str(path))), path)
    return list(seen.values())


def distinct_names(paths: Sequence[Path | str]) -> list[str]:
    """Return a unique name for each slide: `slide_name`, with the folders that differ if several share it.

    'a/x.svs', 'b/x.svs' are 'a_x' and 'b_x'; 'x.svs' and 'x.tif' in one folder keep their suffixes.
    """
    names = [slide_name(path) for path in paths]
    groups: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        groups[name].append(index)
    taken = {name for name, group in groups.items() if len(group) == 1}
    for group in groups.values():
        if len(group) > 1:
            for index, name in zip(group, _distinguish([paths[i] for i in group], taken), strict=True):
                names[index] = name
                taken.add(name)
    return names


def slides_in(folder: PathLike) -> Iterator[Path]:
    """Yield all slides in a folder and below, in natural order; files of a folder before those of its subfolders.

    A folder of DICOM files and an OME-Zarr folder are one slide each. Files that belong to another slide (the JPEG
    files of a `.vms`, the folder of a `.mrxs`), hidden files, other zarr folders (patch maps, features) and outputs of
    this program (label masks, pictures) are not slides.
    """
    for place, names, files in os.walk(folder):
        if any(name.lower().endswith(".dcm") for name in files):
            yield Path(place)  # one slide in many files
            files = [name for name in files if not name.lower().endswith(".dcm")]
        stores = {name for name in names if name.lower().endswith(".zarr")}
        parts = {os.path.splitext(name)[0] for name in files if name.lower().endswith(".mrxs")}
        names[:] = sorted((n for n in names if n not in stores | parts and not n.startswith(".")), key=natural_key)
        companions = _companions(place, files)
        own = _written_by_us(place)
        for name in sorted((*stores, *files), key=natural_key):
            path = Path(place) / name
            if name.startswith(".") or name in companions or path.suffix.lower() not in SUFFIXES:
                continue
            if _is_image_zarr(path) if name in stores else not _is_own(path, own):
                yield path


@lru_cache(maxsize=1 << 16)
def natural_key(text: str) -> tuple[tuple[bool, int | str], ...]:
    """Return a key to sort by: slide_9 comes before slide_10."""
    parts = (part for part in re.split(r"(\d+)", text) if part)
    return tuple((not part.isdecimal(), int(part) if part.isdecimal() else part.casefold()) for part in parts)


def is_own_output(path: PathLike) -> bool:
    """Whether this program wrote a file: the record of its folder, or the metadata of a label mask, says so."""
    return _is_own(Path(path), _written_by_us(os.path.dirname(path)))


def _of_place(path: Path) -> list[Path]:
    if not path.is_dir() or path.suffix.lower() == ".zarr":
        return [path]
    if not (found := list(slides_in(path))):
        raise CohortError(f"{path}: holds no slide: this version reads {', '.join(SUFFIXES)}")
    return found


def _matching(pattern: str) -> list[Path]:
    """Return the slides among the files that match, and those in folders that match."""
    found: list[Path] = []
    for path in map(Path, sorted(glob.glob(pattern, recursive=True), key=natural_key)):
        if path.suffix.lower() == ".zarr" and path.is_dir():
            found += [path] if _is_image_zarr(path) else []
        elif path.is_dir():
            found += slides_in(path)
        elif path.suffix.lower() in SUFFIXES and not is_own_output(path):
            found.append(path)
    if not found:
        raise CohortError(f"{pattern}: no slide matches this pattern")
    return found


def _distinguish(paths: Sequence[Path | str], taken: set[str]) -> list[str]:
    parts = [Path(path).absolute().parts if not is_url(path) else tuple(path.split("/")) for path in paths]
    stems = [slide_name(path) for path in paths]
    files = [each[-1] for each in parts]
    for ends, fewest in ((stems, 1), (files, 0)):
        for folders in range(fewest, max(map(len, parts)) - 1):
            names = [
                "_".join((*each[-1 - folders : -1], end)).strip("/\\") for each, end in zip(parts, ends, strict=True)
            ]
            if len(set(names)) == len(names) and taken.isdisjoint(names):
                return names
    return [f"{stem}-{number}" for number, stem in enumerate(stems, 1)]


def _companions(place: str, files: Sequence[str]) -> set[str]:
    """Return the files that an index file among them names as its parts."""
    companions: set[str] = set()
    for index in (name for name in files if name.lower().endswith(_INDEXES)):
        text = _text_of(os.path.join(place, index))
        companions |= {name for name in files if name != index and name in text}
    return companions


def _is_image_zarr(folder: Path) -> bool:
    """Whether a zarr folder may be an OME-Zarr image. Patch maps, features, tables and our labels have other metadata.

    A folder without metadata is damaged and counts as an image: opening it reports the damage.
    """
    texts = [_text_of(folder / name) for name in ("zarr.json", ".zattrs", "0/zarr.json", "0/.zattrs")]
    said = "".join(texts)
    if f'"{OWN_ATTRIBUTE}"' in "".join(texts[:2]):
        return False
    return not said or "multiscales" in said or "bioformats2raw.layout" in said


def _written_by_us(place: str) -> Mapping[str, set[int]]:
    """Return name -> sizes of the files that this program wrote into a folder, from its record."""
    sizes: dict[str, set[int]] = defaultdict(set)
    for line in _text_of(os.path.join(place, RECORD), LARGEST_RECORD).splitlines():
        try:
            entry = json.loads(line)
            sizes[entry["name"]].add(entry["size"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return sizes


def _is_own(path: Path, own: Mapping[str, set[int]]) -> bool:
    """Whether this program wrote a file, by the record `own` of its folder."""
    if path.name.lower().endswith(_OME_TIFF):  # a mask identifies itself; the demo's slides are in the record too
        return _is_label_mask(path)
    try:
        return path.stat().st_size in own.get(path.name, ())
    except OSError:
        return False


def _is_label_mask(path: Path) -> bool:
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            return LABELS_NAMESPACE in (tiff.ome_metadata or "")
    except Exception:  # noqa: BLE001 · a damaged file may raise anything; opening it reports the damage
        return False


def _text_of(path: PathLike, most: int = _LARGEST_TEXT) -> str:
    """Return the text of a small file; '' if it cannot be read or is too large."""
    try:
        return read_file(Path(path), most).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""
