"""What is shown of a patch map, in memory. It can be read in any thread.

A threshold is moved over these arrays without a look at the files: three passes over one byte per patch.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

import numpy as np

from ...core.geometry import PatchGrid, PatchPoints
from ...core.metrics import positive_score

if TYPE_CHECKING:
    from .patch_map import PatchMap

Cell = tuple[int, ...]  # index into the per-patch arrays: (row, col) of a grid, (n,) of points
Ranking = Literal["probability", "attention", "contribution"]
SMALLEST_ATTENTION, SMALLEST_EFFECT = 0.01, 0.0001  # below these a number says nothing to a reader
OUTLIERS = 0.005  # share of the patches that may lie beyond the end of a colour scale

_read: "WeakKeyDictionary[PatchMap, PatchMapView]" = WeakKeyDictionary()


@dataclass(frozen=True)
class PatchInfo:
    """What is known of one patch.

    Attributes
    ----------
    name
        The class it is labelled with; 'a;b' where several can be present at once.
    finding
        The finding the numbers are about: the likeliest of this patch.
    probability
        Of that finding, 0–1.
    attention
        The patch's weight in the slide's result, as a multiple of the average patch's. NaN while unknown.
    contribution
        What the patch adds to the slide's log-odds of the finding. NaN while unknown.
    """

    name: str
    finding: str
    probability: float
    attention: float
    contribution: float

    def __str__(self) -> str:
        parts = [self.name, f"probability of {self.finding} {self.probability:.2f}"]
        if np.isfinite(self.attention):
            small = self.attention < SMALLEST_ATTENTION
            attention = f"less than {SMALLEST_ATTENTION:g}" if small else f"{self.attention:.2g}"
            parts.append(f"attention {attention} × average")
        if np.isfinite(self.contribution):
            small = abs(self.contribution) < SMALLEST_EFFECT
            effect = "almost none" if small else f"{self.contribution:+.4f}".replace("-", "−")
            parts.append(f"effect on the slide's score {effect}")
        return " · ".join(parts)


class PatchMapView:
    """The arrays of one patch map, as far as it has been filled.

    Attributes
    ----------
    patches, classes, multi_label, slide_id
        As of the map.
    scored
        bool of `patches.shape`: what the model has scored so far.
    probability, contribution
        (..., C) float32, NaN where not scored.
    attention
        (...) float32, times the average: 1 is what a patch has if all weigh alike. NaN where not scored.
    finding
        Index of the slide's likeliest finding.
    positive, finding_contribution
        (...) float32: probability of any finding; contribution to the slide's `finding`, see `contribution_to`.
    attention_top, finding_contribution_top
        Ends of the colour scales: all but a few outliers lie within 0 … top, and −top … top.
    """

    def __init__(self, patch_map: "PatchMap") -> None:
        self.patches: PatchGrid | PatchPoints = patch_map.patches
        self.classes, self.multi_label = patch_map.classes, patch_map.multi_label
        self.slide_id = patch_map.slide_id
        self.is_complete = patch_map.is_complete
        self.scored = patch_map.scored
        self.probability = patch_map.probability
        self.probability[~self.scored] = np.nan  # a block cut short has probabilities but is not done
        self.contribution = patch_map.contribution if self.is_complete else np.full_like(self.probability, np.nan)
        share = patch_map.attention if self.is_complete else np.full(self.scored.shape, np.nan, np.float32)
        if not self.is_complete and self.scored.any():
            share = _attention_so_far(patch_map, self.scored)
            self.contribution = share[..., None] * np.where(self.scored[..., None], patch_map.logit, np.nan)
        self.attention = share * np.float32(max(1, self.scored.sum()))
        bag = patch_map.bag_probability
        self.finding = 1 if bag is None else 1 + int(np.argmax(bag[1:]))
        # For each layer of labels: the score that is compared, and what a label rises to above "negative".
        likeliest = self.probability[..., 1:]
        best = np.argmax(np.nan_to_num(likeliest), axis=-1)
        self._score = np.take_along_axis(likeliest, best[..., None], axis=-1)[..., 0]
        self._rise = ((best + 1) * self.scored).astype(np.uint8)
        self._base = self.scored.astype(np.uint8)
        self._above = np.empty(self.scored.shape, bool)
        self.positive = positive_score(self.probability, self.multi_label).astype(np.float32)
        self.finding_contribution = self.contribution_to()
        self.attention_top = max(2.0, _top(self.attention))
        self.finding_contribution_top = max(1e-6, _top(np.abs(self.finding_contribution)))

    # ---- labels ----------------------------------------------------------------------------------------------------

    def labels(self, threshold: float, class_index: int | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """uint8 labels as `store.maps.labels.labels_of` gives them, written into `out` (uint8, of `patches.shape`)."""
        score = self._score if class_index is None else self.probability[..., class_index]
        rise = self._rise if class_index is None else self._base * np.uint8(class_index)
        np.greater_equal(score, np.float32(threshold), out=self._above)  # NaN is not
        out = np.empty(self.scored.shape, np.uint8) if out is None else out
        np.multiply(self._above.view(np.uint8), rise, out=out)
        np.add(out, self._base, out=out)
        return out

    def counts(self, threshold: float) -> dict[str, int]:
        """Patches per class at a threshold; a patch with several findings counts for each."""
        labels = self.labels(threshold)
        found = {name: int(np.count_nonzero(labels == value)) for value, name in enumerate(self.classes, 1)}
        if self.multi_label:
            limit = np.float32(threshold)
            findings = list(enumerate(self.classes))[1:]
            found |= {name: int(np.count_nonzero(self.probability[..., k] >= limit)) for k, name in findings}
        return found

    # ---- what is shown beside them ---------------------------------------------------------------------------------

    def contribution_to(self, finding: int | None = None) -> np.ndarray:
        """(...) what each patch adds to the slide's log-odds of a finding (None: the likeliest) against negative."""
        index = self.finding if finding is None else finding
        ours = self.contribution[..., index]
        return ours if self.multi_label else ours - self.contribution[..., 0]

    def patch_info(self, cell: Cell, threshold: float) -> PatchInfo | None:
        """What is known of a patch; None where it is not scored."""
        if not self.scored[cell]:
            return None
        probability = self.probability[cell]
        finding = 1 + int(np.argmax(probability[1:]))
        above = [k for k in range(1, len(self.classes)) if probability[k] >= np.float32(threshold)]
        named = above if self.multi_label else [finding] if finding in above else []
        contribution = self.contribution[cell]
        return PatchInfo(
            ";".join(self.classes[k] for k in named) or self.classes[0],
            self.classes[finding],
            float(probability[finding]),
            float(self.attention[cell]),
            float(contribution[finding] - (0 if self.multi_label else contribution[0])),
        )

    # ---- places ----------------------------------------------------------------------------------------------------

    def cell_at(self, point: np.ndarray) -> Cell | None:
        """The patch at a point (y, x) in level-0 px: the cell, or the nearest centre whose patch holds it."""
        if isinstance(self.patches, PatchGrid):
            row, col = self.patches.cells_at(np.asarray(point)[None])[0].tolist()
            return (row, col) if 0 <= row < self.patches.rows and 0 <= col < self.patches.cols else None
        if not len(self.patches.centres):
            return None
        away = np.abs(self.patches.centres - np.asarray(point)).max(axis=1)
        nearest = int(away.argmin())
        return (nearest,) if away[nearest] <= self.patches.side / 2 else None

    def corner(self, cell: Cell) -> tuple[int, int]:
        """(y, x) of a patch's top-left corner in level-0 px; may lie outside the slide."""
        if isinstance(self.patches, PatchGrid):
            y, x = self.patches.corners_of(np.array([cell]))[0].tolist()
        else:
            y, x = self.patches.corners[cell[0]].tolist()
        return y, x

    # ---- orders ----------------------------------------------------------------------------------------------------

    def ranked(self, by: Ranking, finding: int, n: int, least: bool = False) -> list[Cell]:
        """The `n` patches with the largest (or smallest) value, that one first. Equals come in reading order."""
        if by == "probability":
            values: np.ndarray = self.probability[..., finding]
        else:
            values = self.attention if by == "attention" else self.contribution_to(finding)
        flat = values.ravel() if least else -values.ravel()
        known = np.flatnonzero(np.isfinite(flat))
        if len(known) > n:
            limit = np.partition(flat[known], n - 1)[n - 1]
            known = known[flat[known] <= limit]
        order = known[np.argsort(flat[known], kind="stable")][:n]
        return [tuple(int(i) for i in np.unravel_index(index, values.shape)) for index in order]

    def uncertainty(self, threshold: float) -> np.ndarray:
        """(...) float32, larger where the label is closer to being another one; −inf where not scored.

        Two classes, or several at once: how close a finding's probability is to the threshold. More: the entropy of
        the probabilities, in nats.
        """
        if len(self.classes) > 2 and not self.multi_label:
            p = np.clip(self.probability, 1e-12, 1)
            doubt = -(p * np.log(p)).sum(-1)
        elif self.multi_label:
            doubt = -np.abs(self.probability[..., 1:] - np.float32(threshold)).min(-1)
        else:
            doubt = -np.abs(self._score - np.float32(threshold))
        return np.where(self.scored, doubt, -np.inf)


def _top(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.quantile(finite, 1 - OUTLIERS)) if finite.size else 0.0


def _attention_so_far(patch_map: "PatchMap", scored: np.ndarray) -> np.ndarray:
    """(...) softmax of the scores there are; for max pooling all of it on the largest."""
    score = np.where(scored, patch_map.score, np.nan)
    share: np.ndarray
    if patch_map.model.get("pooling") == "max":
        share = np.where(scored, np.float32(0), np.float32(np.nan))
        share.flat[int(np.nanargmax(score))] = 1
        return share
    weight = np.exp(score - np.nanmax(score))
    share = (weight / np.nansum(weight)).astype(np.float32)
    return share


# ---- one of each map -------------------------------------------------------------------------------------------------


def read(patch_map: "PatchMap") -> PatchMapView:
    """Read a map again and keep what was read for as long as the map lives, or until `forget`. Any thread."""
    view = PatchMapView(patch_map)
    _read[patch_map] = view
    return view


def known(patch_map: "PatchMap") -> PatchMapView | None:
    """What has been read of a map, if anything."""
    return _read.get(patch_map)


def of(patch_map: "PatchMap") -> PatchMapView:
    """What has been read of a map; read now, in this thread, if nothing was. The caller reads again what is old."""
    return known(patch_map) or read(patch_map)


def forget(patch_map: "PatchMap") -> None:
    """Give the memory back."""
    _read.pop(patch_map, None)
