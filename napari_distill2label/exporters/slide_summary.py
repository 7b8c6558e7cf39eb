"""The numbers of a slide: its score, and patches, area and share of each class. A row of the cohort's table each."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.geometry import PatchGrid, PatchPoints
from ..store.files.atomic import Writing, atomic_path, write_text
from ..store.maps.labels import count_corrected
from ..store.maps.patch_map import PatchMap
from ..store.tables.csv_table import escape_formula


@dataclass(frozen=True)
class ClassSummary:
    """One class in a slide. `area_mm2` is None where the µm/px is unknown, `share` (of what is scored) of points."""

    name: str
    slide_probability: float | None
    n_patches: int
    area_mm2: float | None
    share: float | None


@dataclass(frozen=True)
class SlideSummary:
    """The numbers of a slide at a threshold.

    `positive` is of all findings together (a patch with two of them counts once). `unlikeness` is how far the slide is
    from the training slides (`core.appearance`), None where that is not known.
    """

    slide_id: str
    n_scored: int
    n_unreadable: int
    n_corrected: int
    threshold: float
    network: str
    weights_sha256: str
    classes: tuple[ClassSummary, ...]
    positive: ClassSummary
    unlikeness: float | None = None

    def row(self) -> dict[str, object]:
        """Return the cells of the cohort's table."""
        row: dict[str, object] = {"slide_id": self.slide_id}
        row |= {f"slide_prob_{own.name}": own.slide_probability for own in self.classes}
        row |= {"unlikeness": self.unlikeness}
        row |= {"positive_mm2": self.positive.area_mm2, "positive_share": self.positive.share}
        row |= {"patches": self.n_scored, "positive_patches": self.positive.n_patches}
        row |= {f"patches_{own.name}": own.n_patches for own in self.classes}
        row |= {f"mm2_{own.name}": own.area_mm2 for own in self.classes}
        return row | {
            "corrected_patches": self.n_corrected,
            "unreadable_patches": self.n_unreadable,
            "threshold": self.threshold,
            "network": self.network,
            "weights_sha256": self.weights_sha256,
        }


def summarise(patch_map: PatchMap, threshold: float, corrections: np.ndarray | None = None) -> SlideSummary:
    """Return the numbers of a finished map at `threshold`, with a user's corrections laid over it."""
    scored, sizes = patch_map.scored, _pixels(patch_map.patches)
    layers = patch_map.label_layers(threshold, corrections)
    if patch_map.multi_label:
        masks = {name: labels == patch_map.classes.index(name) + 1 for name, labels in layers.items()}
        positive = np.logical_or.reduce(list(masks.values()))
        masks = {patch_map.classes[0]: scored & ~positive, **masks}
    else:
        masks = {name: layers["labels"] == index + 1 for index, name in enumerate(patch_map.classes)}
        positive = scored & ~masks[patch_map.classes[0]]
    scores = patch_map.bag_probability
    mm2 = None if patch_map.slide.mpp is None else float(np.prod(patch_map.slide.mpp)) / 1e6

    def of(name: str, mask: np.ndarray, probability: float | None) -> ClassSummary:
        if sizes is None:  # patches around points may overlap: they have no area together
            return ClassSummary(name, probability, int(mask.sum()), None, None)
        area = float(sizes[mask].sum())
        share = area / float(sizes[scored].sum()) if scored.any() else None
        return ClassSummary(name, probability, int(mask.sum()), None if mm2 is None else area * mm2, share)

    classes = (
        of(name, masks[name], None if scores is None else scores[index]) for index, name in enumerate(patch_map.classes)
    )
    return SlideSummary(
        slide_id=patch_map.slide_id,
        n_scored=int(scored.sum()),
        n_unreadable=int(patch_map.failed.sum()),
        n_corrected=count_corrected(corrections) or 0,
        threshold=threshold,
        network=str(patch_map.model.get("network", "")),
        weights_sha256=str(patch_map.model.get("weights_sha256", "")),
        classes=tuple(classes),
        positive=of("positive", positive, None),
        unlikeness=patch_map.unlikeness,
    )


def _pixels(patches: PatchGrid | PatchPoints) -> np.ndarray | None:
    """(rows, cols) float: level-0 pixels of each cell inside of the slide, as the mask fills them; None for points."""
    if not isinstance(patches, PatchGrid):
        return None
    sides = []
    for axis in (0, 1):
        first = patches.cell_origin[axis] + patches.stride * np.arange(patches.shape[axis])
        size = patches.slide_shape[axis]
        sides.append(((first + patches.cell_side).clip(0, size) - first.clip(0, size)).astype(float))
    pixels: np.ndarray = np.outer(*sides)
    return pixels


def write_cohort_summary(
    path: str | Path, slides: Sequence[SlideSummary], about: Mapping[str, object], writing: Writing = atomic_path
) -> Path:
    """Write a CSV with a row per slide. `about` gives the same cells to all rows (date, version)."""
    rows = [{**slide.row(), **about} for slide in slides]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return write_text(path, text.getvalue(), writing)


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else escape_formula(value) if isinstance(value, str) else value
