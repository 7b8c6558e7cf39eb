"""Patches of one class that touch, merged to regions: annotations that a pathologist edits in QuPath.

One feature for each region, with holes. Regions are those of the mask, to the pixel, unless they are smoothed.
"""

import json
import uuid
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
from scipy import ndimage

from ..core.classes import RGB, colours_of
from ..core.errors import SettingsError
from ..core.events import Progress, Task
from ..core.geometry import PatchGrid, PatchPoints
from ..core.messages import Remedy
from ..core.text import printable
from ..slides.regions import trace_components
from ..store.files.atomic import Writing, atomic_path
from ..store.maps.labels import count_corrected
from ..store.maps.patch_map import PatchMap
from .geojson import NAMESPACE
from .provenance import provenance

SMOOTHED = 0.25  # radius of rounded corners, in strides
AT_ONCE = 500  # regions between two events
SIMPLIFIED = 0.02  # strides that a simplified outline may deviate by


@dataclass(frozen=True)
class RegionOptions:
    """How regions are drawn.

    Attributes
    ----------
    smooth
        Round the corners of patches off.
    minimum_mm2
        Leave out regions smaller than this.
    """

    smooth: bool = False
    minimum_mm2: float = 0.0


class Region(NamedTuple):
    """Patches of one class that touch."""

    class_index: int
    outline: shapely.Geometry  # (x, y), level-0 px
    n_patches: int
    probability: np.ndarray  # (C,) mean over its patches


def write_merged_regions(
    path: str | Path,
    patch_map: PatchMap,
    threshold: float,
    corrections: np.ndarray | None = None,
    colours: Mapping[str, RGB] | None = None,
    options: RegionOptions = RegionOptions(),
    writing: Writing = atomic_path,
) -> Generator[Progress, None, Path]:
    """Write the regions of every class (of every finding, where several can be present at once) as annotations.

    A generator of its progress. Closing it leaves no file.

    Measurements are the number of patches, the mean probabilities and, where the µm/px is known, the area in mm².
    `SettingsError` for a minimum area of a slide whose µm/px is not known.
    """
    if options.minimum_mm2 > 0 and patch_map.slide.mpp is None:
        raise SettingsError(
            f"{patch_map.slide_id}: regions are chosen by their area in mm², and the slide has no pixel size.",
            remedy=Remedy("clear", "regions.minimum_mm2", alternative=Remedy("set", "inputs.mpp")),
        )
    corrected = count_corrected(corrections)
    shades = colours_of(patch_map.classes, colours)
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        about = json.dumps(provenance(patch_map, threshold, corrected), separators=(",", ":"), ensure_ascii=False)
        file.write(f'{{"type":"FeatureCollection","provenance":{about},"features":[')
        separator, done = "\n", 0
        yield Progress(Task.WRITE, 0, None, patch_map.slide_id)
        for region in merged_regions(patch_map, threshold, corrections, options):
            feature = _feature(patch_map, region, shades[region.class_index])
            file.write(separator + json.dumps(feature, separators=(",", ":"), ensure_ascii=False))
            separator, done = ",\n", done + 1
            if done % AT_ONCE == 0:
                yield Progress(Task.WRITE, done, None, patch_map.slide_id)
        file.write("\n]}\n")
    return Path(path)


def merged_regions(
    patch_map: PatchMap,
    threshold: float,
    corrections: np.ndarray | None = None,
    options: RegionOptions = RegionOptions(),
) -> Iterator[Region]:
    """Yield the regions, class by class."""
    probability = patch_map.probability
    mm2 = 0.0 if patch_map.slide.mpp is None else float(np.prod(patch_map.slide.mpp)) / 1e6
    for name, labels in patch_map.label_layers(threshold, corrections).items():
        classes = [patch_map.classes.index(name)] if patch_map.multi_label else range(len(patch_map.classes))
        for index in classes:
            for region in _regions(patch_map.patches, labels == index + 1, index, probability):
                outline = _smoothed(region.outline, patch_map.patches) if options.smooth else region.outline
                if not outline.is_empty and outline.area * mm2 >= options.minimum_mm2:
                    yield region._replace(outline=outline)


def _regions(
    patches: PatchGrid | PatchPoints, chosen: np.ndarray, index: int, probability: np.ndarray
) -> Iterator[Region]:
    """Yield the regions of the `chosen` patches (bool of `patches.shape`)."""
    if isinstance(patches, PatchGrid) and patches.stride <= patches.side:
        outlines, components = trace_components(chosen, _cell_edges(patches, 0), _cell_edges(patches, 1))
        number = np.arange(1, len(outlines) + 1)
        sizes = np.bincount(components.ravel(), minlength=len(outlines) + 1)[1:]
        means = np.stack(
            [np.atleast_1d(ndimage.mean(one, components, number)) for one in np.moveaxis(probability, -1, 0)], 1
        )
        for outline, size, mean in zip(outlines, sizes.tolist(), means, strict=True):
            if not outline.is_empty:
                yield Region(index, outline, size, mean)
        return
    # Patches with gaps between them, or around points: their boxes, clipped to the slide.
    cells = np.argwhere(chosen)
    corners = patches.corners_of(cells) if isinstance(patches, PatchGrid) else patches.corners[cells[:, 0]]
    low, high = np.maximum(corners, 0), np.minimum(corners + patches.side, patches.slide_shape)
    boxes = shapely.box(low[:, 1], low[:, 0], high[:, 1], high[:, 0])
    outlines = shapely.get_parts(shapely.union_all(boxes)).tolist()
    if not outlines:
        return
    middles = shapely.points(((low + high) / 2)[:, ::-1])
    patch, outline_of = shapely.STRtree(outlines).query(middles, predicate="intersects")
    values = probability[chosen]
    order = np.argsort(outline_of, kind="stable")
    parts = np.split(patch[order], np.searchsorted(outline_of[order], np.arange(1, len(outlines))))
    for outline, inside in zip(outlines, parts, strict=True):
        yield Region(index, outline, len(inside), values[inside].mean(0))


def _cell_edges(grid: PatchGrid, axis: int) -> np.ndarray:
    """(n + 1,) borders of cells without gaps along an axis, in level-0 px, clipped to the slide."""
    edges = grid.cell_origin[axis] + grid.stride * np.arange(grid.shape[axis] + 1, dtype=np.int64)
    return edges.clip(0, grid.slide_shape[axis])


def _smoothed(outline: shapely.Geometry, patches: PatchGrid | PatchPoints) -> shapely.Geometry:
    """Return an outline with round corners, inside of the slide. A single patch stays one."""
    stride = patches.stride if isinstance(patches, PatchGrid) else patches.side
    radius = SMOOTHED * stride
    rounded = outline.buffer(radius).buffer(-2 * radius).buffer(radius).simplify(SIMPLIFIED * stride)
    height, width = patches.slide_shape
    return rounded.intersection(shapely.box(0, 0, width, height))


def _feature(patch_map: PatchMap, region: Region, colour: RGB) -> dict[str, Any]:
    name = patch_map.classes[region.class_index]
    box = ",".join(f"{value:g}" for value in region.outline.bounds)
    measurements: dict[str, float] = {"Patches": region.n_patches}
    if patch_map.slide.mpp is not None:
        measurements["Area mm^2"] = float(f"{region.outline.area * np.prod(patch_map.slide.mpp) / 1e6:.6g}")
    for other, mean in zip(patch_map.classes, region.probability.tolist(), strict=True):
        measurements[f"Mean prob_{other}"] = float(f"{mean:.6g}")
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(NAMESPACE, f"{patch_map.slide_id}/region/{name}/{box}")),
        "geometry": _rounded(shapely.geometry.mapping(region.outline)),
        "properties": {
            "objectType": "annotation",
            "name": printable(f"{name}, {region.n_patches}"),
            "classification": {"name": name, "color": list(colour)},
            "isLocked": False,
            "measurements": measurements,
        },
    }


def _rounded(geometry: Mapping[str, Any]) -> dict[str, Any]:
    """The geometry with whole numbers written as such, and others with two decimals."""

    def rounded(part: Any) -> Any:
        if isinstance(part, int | float):
            return int(part) if float(part).is_integer() else round(part, 2)
        return [rounded(each) for each in part]

    return {"type": geometry["type"], "coordinates": rounded(geometry["coordinates"])}
