"""`convert`: turn marks and labels on slides from one format into another, with the readers and writers of the others.

What the new format cannot hold is not left out in silence. Marks that would be lost stop a source unless the user
allows it; what is lost of the marks (measurements, texts) is said.
"""

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import CohortError, Distill2LabelError, SettingsError, SlideError
from ...core.events import Event, ItemDone, ItemFailed, Progress, Task
from ...core.label_map import COVERAGE
from ...core.messages import Remedy
from ...core.notices import Notice, NoticeCode
from ...core.paths import METADATA, PathLike
from ...core.text import list_briefly, printable
from ...exporters.drawn_labels import draw_labels
from ...exporters.formats import FORMATS, ZARR_FORMATS, format_names
from ...exporters.mask import LabelPixels
from ...exporters.mask_png import reduction_of_png, write_mask_png
from ...exporters.objects import Left, columns_of, places_of, plan_table, write_csv, write_objects
from ...exporters.ome_tiff import write_mask
from ...exporters.ome_zarr import LabelMetadata, write_label_zarr
from ...exporters.parquet import write_columns
from ...exporters.provenance import conversion
from ...slides.tiled_labels import TiledLabels
from ...store.cohort import Cohort
from ...store.files.atomic import Writing, write_json
from ...store.files.outputs import Outputs
from ...store.files.safe_names import safe_name
from ...store.maps.hdf5_places import write_places
from ..slide_contents import SlideContents, files_of, is_map, read_contents, with_areas
from ..target_patches import TargetPatches
from .export import export

PLACES = "places"
IMAGES = ("ome-tiff", "mask-png", *ZARR_FORMATS.values())
TARGETS = ("geojson", "csv", "parquet", *IMAGES, PLACES)
VERSIONS = {form: version for version, form in ZARR_FORMATS.items()}
SUFFIX_OF_PLACES = "_patches.h5"  # as TRIDENT's: features have the plain name


def convert(
    sources: PathLike | Sequence[PathLike],
    out: PathLike,
    to: str,
    *,
    slides: Cohort | PathLike | Sequence[PathLike] = (),
    target_patches: PathLike | None = None,
    coverage: float | None = None,
    allow_loss: bool = False,
    overwrite: bool = False,
) -> Generator[Event, None, list[Path]]:
    """Write what files say of slides in another format, a file for each slide. Return the files.

    Parameters
    ----------
    sources
        Files: GeoJSON of QuPath, XML of ASAP or ImageScope, tables of points or patches (CSV, Parquet), label images
        (TIFF, PNG, OME-Zarr), places or features of CLAM or TRIDENT (HDF5), patch maps; runs (their maps); and folders
        of such files.
    to
        "geojson", "csv", "parquet", "ome-tiff", "ome-zarr", "ome-zarr-0.4", "mask-png", or "places" (HDF5, as TRIDENT
        writes it). Patch maps can be written in every format of `export`.
    slides
        The slides, for their size, pixel size and scanned area: areas become pixels, a label image gets its place, and
        HDF5 counts from the canvas of a slide. They are matched by name.
    target_patches
        A run, patch map or HDF5 file of places, or a folder of them: the marks label its patches, which are written in
        place of the marks. Patches that get no class are left out. All marks of a slide are in memory.
    coverage
        Share of a patch that areas must cover to give it a class, that of the area that covers most; None: a half.
    allow_loss
        Convert a source although the new format cannot hold all of its marks. A notice counts them.
    overwrite
        As in `export`.

    A source that cannot be read, or would lose marks, fails, and the others go on.
    """
    form, paths = _target(to), files_of(sources)
    cohort = slides if isinstance(slides, Cohort) else Cohort.of_files(slides) if slides else Cohort(())
    yield from cohort.notices
    targets = _targets(target_patches, cohort, coverage)
    written: dict[Path, Path] = {}
    with Outputs([*paths, *(row.path for row in cohort)], overwrite, "converting") as outputs:
        for done, path in enumerate(paths, 1):
            try:
                if is_map(path) and form != PLACES and targets is None:
                    files = yield from export(path, out, [form], overwrite=overwrite)
                    written |= dict.fromkeys(files, path)
                    continue
                about = conversion(path)
                for contents in read_contents(path, cohort):
                    if isinstance(contents, Progress):
                        yield contents
                        continue
                    file = Path(out) / f"{safe_name(contents.slide_id)}{_suffix(form)}"
                    if file in written:
                        raise CohortError(f"{written[file]} and {path} are both of slide {contents.slide_id!r}")
                    outputs.claim([file, *([_beside(file)] if form == "csv" else [])])
                    # The name of a file is no knowledge of its slide, unless a slide of that name is given.
                    known = {"slide_id": printable(contents.slide_id)} if len(cohort) else {}
                    if targets is not None:
                        contents = yield from targets.label(contents)
                    yield from _write(contents, form, file, {**about, **known}, allow_loss, outputs)
                    written[file] = path
                    yield ItemDone(contents.slide_id, file)
            except Distill2LabelError as error:
                yield ItemFailed(path.name, error)
            yield Progress(Task.EXPORT, done, len(paths))
    return list(written)


def _target(to: str) -> str:
    if to.strip().lower() == PLACES:
        return PLACES
    (name,) = format_names([to])
    return name


def _targets(source: PathLike | None, cohort: Cohort, coverage: float | None) -> TargetPatches | None:
    if source is not None:
        return TargetPatches(source, cohort, COVERAGE if coverage is None else coverage)
    if coverage is not None:
        raise SettingsError(
            "A share of a patch is given, and no patches that are to be labelled.",
            remedy=Remedy("set", "target_patches"),
        )
    return None


def _suffix(form: str) -> str:
    if form != PLACES and form not in TARGETS:
        raise SettingsError(
            f"Patch maps alone can be written as {form}; others as {', '.join(TARGETS)}.",
            remedy=Remedy("set", "to", TARGETS[0]),
        )
    return SUFFIX_OF_PLACES if form == PLACES else FORMATS[form].suffix


def _beside(file: Path) -> Path:
    return file.with_name(file.name + METADATA)


def _write(
    contents: SlideContents, form: str, file: Path, about: Mapping[str, Any], allow_loss: bool, outputs: Outputs
) -> Generator[Event, None, None]:
    """Write one slide. `SettingsError` if marks would be lost."""
    slide_id, frame, writing = contents.slide_id, contents.frame, outputs.writing
    if form in IMAGES:
        yield from _write_pixels(contents, form, file, about, allow_loss, writing)
        return
    contents = yield from with_areas(contents)
    if form == PLACES:
        patches, left = contents.patches, Left()
        if patches is None:
            patches, left = yield from places_of(contents.objects(), frame.shape, slide_id)
        yield from _check(contents, left, form, allow_loss)
        write_places(file, patches, slide_id, frame.mpp, frame, writing)
    elif form == "geojson":
        yield from _check(contents, Left(), form, allow_loss)
        yield from write_objects(file, contents.objects(), about, slide_id, writing)
    else:
        plan = yield from plan_table(slide_id, contents.objects())
        yield from _check(contents, plan.left, form, allow_loss)
        pieces = columns_of(slide_id, contents.objects(), plan)
        if form == "parquet":
            yield from write_columns(file, slide_id, pieces, plan, about, writing)
        else:
            yield from write_csv(file, slide_id, pieces, plan, writing)
            write_json(_beside(file), about, writing)


def _check(contents: SlideContents, left: Left, form: str, allow_loss: bool) -> Generator[Event, None, None]:
    """Yield a notice of what is left out. `SettingsError` for marks, unless the user allows it."""
    lost = {name: n for name, n in left.marks.items() if n}
    if lost and not allow_loss:
        said = list_briefly([f"{name} ({n})" for name, n in lost.items()])
        raise SettingsError(
            f"{form} cannot hold all marks of slide {contents.slide_id!r}, and would lose: {said}.",
            remedy=Remedy("set", "allow_loss", True),
        )
    details = {name: n for name, n in left.details.items() if n}
    if contents.besides:
        details[contents.besides] = 1
    if lost or details:
        yield Notice(NoticeCode.LEFT_OUT, {"form": form, "what": lost | details}, contents.slide_id)


# ---- label images ---------------------------------------------------------------------------------------------------


def _write_pixels(
    contents: SlideContents, form: str, file: Path, about: Mapping[str, Any], allow_loss: bool, writing: Writing
) -> Generator[Event, None, None]:
    """Write the pixels of a slide's labels: of its label image as they are, else of its areas."""
    frame, title, own = contents.frame, contents.slide_id, {"kind": "labels", "provenance": dict(about)}
    if contents.image is not None:
        mask = contents.image
        pixels = yield from _smallest(mask.pixels, title)
        metadata = LabelMetadata(
            mask.classes, mask.colours, mpp=mask.mpp, position=mask.position, title=title, about=own
        )
        left = Left()
        left.details["position"] += form == "mask-png" and any(mask.position)
        yield from _write_image(contents, form, file, pixels, metadata, left, allow_loss, writing)
        return
    if frame.shape is None:
        raise SlideError("Areas become pixels of a slide, and its size is not known.", remedy=Remedy("set", "slides"))
    with draw_labels(frame.shape) as drawn:
        yield from drawn.add(contents.objects(), title)
        metadata = LabelMetadata(drawn.names, drawn.colours, mpp=frame.mpp, title=title, about=own)
        yield from _write_image(contents, form, file, drawn, metadata, drawn.left, allow_loss, writing)


def _smallest(pixels: TiledLabels, title: str) -> Generator[Event, None, TiledLabels]:
    """Return the pixels in the smallest unsigned type that holds them; at most 32 bits."""
    if pixels.dtype == np.uint8:
        return pixels
    values = yield from pixels.values(title)
    least, most = min(values, default=0), max(values, default=0)
    if least < 0 or most >= 2**32:
        raise SettingsError(
            f"{printable(title)}: has the value {least if least < 0 else most}; labels go from 0 to 2³² − 1"
        )
    return pixels.as_type(np.dtype(np.min_scalar_type(most)))


def _write_image(
    contents: SlideContents,
    form: str,
    file: Path,
    pixels: LabelPixels,
    metadata: LabelMetadata,
    left: Left,
    allow_loss: bool,
    writing: Writing,
) -> Generator[Event, None, None]:
    names, colours, about = metadata.names, metadata.colours, metadata.about["provenance"]
    if form == "mask-png":
        left.marks["pixels between those that are kept"] += reduction_of_png(pixels.shape) > 1
    yield from _check(contents, left, form, allow_loss)
    if form == "mask-png":
        yield from write_mask_png(file, pixels, names, colours, about, writing, metadata.mpp, metadata.title)
    elif form == "ome-tiff":
        yield from write_mask(
            file, pixels, names, metadata.mpp, metadata.title, colours=colours, about=about, writing=writing,
            position=metadata.position,
        )  # fmt: skip
    else:
        yield from write_label_zarr(file, pixels, metadata, VERSIONS[form], writing)
