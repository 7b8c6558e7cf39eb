"""The formats a `PatchMap` is written in, and the files each of them makes."""

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from ..core.classes import RGB
from ..core.errors import BundleError, SettingsError, SlideError
from ..core.events import Progress, Task, drain
from ..core.paths import PathLike, is_url
from ..store.files.atomic import Writing, atomic_path
from ..store.files.safe_names import safe_name, safe_names

if TYPE_CHECKING:
    from ..store.maps.patch_map import PatchMap

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
    writing: Writing = atomic_path

    def path(self, patch_map: "PatchMap", suffix: str, layer: str | None = None) -> Path:
        """`<slide_id><suffix>`, or `<slide_id>_<layer><suffix>`, inside the folder whatever the id holds."""
        if self.names is not None:
            return self.folder / f"{self.names[layer]}{suffix}"
        name = patch_map.slide_id if layer is None else f"{patch_map.slide_id}_{layer}"
        return self.folder / f"{safe_name(name)}{suffix}"

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


Names = Mapping[str | None, str]
"""Names of one slide's files, without their suffix: of all classes (None), and of each finding where there can be
several at once."""


def names_of_files(slides: Mapping[Key, tuple[str, Sequence[str]]]) -> dict[Key, Names]:
    """Return the file names of one call, distinct on every system.

    Parameters
    ----------
    slides
        Of each: its id, and the findings that have files of their own (none where one class excludes the others).
    """
    keys = {(slide_id, *layer) for slide_id, findings in slides.values() for layer in ((), *zip(findings))}
    names = safe_names(keys)
    return {
        slide: {None: names[slide_id,], **{finding: names[slide_id, finding] for finding in findings}}
        for slide, (slide_id, findings) in slides.items()
    }


def files_of_map(folder: PathLike, formats: Sequence[str], names: Names) -> list[Path]:
    """Return the files that `write` makes for one slide."""
    findings: list[str | None] = [name for name in names if name is not None] or [None]
    return [
        Path(folder) / f"{names[layer]}{FORMATS[name].suffix}"
        for name in format_names(formats)
        for layer in (findings if FORMATS[name].per_finding else [None])
    ]


@dataclass(frozen=True)
class Format:
    """One way to write a patch map. Modules of formats are imported when one is used."""

    suffix: str
    description: str
    write: Writer
    aliases: tuple[str, ...] = ()
    per_finding: bool = False  # one file for each finding, where there can be several at once


def _write_masks(patch_map: "PatchMap", request: ExportRequest) -> Work:
    from .mask import Mask
    from .ome_tiff import iter_write_mask

    files = []
    for layer in request.layers(patch_map):
        path = request.path(patch_map, ".ome.tif", layer.class_name)
        mask = Mask(layer.labels, patch_map.patches)
        slide, writing = patch_map.slide, request.writing
        work = iter_write_mask(path, mask, layer.names, slide.mpp, layer.title, slide.canvas_origin, writing)
        files.append((yield from work))
    return files


def _write_geojson(patch_map: "PatchMap", request: ExportRequest) -> Work:
    from .geojson import iter_write_geojson

    path = request.path(patch_map, ".geojson")
    work = iter_write_geojson(path, patch_map, request.threshold, request.corrections, request.colours, request.writing)
    return [(yield from work)]


def _write_table(patch_map: "PatchMap", request: ExportRequest) -> Work:
    from .table import iter_write_table

    path = request.path(patch_map, ".csv")
    return [(yield from iter_write_table(path, patch_map, request.threshold, request.corrections, request.writing))]


def _exists(slide_path: str) -> bool:
    return is_url(slide_path) or Path(slide_path).exists()


def _write_pictures(patch_map: "PatchMap", request: ExportRequest) -> Work:
    from .png import write_picture

    yield Progress(Task.WRITE, 0, None, patch_map.slide_id)
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
        return [
            write_picture(
                request.path(patch_map, ".png", layer.class_name),
                layer.labels,
                patch_map.patches,
                layer.names,
                slide,
                layer.title,
                request.threshold,
                patch_map.slide.mpp,
                request.colours,
                request.writing,
            )
            for layer in request.layers(patch_map)
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
    "csv": Format(".csv", "table with a row per patch", _write_table, ("table",)),
    "png": Format(".png", "picture of the labels over the slide", _write_pictures, ("picture",), per_finding=True),
}


def format_names(formats: Sequence[str]) -> list[str]:
    """Keys of `FORMATS` for what a user typed (aliases, any case, a leading dot), each once, in the order given.

    `SettingsError` naming the known ones for an unknown format.
    """
    by_name = {alias: name for name, known in FORMATS.items() for alias in (name, *known.aliases)}
    names = []
    for text in formats:
        name = by_name.get(text.strip().lower().lstrip("."))
        if name is None:
            raise SettingsError(f"unknown format {text!r}: choose from {', '.join(FORMATS)}")
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
    writing: Writing = atomic_path,
) -> Work:
    """Write a finished patch map in some formats: a generator of its progress, which returns the files.

    Closing it leaves the files that are finished, and no part of another.

    Parameters
    ----------
    folder
        Made if it is not there. Files are `<slide_id>.csv`, `.geojson`, `.ome.tif`, `.png`; of a multi-label map,
        masks and pictures are one per class, `<slide_id>_<class>…`.
    formats
        Keys of `FORMATS`, or their aliases.
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
    request = ExportRequest(Path(folder), threshold, corrections, slide, colours, names, writing)
    files: list[Path] = []
    for name in chosen:
        files += yield from FORMATS[name].write(patch_map, request)
    return files


def write(patch_map: "PatchMap", folder: PathLike, formats: Sequence[str], *options: Any, **named: Any) -> list[Path]:
    """Write a finished patch map as `iter_write` does, with the same parameters; return the files."""
    return drain(iter_write(patch_map, folder, formats, *options, **named))
