"""Annotations of other programs from one reader: GeoJSON of QuPath, XML of ASAP and of ImageScope.

All of them become `QuPathObject`s: the ground truth, corrections, centres and regions of tissue are read in one way,
whatever program they are of.
"""

from collections.abc import Iterator
from pathlib import Path

from ..core.errors import CohortError
from ..core.foreign_files import refuse_special_file
from ..core.paths import slide_name
from . import qupath
from .annotation_xml import iter_annotations
from .label_mask import is_label_image, slide_of_mask
from .qupath import QuPathObject

XML = ".xml"


def read_objects(path: str | Path) -> list[QuPathObject]:
    """Return the objects of a file, as `iter_objects` yields them."""
    return list(iter_objects(path))


def iter_objects(path: str | Path) -> Iterator[QuPathObject]:
    """Yield the objects of a file, by its suffix. `CohortError`, in one line with its name, if it cannot be read.

    They are read one by one, so that memory does not grow with their number.
    """
    path = Path(path)
    if path.suffix.lower() != XML:
        yield from qupath.iter_objects(path)
        return
    try:
        refuse_special_file(path)
        yield from iter_annotations(path)
    except FileNotFoundError:
        raise CohortError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise CohortError(f"{path}: not a file of annotations: {reason}") from None


def object_name(path: str | Path) -> str:
    """Return the slide of a file of annotations: the one that it names (files of ours do), else its own name.

    That is the name without suffixes.
    """
    name = Path(path).name
    if is_label_image(path):
        return slide_of_mask(Path(path)) or slide_name(path)
    if not name.lower().endswith(XML) and (said := qupath.slide_of_geojson(path)):
        return said
    return name[: -len(XML)].removesuffix(".ome") if name.lower().endswith(XML) else qupath.object_name(path)


def find_files(folder: str | Path) -> list[Path]:
    """Return the files of annotations in a folder, by name; `.json` files only if there is no other."""
    found = qupath.find_files(folder)
    xml = sorted(file for file in Path(folder).iterdir() if file.is_file() and file.suffix.lower() == XML)
    xml = [file for file in xml if not file.name.startswith(".")]
    if xml and all(file.name.lower().endswith((".json", ".json.gz")) for file in found):
        return xml
    return sorted([*found, *xml])
