"""The formats a `PatchMap` is written in, and the files each of them makes."""

from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from ..core.classes import RGB, colours_of
from ..core.errors import BundleError, SettingsError, SlideError
from ..core.events import Progress, Task, drain
from ..core.paths import METADATA, PathLike, is_url
from ..store.files.atomic import Writing, atomic_path, write_json
from ..store.files.safe_names import safe_name, safe_names
from ..store.maps.labels import count_corrected

if TYPE_CHECKING:
    from ..store.maps.patch_map import PatchMap
    from .merged_regions import RegionOptions
    from .ome_zarr import Version

Key = TypeVar("Key", bound=Hashable)
NOT_SCORED = "not scored"

Work = Generator[Progress, None, list[Path]]  # the files that are written
Writer = Callable[["PatchMap", "ExportRequest"], Work]


@dataclass(frozen=True)
class ExportRequest:
    """The destination and options for writing one patch map."""

    folder: Path
    threshold: float
    corrections: np.ndarray | None = None
    slide: Any = None
    colours: Mapping[str, RGB] | None = None
    names: "Names | None" = None
    regions: "RegionOptions | None" = None
    writing: Writing = atomic_path

    def about(self, patch_map: "PatchMap") -> dict[str, Any]:
        """Where the labels come from, as plain JSON (`exporters.provenance`)."""
        from .provenance import provenance

        return provenance(patch_map, self.threshold, self.corrected())

    def path(self, patch_map: "PatchMap", form: str, finding: str | None = None) -> Path:
        """`<slide_id>[_<finding>][_<part>]<suffix>` of a format, inside the folder whatever the id holds."""
        known = FORMATS[form]
        if self.names is not None:
            return self.folder / f"{self.names[finding, known.part]}{known.suffix}"
        name = "_".join(filter(None, (patch_map.slide_id, finding, known.part)))
        return self.folder / f"{safe_name(name)}{known.suffix}"

    def corrected(self) -> int | None:
        """Patches that a user corrected; None without corrections."""
        return count_corrected(self.corrections)

    def layers(self, patch_map: "PatchMap") -> list["LabelLayer"]:
        """One layer of all classes, or one per non-negative class where several can be present."""
        layers = patch_map.label_layers(self.threshold, self.corrections)
        if not patch_map.multi_label:
            names = {0: NOT_SCORED, **{index + 1: name for index, name in enumerate(patch_map.classes)}}
            return [LabelLayer(None, patch_map.slide_id, names, layers["labels"])]
        return [
            LabelLayer(
                name,
                f"{patch_map.slide_id}: {name}",
                {0: NOT_SCORED, 1: f"no {name}", patch_map.classes.index(name) + 1: name},
                labels,
            )
            for name, labels in layers.items()
        ]


class LabelLayer(NamedTuple):
    """Labels as one mask or one picture shows them."""

    class_name: str | None  # None: all classes
    title: str
    names: dict[int, str]  # what the values mean
    labels: np.ndarray  # uint8 of `patches.shape`

    def colours(self, chosen: Mapping[str, RGB] | None) -> dict[int, RGB]:
        """8-bit (r, g, b) of the values from 1 on; `chosen` by name, else the palette's."""
        shades = colours_of([self.names.get(value, "") for value in range(1, max(self.names) + 1)], chosen)
        return {value: shades[value - 1] for value in self.names if value}


Names = Mapping[tuple[str | None, str], str]
"""Names of one slide's files, without their suffix, by finding (None: of all classes) and part (`Format.part`)."""


def names_of_files(slides: Mapping[Key, tuple[str, Sequence[str]]], formats: Sequence[str]) -> dict[Key, Names]:
    """Return the file names of one call, distinct on every system.

    Parameters
    ----------
    slides
        Of each: its id, and the findings that have files of their own (none where one class excludes the others).
    """
    parts = dict.fromkeys(("", *(FORMATS[name].part for name in format_names(formats) if name in FORMATS)))

    def layers(findings: Sequence[str]) -> list[tuple[str | None, str]]:
        return [(finding, part) for finding in (None, *findings) for part in parts]

    def key(slide_id: str, layer: tuple[str | None, str]) -> tuple[str, ...]:
        return (slide_id, *filter(None, layer))

    names = safe_names({key(slide_id, layer) for slide_id, findings in slides.values() for layer in layers(findings)})
    return {
        slide: {layer: names[key(slide_id, layer)] for layer in layers(findings)}
        for slide, (slide_id, findings) in slides.items()
    }


def files_of_map(folder: PathLike, formats: Sequence[str], names: Names, beside: bool = True) -> list[Path]:
    """Return the files that `write` makes for one slide; `beside`: with those that say where the others come from."""
    findings: list[str | None] = list(dict.fromkeys(name for name, _ in names if name is not None)) or [None]
    return [
        Path(folder) / f"{names[finding, known.part]}{known.suffix}{end}"
        for known in (FORMATS[name] for name in format_names(formats) if name in FORMATS)
        for finding in (findings if known.per_finding else [None])
        for end in dict.fromkeys(("", known.beside if beside else ""))
    ]


@dataclass(frozen=True)
class Format:
    """One way to write a patch map. Modules of formats are imported when one is used."""

    suffix: str
    description: str
    write: Writer
    aliases: tuple[str, ...] = ()
    per_finding: bool = False  # one file for each finding, where there can be several at once
    part: str = ""  # of the file's name, after the slide's id; no two formats share suffix and part
    beside: str = ""  # what follows the name of a second file, with the provenance that the first cannot hold


def _write_masks(patch_map: "PatchMap", request: ExportRequest) -> Work:
    from .mask import Mask
    from .ome_tiff import write_mask

    files = []
    for layer in request.layers(patch_map):
        path = request.path(patch_map, "ome-tiff", layer.class_name)
        mask = Mask(layer.labels, patch_map.patches)
        slide, writing = patch_map.slide, request.writing
        about, colours = request.about(patch_map), layer.colours(request.colours)
        work = write_mask(path, mask, layer.names, slide.mpp, layer.title, slide.canvas_origin, colours, about, writing)
        files.append((yield from work))
    return files


def _write_geojson(patch_map: "PatchMap", request: ExportRequest) -> Work:
    from .geojson import write_geojson

    path = request.path(patch_map, "geojson")
    work = write_geojson(path, patch_map, request.threshold, request.corrections, request.colours, request.writing)
    return [(yield from work)]


def _write_table(patch_map: "PatchMap", request: ExportRequest) -> Work:
    from .table import write_table

    path = request.path(patch_map, "csv")
    table = yield from write_table(path, patch_map, request.threshold, request.corrections, request.writing)
    write_json(table.with_name(table.name + FORMATS["csv"].beside), request.about(patch_map), request.writing)
    return [table]


def _exists(slide_path: str) -> bool:
    return is_url(slide_path) or Path(slide_path).exists()


@contextmanager
def _slide_of(patch_map: "PatchMap", request: ExportRequest) -> Iterator[Any]:
    """Yield the slide to draw on: the one that is given, else the one that was predicted; None if it is gone."""
    with ExitStack() as stack:
        slide, path = request.slide, patch_map.slide.path
        if slide is None and path is not None and _exists(path):
            from ..slides.registry import open_slide

            slide = open_slide(path)
            stack.callback(slide.close)
        if slide is not None and tuple(slide.shape) != tuple(patch_map.patches.slide_shape):
            raise SlideError(
                f"{patch_map.slide.path or patch_map.slide_id}: this is not the slide that was predicted, its size "
                "differs: predict again"
            )
        yield slide


def _write_pictures(patch_map: "PatchMap", request: ExportRequest) -> Work:
    from .png import write_picture

    yield Progress(Task.WRITE, 0, None, patch_map.slide_id)
    with _slide_of(patch_map, request) as slide:
        return [
            write_picture(
                request.path(patch_map, "png", layer.class_name),
                layer.labels,
                patch_map.patches,
                layer.names,
                slide,
                layer.title,
                request.threshold,
                patch_map.slide.mpp,
                request.colours,
                request.about(patch_map),
                request.writing,
            )
            for layer in request.layers(patch_map)
        ]


def _write_regions(patch_map: "PatchMap", request: ExportRequest) -> Work:
    from .merged_regions import RegionOptions, write_merged_regions

    path, options = request.path(patch_map, "regions"), request.regions or RegionOptions()
    work = write_merged_regions(
        path, patch_map, request.threshold, request.corrections, request.colours, options, request.writing
    )
    return [(yield from work)]


def _write_probability_maps(patch_map: "PatchMap", request: ExportRequest) -> Work:
    from .probability_maps import write_probability_maps

    yield Progress(Task.WRITE, 0, None, patch_map.slide_id)
    path = request.path(patch_map, "probability")
    return [write_probability_maps(path, patch_map, request.threshold, request.colours, request.writing)]


def _write_parquet(patch_map: "PatchMap", request: ExportRequest) -> Work:
    from .parquet import write_parquet

    path = request.path(patch_map, "parquet")
    return [(yield from write_parquet(path, patch_map, request.threshold, request.corrections, request.writing))]


def _write_mask_pngs(patch_map: "PatchMap", request: ExportRequest) -> Work:
    from .mask import Mask
    from .mask_png import write_mask_png

    about, files = request.about(patch_map), []
    for layer in request.layers(patch_map):
        work = write_mask_png(
            request.path(patch_map, "mask-png", layer.class_name),
            Mask(layer.labels, patch_map.patches),
            layer.names,
            layer.colours(request.colours),
            about,
            request.writing,
            patch_map.slide.mpp,
            patch_map.slide_id,
        )
        files.append((yield from work))
    return files


def _write_label_zarrs(version: "Version", patch_map: "PatchMap", request: ExportRequest) -> Work:
    from .mask import Mask
    from .ome_zarr import LabelMetadata, write_label_zarr

    form, files = ZARR_FORMATS[version], []
    for layer in request.layers(patch_map):
        counts = np.bincount(layer.labels[patch_map.scored], minlength=max(layer.names) + 1).tolist()
        metadata = LabelMetadata(
            layer.names,
            layer.colours(request.colours),
            {value: counts[value] for value in layer.names if value},
            patch_map.slide.mpp,
            title=layer.title,
            about={"kind": "labels", "provenance": request.about(patch_map)},
        )
        path, mask = request.path(patch_map, form, layer.class_name), Mask(layer.labels, patch_map.patches)
        files.append((yield from write_label_zarr(path, mask, metadata, version, request.writing)))
    return files


def _write_report(patch_map: "PatchMap", request: ExportRequest) -> Work:
    from .report import write_report

    yield Progress(Task.WRITE, 0, None, patch_map.slide_id)
    path = request.path(patch_map, "report")
    with _slide_of(patch_map, request) as slide:
        return [
            write_report(
                path, patch_map, request.threshold, request.corrections, slide, request.colours, request.writing
            )
        ]


FORMATS: dict[str, Format] = {
    "ome-tiff": Format(
        ".ome.tif",
        "label mask at level 0, tiled pyramid",
        _write_masks,
        ("ome.tif", "ome.tiff", "ome-tif", "mask"),
        per_finding=True,
    ),
    "geojson": Format(".geojson", "one QuPath tile or detection per patch", _write_geojson, ("json", "qupath")),
    "csv": Format(".csv", "table with a row per patch", _write_table, ("table",), beside=METADATA),
    "png": Format(".png", "picture of the labels over the slide", _write_pictures, ("picture",), per_finding=True),
    "regions": Format(".geojson", "QuPath annotations: patches of a class, merged", _write_regions, part="regions"),
    "probability": Format(
        ".ome.tif",
        "probability of each class and attention, one pixel per patch",
        _write_probability_maps,
        ("probabilities",),
        part="probability",
    ),
    "mask-png": Format(
        ".png", "label mask as a picture with the classes' colours", _write_mask_pngs, per_finding=True, part="mask"
    ),
    "ome-zarr": Format(
        ".ome.zarr",
        "label mask at level 0 as an OME-Zarr 0.5 folder, with the classes' colours",
        partial(_write_label_zarrs, "0.5"),
        ("ome.zarr", "zarr"),
        per_finding=True,
    ),
    "ome-zarr-0.4": Format(
        ".ome.zarr",
        "the same as OME-Zarr 0.4, for programs that know no other",
        partial(_write_label_zarrs, "0.4"),
        per_finding=True,
        part="v0.4",
    ),
    "parquet": Format(".parquet", "the table of patches for pandas, Arrow and R", _write_parquet),
    "report": Format(".html", "a page to read and print: pictures, numbers, model", _write_report, ("html",)),
}
ZARR_FORMATS: "dict[Version, str]" = {"0.5": "ome-zarr", "0.4": "ome-zarr-0.4"}
SUMMARY = "summary"  # of a call, not of a slide: `COHORT_SUMMARY`, a row per slide
DEFAULT_FORMATS = ("ome-tiff", "geojson", "csv", "png")


def format_names(formats: Sequence[str]) -> list[str]:
    """Keys of `FORMATS`, or `SUMMARY`, for what a user typed (aliases, any case, a leading dot), each once, in order.

    `SettingsError` naming the known ones for an unknown format.
    """
    by_name = {alias: name for name, known in FORMATS.items() for alias in (name, *known.aliases)}
    by_name[SUMMARY] = SUMMARY
    names = []
    for text in formats:
        name = by_name.get(text.strip().lower().lstrip("."))
        if name is None:
            raise SettingsError(f"unknown format {text!r}: choose from {', '.join((*FORMATS, SUMMARY))}")
        names.append(name)
    return list(dict.fromkeys(names))


def iter_write(
    patch_map: "PatchMap",
    folder: PathLike,
    formats: Sequence[str],
    threshold: float | None = None,
    corrections: np.ndarray | None = None,
    slide: Any = None,
    colours: Mapping[str, RGB] | None = None,
    names: Names | None = None,
    regions: "RegionOptions | None" = None,
    writing: Writing = atomic_path,
) -> Work:
    """Write a finished patch map in some formats: a generator of its progress, which returns the files.

    A file that only says where another comes from (`Format.beside`) is not among them.

    Closing it leaves the files that are finished, and no part of another.

    Parameters
    ----------
    folder
        Made if it is not there. Files are `<slide_id>.csv`, `.geojson`, `.ome.tif`, `.png`, …; of a multi-label map,
        masks and pictures are one per class, `<slide_id>_<class>…`.
    formats
        Keys of `FORMATS`, or their aliases. `SUMMARY` is of several slides, and is not written here.
    threshold
        None: the map's own.
    corrections
        int8 of `patches.shape`: a user's classes of scored patches, −1 elsewhere. They override the model, and the
        table marks them in its column `source`.
    slide
        An open slide to draw on. None: `patch_map.slide.path` is opened where it is still there.
    colours
        8-bit (r, g, b) of classes by name, where they are not the palette's: in GeoJSON and pictures.
    names
        What the files are called (`names_of_files`); None: after the slide's id, regardless of other slides.
    regions
        How merged regions are drawn.
    writing
        How a file gets to its place; `Outputs.writing` guards what is there.

    Raises
    ------
    SettingsError
        For an unknown format, or corrections that do not fit.
    BundleError
        For a map that is not finished or damaged.
    SlideError
        For a slide that is there but cannot be read (PNG alone needs it).
    """
    chosen = format_names(formats)
    if not patch_map.is_complete:
        raise BundleError(
            f"{patch_map.slide_id}: its prediction was not finished: predict again, it goes on from there"
        )
    threshold = patch_map.threshold if threshold is None else threshold
    request = ExportRequest(Path(folder), threshold, corrections, slide, colours, names, regions, writing)
    files: list[Path] = []
    for name in (name for name in chosen if name in FORMATS):
        files += yield from FORMATS[name].write(patch_map, request)
    return files


def write(patch_map: "PatchMap", folder: PathLike, formats: Sequence[str], *options: Any, **named: Any) -> list[Path]:
    """Write a finished patch map as `iter_write` does, with the same parameters; return the files."""
    return drain(iter_write(patch_map, folder, formats, *options, **named))
