"""`PatchMap`: the predictions of a network for the patches of one slide, saved in zarr and filled block by block.

A folder (zarr v3 group) with arrays of `patches.shape`, C classes on a last axis where there are any:

==============  ============  ==========================================================================
array           last axis     value of a patch
==============  ============  ==========================================================================
probability     C             of its classes. Of a calibrated network (`core.calibration`): of the patch alone until
                              `finish`, then in its context and its slide. Else the softmax of its logits (or one
                              sigmoid per class, `multi_label`)
logit           C             of the patch alone, a bag of one
score                         attention before the softmax over the slide
attention                     softmax of `score` over all scored patches of the slide: sums to 1
contribution    C             attention · logit: what it adds to the slide's logit, which is their sum
==============  ============  ==========================================================================

and `failed`, bool: which patches were asked for but could not be read, because the slide is damaged there.

The others are float32, **NaN where a patch is not scored** (no tissue, or not yet). `score` is written last, so a
finite score means that a patch is scored, and an interrupted prediction resumes where it stopped. The first three are
written block by block; `finish` adds the other two, which need all blocks, and puts patches into context.
"""

import json
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from ...core.bag import UNLABELLED
from ...core.calibration import Calibration, finding_scores
from ...core.classes import SEPARATOR
from ...core.context import smooth_grid, smooth_points
from ...core.errors import BundleError, SettingsError
from ...core.foreign_files import read_file
from ...core.geometry import Block, PatchGrid, PatchPoints
from ...core.slide_info import SlideInfo
from ..files.atomic import discard
from ..files.own_groups import MAX_BYTES, PATCH_MAP, is_own_group
from ..files.seal import is_number
from .labels import check_corrections, labels_of, with_corrections
from .memory_group import MemoryArray, MemoryGroup
from .zarr_group import (
    check_array,
    create_group,
    digest_of,
    first_line_of,
    has_same_array,
    is_mpp,
    is_whole,
    open_group,
    open_patches,
    patch_array,
    to_plain_json,
)

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2
PER_CLASS = ("probability", "logit", "contribution")
PER_PATCH = ("score", "attention")
FAILED = "failed"
DATE = re.compile(r"\d{4}-\d\d-\d\d")
# Chunks hold about as many patches as a few blocks: writing one touches few chunks, and a slide has few files.
MOST_ROWS = 2**14  # of a table, at once: .1 s of writing
GRID_CHUNK = 64
POINTS_CHUNK = 4096
MAX_CLASSES = 254  # labels are uint8, 0 is taken by "not scored"

WRITTEN = ("probability", "logit", "score")  # block by block, in this order; `finish` adds the others


Window = tuple[slice, ...]


class PatchMap:
    """The patches of a slide and a model's predictions for them. Make one with `create` or `open`.

    Attributes
    ----------
    patches
        `PatchGrid` or `PatchPoints`; every array below has the shape `patches.shape` (+ C).
    classes
        Names, the negative class first.
    multi_label
        Whether several classes can be present at once. Then there is one layer of labels per non-negative class.
    slide
        Which slide it is of, and its scale.
    model
        Identity of the model (network, digest of its weights, pooling, …), as plain JSON.
    threshold
        The threshold of the labels, unless another one is given.
    path
        The folder; None for a map in memory.
    """

    def __init__(self, group: zarr.Group | MemoryGroup, path: Path | None, patches: PatchGrid | PatchPoints) -> None:
        self._group = group
        self._arrays: dict[str, zarr.Array[Any] | MemoryArray] = {}  # zarr reads a description each time it is asked
        self._lock = threading.Lock()  # two blocks may share a chunk
        attrs: dict[str, Any] = group.attrs.asdict()
        self.path = path
        self.patches = patches
        mpp = attrs["slide_mpp"]
        top, left = attrs.get("canvas_origin", (0, 0))
        self.slide = SlideInfo(
            attrs["slide_id"],
            attrs["slide_path"],
            None if mpp is None else (float(mpp[0]), float(mpp[1])),
            attrs["mpp_from_user"],
            (int(top), int(left)),
        )
        self.classes: tuple[str, ...] = tuple(attrs["classes"])
        self.multi_label: bool = attrs["multi_label"]
        self.model: dict[str, Any] = attrs["model"]
        self.threshold: float = attrs["threshold"]
        self._scored = np.zeros(patches.shape, bool)
        self._failed = np.zeros(patches.shape, bool)
        self._sums: dict[str, list[int]] = attrs.get("sums", {})

    # ---- making and opening -----------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str] | None,
        patches: PatchGrid | PatchPoints,
        classes: Sequence[str],
        slide: SlideInfo,
        *,
        model: Mapping[str, Any] | None = None,
        multi_label: bool = False,
        threshold: float = 0.5,
    ) -> "PatchMap":
        """An empty map at `path` (None: in memory). A map that is there already is replaced.

        `BundleError` if something else is at `path`; nothing is deleted then.
        """
        if not 2 <= len(classes) <= MAX_CLASSES or len(set(classes)) != len(classes):
            raise ValueError(f"a patch map needs 2 to {MAX_CLASSES} different classes, got {list(classes)}")
        if path is None:
            group: zarr.Group | MemoryGroup = MemoryGroup()
        else:
            path = Path(path)
            if path.is_file() or (path.is_dir() and not is_own_group(path)):
                raise BundleError(f"{path} is not a patch map and is left alone: give another place")
            if path.is_dir():
                discard(path)
            group = create_group(path, PATCH_MAP)
        _make_arrays(group, patches, len(classes))
        # The attributes come last: without them the folder is not taken for a map that only needs filling.
        group.attrs.update(
            to_plain_json(
                {
                    "kind": PATCH_MAP,
                    "version": VERSION,
                    "complete": False,
                    "slide_id": slide.slide_id,
                    "slide_path": slide.path,
                    "slide_mpp": None if slide.mpp is None else [float(slide.mpp[0]), float(slide.mpp[1])],
                    "mpp_from_user": bool(slide.mpp_from_user),
                    **({"canvas_origin": list(slide.canvas_origin)} if any(slide.canvas_origin) else {}),
                    "classes": list(classes),
                    "multi_label": bool(multi_label),
                    "threshold": float(threshold),
                    "model": dict(model or {}),
                    "patches": patches.to_json(),
                    "bag_probability": None,
                    "unlikeness": None,
                    "damaged_regions": [],
                }
            )
        )
        return cls(group, path, patches)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "PatchMap":
        """Open a map, finished or not. `BundleError` if it is missing, incomplete in itself, altered or too new."""
        path = Path(path)
        if not (path / "zarr.json").is_file():
            raise BundleError(f"{path}: there is no patch map here")
        try:
            group = open_group(path, "r+")
            attrs: dict[str, Any] = group.attrs.asdict()
        except Exception as error:  # noqa: BLE001 · raised again as what it means, whatever a parser of zarr raises
            raise BundleError(f"{path}: the patch map cannot be read ({first_line_of(error)}): predict again") from None
        _check_attributes(path, attrs)
        patches = open_patches(path, group, attrs)
        _check_arrays(path, group, patches, len(attrs["classes"]))
        if attrs["complete"]:
            try:
                is_as_written = attrs.get("digest") == digest_of(attrs, patch_array(patches)[1])
            except ValueError as error:
                raise BundleError(
                    f"{path}: the patch map cannot be read ({first_line_of(error)}): predict again"
                ) from None
            if not is_as_written:
                raise BundleError(f"{path}: the patch map was altered since it was written: predict again")
        patch_map = cls(group, path, patches)
        for window in patch_map.windows():
            patch_map._scored[window] = np.isfinite(patch_map._read_stored("score", window))
            patch_map._failed[window] = patch_map._read_stored(FAILED, window)
        if attrs["complete"] and int(patch_map._scored.sum()) != attrs.get("n_scored"):
            raise BundleError(f"{path}: a part of 'score' is missing: predict again")
        return patch_map

    def check(self) -> None:
        """Read all arrays once: `open` reads the scores alone. `BundleError` if one is damaged."""
        for window in self.windows():
            for name in (*PER_CLASS, *PER_PATCH):
                self._read(name, window)

    def can_resume(self, patches: PatchGrid | PatchPoints, classes: Sequence[str], model: Mapping[str, Any]) -> bool:
        """Whether a prediction of these patches by this model can continue this map."""
        return (
            tuple(classes) == self.classes
            and to_plain_json(dict(model)) == self.model
            and to_plain_json(patches.to_json()) == to_plain_json(self.patches.to_json())
            and has_same_array(self.patches, patches)
        )

    @property
    def slide_id(self) -> str:
        """The slide's id in the cohort."""
        return self.slide.slide_id

    # ---- filling ----------------------------------------------------------------------------------------------

    @property
    def is_complete(self) -> bool:
        """Whether `finish` has been called."""
        return bool(self._group.attrs["complete"])

    @property
    def scored(self) -> np.ndarray:
        """Which patches are scored so far, bool of `patches.shape`."""
        return self._scored.copy()

    @property
    def failed(self) -> np.ndarray:
        """Which patches could not be read, bool of `patches.shape`. They are not scored (label 0)."""
        return self._failed.copy()

    @property
    def damaged_regions(self) -> tuple[tuple[int, int, int, int], ...]:
        """The parts of the slide, (y, x, h, w) in level-0 px, that could not be decoded when patches were read."""
        boxes: Any = self._group.attrs["damaged_regions"]
        return tuple(tuple(box) for box in boxes)

    def set_threshold(self, threshold: float) -> None:
        """Save another threshold as the default one of the labels."""
        self._group.attrs["threshold"] = self.threshold = float(threshold)

    def is_done(self, block: Block) -> bool:
        """Whether all patches of this block are scored or unreadable. A resumed prediction then skips the block."""
        settled = self._scored[block.window] | self._failed[block.window]
        return bool(settled[block.scored].all())

    def write(self, block: Block, probability: np.ndarray, logit: np.ndarray, score: np.ndarray) -> None:
        """Write the results of one block: its n = `block.scored.sum()` patches in C order. Thread-safe.

        Parameters
        ----------
        block
            Where the patches lie, from `patches.blocks(…)`.
        probability, logit
            (n, C).
        score
            (n,) attention before the softmax over the slide.
        """
        values = {"probability": probability, "logit": logit, "score": score}
        n = int(block.scored.sum())
        for name, array in values.items():
            expected = (n, len(self.classes)) if name in PER_CLASS else (n,)
            if np.shape(array) != expected:
                raise ValueError(f"{name} of this block must be {expected}, got {np.shape(array)}")
            if not np.isfinite(array).all():
                raise BundleError(f"{self.slide_id}: the model gives a {name} that is not a finite number")
        with self._lock:
            for name in WRITTEN:
                window = np.full((*block.scored.shape, *np.shape(values[name])[1:]), np.nan, np.float32)
                window[block.scored] = values[name]
                self._array(name)[block.window] = window
            self._scored[block.window] |= block.scored

    def fail(self, block: Block, boxes: Sequence[tuple[int, int, int, int]]) -> None:
        """Mark the block's patches as unreadable, because the slide is damaged in `boxes` (y, x, h, w)."""
        with self._lock:
            self._failed[block.window] |= block.scored
            self._array(FAILED)[block.window] = self._failed[block.window]
            noted = {*self.damaged_regions, *(tuple(map(int, box)) for box in boxes)}
            self._group.attrs["damaged_regions"] = to_plain_json(sorted(noted))

    def finish(
        self,
        bag_probability: Sequence[float] | Callable[[np.ndarray], Sequence[float]] | None = None,
        calibration: Calibration | None = None,
        distance: int = 1,
        unlikeness: float | None = None,
    ) -> None:
        """Compute attention over the whole slide and the contributions, and mark the map as complete.

        See `attention_by_window`. `BundleError` while patches are still to be scored, or where none is.

        Parameters
        ----------
        bag_probability
            (C,) of the slide as a whole, or a function of the slide's logits (C,): the sum of the contributions.
        calibration
            Of the network: probabilities of patches become those in their context and their slide, and that of the
            slide is calibrated.
        distance
            Cells between a patch of a grid and the patches that are its context.
        unlikeness
            How far the slide is from the training slides (`core.appearance`).
        """
        left = int((self.patches.scored & ~self._scored & ~self._failed).sum())
        if left or not self._scored.any():
            raise BundleError(
                f"{self.slide_id}: {left} patches are not scored yet: predict again, it goes on from here"
            )
        windows, score = tuple(self.windows()), partial(self._read, "score")
        attention_of = attention_by_window(windows, self._scored, score, self.model.get("pooling"))
        bag_logit = np.zeros(len(self.classes))
        with self._lock:
            for window in windows:
                attention = attention_of(window)
                contribution = attention[..., None] * self._read("logit", window).astype(np.float64)
                bag_logit += np.nansum(contribution, axis=tuple(range(attention.ndim)))
                self._array("attention")[window] = attention.astype(np.float32)
                self._array("contribution")[window] = contribution.astype(np.float32)
            if callable(bag_probability):
                bag_probability = bag_probability(bag_logit)
            bag = None if bag_probability is None else [float(value) for value in bag_probability]
            if calibration is not None:
                slide = self._write_calibrated(calibration, distance)
                bag = calibration.bag(slide, bag[0] if bag else 1.0, self.multi_label)
            about = {
                "complete": True, "n_scored": int(self._scored.sum()), "bag_probability": bag, "unlikeness": unlikeness,
                "date": f"{datetime.now(UTC):%Y-%m-%d}",
            }  # fmt: skip
            if self.path is not None:
                about |= self._signed(about, windows)
            self._group.attrs.update(about)

    def _write_calibrated(self, calibration: Calibration, distance: int) -> np.ndarray:
        """Replace the probabilities of patches by those in their context and their slide; returns P(slide) (F,).

        They follow from the logits alone, so doing it again after a kill gives the same.
        """
        score = np.full((*self.patches.shape, len(self.classes) - 1), np.nan, np.float32)
        if isinstance(self.patches, PatchPoints):
            scored = self._scored
            own = finding_scores(self._read("logit")[scored], self.multi_label)
            score[scored] = smooth_points(own, self.patches.centres[scored], calibration.neighbours)
        else:
            for (rows,) in self.windows():
                around = slice(max(0, rows.start - distance), min(self.patches.rows, rows.stop + distance))
                own = finding_scores(self._read("logit", (around,)), self.multi_label)
                own = np.where(self._scored[around][..., None], own, np.nan)
                score[rows] = smooth_grid(own, distance)[rows.start - around.start :][: rows.stop - rows.start]
        slide = calibration.slide_probability(score)
        for window in self.windows():
            finding = calibration.patches_in(slide, score[window])
            probability = calibration.with_negative(finding, self._read("logit", window), self.multi_label)
            probability[~self._scored[window]] = np.nan
            self._array("probability")[window] = probability.astype(np.float32)
        return slide

    def _signed(self, about: Mapping[str, Any], windows: Sequence[tuple[slice, ...]]) -> dict[str, Any]:
        """Checksums and digest by which a later reader sees alterations: see `docs/reference/files.md`.

        The arrays are read back from the disk, so that the checksums also cover the writing.
        """
        names = (*PER_CLASS, *PER_PATCH, FAILED)
        about = {
            **about,
            "sums": {name: _checksums_of(self._read_stored(name, window) for window in windows) for name in names},
        }
        signed = digest_of(self._group.attrs.asdict() | about, patch_array(self.patches)[1])
        self._sums = about["sums"]
        return {"sums": about["sums"], "digest": signed}

    # ---- reading ----------------------------------------------------------------------------------------------

    @property
    def bag_probability(self) -> tuple[float, ...] | None:
        """(C,) of the slide as a whole; None before `finish`."""
        value: Any = self._group.attrs["bag_probability"]
        return None if value is None else tuple(value)

    @property
    def unlikeness(self) -> float | None:
        """How far the slide is from those the model was trained on; above 1 it is unlike them. None: not known."""
        value: Any = self._group.attrs.get("unlikeness")
        return None if value is None else float(value)

    @property
    def date(self) -> str | None:
        """The day on which the map was finished, as YYYY-MM-DD in UTC; None before `finish`."""
        value: Any = self._group.attrs.get("date")
        return None if value is None else str(value)

    @property
    def probability(self) -> np.ndarray:
        """(..., C) float32."""
        return self._read("probability")

    @property
    def logit(self) -> np.ndarray:
        """(..., C) float32, of each patch alone: no context, no calibration."""
        return self._read("logit")

    @property
    def score(self) -> np.ndarray:
        """(...) float32: attention before the softmax over the slide."""
        return self._read("score")

    @property
    def attention(self) -> np.ndarray:
        """(...) float32; NaN everywhere before `finish`."""
        return self._read("attention")

    @property
    def contribution(self) -> np.ndarray:
        """(..., C) float32; NaN everywhere before `finish`."""
        return self._read("contribution")

    def windows(self) -> Iterator[tuple[slice, ...]]:
        """Yield bands of whole chunks that cover the arrays, in C order. A band is what is processed at once."""
        step = GRID_CHUNK if len(self.patches.shape) == 2 else 16 * POINTS_CHUNK
        for start in range(0, self.patches.shape[0], step):
            yield (slice(start, min(start + step, self.patches.shape[0])),)

    # ---- labels and tables: band by band, so that memory does not grow with the slide ------------------------------

    def to_labels(
        self, threshold: float | None = None, class_index: int | None = None, corrections: np.ndarray | None = None
    ) -> np.ndarray:
        """uint8 labels of `patches.shape`, see `labels_of`; `threshold` None: the map's own.

        `corrections` (int8 of `patches.shape`, −1 unknown) are a user's classes; they override the model on scored
        patches. `SettingsError` for a map of several classes without `class_index`, which has one layer each.
        """
        if self.multi_label and class_index is None:
            names = ", ".join(f"{index} ({name})" for index, name in enumerate(self.classes) if index)
            raise SettingsError(f"{self.slide_id}: several classes can be present at once: choose class_index {names}")
        if class_index is not None and not 1 <= class_index < len(self.classes):
            raise SettingsError(f"class_index must be 1 to {len(self.classes) - 1}, got {class_index}")
        corrections = self._check_corrections(corrections)
        labels = np.zeros(self.patches.shape, np.uint8)
        for window in self.windows():
            labels[window] = self._window_labels(window, threshold, class_index, corrections)
        return labels

    def label_layers(
        self, threshold: float | None = None, corrections: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Layers of labels by name: {'labels': …}, or one per non-negative class of a multi-label map."""
        if not self.multi_label:
            return {"labels": self.to_labels(threshold, corrections=corrections)}
        return {name: self.to_labels(threshold, index, corrections) for index, name in enumerate(self.classes) if index}

    def iter_columns(
        self, threshold: float | None = None, corrections: np.ndarray | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield the columns of `table` by name, at most `MOST_ROWS` at once: memory does not grow with the slide."""
        corrections = self._check_corrections(corrections)
        windows = [window for window in self.windows() if self._scored[window].any()]
        for window in windows or [(slice(0, 0),)]:  # nothing scored is a table without rows, not no table
            columns = self._window_columns(window, threshold, corrections)
            for start in range(0, max(1, len(columns["label"])), MOST_ROWS):
                yield {name: column[start : start + MOST_ROWS] for name, column in columns.items()}

    def table(self, threshold: float | None = None, corrections: np.ndarray | None = None) -> "pd.DataFrame":
        """One row per scored patch, in C order.

        Columns
        -------
        minx, miny, width, height
            The patch's box in level-0 pixels; at the border it may reach over the slide.
        row, col (a grid) or x, y (points)
            The cell, or the pixel the patch is centred on.
        label
            Name of the class at `threshold`, 'a;b' where several are present.
        prob_<class>, logit_<class>, attention, contribution_<class>
            The arrays of the map.
        source
            'model' or 'corrected'; only with `corrections`.
        """
        import pandas as pd  # it takes .4 s to import, and no command makes a data frame

        return pd.concat(map(pd.DataFrame, self.iter_columns(threshold, corrections)), ignore_index=True)

    # ---- inside -----------------------------------------------------------------------------------------------

    def _array(self, name: str) -> zarr.Array[Any] | MemoryArray:
        if name not in self._arrays:
            array = self._group[name]
            if isinstance(array, zarr.Group):
                raise ValueError(f"{name!r} is no array")
            self._arrays[name] = array
        return self._arrays[name]

    def _read_stored(self, name: str, window: Any = ...) -> np.ndarray:
        """Read a stored array. `BundleError` if it differs from what was written."""
        try:
            array = np.asarray(self._array(name)[window])
        except Exception as error:  # noqa: BLE001 · raised again: a chunk that does not decode: cut off, or its checksum is wrong
            raise BundleError(f"{self.path}: {name!r} is damaged ({first_line_of(error)}): predict again") from None
        if name in self._sums and not self._is_as_written(name, window, array):
            raise BundleError(f"{self.path}: {name!r} was altered since it was written: predict again")
        return array

    def _is_as_written(self, name: str, window: Any, array: np.ndarray) -> bool:
        """Whether the bands of an array still have the checksums of the finished map."""
        bands = list(self.windows())
        if window is ...:
            return _checksums_of(array[band] for band in bands) == self._sums[name]
        if window not in bands:
            return True
        return _checksums_of([array]) == self._sums[name][bands.index(window) :][:1]

    def _read(self, name: str, window: Any = ...) -> np.ndarray:
        """Read an array, which must be finite where patches are scored: zarr reads a lost chunk as 'nothing there'."""
        scored = self._scored[window].copy()  # before reading: more may be written meanwhile
        array = self._read_stored(name, window)
        if (name in WRITTEN or self.is_complete) and not np.isfinite(array[scored]).all():
            raise BundleError(f"{self.path or self.slide_id}: a part of {name!r} is missing: predict again")
        return array

    def _check_corrections(self, corrections: np.ndarray | None) -> np.ndarray | None:
        if corrections is None:
            return None
        return check_corrections(corrections, self.patches.shape, self.classes, self.slide_id)

    def _window_labels(
        self,
        window: tuple[slice, ...],
        threshold: float | None,
        class_index: int | None,
        corrections: np.ndarray | None,
    ) -> np.ndarray:
        probability = self._read("probability", window)
        probability[~self._scored[window]] = np.nan  # an interrupted block has probabilities but no score
        labels = labels_of(probability, self.threshold if threshold is None else threshold, class_index)
        return labels if corrections is None else with_corrections(labels, corrections[window], class_index)

    def _window_columns(
        self, window: tuple[slice, ...], threshold: float | None, corrections: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        scored = self._scored[window]
        columns = _place_columns(self.patches, window, scored) | {
            "label": self._label_names(window, scored, threshold, corrections)
        }
        names = ("probability", "logit", "attention", "contribution")
        columns |= _class_columns({name: self._read(name, window)[scored] for name in names}, self.classes)
        if corrections is not None:
            columns["source"] = np.where(corrections[window][scored] == UNLABELLED, "model", "corrected")
        return columns

    def _label_names(
        self, window: tuple[slice, ...], scored: np.ndarray, threshold: float | None, corrections: np.ndarray | None
    ) -> np.ndarray:
        """(n,) names of the classes of the scored patches of a window."""
        if not self.multi_label:
            return _name_labels(self._window_labels(window, threshold, None, corrections)[scored], self.classes)
        findings = range(1, len(self.classes))
        labels = [self._window_labels(window, threshold, finding, corrections)[scored] for finding in findings]
        return _name_findings(np.stack(labels, -1) > 1, self.classes)


# ---- attention over the slide --------------------------------------------------------------------------------


def attention_by_window(
    windows: Sequence[Window], scored: np.ndarray, read_score: Callable[[Window], np.ndarray], pooling: str | None
) -> Callable[[Window], np.ndarray]:
    """Return a function that gives the attention (float64, NaN where not scored) of a window.

    It is the softmax of the scores of all windows (Ilse et al. 2018, eq. 8), with the largest one subtracted first;
    for max pooling it is 1 at the largest score.

    Parameters
    ----------
    windows
        Cover the slide.
    scored
        Which of its patches are scored, bool; at least one is.
    read_score
        Gives the scores of a window.
    """
    tops = []
    for window in windows:
        if scored[window].any():
            score = np.where(scored[window], read_score(window), -np.inf)
            tops.append((float(score.max()), window, int(score.argmax())))
    largest, at, index = max(tops, key=lambda top: top[0])

    def only_the_largest(window: Window) -> np.ndarray:
        weight = np.where(scored[window], 0.0, np.nan)
        if window == at:
            weight.flat[index] = 1.0
        return weight

    def unscaled(window: Window) -> np.ndarray:
        score = np.where(scored[window], read_score(window), np.nan)
        return np.exp(score.astype(np.float64) - largest)

    if pooling == "max":
        return only_the_largest
    total = sum(float(np.nansum(unscaled(window))) for window in windows)
    return lambda window: unscaled(window) / total


# ---- the columns of the table --------------------------------------------------------------------------------


def _place_columns(
    patches: PatchGrid | PatchPoints, window: tuple[slice, ...], scored: np.ndarray
) -> dict[str, np.ndarray]:
    """Boxes in level-0 px, and cells or centres, of the patches of a window that are `scored` (bool, of its shape)."""
    cells = np.argwhere(scored)
    if len(cells):
        cells[:, 0] += window[0].start
    if isinstance(patches, PatchGrid):
        corners = patches.corners_of(cells)
        place = {"row": cells[:, 0], "col": cells[:, 1]}
    else:
        corners = patches.corners[cells[:, 0]]
        centres = patches.centres[cells[:, 0]]
        place = {"x": centres[:, 1], "y": centres[:, 0]}
    side = np.full(len(cells), patches.side, np.int64)
    return {"minx": corners[:, 1], "miny": corners[:, 0], "width": side, "height": side, **place}


def _class_columns(arrays: Mapping[str, np.ndarray], classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of `probability`, `logit`, `contribution` (n, C) and `attention` (n,)."""
    columns: dict[str, np.ndarray] = {}
    for prefix, name in (("prob", "probability"), ("logit", "logit")):
        columns |= {f"{prefix}_{label}": arrays[name][:, index] for index, label in enumerate(classes)}
    columns["attention"] = arrays["attention"]
    return columns | {f"contribution_{label}": arrays["contribution"][:, index] for index, label in enumerate(classes)}


def _name_labels(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """(n,) names of labels (n,), 1 + class index."""
    names: np.ndarray = np.array(classes, object)[labels.astype(int) - 1]
    return names


def _name_findings(present: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """(n,) 'a;b' of the findings that are `present` (n, C − 1) bool; the negative class where none is."""
    kinds, which = np.unique(present, axis=0, return_inverse=True)
    names = [
        SEPARATOR.join(name for name, here in zip(classes[1:], kind, strict=True) if here) or classes[0]
        for kind in kinds
    ]
    return np.array(names, object)[which.reshape(-1)]


# ---- the folder: how it is made and checked ----------------------------------------------------------------------


def _make_arrays(group: zarr.Group | MemoryGroup, patches: PatchGrid | PatchPoints, n_classes: int) -> None:
    """Make the empty arrays of a new map, and that of its patches (tissue of a grid, centres of points)."""
    chunk = GRID_CHUNK if len(patches.shape) == 2 else POINTS_CHUNK
    chunks = tuple(max(1, min(size, chunk)) for size in patches.shape)
    compressor = ZstdCodec(level=3, checksum=True)  # the checksum tells altered bytes from true ones
    for name in (*PER_CLASS, *PER_PATCH):
        last = (n_classes,) if name in PER_CLASS else ()
        group.create_array(
            name,
            shape=(*patches.shape, *last),
            chunks=(*chunks, *last),
            dtype="float32",
            fill_value=float("nan"),
            compressors=compressor,
        )
    group.create_array(
        FAILED, shape=patches.shape, chunks=chunks, dtype="bool", fill_value=False, compressors=compressor
    )
    name, array = patch_array(patches)
    if array is not None:
        stored = group.create_array(
            name,
            shape=array.shape,
            chunks=tuple(max(1, min(size, 1024)) for size in array.shape),
            dtype=array.dtype,
            compressors=compressor,
            fill_value=0,
        )
        stored[...] = array


def _check_attributes(path: Path, attrs: Mapping[str, Any]) -> None:
    """Raise `BundleError` unless every attribute is present and valid."""
    if attrs.get("kind") != PATCH_MAP:
        raise BundleError(f"{path}: this zarr folder is not a patch map, or its writing was cut short: predict again")
    if attrs.get("version") != VERSION:
        raise BundleError(
            f"{path}: patch map of version {attrs.get('version')!r}, this program reads {VERSION}: "
            "update the program or predict again"
        )
    classes, mpp = attrs.get("classes"), attrs.get("slide_mpp")
    n_classes = len(classes) if isinstance(classes, list) else 0
    fine = {
        "complete": isinstance(attrs.get("complete"), bool),
        "slide_id": _is_text(attrs.get("slide_id"), "surrogateescape"),  # a file name may be any bytes
        "slide_path": isinstance(attrs.get("slide_path", 0), str | None),
        "slide_mpp": mpp is None or (isinstance(mpp, list) and len(mpp) == 2 and all(is_mpp(v) for v in mpp)),
        "mpp_from_user": isinstance(attrs.get("mpp_from_user"), bool),
        "canvas_origin": isinstance(origin := attrs.get("canvas_origin", [0, 0]), list)
        and len(origin) == 2
        and all(map(is_whole, origin)),
        "classes": isinstance(classes, list)
        and 2 <= n_classes <= MAX_CLASSES
        and all(map(_is_text, classes))
        and len(set(classes)) == n_classes,
        "multi_label": isinstance(attrs.get("multi_label"), bool),
        "threshold": _is_probability(attrs.get("threshold")),
        "model": isinstance(attrs.get("model"), dict),
        "patches": isinstance(attrs.get("patches"), dict),
        "bag_probability": (bag := attrs.get("bag_probability", 0)) is None
        or (isinstance(bag, list) and len(bag) == n_classes and all(is_number(v) and 0 <= v <= 1 for v in bag)),
        "unlikeness": (far := attrs.get("unlikeness")) is None or (is_number(far) and far >= 0),
        "date": (date := attrs.get("date")) is None or (isinstance(date, str) and bool(DATE.fullmatch(date))),
        "damaged_regions": isinstance(regions := attrs.get("damaged_regions"), list)
        and all(_is_box(box) for box in regions),
        "sums": isinstance(sums := attrs.get("sums", {}), dict)
        and all(isinstance(crcs, list) and all(is_whole(crc) for crc in crcs) for crcs in sums.values()),
    }
    if wrong := [name for name, is_fine in fine.items() if not is_fine]:
        raise BundleError(f"{path}: the patch map's {wrong[0]!r} is missing or altered: predict again")


def read_header(path: Path) -> dict[str, Any]:
    """Read the attributes of the map at `path` without opening the map; empty if there is none."""
    try:
        attributes = json.loads(read_file(path / "zarr.json", MAX_BYTES))["attributes"]
        return dict(attributes) if attributes["kind"] == PATCH_MAP else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _check_arrays(path: Path, group: zarr.Group, patches: PatchGrid | PatchPoints, n_classes: int) -> None:
    """Raise `BundleError` unless every array is present and stored as this program stores it."""
    for name in (*PER_CLASS, *PER_PATCH, FAILED):
        shape = (*patches.shape, n_classes) if name in PER_CLASS else patches.shape
        dtype, fill = (np.bool_, 0) if name == FAILED else (np.float32, float("nan"))
        try:
            array = group[name]
        except Exception as error:  # noqa: BLE001 · raised again: no such array, or its description is not JSON
            raise BundleError(f"{path}: array {name!r} is missing ({first_line_of(error)}): predict again") from None
        try:
            check_array(array, shape, np.dtype(dtype), fill)
        except Exception as error:  # noqa: BLE001 · raised again: whatever a description says that zarr cannot use
            raise BundleError(f"{path}: array {name!r} is altered ({first_line_of(error)}): predict again") from None


def _checksums_of(pieces: Iterable[np.ndarray]) -> list[int]:
    """CRC-32 of each of an array's pieces."""
    return [zlib.crc32(np.ascontiguousarray(piece).tobytes()) for piece in pieces]


def _is_text(value: Any, errors: str = "strict") -> bool:
    """Return whether a value is a text that can be written. JSON can hold half a surrogate pair."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8", errors)
    except UnicodeEncodeError:
        return False
    return True


def _is_probability(value: Any) -> bool:
    return is_number(value) and -1e-3 <= value <= 1 + 1e-3  # what rounding leaves of one


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))
