"""Patches as QuPath objects: a GeoJSON FeatureCollection, written as a stream.

QuPath (0.4 and later) wants a UUID per feature, a closed polygon in level-0 pixels (x, y), and under `properties` an
`objectType`, a `classification` with its colour, and an object of `measurements`. Tiles and detections, not
annotations: QuPath stays quick with hundreds of thousands of them.
"""

import hashlib
import json
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np

from ..core.classes import RGB, SEPARATOR, colours_of
from ..core.events import Progress, Task
from ..core.geometry import PatchGrid
from ..store.files.atomic import Writing, atomic_path
from ..store.maps.labels import count_corrected
from ..store.maps.patch_map import PatchMap
from .provenance import provenance

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "napari-distill2label")
UUID_LENGTH = 36
DIGITS = np.setdiff1d(np.arange(UUID_LENGTH), (8, 13, 18, 23))  # where a UUID has digits, and not "-"


def write_geojson(
    path: str | Path,
    patch_map: PatchMap,
    threshold: float | None = None,
    corrections: np.ndarray | None = None,
    colours: Mapping[str, RGB] | None = None,
    writing: Writing = atomic_path,
) -> Generator[Progress, None, Path]:
    """Write one feature per scored patch: a 'tile' of a grid, a 'detection' around a point.

    A generator of its progress; closing it leaves no file.

    The polygon is the patch's box, as in the table; measurements are `prob_<class>` and `attention`. Exporting again
    gives the same ids. `colours` are those of classes by name, where they are not the palette's. The member
    `provenance` of the collection, which QuPath passes over, says where they come from.
    """
    done, total = 0, int(patch_map.scored.sum())
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        corrected = count_corrected(corrections)
        about = provenance(patch_map, patch_map.threshold if threshold is None else threshold, corrected)
        file.write(f'{{"type":"FeatureCollection","provenance":{_compact(about)},"features":[')
        separator = "\n"
        shades = colours_of(patch_map.classes, colours)
        for columns in patch_map.iter_columns(threshold, corrections):
            if features := _features(patch_map, columns, done, shades):
                file.write(separator)
                file.write(features)
                separator = ",\n"
            done += len(columns["label"])
            yield Progress(Task.WRITE, done, total, patch_map.slide_id)
        file.write("\n]}\n")
    return Path(path)


def _features(patch_map: PatchMap, columns: Mapping[str, np.ndarray], first: int, colours: Sequence[RGB]) -> str:
    """Return the features of one piece of the table as JSON text, `first` rows into the whole."""
    kind = "tile" if isinstance(patch_map.patches, PatchGrid) else "detection"
    labels = columns["label"].tolist()
    sources = columns["source"].tolist() if "source" in columns else [""] * len(labels)
    before = {
        label: f']]]}},"properties":{{"objectType":"{kind}","classification":'
        f'{_compact(_classification(label, patch_map, colours))},"measurements":{{'
        for label in set(labels)
    }
    after = {source: f'}},"metadata":{{"source":"{source}"}}}}}},\n' if source else "}}},\n" for source in set(sources)}
    corners = columns["minx"], columns["miny"]
    ends = (corner + columns[size] for corner, size in zip(corners, ("width", "height"), strict=True))
    # A coordinate is written many times: as text it is converted once.
    x, y, right, bottom = ([*map(str, values.tolist())] for values in (*corners, *ends))
    side = f",{patch_map.patches.side},{patch_map.patches.side}"
    identities = _identities(f"{patch_map.slide_id}/", first, (f"{x},{y}{side}" for x, y in zip(x, y, strict=True)))
    # All parts are put together at once, which takes a fraction of making a text of each feature.
    comma, between = repeat(","), repeat("],[")
    parts = zip(
        repeat('{"type":"Feature","id":"'), identities, repeat('","geometry":{"type":"Polygon","coordinates":[[['),
        x, comma, y, between, right, comma, y, between, right, comma, bottom, between, x, comma, bottom, between,
        x, comma, y, map(before.__getitem__, labels), _measurements(patch_map, columns),
        map(after.__getitem__, sources),
    )  # fmt: skip
    return "".join(chain.from_iterable(parts)).removesuffix(",\n")


def _identities(slide: str, first: int, boxes: Iterable[str]) -> list[str]:
    """Return the UUID of each patch from its number and box ('x,y,width,height'). Exporting again gives the same.

    They are version 5 (RFC 9562, 5.5): the SHA-1 of a namespace and a name, with six bits replaced. `uuid.uuid5` gives
    the same in many times the time.
    """
    start = hashlib.sha1(NAMESPACE.bytes + slide.encode(), usedforsecurity=False)  # the same for all of the slide
    digests = []
    for number, box in enumerate(boxes, first):
        digest = start.copy()
        digest.update(f"{number}/{box}".encode())
        digests.append(digest.digest())
    values = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, start.digest_size)[:, :16].copy()
    values[:, 6] = values[:, 6] & 0x0F | 0x50
    values[:, 8] = values[:, 8] & 0x3F | 0x80
    texts = np.full((len(values), UUID_LENGTH), ord("-"), np.uint8)
    texts[:, DIGITS] = np.frombuffer(values.tobytes().hex().encode(), np.uint8).reshape(-1, len(DIGITS))
    text = texts.tobytes().decode()
    return [text[start : start + UUID_LENGTH] for start in range(0, len(text), UUID_LENGTH)]


def _measurements(patch_map: PatchMap, columns: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield the members of each patch's measurements. JSON has no NaN: attention of an unfinished map is left out."""
    names = [*(f"prob_{name}" for name in patch_map.classes), "attention"]
    measured = [json.dumps(name, ensure_ascii=False) for name in names]
    values = [columns[name].tolist() for name in names]
    if not any(np.isnan(columns[name]).any() for name in names):
        members = ",".join(name.replace("%", "%%") + ":%.6g" for name in measured)
        return map(members.__mod__, zip(*values, strict=True))
    return (
        ",".join(f"{name}:{value:.6g}" for name, value in zip(measured, row, strict=True) if value == value)
        for row in zip(*values, strict=True)
    )


def _classification(label: str, patch_map: PatchMap, colours: Sequence[RGB]) -> dict[str, Any]:
    """QuPath's class: one `name`, or several `names`, with the colour of the first."""
    names = label.split(SEPARATOR) if patch_map.multi_label else [label]
    colour = list(colours[patch_map.classes.index(names[0])])
    return {"name": names[0], "color": colour} if len(names) == 1 else {"names": names, "color": colour}


def _compact(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)
