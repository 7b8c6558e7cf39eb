"""A label image of others: whole numbers in pixels, whatever program they are of, as mask, picture, regions or table.

Patch labels of ours have writers of their own, which know patches and probabilities. 0 is the background.
"""

import csv
import io
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from PIL import Image
from scipy import ndimage
from shapely.affinity import translate

from ..core.classes import RGB
from ..core.errors import SettingsError
from ..core.events import drain
from ..core.geometry import Mpp
from ..core.text import printable
from ..slides.regions import trace_components
from ..store.files.atomic import Writing, atomic_path, write_text
from ..store.tables.csv_table import escape_formula
from .geojson import NAMESPACE
from .mask import ArrayPixels
from .ome_tiff import write_mask
from .ome_zarr import LabelMetadata, write_label_zarr

LARGEST_PNG = 2**16  # values of a PNG
HEADER = ("value", "class", "x", "y", "minx", "miny", "width", "height", "area_px", "area_um2")


@dataclass(frozen=True, eq=False)
class LabelImage:
    """Labels in pixels.

    Attributes
    ----------
    labels
        (h, w), whole numbers from 0 on.
    mpp
        (y, x) µm per pixel; None: unknown.
    names, colours
        Of the values, where they are known.
    position
        (y, x) of the centre of the first pixel, in µm (px where `mpp` is None).
    title
        What the image is called.
    """

    labels: np.ndarray
    mpp: Mpp | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, RGB] = field(default_factory=dict)
    position: tuple[float, float] = (0.0, 0.0)
    title: str = "labels"

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or self.labels.dtype.kind not in "uib":
            raise SettingsError(
                f"{printable(self.title)}: labels are one plane of whole numbers, this is {self.labels.shape} "
                f"{self.labels.dtype}"
            )
        if self.labels.size and self.labels.min() < 0:
            raise SettingsError(f"{printable(self.title)}: has the value {self.labels.min()}; labels count from 0")

    @property
    def smallest(self) -> np.ndarray:
        """The labels in the smallest unsigned type that holds them; at most 32 bits."""
        most = int(self.labels.max(initial=0))
        if most >= 2**32:
            raise SettingsError(f"{printable(self.title)}: has the value {most}, and a mask has 32 bits at most")
        return self.labels.astype(np.min_scalar_type(most), copy=False)

    def boxes(self) -> Iterator[tuple[int, tuple[slice, slice]]]:
        """Yield every value but 0, and the box (rows, columns) that holds it."""
        values, numbers = np.unique(self.labels, return_inverse=True)
        # Numbers, not values: the memory that find_objects takes grows with the largest of them.
        boxes = ndimage.find_objects(numbers.reshape(self.labels.shape).astype(np.int32) + 1)
        yield from ((int(value), box) for value, box in zip(values, boxes, strict=True) if value)

    def regions(self) -> Iterator[tuple[int, shapely.Geometry]]:
        """Yield value and outline (x, y) of every connected region, in pixels of the image, value by value."""
        # Labels of instances are many and small: each is traced in its own box.
        for value, box in self.boxes():
            rows, cols = (np.arange(side.start, side.stop + 1) for side in box)
            outlines, _ = trace_components(self.labels[box] == value, rows, cols)
            yield from ((value, outline) for outline in outlines)


def write_label_image(path: str | Path, image: LabelImage, writing: Writing = atomic_path) -> Path:
    """Write an OME-TIFF (a tiled pyramid, with scale, position and the values' names) or a PNG, by the suffix.

    A PNG holds values below 65,536, and nothing else.
    """
    labels = image.smallest
    if Path(path).suffix.lower() == ".png":
        if labels.dtype.itemsize > 2:
            raise SettingsError(f"{path}: a PNG holds values below {LARGEST_PNG}, this has {labels.max()}")
        with writing(path) as temporary:
            Image.fromarray(labels).save(temporary, format="PNG")
        return Path(path)
    names = {value: name for value, name in image.names.items() if value}
    return drain(
        write_mask(
            path, ArrayPixels(labels), names, image.mpp, image.title, colours=image.colours, position=image.position,
            writing=writing,
        )
    )  # fmt: skip


def write_label_regions(path: str | Path, image: LabelImage, writing: Writing = atomic_path) -> Path:
    """Write every connected region as an annotation of QuPath, with its class and area.

    Coordinates are pixels of the image, from the corner of its first pixel, moved by its position.
    """
    scale = np.asarray(image.mpp or (1.0, 1.0))
    top, left = (np.asarray(image.position) / scale).tolist()
    features = []
    for index, (value, outline) in enumerate(image.regions()):
        moved = translate(outline, left, top)
        classification: dict[str, Any] = {"name": image.names.get(value, str(value))}
        if value in image.colours:
            classification["color"] = list(image.colours[value])
        area = {"Area µm^2": outline.area * float(scale.prod())} if image.mpp else {"Area px^2": outline.area}
        feature = {
            "type": "Feature",
            "id": str(uuid.uuid5(NAMESPACE, f"{image.title}/{value}/{index}")),
            "geometry": shapely.geometry.mapping(moved),
            "properties": {"objectType": "annotation", "classification": classification, "measurements": area},
        }
        features.append(json.dumps(feature, separators=(",", ":"), ensure_ascii=False))
    return write_text(path, '{"type":"FeatureCollection","features":[\n' + ",\n".join(features) + "\n]}\n", writing)


def write_label_table(path: str | Path, image: LabelImage, writing: Writing = atomic_path) -> Path:
    """Write a row for every value: its class, centre, box and area; positions in pixels of the image."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEADER if image.mpp else HEADER[:-1])
    for value, (rows, cols) in image.boxes():
        inside = image.labels[rows, cols] == value
        area = int(inside.sum())
        y, x = ndimage.center_of_mass(inside)
        row = [
            value,
            escape_formula(image.names.get(value, str(value))),
            f"{x + cols.start:.6g}",
            f"{y + rows.start:.6g}",
            cols.start,
            rows.start,
        ]
        row += [cols.stop - cols.start, rows.stop - rows.start, area]
        table.writerow([*row, *([f"{area * image.mpp[0] * image.mpp[1]:.6g}"] if image.mpp else [])])
    return write_text(path, text.getvalue(), writing)


def write_label_zarr_of(path: str | Path, image: LabelImage, writing: Writing = atomic_path) -> Path:
    """Write an OME-Zarr 0.5 folder, with scale, position, names and colours of the values."""
    metadata = LabelMetadata(
        {value: name for value, name in image.names.items() if value},
        {value: colour for value, colour in image.colours.items() if value},
        mpp=image.mpp,
        position=image.position,
        title=image.title,
        about={"kind": "labels"},
    )
    return drain(write_label_zarr(path, ArrayPixels(image.smallest), metadata, writing=writing))


WRITERS: dict[str, Callable[[str | Path, LabelImage, Writing], Path]] = {
    ".ome.tif": write_label_image,
    ".ome.zarr": write_label_zarr_of,
    ".png": write_label_image,
    ".geojson": write_label_regions,
    ".csv": write_label_table,
}
