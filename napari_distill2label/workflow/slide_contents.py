"""What a file says of slides, whatever its format: objects, a label image, or places of patches. `convert` reads it."""

import os
from collections import Counter
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..core.errors import CohortError, SlideError
from ..core.events import Progress, Task
from ..core.geometry import PatchGrid, PatchPoints
from ..core.messages import Remedy
from ..core.paths import PathLike
from ..exporters.objects import boxes_of, is_number, objects_of_rows, pieces_of
from ..slides.annotations import find_files, iter_objects, object_name
from ..slides.label_mask import LabelMask, is_label_image, read_label_mask, scale_to
from ..slides.qupath import QuPathObject
from ..slides.regions import find_areas
from ..slides.registry import open_slide
from ..store.cohort import Cohort
from ..store.maps.hdf5 import SUFFIXES
from ..store.maps.hdf5_geometry import Frame
from ..store.maps.hdf5_places import places_name, read_places
from ..store.maps.patch_map import PatchMap, read_header
from ..store.run import Run
from ..store.tables.mark_table import Row, find_tables, is_table, read_rows
from ..store.tables.points import find_for_slide, is_centred
from .commands.export import maps_of

MOST_ROWS = 50_000  # of a table, in memory at once: some 100 MB


@dataclass(frozen=True, eq=False)
class SlideContents:
    """What a file says of one slide.

    Attributes
    ----------
    frame
        What is known of the slide.
    objects
        Reads its objects, each time that it is called. Of a label image there are none before `with_areas`.
    image, patches
        The label image, or the places of patches, that the objects are made of; None where there is none.
    besides
        What the file holds besides, as a plain name: "labels". Empty for nothing.
    path
        The file of a label image.
    """

    slide_id: str
    frame: Frame
    objects: Callable[[], Iterable[QuPathObject]]
    image: LabelMask | None = None
    patches: PatchGrid | PatchPoints | None = None
    besides: str = ""
    path: Path | None = None


def is_map(path: Path) -> bool:
    """Whether a folder is a patch map, or a run that has some."""
    return path.is_dir() and (bool(read_header(path)) or Run.is_run(path))


def files_of(sources: PathLike | Sequence[PathLike]) -> list[Path]:
    """Return the files among sources; of a folder of annotations, tables or HDF5 files, those in it."""
    paths = [Path(source) for source in ([sources] if isinstance(sources, str | os.PathLike) else sources)]
    found: list[Path] = []
    for path in paths:
        if not path.is_dir() or is_label_image(path) or is_map(path):
            found.append(path)
            continue
        here = sorted(file for file in path.iterdir() if not file.name.startswith("."))
        inside = find_files(path) or find_tables(path) + [file for file in here if file.suffix.lower() in SUFFIXES]
        inside = inside or [file for file in here if is_label_image(file)]
        if not inside:
            raise CohortError(f"{path}: holds no file that can be converted")
        found += inside
    return list(dict.fromkeys(found))


def read_contents(path: Path, cohort: Cohort) -> Iterator[SlideContents | Progress]:
    """Yield what a file says of each slide, without its patch map's predictions. `cohort`: the slides that are known.

    Between them is the progress of reading. `CohortError` or `SlideError` for a file that cannot be read.
    """
    if is_map(path):
        for found in maps_of(path).values():
            yield _of_map(PatchMap.open(found) if isinstance(found, Path) else found, cohort)
    elif path.suffix.lower() in SUFFIXES:
        slide_id, frame = _slide_of(places_name(path), cohort)
        yield _of_patches(slide_id, frame, read_places(path, frame).patches, "features" if _has_features(path) else "")
    elif is_label_image(path):
        slide_id, frame = _slide_of(object_name(path), cohort)
        image = read_label_mask(path)
        yield SlideContents(slide_id, frame, tuple, image, path=path)
    elif is_table(path):
        yield from _of_table(path, cohort)
    else:
        slide_id, frame = _slide_of(object_name(path), cohort)
        yield SlideContents(slide_id, frame, partial(iter_objects, path))


def with_areas(contents: SlideContents) -> Generator[Progress, None, SlideContents]:
    """Return the contents with areas as objects, at level 0 of the slide, in place of a label image.

    A generator of its progress. `SlideError` if the slide's size is not known.
    """
    image, frame, path = contents.image, contents.frame, contents.path
    if image is None:
        return contents
    if frame.shape is None:
        raise SlideError(
            "A label image does not say how large its slide is, so its areas have no place there.",
            file=path,
            remedy=Remedy("set", "slides"),
        )
    scale = scale_to(path, image.pixels.shape, frame.shape)
    areas = yield from find_areas(image, path, contents.slide_id)
    return replace(contents, image=None, objects=partial(areas.objects, scale))


def _of_table(path: Path, cohort: Cohort) -> Iterator[SlideContents | Progress]:
    """Yield what a table says of each slide.

    It is read once to see which slides it has, and again for their rows: those of small slides together.
    """
    counts, texts = Counter[str](), dict[str, set[str]]()
    for piece in pieces_of(read_rows(path, others=True)):
        for row in piece:
            counts[row.slide_id] += 1
            known = texts.setdefault(row.slide_id, set())
            if row.point is not None or row.box is not None:
                known |= {name for name, text in row.cells.items() if name not in known and not _is_measured(text)}
        yield Progress(Task.READ_MARKS, counts.total(), None, path.name)
    for group in _groups(counts):
        rows: dict[str, list[Row]] = {name: [] for name in group}
        if len(group) > 1:
            for row in read_rows(path, others=True, slides=group):
                rows[row.slide_id].append(row)
        for name in group:
            slide_id, frame = _slide_of(name, cohort)
            read = partial(iter, rows[name]) if len(group) > 1 else partial(_rows_of, path, name)
            yield SlideContents(slide_id, frame, partial(_objects, read, texts[name]))


def _groups(counts: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield slides in their order, so many together as fit into memory with their rows, or one."""
    group: list[str] = []
    for name, n in counts.items():
        if group and sum(counts[other] for other in group) + n > MOST_ROWS:
            yield group
            group = []
        group.append(name)
    if group:
        yield group


def _rows_of(path: Path, name: str) -> Iterator[Row]:
    return read_rows(path, others=True, slides=(name,))


def _objects(read: Callable[[], Iterator[Row]], texts: Container[str]) -> Iterator[QuPathObject]:
    return objects_of_rows(read(), texts)


def _is_measured(text: str) -> bool:
    return not text or is_number(text)


def _slide_of(name: str, cohort: Cohort) -> tuple[str, Frame]:
    """Return the id of the slide that a name is of, and what is known of it."""
    for row in cohort:
        if find_for_slide({name: name}, row.slide_id) is not None:
            with open_slide(row.path, row.mpp, allow_non_brightfield=True) as slide:
                return row.slide_id, Frame.of(slide)
    if len(cohort):
        raise SlideError(f"is of slide {name!r}, which is not among the slides that are given")
    return name, Frame()


def _of_map(patch_map: PatchMap, cohort: Cohort) -> SlideContents:
    info = patch_map.slide
    known = Frame(patch_map.patches.slide_shape, info.canvas_origin, None, info.mpp)
    slide_id, frame = _slide_of(info.slide_id, cohort) if len(cohort) else (info.slide_id, known)
    return _of_patches(slide_id, frame, patch_map.patches, "labels and probabilities")


def _of_patches(slide_id: str, frame: Frame, patches: PatchGrid | PatchPoints, besides: str) -> SlideContents:
    boxes = partial(boxes_of, patches.corners, patches.side, is_centred(patches))
    return SlideContents(slide_id, frame, boxes, patches=patches, besides=besides)


def _has_features(path: Path) -> bool:
    from ..store.maps.hdf5_file import open_hdf5

    with open_hdf5(path) as file:
        return "features" in file
