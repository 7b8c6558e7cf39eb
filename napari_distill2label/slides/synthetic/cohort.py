"""Write a cohort of drawn slides: images, cohort.csv, truth.csv and centres.csv."""

import csv
import os
import uuid
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from .drawing import KINDS, MPP, draw_slide

FORMATS = ("ome.tif", "png", "bmp")


def write_cohort(
    folder: str | Path,
    n_slides: int = 24,
    seed: int = 0,
    shape: tuple[int, int] = (512, 512),
    classes: tuple[str, str] = KINDS,
    formats: Sequence[str] = ("ome.tif",),
) -> Path:
    """Draw a cohort into a folder: slides/, cohort.csv, truth.csv and centres.csv.

    Every other slide is positive, and two neighbours are of one case. The slides' `formats` alternate;
    OME-TIFFs are tiled, pyramidal and state their µm/px.

    Parameters
    ----------
    shape
        (height, width) of each slide, px.
    classes
        (negative, positive): labels of the slides, and of the nuclei in truth.csv.

    Returns
    -------
    Path of cohort.csv (slide_id, path, label, case_id, mpp, split; split is left empty). truth.csv has the columns
    slide_id, x, y, label; centres.csv slide_id, x, y: every nucleus, 0-based level-0 pixels.
    """
    if n_slides < 1 or not formats or set(formats) - set(FORMATS):
        raise ValueError(f"give at least one slide, and formats among {FORMATS}")
    folder = Path(folder)
    (folder / "slides").mkdir(parents=True, exist_ok=True)
    cohort, truth = [], []
    for index in range(n_slides):
        slide = draw_slide(seed * 100_003 + index, positive := bool(index % 2), shape)
        slide_id = f"slide_{index:03d}"
        path = folder / "slides" / f"{slide_id}.{formats[index % len(formats)]}"
        write_image(path, slide.image)
        cohort.append((slide_id, f"slides/{path.name}", classes[positive], f"case_{index // 2:03d}", MPP, ""))
        for (y, x), kind in zip(slide.centres, slide.kinds, strict=True):
            truth.append((slide_id, f"{x:.2f}", f"{y:.2f}", classes[kind == KINDS[1]]))
    _write_csv(folder / "truth.csv", ("slide_id", "x", "y", "label"), truth)
    _write_csv(folder / "centres.csv", ("slide_id", "x", "y"), [row[:3] for row in truth])
    return _write_csv(folder / "cohort.csv", ("slide_id", "path", "label", "case_id", "mpp", "split"), cohort)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (h, w, 3) uint8 at `MPP` as a pyramidal OME-TIFF (lossless), or as PNG or BMP, by the path's suffix."""
    partial = path.with_name(f"{path.name}.partial")
    if path.suffix == ".tif":
        _write_ome_tiff(partial, path.name, image)
    else:
        buffer = BytesIO()
        Image.fromarray(image).save(buffer, path.suffix[1:], compress_level=3)
        partial.write_bytes(buffer.getvalue())
    os.replace(partial, path)


def _write_ome_tiff(path: Path, name: str, image: np.ndarray) -> None:
    import tifffile  # only writing needs it

    levels = [image]
    while min(levels[-1].shape[:2]) > 256:
        levels.append(np.asarray(Image.fromarray(levels[-1]).reduce(2)))
    # OME-XML needs an identifier. It is made from the name, not the time, so that a seed always gives the same bytes.
    metadata = {
        "axes": "YXS", "UUID": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}",
        "PhysicalSizeX": MPP, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": MPP, "PhysicalSizeYUnit": "µm",
    }  # fmt: skip
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for index, level in enumerate(levels):
            tiff.write(
                level, photometric="rgb", tile=(256, 256), compression="adobe_deflate", compressionargs={"level": 3},
                predictor=True, subifds=len(levels) - 1 if index == 0 else None, subfiletype=int(index > 0),
                resolution=(1e4 / (MPP * 2**index),) * 2, resolutionunit="centimeter", software="napari-distill2label",
                metadata=metadata if index == 0 else None,
            )  # fmt: skip


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    os.replace(partial, path)
    return path
