"""A tissue mask as QuPath annotations: GeoJSON polygons with holes, in level-0 pixels (x, y)."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shapely.geometry import mapping

from ..slides.regions import polygons_from_mask
from ..slides.tissue_mask import TissueMask
from ..store.files.atomic import Writing, atomic_path, write_text
from .geojson import NAMESPACE

CLASS = {"name": "Tissue", "color": [0, 158, 115]}


def write_regions(path: str | Path, mask: TissueMask, slide_id: str, writing: Writing = atomic_path) -> Path:
    """Write one annotation for each connected piece of tissue; none where there is no tissue.

    QuPath draws and edits them, and `--tissue` reads them back: the polygons are the mask's squares exactly.
    """
    features = [
        {
            "type": "Feature",
            "id": str(uuid.uuid5(NAMESPACE, f"{slide_id}/tissue/{index}/{polygon.bounds}")),
            "geometry": _in_whole_pixels(mapping(polygon)),
            "properties": {
                "objectType": "annotation",
                "classification": CLASS,
                "isLocked": False,
                "metadata": {"source": mask.source},
            },
        }
        for index, polygon in enumerate(polygons_from_mask(mask))
    ]
    text = ",\n".join(json.dumps(feature, separators=(",", ":"), ensure_ascii=False) for feature in features)
    return write_text(path, f'{{"type":"FeatureCollection","features":[\n{text}\n]}}\n', writing)


def _in_whole_pixels(geometry: Mapping[str, Any]) -> dict[str, Any]:
    """The geometry with its whole numbers written as such."""
    rings = [[[int(x), int(y)] for x, y in ring] for ring in geometry["coordinates"]]
    return {"type": "Polygon", "coordinates": rings}
