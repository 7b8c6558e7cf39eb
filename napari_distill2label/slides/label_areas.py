"""Label images as annotations: the outline of every region of a value, exactly along the borders of its pixels."""

from pathlib import Path

import numpy as np

from ..core.errors import CohortError
from .label_mask import LabelMask, read_label_mask, reduction
from .qupath import QuPathObject
from .regions import trace_components

MOST_CELLS = 2**26  # of a label image, where neighbouring rows and columns that are equal count once
AT_ONCE = 1024  # rows


def read_label_areas(path: str | Path, slide_shape: tuple[int, int] | None = None) -> list[QuPathObject]:
    """Return the areas of a label image, as `areas_of`, placed on a slide of (height, width) px that it covers.

    Without `slide_shape` they are in pixels of the image. `CohortError` if it cannot be read, or is of another slide.
    """
    mask = read_label_mask(path)
    scale = (1.0, 1.0) if slide_shape is None else scale_to(path, mask.labels.shape, slide_shape)
    return areas_of(mask, path, scale)


def areas_of(mask: LabelMask, path: object, scale: tuple[float, float] = (1.0, 1.0)) -> list[QuPathObject]:
    """Return an annotation for every connected region of every value but 0. Its class is the value, or its name.

    `scale` is how many (y, x) px of the result a pixel is wide. `CohortError` if there are too many regions.
    """
    rows, cols, cells = _cells_of(mask)
    if cells.size > MOST_CELLS:
        raise CohortError(f"{path}: too finely divided to be areas ({cells.shape[1]} × {cells.shape[0]}): reduce it")
    found = []
    for value in np.unique(cells).tolist():
        if value:
            outlines, _ = trace_components(cells == value, rows * scale[0], cols * scale[1])
            name = mask.classes.get(value, str(value))
            found += [QuPathObject("annotation", name, outline) for outline in outlines]
    return found


def scale_to(path: object, shape: tuple[int, ...], slide_shape: tuple[int, int]) -> tuple[float, float]:
    """Return the (y, x) level-0 px that a pixel is wide. `CohortError` if the image cannot be of such a slide."""
    found = reduction((shape[0], shape[1]), slide_shape)
    if found is None:
        raise CohortError(
            f"{path}: is {shape[1]} × {shape[0]} px, its slide is {slide_shape[1]} × {slide_shape[0]} px: a label "
            "image is as large as its slide, or all of it reduced"
        )
    return found


def _cells_of(mask: LabelMask) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return borders of rows and columns, and the labels between them: equal neighbours are joined. Nothing is lost."""
    labels = mask.labels
    changes = []
    for start in range(0, len(labels) - 1, AT_ONCE):
        above, below = labels[start : start + AT_ONCE], labels[start + 1 : start + 1 + AT_ONCE]
        changes.append(start + 1 + np.flatnonzero((below != above[: len(below)]).any(1)))
    rows = np.concatenate([[0], *changes, [len(labels)]]).astype(np.int64)
    few = labels[rows[:-1]]
    across = np.flatnonzero((few[:, 1:] != few[:, :-1]).any(0)) + 1
    cols = np.concatenate([[0], across, [labels.shape[1]]]).astype(np.int64)
    return rows, cols, few[:, cols[:-1]]
