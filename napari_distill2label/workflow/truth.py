"""The truth, for `evaluate` alone: labelled points, or mask images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from ..core.bag import UNKNOWN
from ..core.errors import CohortError
from ..core.geometry import PatchGrid, PatchPoints
from ..export.read import read_label_mask
from ..store.points import Points, class_of_patches, read_points
from .bags import PathLike

MASK_SUFFIXES = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".png")
NO_POINTS = Points(np.empty((0, 2)), np.empty(0, object))


class Truth(Protocol):
    """What is true of the patches of some slides."""

    def __contains__(self, slide_id: str) -> bool: ...

    def of(self, slide_id: str, patches: PatchGrid | PatchPoints, classes: tuple[str, ...]) -> np.ndarray:
        """(n,) int64 class of each scored patch, `UNKNOWN` where the truth says nothing."""


class PointTruth:
    """Labelled points by slide (`store.points.class_of_patches`). A label that is no class counts as negative."""

    def __init__(self, points: Mapping[str, Points]) -> None:
        self.points = points

    def __contains__(self, slide_id: str) -> bool:
        return slide_id in self.points

    def of(self, slide_id: str, patches: PatchGrid | PatchPoints, classes: tuple[str, ...]) -> np.ndarray:
        return class_of_patches(self.points.get(slide_id, NO_POINTS), patches, classes, corrections=False)


class MaskTruth:
    """Mask images named by slide, coded as this program's own: 0 unknown, 1 + class index otherwise.

    A grid's patch has the class of most of its known pixels (the higher class of equals); a patch at a point that of
    the pixel there.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = files

    def __contains__(self, slide_id: str) -> bool:
        return slide_id in self.files

    def of(self, slide_id: str, patches: PatchGrid | PatchPoints, classes: tuple[str, ...]) -> np.ndarray:
        if slide_id not in self.files:
            return np.full(int(patches.scored.sum()), UNKNOWN, np.int64)
        mask = read_label_mask(self.files[slide_id]).labels
        if mask.shape != tuple(patches.slide_shape):
            raise CohortError(f"{self.files[slide_id]}: is {mask.shape}, its slide is {tuple(patches.slide_shape)} px")
        if mask.max(initial=0) > len(classes):
            raise CohortError(
                f"{self.files[slide_id]}: has the value {mask.max()}; masks are 0 unknown, 1 {classes[0]}, "
                f"2 {classes[1]}, … up to {len(classes)}"
            )
        if isinstance(patches, PatchPoints):
            return mask[tuple(patches.centres.T)].astype(np.int64) - 1
        truth = np.empty(len(patches.corners), np.int64)
        for index, (y, x) in enumerate(patches.corners.tolist()):
            box = mask[max(0, y) : y + patches.side, max(0, x) : x + patches.side]
            known = np.bincount(box.ravel(), minlength=len(classes) + 1)[1:][::-1]
            truth[index] = len(classes) - 1 - known.argmax() if known.any() else UNKNOWN
        return truth


def read_truth(path: PathLike) -> Truth:
    """A CSV `slide_id,x,y,label` (or QuPath GeoJSON) of points, or a folder of mask images named by slide."""
    path = Path(path)
    if not path.is_dir() or any(path.glob("*.geojson")):
        return PointTruth(read_points(path, labelled=True))
    files = {file.name.removesuffix(suffix): file for suffix in MASK_SUFFIXES[::-1] for file in path.glob(f"*{suffix}")}
    if not files:
        raise CohortError(f"{path}: holds no mask image ({', '.join(MASK_SUFFIXES)})")
    return MaskTruth(files)
