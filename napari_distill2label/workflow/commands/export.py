"""`export`: write saved patch maps in the formats of other programs."""

import os
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...core.bag import UNLABELLED
from ...core.classes import RGB
from ...core.errors import BundleError, OutputError, SettingsError, SlideError
from ...core.events import Event, ItemDone, ItemFailed, Progress, Task
from ...core.inputs import Inputs
from ...core.network_names import NETWORKS
from ...core.paths import COHORT_SUMMARY, PathLike
from ...core.text import list_briefly
from ...exporters.formats import (
    DEFAULT_FORMATS,
    SUMMARY,
    Names,
    files_of_map,
    format_names,
    iter_write,
    names_of_files,
)
from ...exporters.merged_regions import RegionOptions
from ...exporters.slide_summary import SlideSummary, summarise, write_cohort_summary
from ...slides.registry import may_have_canvas, open_slide
from ...store.bundle_config import versions
from ...store.files.outputs import Outputs
from ...store.maps.patch_map import PatchMap, read_header
from ...store.run import Run
from ..corrections import Corrections
from ..threshold import check_threshold


def export(
    source: PathLike | Run | PatchMap | Sequence[PatchMap],
    out: PathLike,
    formats: Sequence[str] = DEFAULT_FORMATS,
    *,
    threshold: float | None = None,
    inputs: Inputs = Inputs(),
    colours: Mapping[str, RGB] | None = None,
    regions: RegionOptions = RegionOptions(),
    overwrite: bool = False,
) -> Generator[Event, None, list[Path]]:
    """Write patch maps, with the corrections of a user applied.

    Parameters
    ----------
    source
        A run (its predictions; of a slide that several of its models labelled, the student's, else the teacher's),
        a patch map's folder, or patch maps.
    threshold
        None: the threshold of each map.
    inputs
        Of these: corrections, label_map, coverage. The table's column `source` tells corrected patches from the
        model's.
    colours
        8-bit (r, g, b) of classes by name, if they differ from the palette.
    regions
        How merged regions are drawn (format "regions"): with round corners, from which area on.
    overwrite
        Replace files in `out` that this program did not write, or that were changed since. Without it `OutputError`
        names them before anything is written. Files that are read, slides included, are never replaced.
    """
    formats = format_names(formats)
    inputs.check_only("Exporting", "corrections", "label_map", "coverage")
    if threshold is not None:
        check_threshold(threshold)
    maps = maps_of(source)
    given = {}
    if (corrections := Corrections.of_inputs(inputs)) is not None:
        given = yield from _corrected(corrections, maps)
    heads = {name: _head_of(patch_map) for name, patch_map in maps.items()}
    names = names_of_files(_disambiguated(heads), formats)
    files: list[Path] = []
    summaries: list[SlideSummary] = []
    with Outputs(_files_read(maps, heads, inputs.corrections), overwrite, "exporting") as outputs:
        outputs.claim(_files_of(out, formats, [names[name] for name in maps]))
        for done, (name, patch_map) in enumerate(maps.items(), 1):
            try:
                if isinstance(patch_map, Path):
                    patch_map = PatchMap.open(patch_map)
                _check_frame(patch_map)
                written = yield from iter_write(
                    patch_map, out, formats, threshold, given.get(name), colours=colours, names=names[name],
                    regions=regions, writing=outputs.writing,
                )  # fmt: skip
                if SUMMARY in formats:
                    summaries.append(summarise(patch_map, threshold_of(patch_map, threshold), given.get(name)))
            except (SlideError, BundleError, OutputError) as error:
                yield ItemFailed(name, error)
            else:
                files += written
                yield ItemDone(name, written)
            yield Progress(Task.EXPORT, done, len(maps))
        if summaries:
            files.append(write_summary(out, summaries, outputs))
    return files


def threshold_of(patch_map: PatchMap, threshold: float | None) -> float:
    """Return the given threshold, or the map's own."""
    return patch_map.threshold if threshold is None else threshold


def write_summary(out: PathLike, summaries: Sequence[SlideSummary], outputs: Outputs) -> Path:
    """Write the table of the cohort, a row per slide."""
    about = {
        "program": f"napari-distill2label {versions()['napari-distill2label']}",
        "date": f"{date.today():%Y-%m-%d}",
    }
    return write_cohort_summary(Path(out) / COHORT_SUMMARY, summaries, about, outputs.writing)


def _files_of(out: PathLike, formats: Sequence[str], names: Sequence[Names]) -> list[Path]:
    """Return all files of a call. `SettingsError` for a slide whose files have the name of the cohort's table."""
    files = [file for each in names for file in files_of_map(out, formats, each)]
    if SUMMARY not in formats:
        return files
    summary = Path(out) / COHORT_SUMMARY
    if summary in files:
        raise SettingsError(
            f"The table of the cohort and a slide's table would both be {COHORT_SUMMARY}: rename the slide."
        )
    return [*files, summary]


def _check_frame(patch_map: PatchMap) -> None:
    """`SlideError` for a map whose positions count from the canvas of a slide, and no longer from its scanned area.

    Earlier versions made such maps. Only formats that have such an area are looked at, and only if the slide is there.
    """
    path = patch_map.slide.path
    if path is None or not may_have_canvas(path) or not Path(path).exists():
        return
    try:
        with open_slide(path, allow_non_brightfield=True) as slide:
            shape, origin = slide.shape, slide.canvas_origin
    except SlideError:
        return  # a map outlives its slide
    if origin != (0, 0) and tuple(patch_map.patches.slide_shape) != shape:
        raise SlideError(
            f"{path}: its map counts positions from the corner of the canvas, not of the scanned area: predict again"
        )


def files_to_write(
    maps: Sequence[PatchMap],
    out: PathLike,
    formats: Sequence[str] = DEFAULT_FORMATS,
) -> tuple[list[Path], Outputs]:
    """Return the files that `export` would write for patch maps, and the guard that knows existing files."""
    by_name = maps_of(list(maps))
    heads = {name: _head_of(patch_map) for name, patch_map in by_name.items()}
    names = names_of_files(_disambiguated(heads), formats)
    return _files_of(out, format_names(formats), [names[name] for name in by_name]), Outputs(
        _files_read(by_name, heads)
    )


class _Head(NamedTuple):
    """What the file names of a map are made of. It is read without opening the map: there may be thousands."""

    slide_id: str
    slide_path: str | None
    findings: tuple[str, ...]


def _head_of(patch_map: PatchMap | Path) -> _Head:
    if isinstance(patch_map, Path):
        found = read_header(patch_map)  # a damaged map fails where it is opened
        classes = found.get("classes") if found.get("multi_label") is True else None
        findings = tuple(map(str, classes[1:])) if isinstance(classes, list) else ()
        return _Head(str(found.get("slide_id", patch_map.name)), found.get("slide_path"), findings)
    return _Head(patch_map.slide_id, patch_map.slide.path, patch_map.classes[1:] if patch_map.multi_label else ())


def _disambiguated(heads: Mapping[str, _Head]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return id and findings of each map. If two maps have one id, the second is named after its folder."""
    seen: set[str] = set()
    slides = {}
    for name, head in heads.items():
        slides[name] = (name if head.slide_id in seen else head.slide_id, head.findings)
        seen.add(head.slide_id)
    return slides


def _files_read(
    maps: Mapping[str, PatchMap | Path], heads: Mapping[str, _Head], corrections: PathLike | None = None
) -> list[PathLike]:
    kept = [patch_map if isinstance(patch_map, Path) else patch_map.path for patch_map in maps.values()]
    read = [*kept, *(head.slide_path for head in heads.values()), corrections]
    return [path for path in read if isinstance(path, str | os.PathLike)]


def _corrected(
    corrections: Corrections, maps: Mapping[str, PatchMap | Path]
) -> Generator[Event, None, dict[str, np.ndarray]]:
    """int8 of `patches.shape` by the maps' names: the class a user gave to a patch, −1 elsewhere.

    This is done before anything is written, because corrections that cannot be used are an error.
    """
    found = {}
    for done, (name, patch_map) in enumerate(maps.items()):
        yield Progress(Task.APPLY_CORRECTIONS, done, len(maps))
        try:
            opened = PatchMap.open(patch_map) if isinstance(patch_map, Path) else patch_map
        except BundleError:  # reported when this map is exported
            continue
        if (own := corrections.of(opened.slide_id, opened.patches, opened.classes)) is not None:
            known = np.full(opened.patches.shape, UNLABELLED, np.int8)
            known[opened.patches.scored] = own
            found[name] = known
    yield corrections.report()
    return found


def maps_of(source: PathLike | Run | PatchMap | Sequence[PatchMap]) -> dict[str, PatchMap | Path]:
    """Return patch maps by slide. Those of a run are folders, which are opened one by one."""
    if isinstance(source, PatchMap):
        return {source.slide_id: source}
    if not isinstance(source, Run | str | os.PathLike):
        ids = [patch_map.slide_id for patch_map in source]
        if twice := [slide_id for slide_id, count in Counter(ids).items() if count > 1]:
            raise SettingsError(
                f"Two patch maps of one slide are given ({list_briefly(twice)}), and their files would have one name. "
                "Export them one after the other, into two folders."
            )
        return dict(zip(ids, source, strict=True))
    if not isinstance(source, Run):
        if not Run.is_run(source):
            return maps_of(PatchMap.open(source))
        source = Run.open(source)
    folder = source.predictions
    maps: dict[str, PatchMap | Path] = {}
    for network in NETWORKS:  # files are named by slide alone: of several models' maps the last one's are written
        suffix = f".{network}.zarr"
        maps |= {path.name.removesuffix(suffix): path for path in sorted(folder.glob(f"*{suffix}"))}
    if not maps:
        raise BundleError(f"{folder}: holds no prediction yet; predict first")
    return maps
