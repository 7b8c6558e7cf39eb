"""`export`: patch maps that are kept already, written in the formats others read."""

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..core.colours import RGB
from ..core.errors import BundleError, SlideError
from ..core.events import Event, Failed, Finished, Progress
from ..export import format_names, write
from ..store.bundle import ROLES
from ..store.patchmap import PatchMap
from ..store.points import Points, class_of_patches, read_points
from ..store.run import Run
from .bags import PathLike
from .predict import DEFAULT_FORMATS, check_threshold


def export(
    source: PathLike | Run | PatchMap | Sequence[PatchMap],
    out: PathLike,
    formats: Sequence[str] = DEFAULT_FORMATS,
    *,
    threshold: float | None = None,
    corrections: PathLike | None = None,
    colours: Mapping[str, RGB] | None = None,
) -> Generator[Event, None, list[Path]]:
    """Write patch maps, with a user's corrections laid over them.

    Parameters
    ----------
    source
        A run (its predictions; of a slide that several of its models labelled, the student's, else the teacher's),
        a patch map's folder, or patch maps.
    threshold
        None: the one each map was predicted with.
    corrections
        CSV `slide_id,x,y,label`; the table's column `source` tells corrected patches from the model's.
    colours
        8-bit (r, g, b) of classes by name, where they are not the palette's.
    """
    formats = format_names(formats)
    if threshold is not None:
        check_threshold(threshold)
    known = {} if corrections is None else read_points(corrections, labelled=True)
    maps = _maps_of(source)
    files: list[Path] = []
    for done, (name, patch_map) in enumerate(maps.items(), 1):
        try:
            if isinstance(patch_map, Path):
                patch_map = PatchMap.open(patch_map)
            points = known.get(patch_map.slide_id)
            given = None if points is None else corrected_patches(patch_map, points)
            written = write(patch_map, out, formats, threshold, given, colours=colours)
        except (SlideError, BundleError) as error:
            yield Failed(name, str(error))
        else:
            files += written
            yield Finished(name, written)
        yield Progress("exporting", done, len(maps))
    return files


def corrected_patches(patch_map: PatchMap, points: Points) -> np.ndarray:
    """int8 of `patches.shape`: the class a user gave to a patch, −1 elsewhere."""
    patches = patch_map.patches
    known = np.full(patches.shape, -1, np.int8)
    known[patches.scored] = class_of_patches(points, patches, patch_map.classes, corrections=True)
    return known


def _maps_of(source: PathLike | Run | PatchMap | Sequence[PatchMap]) -> dict[str, PatchMap | Path]:
    """Patch maps by slide; a run's are its folders, opened in their turn."""
    if isinstance(source, PatchMap):
        return {source.slide_id: source}
    if isinstance(source, (list, tuple)):
        return {patch_map.slide_id: patch_map for patch_map in source}
    if not isinstance(source, Run) and not Run.is_run(source):
        return _maps_of(PatchMap.open(source))
    folder = (source if isinstance(source, Run) else Run.open(source)).predictions
    maps: dict[str, PatchMap | Path] = {}
    for role in ROLES:  # files are named by slide alone: of several models' maps the last one's are written
        suffix = f".{role}.zarr"
        maps |= {path.name.removesuffix(suffix): path for path in sorted(folder.glob(f"*{suffix}"))}
    if not maps:
        raise BundleError(f"{folder}: holds no prediction yet; predict first")
    return maps
