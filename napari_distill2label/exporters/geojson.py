"""Patches as QuPath objects: a GeoJSON FeatureCollection, written as a stream.

QuPath (0.4 and later) wants a UUID per feature, a closed polygon in level-0 pixels (x, y), and under `properties` an
`objectType`, a `classification` with its colour, and an object of `measurements`. Tiles and detections, not
annotations: QuPath stays quick with hundreds of thousands of them.
"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.classes import RGB, SEPARATOR, colours_of
from ..core.geometry import PatchGrid
from ..store.files.atomic import Writing, atomic_path
from ..store.maps.patch_map import PatchMap

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "napari-distill2label")


def write_geojson(
    path: str | Path,
    patch_map: PatchMap,
    threshold: float | None = None,
    corrections: np.ndarray | None = None,
    colours: Mapping[str, RGB] | None = None,
    writing: Writing = atomic_path,
) -> Path:
    """Write one feature per scored patch: a 'tile' of a grid, a 'detection' around a point.

    The polygon is the patch's box, as in the table; measurements are `prob_<class>` and `attention`. Exporting again
    gives the same ids. `colours` are those of classes by name, where they are not the palette's.
    """
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"type":"FeatureCollection","features":[')
        separator = "\n"
        done, shades = 0, colours_of(patch_map.classes, colours)
        for piece in patch_map.tables(threshold, corrections):
            for feature in _features(patch_map, piece, done, shades):
                file.write(separator)
                file.write(feature)
                separator = ",\n"
            done += len(piece)
        file.write("\n]}\n")
    return Path(path)


def _features(patch_map: PatchMap, piece: pd.DataFrame, first: int, colours: Sequence[RGB]) -> Iterator[str]:
    """Features of one piece of the table as JSON text, `first` rows into the whole."""
    kind = "tile" if isinstance(patch_map.patches, PatchGrid) else "detection"
    names = [*(f"prob_{name}" for name in patch_map.classes), "attention"]
    measured = [json.dumps(name, ensure_ascii=False) for name in names]
    labels = piece["label"].unique().tolist()
    classification = {label: _compact(_classification(label, patch_map, colours)) for label in labels}
    values = piece[names].to_numpy(np.float64)
    sources = piece["source"] if "source" in piece else [None] * len(piece)
    boxes = piece[["minx", "miny", "width", "height"]].to_numpy().tolist()
    for row, (box, label, source) in enumerate(zip(boxes, piece["label"], sources, strict=True)):
        x, y, width, height = box
        right, bottom = x + width, y + height
        identity = uuid.uuid5(NAMESPACE, f"{patch_map.slide_id}/{first + row}/{x},{y},{width},{height}")
        # JSON has no NaN: attention of a map that is not finished is left out.
        measurements = ",".join(
            f"{name}:{value:.6g}" for name, value in zip(measured, values[row].tolist(), strict=True) if value == value
        )
        metadata = f',"metadata":{{"source":"{source}"}}' if source else ""
        yield (
            f'{{"type":"Feature","id":"{identity}","geometry":{{"type":"Polygon","coordinates":'
            f"[[[{x},{y}],[{right},{y}],[{right},{bottom}],[{x},{bottom}],[{x},{y}]]]}},"
            f'"properties":{{"objectType":"{kind}","classification":{classification[label]},'
            f'"measurements":{{{measurements}}}{metadata}}}}}'
        )


def _classification(label: str, patch_map: PatchMap, colours: Sequence[RGB]) -> dict[str, Any]:
    """QuPath's class: one `name`, or several `names`, with the colour of the first."""
    names = label.split(SEPARATOR) if patch_map.multi_label else [label]
    colour = list(colours[patch_map.classes.index(names[0])])
    return {"name": names[0], "color": colour} if len(names) == 1 else {"names": names, "color": colour}


def _compact(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)
